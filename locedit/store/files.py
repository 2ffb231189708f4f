"""Output that is whole or absent, made by one process at a time, with no litter of killed ones.

A temporary lies beside its target and takes its name at the end. So does a lock, which is the
system's own and ends with the process that holds it, even with one that is killed.
"""

import fcntl
import glob
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from locedit.errors import unwritable

_held: set[Path] = set()  # targets whose locks are this process's


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it when the block ends without an error.

    Raises UnwritableError, with the path and what to do, where the disk is full or read-only.
    """
    target = Path(path)
    with _temporary(target) as temporary:
        yield temporary
        # libraries may create files for their owner alone
        temporary.chmod(0o666 & ~_umask())
        _to_disk(temporary)
        os.replace(temporary, target)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: an older one steps aside for the new one."""
    target = Path(path)
    with _temporary(target) as temporary:
        temporary.mkdir()
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            _to_disk(file)
        old = _unique(target)
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        _remove(old)


@contextmanager
def scratch(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` for what it is made of, gone at the end."""
    with _temporary(Path(path)) as folder:
        folder.mkdir()
        yield folder


@contextmanager
def exclusive_lock(path: str | Path) -> Iterator[None]:
    """One process at a time makes `path`: who comes second waits here, and finds it made.

    What a killed one left beside it is removed. Some network file systems know no locks; there,
    nobody waits and nothing is removed.
    """
    target = Path(path).absolute()
    if target in _held:
        yield
        return
    lock = target.with_name(f".{target.name}.lock")
    with _in_words(Path(path)):
        target.parent.mkdir(parents=True, exist_ok=True)
        stream, locked = _locked(lock)
    _held.add(target)
    try:
        if locked:  # whoever left a temporary there is dead
            for litter in target.parent.glob(f".*-????????.{glob.escape(target.name)}"):
                _remove(litter)
        yield
    finally:
        _held.remove(target)
        with suppress(OSError):
            lock.unlink()
        stream.close()


def _locked(lock: Path) -> tuple[IO[bytes], bool]:
    """The open lock file, and whether it is locked."""
    while True:
        stream = lock.open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.getLogger(__name__).info("%s: waiting for the process that holds it", lock)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:
            return stream, False
        with suppress(FileNotFoundError):  # its last holder removed it while we waited
            if os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
                return stream, True
        stream.close()


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside the target; what lies there at the end is removed."""
    with exclusive_lock(target), _in_words(target):
        temporary = _unique(target)
        try:
            yield temporary
        finally:
            _remove(temporary)


@contextmanager
def _in_words(target: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said = unwritable(error, target)
        if said is None:
            raise
        raise said from error


def _unique(path: Path) -> Path:
    """A new name beside `path`, of this process alone; its suffix tells libraries the format."""
    return path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.{path.name}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _to_disk(file: Path) -> None:
    """A file's bytes are on the disk before its name is: a power cut leaves no empty table."""
    with file.open("rb") as stream:
        os.fsync(stream)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
