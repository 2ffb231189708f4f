"""Editing methods: a registry of functions from facts to weight changes.

A new method is a dataclass of hyperparameters, a function and one call of `register`, in a module
that the configuration names under `plugins`: docs/how-to/method.md builds one.
"""

from locedit import registry
from locedit.messages import shown, unknown
from locedit.methods.base import CONTEXTS, Edit, Method, SharedInputs
from locedit.methods.builtin import BUILTIN
from locedit.methods.problems import PROBLEMS
from locedit.registry import RegistrationError

METHODS: dict[str, Method] = {}

_ARGUMENTS = ("lm", "requests", "layer", "hyper", "shared")


def register(method: Method) -> Method:
    """Make a method known by its name, to the configuration and to every table.

    Raises RegistrationError for a name that is taken or cannot name a folder, hyperparameters that
    a configuration cannot hold, needs that a study does not meet, or a function that cannot be
    called with (lm, requests, layer, hyper, shared).
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
    try:
        for preset in ("paper", "released"):
            for problem in PROBLEMS:
                method.hyperparameters(problem, preset)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{said}{error}") from error


for _method in BUILTIN:
    register(_method)

__all__ = ["METHODS", "Edit", "Method", "SharedInputs", "register"]
