"""Facts that are stated in two places are compared where both are at hand, never left to differ.

No heavy imports: Snakemake reads this each time it starts.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from locedit.errors import LoceditError
from locedit.messages import listed, shown

AGAIN = "delete it and run again, so that it is made again"


class StatedError(LoceditError):
    """Two places state different things; the message names both, and says what to do."""


def check_stated(
    what: str,
    stated: Any,
    found: Any,
    *,
    where: object,
    source: object,
    remedy: str,
) -> None:
    """Raise StatedError where `where` states of `what` another thing than `source` has.

    None, on either side, is a place that does not tell: there is nothing to compare.
    """
    if stated is not None and found is not None and stated != found:
        raise StatedError(
            f"{where}: {what} is {shown(stated)}, and that of {source} is {shown(found)}; {remedy}"
        )


def check_layers(stated: int | None, found: int | None, file: object, model: object) -> None:
    """The number of layers in a model's file against the model's own."""
    remedy = f"write n_layers: {found} there, or name the model that is meant"
    check_stated("n_layers", stated, found, where=file, source=model, remedy=remedy)


def check_model(
    stated: str | None, found: str, file: Path, model: object, remedy: str = AGAIN
) -> None:
    """The model that a file was made with against the one that goes on with it.

    Both are hashes of a model's folder (locedit.store.hashing.weights).
    """
    source = f"the model at {model}"
    check_stated("the model", stated, found, where=file, source=source, remedy=remedy)


def check_facts(wanted: Iterable[str], present: Iterable[str], file: object, study: object) -> None:
    """Raise StatedError where a table lacks rows of a study's facts: it was made of others."""
    missing = sorted(set(wanted) - set(present))
    if missing:
        raise StatedError(
            f"{file} has no row of facts of {study} ({listed(missing)}): it was made of others; "
            f"{AGAIN}"
        )
