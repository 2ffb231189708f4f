"""Output that is whole or absent: temporaries beside their target that take its name at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it when the block ends without an error."""
    target = _in_existing_folder(path)
    temporary = _unique(target)
    try:
        yield temporary
        # libraries may create files for their owner alone
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder: an older one steps aside for the new one."""
    target = _in_existing_folder(path)
    temporary, old = _unique(target), _unique(target)
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _in_existing_folder(path: str | Path) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _unique(path: Path) -> Path:
    """A new name beside `path`, of this process alone; its suffix tells libraries the format."""
    return path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.{path.name}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
