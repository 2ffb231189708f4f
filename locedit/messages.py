"""Values of unknown kind and size, quoted in one short line of an error's sentence."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 6, 6, 4

LISTED = 12  # names shown of a list


def shown(value: object) -> str:
    """The value as Python writes it, with its middle or its end left out where it is long."""
    return _SHORT.repr(value)


def name(value: object, limit: int = 60) -> str:
    """A key as it stands in a file, without quotation marks where it needs none."""
    text = str(value)
    plain = text.isprintable() and text == text.strip() and 0 < len(text) <= limit
    return text if plain else shown(text)


def listed(values: Iterable[object]) -> str:
    """Names with commas between them, the first dozen of many."""
    names = [name(value) for value in values]
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def most_like(given: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like the given one, whatever the letters' case; None if none is alike."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(given).lower(), lower, n=1, cutoff=cutoff)
    return lower[near[0]] if near else None


def nearest(given: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Words that offer the known name most like the given one, or ""."""
    near = most_like(given, known, cutoff)
    return f"; did you mean {shown(near)}?" if near is not None else ""


def choices(given: object, known: Iterable[str]) -> str:
    """The known name most like the given one, and all of them, for a sentence's end."""
    known = list(known)
    return f"{nearest(given, known)} (known: {', '.join(known) or 'none'})"


def unknown(what: str, given: object, known: Iterable[str]) -> str:
    """Words for a name that is none of those known: "unknown method 'ROMA'; did you mean ..."."""
    return f"unknown {what} {shown(given)}{choices(given, known)}"


def one_line(text: object, limit: int = 400) -> str:
    """A library's message without line breaks, cut where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[:limit]} ..."


# what names a single case in a message: a quotation, or a number
_OF_ONE = re.compile(r"""'[^']*'|"[^"]*"|\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?""")


def commonest(texts: Iterable[str], limit: int = 3) -> str:
    """The commonest of these texts, each with how often it occurs: "2 x it is empty; 1 x ...".

    Those that differ in a number or a quotation alone count together, and show more than one there.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for text in texts:
        alike.setdefault(tuple(_OF_ONE.split(text)), []).append(text)
    common = sorted(alike.values(), key=len, reverse=True)[:limit]
    said = "; ".join(f"{len(group)} x {_as_one(group)}" for group in common)
    return said + ("; ..." if len(alike) > len(common) else "")


def _as_one(texts: Sequence[str]) -> str:
    """Texts alike as one: "found 0 or 2", "the subject 'France', 'Spain', ..."."""
    parts = zip(*map(_OF_ONE.findall, texts), strict=True)
    values = [list(dict.fromkeys(part)) for part in parts]
    said = iter([" or ".join(v) if len(v) < 3 else ", ".join([*v[:2], "..."]) for v in values])
    return _OF_ONE.sub(lambda _: next(said), texts[0])


_SURROGATE = re.compile("[\ud800-\udfff]")
_NUL = "\0"
MARK = "\ufffd"  # Unicode's own stand-in for what is no character


def fault(text: str) -> str:
    """What a text holds that none may; "" if nothing."""
    if _NUL in text:
        return "a NUL character"
    if not text.isascii() and _SURROGATE.search(text):
        return "half of a surrogate pair, which is no character"
    return ""


def fault_of(values: Mapping[str, Any], fields: Iterable[str], names: Mapping[str, str]) -> str:
    """Which of these fields of a record holds what no text may, by its name in the file; or ""."""
    for field in fields:
        value = values.get(field)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and fault(text):
                return f"{names.get(field, field)} holds {fault(text)}"
    return ""


def mended(value: Any) -> Any:
    """A text, or the texts of a list, with MARK for what no text may hold; else the value."""
    if isinstance(value, list):
        return [mended(text) if isinstance(text, str) else text for text in value]
    return _SURROGATE.sub(MARK, value).replace(_NUL, MARK) if isinstance(value, str) else value
