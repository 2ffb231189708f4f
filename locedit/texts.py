"""Text that is none: what JSON or a shell can bring, and tables, tokenizers and R refuse."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

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
