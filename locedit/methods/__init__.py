"""Editing methods: a registry of functions from facts to weight changes.

A new method is a dataclass of hyperparameters, a function and one call of `register`, in a module
that the configuration names under `plugins`: docs/how-to/method.md builds one.
"""

import inspect
import re
from dataclasses import is_dataclass
from typing import Any

from locedit.errors import LoceditError
from locedit.messages import shown
from locedit.methods.base import CONTEXTS, Edit, Method, SharedInputs
from locedit.methods.builtin import BUILTIN
from locedit.methods.problems import PROBLEMS
from locedit.methods.settings import schema

METHODS: dict[str, Method] = {}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it names folders
_ARGUMENTS = ("lm", "requests", "layer", "hyper", "shared")


class RegistrationError(LoceditError):
    """A method that cannot be registered; the message says what is wrong with it."""


def register(method: Method) -> Method:
    """Make a method known by its name, to the configuration and to every table.

    Raises RegistrationError for a name that is taken or cannot name a folder, hyperparameters that
    a configuration cannot hold, needs that a study does not meet, or a function that cannot be
    called with (lm, requests, layer, hyper, shared).
    """
    said = f"method {shown(method.name)}: "
    if not isinstance(method.name, str) or not _NAME.fullmatch(method.name):
        raise RegistrationError(
            f"{said}its name becomes a folder's: use letters, digits, dots, dashes and "
            "underscores, 100 at most, a letter or digit first"
        )
    if method.name in METHODS:
        raise RegistrationError(
            f"{said}{METHODS[method.name].module} has registered that name; choose another"
        )
    if method.contexts not in (None, *CONTEXTS):
        raise RegistrationError(
            f"{said}unknown contexts {method.contexts!r} (known: {', '.join(CONTEXTS)}, or None)"
        )
    _check_settings(method, said)
    _check_function(method, said)
    METHODS[method.name] = method
    return method


def schemas() -> dict[str, dict[str, Any]]:
    """Of each registered method, the JSON schema of its hyperparameters."""
    return {name: schema(method.settings) for name, method in METHODS.items()}


def _check_settings(method: Method, said: str) -> None:
    if not isinstance(method.settings, type) or not is_dataclass(method.settings):
        raise RegistrationError(
            f"{said}`settings` must be a dataclass, the one of its hyperparameters; got "
            f"{method.settings!r}"
        )
    try:
        schema(method.settings)
        for preset in ("paper", "released"):
            for problem in PROBLEMS:
                method.hyperparameters(problem, preset)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{said}{error}") from error


def _check_function(method: Method, said: str) -> None:
    if isinstance(method.function, str):
        return  # imported when it is first used
    wanted = ", ".join(_ARGUMENTS)
    if not callable(method.function):
        raise RegistrationError(f"{said}`function` must take ({wanted}); got {method.function!r}")
    signature = inspect.signature(method.function)
    try:
        signature.bind(*_ARGUMENTS)
    except TypeError as error:
        raise RegistrationError(
            f"{said}its function must take ({wanted}); "
            f"{method.function.__name__} takes ({', '.join(signature.parameters)})"
        ) from error


for _method in BUILTIN:
    register(_method)

__all__ = ["METHODS", "Edit", "Method", "RegistrationError", "SharedInputs", "register", "schemas"]
