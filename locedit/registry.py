"""What can be registered by name, as editing methods and localizers are: the checks they share.

No heavy imports: Snakemake reads this each time it starts.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from locedit.errors import LoceditError
from locedit.messages import listed, shown
from locedit.settings import defaults, field_types

# What names a folder of the results: no separator, no blank, none of Snakemake's braces
FOLDER_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
FOLDER_RULE = (
    "use letters, digits, dots, dashes and underscores, 100 at most, a letter or digit first"
)


ALL = "all"  # in the configuration: every method, or problem, that is not named itself


class RegistrationError(LoceditError):
    """What cannot be registered; the message says what is wrong with it."""


class Entry(Protocol):
    """What every registry asks of its entries."""

    @property
    def name(self) -> str:
        """Its name in the configuration and in tables."""

    @property
    def function(self) -> Any:
        """What it does, or "module:function"."""

    @property
    def settings(self) -> type:
        """The dataclass of what it can be set to."""

    @property
    def module(self) -> str:
        """The module that holds the function."""


def imported(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """A function that is given itself, or as "module:function" to be imported when it is used."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def module_of(function: Callable[..., Any] | str) -> str:
    """The module that holds a function, without importing it."""
    return function.partition(":")[0] if isinstance(function, str) else function.__module__


def check(entry: Entry, known: Mapping[str, Entry], said: str, arguments: Sequence[str]) -> None:
    """Raise RegistrationError, beginning with `said`, for an entry that no study can use.

    Its name must be free and able to name a folder, its settings a dataclass that a configuration
    can hold, with defaults that it would allow there, its function one that can be called with
    these arguments.
    """
    if not isinstance(entry.name, str) or not re.fullmatch(FOLDER_NAME, entry.name):
        raise RegistrationError(f"{said}its name becomes a folder's: {FOLDER_RULE}")
    if entry.name == ALL:
        raise RegistrationError(f"{said}{ALL!r} stands for every one in a configuration")
    if entry.name in known:
        raise RegistrationError(
            f"{said}{known[entry.name].module} has registered that name; choose another"
        )
    if not isinstance(entry.settings, type) or not is_dataclass(entry.settings):
        raise RegistrationError(
            f"{said}`settings` must be a dataclass, the one of what it can be set to; got "
            f"{shown(entry.settings)}"
        )
    try:
        field_types(entry.settings)
        check_values(entry.settings, defaults(entry.settings), "by default")
    except TypeError as error:
        raise RegistrationError(f"{said}{error}") from error
    _check_function(entry.function, said, arguments)


def check_values(settings: type, values: Mapping[str, Any], where: str) -> None:
    """Raise TypeError for the first value that is none of its setting's type, limits included.

    As a configuration's values are checked, which no code's ever meet; but infinity is a number.
    where: how the value came to be set, for the sentence.
    """
    try:
        _values_of(settings).validate_python(dict(values), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = first["loc"][0]
        raise TypeError(
            f"its setting {name!r} is {shown(values[str(name)])} {where}, which its own type "
            f"refuses ({first['msg']})"
        ) from None


@cache
def _values_of(settings: type) -> TypeAdapter:
    make: Any = TypedDict  # mypy knows the form with names in the source alone
    return TypeAdapter(make(settings.__name__, field_types(settings), total=False))


def _check_function(function: Any, said: str, arguments: Sequence[str]) -> None:
    if isinstance(function, str):
        return  # imported when it is first used
    wanted = ", ".join(arguments)
    if not callable(function):
        raise RegistrationError(f"{said}`function` must take ({wanted}); got {function!r}")
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise RegistrationError(
            f"{said}its function must take ({wanted}); "
            f"{function.__name__} takes ({', '.join(signature.parameters)})"
        ) from error


SILENT: list[str] = []  # plug-ins that registered nothing when they were imported


def remark() -> str:
    """Words behind a name that is not known, where a plug-in may have meant to register it."""
    if not SILENT:
        return ""
    one = (
        f"the plug-in {SILENT[0]} registers"
        if len(SILENT) == 1
        else (f"the plug-ins {listed(SILENT)} register")
    )
    return f"; {one} nothing: it has to call `register` when it is imported"
