"""Editing methods: a registry of functions from facts to weight changes.

A new method is one file and one line in `METHODS`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from locedit.methods import ft, memit, rome
from locedit.methods.base import Edit, Method, SharedInputs

METHODS: dict[str, Method] = {
    "FT-1": Method(ft.edit, ft.Hyperparameters, ft.PRESETS["FT-1"], contexts=None),
    "FT-5": Method(ft.edit, ft.Hyperparameters, ft.PRESETS["FT-5"], contexts=None),
    "ROME": Method(rome.edit, rome.Hyperparameters, rome.PRESETS, contexts="rome"),
    "MEMIT": Method(memit.edit, memit.Hyperparameters, memit.PRESETS, contexts="memit"),
}

__all__ = ["METHODS", "Edit", "Method", "SharedInputs", "hyperparameters"]


def hyperparameters(
    method: str, problem: str, preset: str, *overlays: Mapping[str, Mapping[str, Any]]
) -> Any:
    """The method's settings for a problem: the preset's, then each overlay's in turn.

    An overlay maps "all" or a problem's name to settings, the problem's own winning. Raises
    ValueError for a setting that the method does not have, naming the nearest.
    """
    entry = METHODS[method]
    values = {**entry.presets[preset]["all"], **entry.presets[preset].get(problem, {})}
    for overlay in overlays:
        values |= {**overlay.get("all", {}), **overlay.get(problem, {})}
    known = [field.name for field in dataclasses.fields(entry.settings)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"hyperparameters of {method}: unknown setting {name!r} (known: "
                f"{', '.join(known)}){hint}"
            )
    return entry.settings(**values)
