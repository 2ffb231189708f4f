"""Types of settings, and the JSON schema that a dataclass of them amounts to.

The configuration is checked against the schema, so the dataclass of a method or localizer says all
there is to say about its settings. No heavy imports: Snakemake reads this each time it starts.
"""

import dataclasses
import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class Limit(NamedTuple):
    """A keyword of JSON schema, such as `minimum` or `maximum`, with its value."""

    keyword: str
    value: float


Count = Annotated[int, Limit("minimum", 1)]
Positive = Annotated[float, Limit("exclusiveMinimum", 0)]
NotNegative = Annotated[float, Limit("minimum", 0)]

_TYPES = {int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null"}


def schema(settings: type) -> dict[str, Any]:
    """The JSON schema of some of a dataclass's fields, each of a type that YAML can hold.

    Types: int, float, bool, str, a `Literal`, a union of them, or one of them `Annotated` with
    limits, as `Count` is. Raises TypeError for another.
    """
    hints = get_type_hints(settings, include_extras=True)
    names = [field.name for field in dataclasses.fields(settings)]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _of_type(hints[name], name) for name in names},
    }


def _of_type(kind: Any, name: str) -> dict[str, Any]:
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _TYPES:
        return {"type": _TYPES[kind]}
    if origin is Annotated:
        limits = [limit for limit in inner[1:] if isinstance(limit, Limit)]
        return {**_of_type(inner[0], name), **dict(limits)}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of_type(part, name) for part in inner]}
    known = ", ".join(t.__name__ for t in _TYPES if t is not type(None))
    raise TypeError(
        f"its setting {name!r} is of type {kind!r}, which YAML cannot hold; use {known}, "
        "Literal, or one of locedit.settings"
    )
