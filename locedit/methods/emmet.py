"""EMMET: ROME's equality constraint, for many facts (Gupta et al. 2024, arXiv 2403.14236).

Values are MEMIT's, and a layer answers its keys with them exactly but for a ridge: M = C^-1.
"""

from collections.abc import Sequence

from locedit.methods import spreading
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import EmmetHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: EmmetHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW_l = R (K^T C_l^-1 K + ridge I)^-1 K^T C_l^-1 for each layer of the window, ascending."""
    moments = shared.moments_for("EMMET")
    return spreading.edit(
        lm, requests, layer, hyper, shared, metric=moments.solve, ridge=hyper.ridge
    )
