"""What a command's options name."""

from collections.abc import Sequence

from locedit.api.look import Look
from locedit.api.one_fact import advised
from locedit.errors import LoceditError
from locedit.messages import shown, unknown
from locedit.methods import METHODS
from locedit.registry import remark
from locedit.workflow.sections import RECOMMENDED


def method_named(name: str, option: str = "--method") -> str:
    """A registered method, whatever the letter case; LoceditError names the nearest."""
    lower = {known.lower(): known for known in METHODS}
    if name.lower() in lower:
        return lower[name.lower()]
    raise LoceditError(f"{option}: {unknown('method', name, METHODS)}{remark()}")


def columns_named(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Our fields to a table's columns, as --column names them; LoceditError for a field twice."""
    columns = dict(pairs)
    for ours, column in pairs:
        if columns[ours] != column:
            raise LoceditError(
                f"--column: {ours} is both {shown(column)} and {shown(columns[ours])}; give one"
            )
    return columns


def check_layer_named(given: int | None, tuned: str | None) -> None:
    """Raise LoceditError where neither --layer nor --tuned recommended names the edit layer."""
    if given is None and tuned != RECOMMENDED:
        raise LoceditError(
            "--layer: facts are written at a layer; name it, counted from 0, or take that of "
            "`locedit recommend` by --tuned recommended"
        )


def edit_layer(seen: Look, method: str, problem: str, given: int | None) -> int:
    """The layer of --layer, else the one that the model's file recommends."""
    return given if given is not None else int(advised(seen, method, problem)["layer"])
