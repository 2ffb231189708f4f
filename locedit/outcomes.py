"""What became of a fact, as a table's column `status` says: done, not attempted, or failed."""

import logging
import traceback
from collections.abc import Iterable
from types import CodeType

from locedit.errors import LoceditError, SpoiledModelError, ran_out_of_memory
from locedit.messages import commonest, one_line

logger = logging.getLogger(__name__)

OK = "ok"
NOT_EDITED = "not edited: "  # an erasure of what is hardly known; what a method has no edit of
NOT_LOCALIZED = "not localized: "  # a localizer has no value for such a fact
FAILED = "failed: "

UNFORESEEN = "unforeseen "  # before the kind of an error that is a bug, of a plug-in or of ours

_TOLD: set[tuple[type, CodeType, int]] = set()


def failure(error: Exception) -> str:
    """The status of a fact that an error befell; its traceback goes to the log.

    Raises the error again where it is no fact's, as `ends_the_job` has it.
    """
    if ends_the_job(error):
        raise error
    _log_once(error)
    return FAILED + in_words(error)


def ends_the_job(error: Exception) -> bool:
    """Whether it would befall any fact: what cannot be read or written, too little memory, or a
    model that is no longer the one that was loaded.
    """
    return isinstance(error, OSError | SpoiledModelError) or ran_out_of_memory(error)


def in_words(error: Exception) -> str:
    """An error's message in one line; of one that was not foreseen its kind, too."""
    said, kind = one_line(error), type(error).__name__
    if isinstance(error, LoceditError) and said:
        return said
    return UNFORESEEN + (f"{kind}: {said}" if said else kind)


def _log_once(error: Exception) -> None:
    """Where an error was raised, once for all facts that it befalls there."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    place = (type(error), frame.f_code, line)
    if place not in _TOLD:
        _TOLD.add(place)
        logger.warning("the first fact to fail so: %s", in_words(error), exc_info=error)


def refuse_all_failed(
    statuses: Iterable[str],
    cell: str,
    done: str,
    advice: str,
    tries: str = "facts",
    log: str = "the log",
) -> None:
    """Raises LoceditError where facts were tried and none is done, saying why most of them failed.

    statuses: of a cell's rows; one with nothing to attempt is no failure. The sentence is "{cell}:
    none of 2 {tries} could be {done} (why); {advice}". Of what was not foreseen it says that
    too, and that `log` has the traceback.
    """
    tried = [status for status in statuses if not status.startswith((NOT_EDITED, NOT_LOCALIZED))]
    if tried and OK not in tried:
        why = commonest(status.removeprefix(FAILED) for status in tried)
        if any(status.startswith(FAILED + UNFORESEEN) for status in tried):
            advice = (
                "what was not foreseen is a bug, of a plug-in or of this project, whose traceback "
                f"is in {log}: please report it; {advice}"
            )
        raise LoceditError(
            f"{cell}: none of {len(tried)} {tries} could be {done} ({why}); {advice}"
        )
