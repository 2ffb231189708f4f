"""What can go wrong and was foreseen, told apart from bugs; among it the machine's own faults."""

import errno
import re
from pathlib import Path

_NO_MEMORY = re.compile(
    r"out of memory|(can't|cannot) allocate|not enough memory|bad_alloc", re.IGNORECASE
)
# libraries written in Rust and C++ give the number of a system's error as text alone
_NUMBER = re.compile(r"(?:os error|errno) (\d+)")
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "its file system is read-only; make it writable, or work in another folder",
    errno.EACCES: "its folder may not be written to; change that, or work in another folder",
}


class LoceditError(ValueError):
    """What was foreseen. Its message is one sentence: what is wrong with what, and what to do.

    Any other error is a bug, but for the machine's (OSError, MemoryError), and is told as one.
    """


class SpoiledModelError(LoceditError):
    """A model that a function changed in memory, so that no later number would be of what was
    loaded: no fact's failure, but the end of the job.
    """


class UnwritableError(OSError):
    """A file that the machine does not let us write; the message names it and says what to do."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a machine's fault, whatever the fact at hand.

    Python, pyarrow and numpy raise MemoryError; torch a RuntimeError, on any device.
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_NO_MEMORY.search(str(error)))


def unwritable(error: Exception, target: Path) -> UnwritableError | None:
    """The error in words where it says that `target` cannot be written; None for any other."""
    number = getattr(error, "errno", None)
    if number is None and (said := _NUMBER.search(str(error))):
        number = int(said[1])
    # what cannot be read elsewhere is no fault of the target's
    file = Path(getattr(error, "filename", None) or target)
    if number not in _REASONS or not file.absolute().is_relative_to(target.absolute().parent):
        return None
    return UnwritableError(f"{target} cannot be written: {_REASONS[number]} and run again")


def bug(error: BaseException) -> str:
    """An error that was not foreseen, in one line."""
    said = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {said}; this was not foreseen, so it is a bug: please report it"
    )
