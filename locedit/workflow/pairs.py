"""Settings of `editing` that may differ between pairs of editing problem and method.

One is given once for all pairs, or as a mapping by problem, in which each may be a mapping by
method; `all` holds for those that are not named: {all: [2, peak], error_injection: {all: [2],
ROME: [0, 2, 6, peak]}}. No heavy imports: Snakemake reads this each time it starts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from locedit.registry import ALL
from locedit.windows import EMBEDDING, EMBEDDING_NAME

PEAK = "peak"  # among a pair's edit layers: each fact's own
_TOGETHER = "-together-"
_AGAIN = "-again"
# what `place` makes, for a wildcard
PLACE = rf"(\d+|{EMBEDDING_NAME})({_TOGETHER}\d+|{_AGAIN})?|{PEAK}"


class NotGiven(LookupError):
    """A pair for which a setting has no value; the argument is the name that lacks one."""


def of_pair(given: Any, problem: str, method: str) -> Any:
    """The value of a setting for one pair; NotGiven where neither it nor `all` is named."""
    for name in (problem, method):
        if not isinstance(given, Mapping):
            break
        if name not in given and ALL not in given:
            raise NotGiven(name)
        given = given[name] if name in given else given[ALL]
    return given


def place(layer: int | str, together: int = 1, *, again: bool = False) -> str:
    """What names a layer's edits in files: the layer, and how many facts share an update.

    again: whether they are the repeated ones, with contexts and draws of their own.
    """
    if again:
        return f"{layer}{_AGAIN}"
    return str(layer) if together == 1 else f"{layer}{_TOGETHER}{together}"


def placed(text: str) -> tuple[str, int]:
    """The layer and the number of facts that `place` made a text of."""
    layer, _, together = text.removesuffix(_AGAIN).partition(_TOGETHER)
    return layer, int(together or 1)


def is_again(text: str) -> bool:
    """Whether `place` named repeated edits."""
    return text.endswith(_AGAIN)


def listed(layers: Sequence[int | str]) -> list[int]:
    """Of a pair's edit layers those at which every fact is edited."""
    return [layer for layer in layers if isinstance(layer, int)]


def everywhere(layers: Sequence[int | str]) -> list[int | str]:
    """Where every fact is edited: those layers, and the embedding if it is one of a pair's."""
    return [layer for layer in layers if layer != PEAK]


def number(layer: str) -> int:
    """A layer by its name in files."""
    return EMBEDDING if layer == EMBEDDING_NAME else int(layer)
