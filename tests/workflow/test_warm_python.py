"""The Python of the tests' studies does what the real one does."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny_study import warm_environment, warm_python
from warm_client import SOCKETS

SCRIPT = "import sys\nprint(__file__, __name__, sys.argv, sys.path[0])\nsys.exit(3)\n"
TORCH = "import torch; print(torch.get_num_threads(), torch.rand(2), {1: 'a'}['no'])"
CALLS = {
    "ended by a status": ["-c", "raise SystemExit(7)", "a", "b"],
    "ended by a sentence": ["-c", "raise SystemExit('no such file')"],
    "ended by an error": ["-c", "def f(): raise ValueError('x')\nf()"],
    "ended by a signal": ["-c", f"import os; os.kill(os.getpid(), {signal.SIGTERM:d})"],
    "a module": ["-m", "json.tool", "--help"],
    "an option": ["-V"],
    "a draw": ["-c", TORCH],
    "at its exit": ["-c", "import atexit; atexit.register(print, 'last'); print('first')"],
    "what it reads": [
        "-c",
        "import os, sys; print(sys.stdin.read(), os.getcwd(), os.environ['A'])",
    ],
    "a child of its own": [
        "-c",
        "import os, sys\nprint(os.spawnl(os.P_WAIT, sys.executable, 'python', '-c', 'exit(5)'))",
    ],
}


def run(python, arguments, folder, **more):
    return subprocess.run(
        [python, *arguments],
        env=warm_environment() | {"A": "ä", "PYTHONPATH": str(folder)} | more,
        cwd=folder,
        input="read",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", [*CALLS, "a file", "more threads", "another start"])
def test_a_call_ends_and_prints_as_the_real_one(name, tmp_path):
    arguments = CALLS.get(name, ["-c", TORCH])
    more = {"more threads": {"OMP_NUM_THREADS": "3"}, "another start": {"PYTHONHASHSEED": "1"}}
    if name == "a file":
        (tmp_path / "script.py").write_text(SCRIPT)
        arguments = [str(tmp_path / "script.py"), "x"]
    warm, real = (
        run(python, arguments, tmp_path, **more.get(name, {}))
        for python in (warm_python().executable, sys.executable)
    )
    assert (warm.returncode, warm.stdout, warm.stderr) == (
        real.returncode,
        real.stdout,
        real.stderr,
    )


def test_only_a_call_like_the_servers_own_is_a_fork(tmp_path, monkeypatch):
    """Else the comparison above would be of the real one with itself.

    Also once this process has loaded a model, started R and taken a card, which set variables.
    """
    for name in (
        "TRANSFORMERS_SDPA_FORCE_GQA",
        "PYTHON_SESSION_INITIALIZED",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.setenv(name, "1")
    code = ["-c", "import sys; print('torch' in sys.modules)"]
    assert run(warm_python().executable, code, tmp_path).stdout == "True\n"
    other = run(warm_python().executable, code, tmp_path, PYTHONHASHSEED="1")
    assert other.stdout == "False\n"


def test_a_caller_that_ends_before_it_has_asked_costs_no_other_its_answer(tmp_path):
    run(warm_python().executable, ["-c", ""], tmp_path)  # the imports are done
    for sent in (b"", (100).to_bytes(8, "big"), (100).to_bytes(8, "big") + b"{"):
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(str(warm_python().folder / SOCKETS[0]))
        if sent:
            socket.send_fds(caller, [sent], [0, 1, 2])
        caller.close()
    assert run(warm_python().executable, ["-c", "print(1)"], tmp_path).stdout == "1\n"


def test_none_of_the_project_is_imported_before(tmp_path):
    """A study runs the code of its own checkout."""
    code = "import sys; print([name for name in sys.modules if name.startswith('locedit')])"
    assert run(warm_python().executable, ["-c", code], tmp_path).stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_asked_for_ends_with_who_asks(number, tmp_path):
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    caller = subprocess.Popen(
        [warm_python().executable, "-c", code], env=warm_environment(), cwd=tmp_path
    )
    pid = _until(lambda: (tmp_path / "pid").read_text() or None, FileNotFoundError)
    caller.send_signal(number)
    assert caller.wait() == -number
    _until(lambda: not _runs(int(pid)))


def _until(asked, *errors, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := asked():
                return answer
        except errors:
            pass
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
