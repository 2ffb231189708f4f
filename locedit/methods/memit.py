"""MEMIT, of one fact or of many (Meng et al. 2023, arXiv 2210.07229, sections 4.2-4.3).

METHODS section 4. (lambda C + K K^T)^-1 K = C^-1 K / lambda (K^T C^-1 K / lambda + I)^-1: C alone
is factored, once a layer, and M = C^-1 / lambda has a ridge of 1.
"""

from collections.abc import Sequence

from torch import Tensor

from locedit.methods import spreading
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import MemitHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: MemitHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW_l = R_l K_l^T (lambda C_l + K_l K_l^T)^-1 for each layer of the window, ascending."""
    moments = shared.moments_for("MEMIT")

    def metric(layer: int, keys: Tensor) -> Tensor:
        return moments.solve(layer, keys) / hyper.moment_weight

    return spreading.edit(lm, requests, layer, hyper, shared, metric=metric, ridge=1.0)
