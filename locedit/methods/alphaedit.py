"""AlphaEdit: MEMIT's values written in the null space of other keys (Fang et al. 2025, 2410.02355).

Without earlier edits to protect, (P K K^T + L2 I)^-1 P K = P K (K^T P K + L2 I)^-1: M = P with a
ridge of L2. P = U U^T is never formed.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from locedit.engine.key_statistics import KeyMoments
from locedit.errors import LoceditError
from locedit.methods import spreading
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import AlphaEditHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.windows import window_layers


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: AlphaEditHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW_l^T = (P K K^T + L2 I)^-1 P K R^T for each layer of the window, ascending."""
    moments = shared.moments_for("AlphaEdit")
    window = window_layers(layer, hyper.window, lm.n_layers)
    spaces = {edited: null_space(moments, edited, lm.inner_size, hyper) for edited in window}

    def metric(layer: int, keys: Tensor) -> Tensor:
        return keys @ spaces[layer] @ spaces[layer].T

    made = spreading.edit(lm, requests, layer, hyper, shared, metric=metric, ridge=hyper.l2)
    return replace(made, null_space_rank=[space.shape[1] for space in spaces.values()])


def null_space(
    moments: KeyMoments, layer: int, width: int, hyper: AlphaEditHyperparameters
) -> Tensor:
    """U [d_ff, rank], float64: the directions of C_l that hardly any key of the text has a part in.

    Those with singular values below a threshold: `relative`, a multiple of their median, which a
    few huge ones do not move; `absolute`; `energy`, the smallest ones that together hold at most
    so large a share of their sum. Raises LoceditError where that is no direction, or each of them.
    """
    values, directions = moments.spectrum(layer, width)
    middle = values.quantile(0.5)
    if hyper.threshold_kind == "energy":
        rank = int((values.cumsum(0) <= hyper.threshold * values.sum()).sum())
    else:
        unit = middle if hyper.threshold_kind == "relative" else 1.0
        rank = int((values < hyper.threshold * unit).sum())
    if not 0 < rank < width:
        told = f"{hyper.threshold_kind} threshold of {hyper.threshold:g}"
        spread = f"singular values {values[0]:.3g} to {values[-1]:.3g}, median {middle:.3g}"
        wrong, remedy = ("empty", "raise it, or") if rank == 0 else ("all there is", "lower it, or")
        if hyper.threshold_kind == "relative" and middle == 0:
            remedy = "no multiple of the median is above 0:"
        raise LoceditError(
            f"AlphaEdit: the null space of layer {layer}'s key moment is {wrong}, {rank} of its "
            f"{width} dimensions ({spread}), at the {told}; {remedy} choose another threshold_kind"
        )
    return directions[:, :rank]
