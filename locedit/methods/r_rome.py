"""r-ROME: ROME with the mean key and the mean output throughout (Gupta et al. 2024, 2403.07175)."""

from collections.abc import Sequence

from locedit.methods import rome
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import RomeHyperparameters
from locedit.methods.problems import Request
from locedit.methods.values import mean_over_sets
from locedit.model.language_model import LanguageModel


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: RomeHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW = ((v0 + delta) - w) u^T / (k . u), with k and w means over the contexts."""
    found = rome.solve(lm, requests, layer, hyper, shared)
    return found.at(layer, found.mean_key, mean_over_sets(found.outputs, shared))
