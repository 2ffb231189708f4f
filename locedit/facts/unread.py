"""Keys of a data file that stand for nothing here, each with the one that may be meant.

A record's key that is dropped without a word is found out after the whole run.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from locedit.messages import LISTED, most_like, name


def unread(
    records: Sequence[Any],
    reads: Mapping[str, Sequence[str]],
    leaves: Collection[str],
    columns: Mapping[str, str],
) -> list[str]:
    """The keys of the records, in words, that are neither read nor left unread on purpose.

    reads: our fields to the keys that may hold them; leaves: keys that are known and not used; of
    both, inner keys behind a dot. columns: our fields to those of a table of one's own, which
    alone are read then.
    """
    paths = [path for spellings in reads.values() for path in spellings]
    known = set(columns.values()) if columns else {*paths, *leaves}
    opened = set[str]() if columns else {p[: dot.start()] for p in known for dot in _DOTS(p)}
    seen = dict[str, bool]()  # whether some record's value is of the kind that is read
    for record in records:
        if isinstance(record, Mapping):
            for path, plain in _paths(record, opened):
                seen[path] = seen.get(path, False) or plain
    used = {path for path in known if seen.get(path) or (path in leaves and not columns)}
    left = [path for path in seen if path not in used]
    if columns:
        free = [ours for ours in reads if ours not in columns]
    else:
        free = [path for path in paths if not seen.get(path)]
    hints = [_meant(path, free, seen[path]) for path in left[:LISTED]]  # the others are not shown
    return [f"{name(path)}{hint}" for path, hint in zip_longest(left, hints, fillvalue="")]


_DOTS = re.compile(r"\.").finditer


def _paths(record: Mapping[str, Any], opened: set[str], before: str = "") -> Iterator[tuple]:
    """Each key of a record, those of the objects to be opened behind their own, and if plain."""
    for key, value in record.items():
        path = f"{before}{key}"
        if path not in opened:
            yield path, is_plain(value)
        elif isinstance(value, Mapping):
            yield from _paths(value, opened, f"{path}.")


def is_plain(value: Any) -> bool:
    """Whether a value is what a field of ours can be: text, a number or a list of these."""
    parts = value if isinstance(value, list) else [value]
    return not any(isinstance(part, Mapping | list) for part in parts)


def _meant(path: str, free: Sequence[str], plain: bool) -> str:
    if path in free:
        return "" if plain else " (expected a text or a list of texts)"
    near = most_like(path.strip(), free)
    return f" (did you mean {near}?)" if near is not None else ""
