"""Localizers: a registry of functions from facts to a value per layer, large where a fact is held.

A new localizer is a function and one call of `register`, in a module that the configuration names
under `plugins`: docs/how-to/localizer.md builds one.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from locedit import registry
from locedit.localizers.base import (
    MODULES,
    NEEDS,
    NO_MODULE,
    Localization,
    Localizer,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.localizers.builtin import BUILTIN, TRACING
from locedit.messages import shown, unknown
from locedit.registry import RegistrationError

LOCALIZERS: dict[str, Localizer] = {}

_ARGUMENTS = ("lm", "facts", "place", "settings", "shared")


def register(localizer: Localizer) -> Localizer:
    """Make a localizer known by its name, to the configuration and to every table.

    Raises RegistrationError for a name that is taken or cannot name a folder, settings that a
    configuration cannot hold or that have no default that it would allow, modules that no model
    has, needs that a study does not meet, or a function that cannot be called with (lm, facts,
    place, settings, shared).
    """
    said = f"localizer {shown(localizer.name)}: "
    registry.check(localizer, LOCALIZERS, said, _ARGUMENTS)
    _check_known(localizer.modules, MODULES, said, "module")
    _check_known(localizer.needs, NEEDS, said, "need")
    try:
        localizer.settings()
    except (TypeError, ValueError) as error:
        raise RegistrationError(
            f"{said}each of its settings needs a default that is allowed ({error})"
        ) from error
    LOCALIZERS[localizer.name] = localizer
    return localizer


def _check_known(given: Collection[str], known: Sequence[str], said: str, what: str) -> None:
    several = not isinstance(given, str) and isinstance(given, Collection)
    if not several or not all(isinstance(name, str) for name in given):
        hint = "" if several else f"; for one {what} write [{shown(given)}]"
        raise RegistrationError(
            f"{said}`{what}s` must be a list of names, got {shown(given)}{hint}"
        )
    for name in sorted(given):
        if name not in known:
            raise RegistrationError(f"{said}{unknown(what, name, known)}")


def places(name: str, localizing: Mapping[str, Any]) -> list[Place]:
    """Where a localizer looks in a study, by the configuration's section `localizing`."""
    return LOCALIZERS[name].places(localizing["modules"], localizing["windows"])


def shown_place(name: str, localizing: Mapping[str, Any], module: str, window: int) -> Place:
    """Of a localizer's places the one that figures show: the wanted one, else the nearest to it."""
    return min(
        places(name, localizing),
        key=lambda place: (place.module != module, place.window != window),
    )


for _localizer in BUILTIN:
    register(_localizer)

__all__ = [
    "LOCALIZERS",
    "MODULES",
    "NO_MODULE",
    "TRACING",
    "Localization",
    "Localizer",
    "NoSettings",
    "Place",
    "SharedInputs",
    "Unavailable",
    "places",
    "register",
    "shown_place",
]
