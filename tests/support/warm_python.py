"""A Python that has imported torch and Snakemake, and started R, already, for the tests' studies.

A tiny study is some hundred processes of which each computes for a tenth of a second and imports
for two. `WarmPython` starts a server that imports once, and writes a program that can be called as
Python is: it has the server fork, and the fork runs what was asked for, with the caller's
arguments, environment, folder and standard streams. Only packages are imported before, never this
project: a study runs the code of its own checkout. R is started as the project starts it; what it
draws with is loaded by a second server, for figures alone: tables name the packages that were
loaded when they were made.

What an import reads of the environment is as it was when the server began. Where the caller's
differs in one of those variables, or no server answers, the program is the real Python
(warm_client.py). Tests of kills, of a process's start and environment always call that one.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from warm_client import SOCKETS, read_at_import

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = """torch transformers transformers.models.llama.modeling_llama
transformers.models.gpt2.modeling_gpt2 transformers.models.gptj.modeling_gptj
tokenizers safetensors.torch pandas pyarrow.parquet snakemake.cli snakemake.script typer
rich.progress pydantic yaml tqdm""".split()


class WarmPython:
    """The server of one test process, and the program that asks it: `executable`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))  # short: a socket's path has 107 bytes
        self.executable = self.folder / "python"
        expected = self.folder / "environment.json"
        expected.write_text(json.dumps(read_at_import(environment)))
        # -I and -S: the client imports nothing that it does not name
        client = [sys.executable, "-I", "-S", str(Path(__file__).with_name("warm_client.py"))]
        client += [str(self.folder), sys.executable]
        self.executable.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
        self.executable.chmod(0o755)
        listening = [socket.socket(socket.AF_UNIX) for _ in SOCKETS]
        for one, name in zip(listening, SOCKETS, strict=True):
            one.bind(str(self.folder / name))
            one.listen(64)  # who asks before the imports are done waits
        numbers = [one.fileno() for one in listening]
        # the server ends when its standard input does: with this process, however that ends
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self.executable), *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # a fork has one thread: a pool's others would be lacking
            env={**environment, "OMP_NUM_THREADS": "1"},
            pass_fds=numbers,
        )
        for one in listening:
            one.close()
        atexit.register(self.end)

    def end(self) -> None:
        """End the server, and with it whatever it still runs."""
        atexit.unregister(self.end)
        if self._server.stdin is not None:
            self._server.stdin.close()
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- the server ----------------------------------------------------------------------------------


class _Server:
    """Forks for whoever connects, hands signals on, and tells the exit status."""

    def __init__(self, listening: socket.socket) -> None:
        self.listening = listening
        self.callers: dict[int, socket.socket] = {}  # by the fork whose end they wait for
        self.ended, wakeup = socket.socketpair()
        self.ended.setblocking(False)
        wakeup.setblocking(False)
        self.wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector = selectors.DefaultSelector()
        self.selector.register(listening, selectors.EVENT_READ, self._fork)
        self.selector.register(self.ended, selectors.EVENT_READ, self._reap)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._end)

    def serve(self) -> dict[str, Any]:
        """Serve for good; in each fork, return what it is to run."""
        try:
            while True:
                for key, _ in self.selector.select():
                    request = key.data()
                    if request is not None:
                        return request
        except BaseException:
            self._kill()
            raise

    def _fork(self) -> dict[str, Any] | None:
        caller, _ = self.listening.accept()
        caller.settimeout(10)
        streams: list[int] = []
        try:
            size, streams, *_ = socket.recv_fds(caller, 8, 3)
            text = _whole(caller, int.from_bytes(size, "big"))
            pid = os.fork()
        except OSError:  # the caller has ended before it had asked, or there is no memory for more
            caller.close()
            for stream in streams:
                os.close(stream)
            return None
        if pid == 0:
            self._leave(caller, streams)
            return json.loads(text)
        for stream in streams:
            os.close(stream)
        self.callers[pid] = caller
        self.selector.register(caller, selectors.EVENT_READ, lambda: self._hand_on(pid))
        return None

    def _leave(self, caller: socket.socket, streams: Sequence[int]) -> None:
        """Keep nothing of the server's in a fork but the streams that it was given."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        for one in (caller, self.listening, self.ended, self.wakeup, *self.callers.values()):
            one.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)

    def _hand_on(self, pid: int) -> None:
        """Give a fork the signal that its caller was sent; a caller that is gone takes it along."""
        caller = self.callers.get(pid)
        if caller is None:  # it has ended in the meantime
            return
        told = caller.recv(1)
        os.kill(pid, told[0] if told else signal.SIGKILL)  # not waited for yet: it is still there
        if not told:
            self.selector.unregister(caller)

    def _reap(self) -> None:
        self.ended.recv(1 << 10)
        while self.callers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            caller = self.callers.pop(pid, None)
            if caller is None:  # the other server, which ends when this one does
                continue
            with suppress(KeyError):
                self.selector.unregister(caller)
            with suppress(BrokenPipeError, ConnectionResetError):
                code = os.waitstatus_to_exitcode(status)
                caller.sendall(code.to_bytes(4, "big", signed=True))
            caller.close()

    def _end(self) -> None:
        self._kill()
        os._exit(0)

    def _kill(self) -> None:
        for pid in self.callers:
            os.kill(pid, signal.SIGKILL)


def _whole(caller: socket.socket, size: int) -> bytes:
    """So many bytes of what a caller sends; ConnectionError where it ends before."""
    text = b""
    while size == 0 or len(text) < size:
        more = caller.recv(1 << 16)
        if not more:
            raise ConnectionError
        text += more
    return text


# ---- a fork --------------------------------------------------------------------------------------


def _become(request: Mapping[str, Any], executable: str, of_r: Sequence[str]) -> int:
    """Run what `python ARGUMENTS` runs; its exit status.

    of_r: variables that R has set where Python does not see them.
    """
    import torch  # has been imported by now

    os.environ.clear()
    for name in of_r:
        os.unsetenv(name)
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    tempfile.tempdir = None  # another TMPDIR counts
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    sys.executable = executable
    code: Any = 0
    try:
        _run(request["arguments"])
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:
        error = error.with_traceback(_of_its_own(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    if not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does before it ends
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return (code or 0) & 0xFF


def _run(arguments: Sequence[str]) -> None:
    """`-m MODULE ...`, `-c CODE ...` or `FILE ...`, with the search path that each of them has."""
    searched = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    first, *rest = arguments
    if first == "-m":
        sys.path[:0] = [str(Path.cwd()), *searched]
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path[:0] = ["", *searched]
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[:0] = [str(Path(first).resolve().parent), *searched]
        sys.argv = list(arguments)
        runpy.run_path(first, run_name="__main__")


def _of_its_own(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this file and of runpy, which Python itself has not."""
    before = (__file__, runpy.__file__, "<frozen runpy>")
    while frames is not None and frames.tb_frame.f_code.co_filename in before:
        frames = frames.tb_next
    return frames


# Loads what analysis/ draws with, and draws once, since only then all of it is read
_DRAW = """
function(packages, folder) {
  for (package in packages) loadNamespace(package)
  plot <- ggplot2::ggplot(data.frame(x = 1, y = "a"), ggplot2::aes(x, y)) + ggplot2::geom_point()
  svglite::svglite(file.path(folder, "first.svg"))
  print(plot)
  dev.off()
}
"""


def _start_r(folder: Path) -> tuple[list[str], Callable[[], object]]:
    """Start R in this process, if there is one: the variables that it knows of, and what loads its
    packages.

    Its files lie in `folder`. It is left running at a fork's end, which has no file of its own.
    """
    before = os.environ.copy()
    os.environ["TMPDIR"] = str(folder)
    sys.path.insert(0, str(ROOT))
    try:
        from locedit.report import rbridge

        try:
            r = rbridge._start_r()
        except rbridge.RUnavailable:
            return [], lambda: None
        from rpy2.rinterface_lib import embedded

        packages = r.StrSexpVector(rbridge.PACKAGES)
        atexit.unregister(r.endr)
        embedded.set_initoptions = lambda _: None  # they are set
        of_its_script = r._getrenvvars()  # asks a process of R's
        r._getrenvvars = lambda: of_its_script  # type: ignore[attr-defined]
        known = [name for name in r.evalr("names(Sys.getenv())") if name not in before]
        return known, lambda: r.evalr(_DRAW)(packages, r.StrSexpVector([str(folder)]))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "locedit"]:
            del sys.modules[name]
        sys.path.remove(str(ROOT))
        os.environ.clear()
        os.environ.update(before)


def _build_conversions() -> None:
    """What transformers makes at a process's first loading: a thousand patterns of all families."""
    from transformers import conversion_mapping

    conversion_mapping.get_checkpoint_conversion_mapping("llama")


def _main(executable: str, *numbers: str) -> int:
    del sys.path[0]  # this file's folder, of which a study is to see nothing
    for name in PRELOADED:
        importlib.import_module(name)
    _build_conversions()
    of_r, load_packages = _start_r(Path(executable).parent)
    gc.freeze()  # shared with the forks, until written to
    gc.set_threshold(50_000)  # in theirs, a tenth of the time went into looking for cycles
    all_else, figures = (socket.socket(fileno=int(number)) for number in numbers)
    listening, other = all_else, figures
    if os.fork() == 0:
        load_packages()
        listening, other = figures, all_else
    other.close()
    request = _Server(listening).serve()
    return _become(request, executable, of_r)


if __name__ == "__main__":
    os._exit(_main(*sys.argv[1:]))
