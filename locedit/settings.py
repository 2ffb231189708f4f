"""Types of settings, and what a configuration may say of a dataclass of them.

The dataclass of a method or localizer says all there is to say about its settings: pydantic checks
a configuration against it. No heavy imports: Snakemake reads this each time it starts.
"""

import dataclasses
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Dtype = Literal["auto", "float32", "float64", "bfloat16", "float16"]  # of a model's weights

_TYPES = (int, float, bool, str, type(None))
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def overlay(settings: type) -> Any:
    """The type of a mapping from some of a dataclass's fields to values, for pydantic.

    Types of the fields: int, float, bool, str, a `Literal`, a union of them, or one of them
    `Annotated` with limits, as `Count` is. Raises TypeError for another.
    """
    return mapping(settings.__name__, field_types(settings))


def mapping(name: str, types_of: dict[str, Any]) -> Any:
    """The type of a mapping with some of these keys and no others."""
    make: Any = TypedDict  # mypy knows the form with names in the source alone
    made = make(name, types_of, total=False)
    made.__pydantic_config__ = _STRICT
    return made


def field_types(settings: type) -> dict[str, Any]:
    """A dataclass's fields and their types, limits included; TypeError as `overlay` has it."""
    hints = get_type_hints(settings, include_extras=True)
    names = [field.name for field in dataclasses.fields(settings)]
    for name in names:
        _check_type(hints[name], name)
    return {name: hints[name] for name in names}


def _check_type(kind: Any, name: str) -> None:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        _check_type(inner[0], name)
    elif origin in (Union, types.UnionType):
        for part in inner:
            _check_type(part, name)
    elif kind not in _TYPES and origin is not Literal:
        known = ", ".join(t.__name__ for t in _TYPES if t is not type(None))
        raise TypeError(
            f"its setting {name!r} is of type {_type_name(kind)}; use a single {known}, a Literal, "
            "a union of these, or one of locedit.settings"
        )


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def defaults(settings: type) -> dict[str, Any]:
    """A dataclass's fields that have a default, with what that is."""
    missing = dataclasses.MISSING
    found = {}
    for field in dataclasses.fields(settings):
        if field.default is not missing:
            found[field.name] = field.default
        elif field.default_factory is not missing:
            found[field.name] = field.default_factory()
    return found
