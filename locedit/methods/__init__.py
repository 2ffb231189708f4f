"""Editing methods: a registry of functions from facts to weight changes.

A new method is one file and one line in `METHODS`.
"""

from locedit.methods import ft, memit, rome
from locedit.methods.base import Edit, Method, SharedInputs

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("FT-1", ft.edit, ft.Hyperparameters, ft.PRESETS["FT-1"], contexts=None),
        Method("FT-5", ft.edit, ft.Hyperparameters, ft.PRESETS["FT-5"], contexts=None),
        Method("ROME", rome.edit, rome.Hyperparameters, rome.PRESETS, contexts="rome"),
        Method("MEMIT", memit.edit, memit.Hyperparameters, memit.PRESETS, contexts="memit"),
    )
}

__all__ = ["METHODS", "Edit", "Method", "SharedInputs"]
