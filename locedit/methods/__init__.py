"""Editing methods: a registry of functions from facts to weight changes.

A new method is one file and one line in `METHODS`.
"""

from locedit.methods import ft, memit, rome
from locedit.methods.base import Edit, Method, SharedInputs

METHODS: dict[str, Method] = {
    "FT-1": Method(ft.edit, ft.Hyperparameters, ft.PRESETS["FT-1"], contexts=None),
    "FT-5": Method(ft.edit, ft.Hyperparameters, ft.PRESETS["FT-5"], contexts=None),
    "ROME": Method(rome.edit, rome.Hyperparameters, rome.PRESETS, contexts="rome"),
    "MEMIT": Method(memit.edit, memit.Hyperparameters, memit.PRESETS, contexts="memit"),
}

__all__ = ["METHODS", "Edit", "Method", "SharedInputs"]
