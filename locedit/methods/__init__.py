"""Editing methods: a registry of functions from facts to weight changes.

A new method is a dataclass of hyperparameters, a function and one call of `register`, in a module
that the configuration names under `plugins`: docs/how-to/method.md builds one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from locedit import registry
from locedit.messages import shown, unknown
from locedit.methods.base import CONTEXTS, PRESETS, Edit, Method, SharedInputs
from locedit.methods.builtin import BUILTIN
from locedit.methods.problems import PROBLEMS
from locedit.registry import ALL, RegistrationError
from locedit.settings import field_types

METHODS: dict[str, Method] = {}

_ARGUMENTS = ("lm", "requests", "layer", "hyper", "shared")


def register(method: Method) -> Method:
    """Make a method known by its name, to the configuration and to every table.

    Raises RegistrationError for a name that is taken or cannot name a folder, hyperparameters that
    a configuration cannot hold, defaults or presets that it would not allow, needs that a study
    does not meet, or a function that cannot be called with (lm, requests, layer, hyper, shared).
    """
    said = f"method {shown(method.name)}: "
    registry.check(method, METHODS, said, _ARGUMENTS)
    if method.contexts not in (None, *CONTEXTS):
        raise RegistrationError(
            f"{said}{unknown('contexts', method.contexts, (*CONTEXTS, 'None'))}"
        )
    _check_presets(method, said)
    METHODS[method.name] = method
    return method


def _check_presets(method: Method, said: str) -> None:
    _check_names(method.presets, PRESETS, f"{said}presets", "preset")
    for preset, of_problems in method.presets.items():
        _check_names(of_problems, (ALL, *PROBLEMS), f"{said}presets.{preset}", "problem")
        for problem, values in of_problems.items():
            _check_names(values, None, f"{said}presets.{preset}.{problem}", "setting")
    try:
        for preset in PRESETS:
            for problem in PROBLEMS:
                made = method.hyperparameters(problem, preset)
                values = {name: getattr(made, name) for name in field_types(method.settings)}
                registry.check_values(method.settings, values, f"in {preset}.{problem}")
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{said}{error}") from error


def _check_names(given: Any, known: Sequence[str] | None, said: str, what: str) -> None:
    """known: names that the mapping may have; None: any."""
    if not isinstance(given, Mapping):
        raise RegistrationError(f"{said}: expected a mapping by {what}, got {shown(given)}")
    for name in given:
        if known is not None and name not in known:
            raise RegistrationError(f"{said}: {unknown(what, name, known)}")


for _method in BUILTIN:
    register(_method)

__all__ = ["METHODS", "Edit", "Method", "SharedInputs", "register"]
