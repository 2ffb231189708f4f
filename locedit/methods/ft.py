"""Constrained fine-tuning, FT-1 and FT-5 (Zhu et al. 2020, arXiv 2012.00363; METHODS section 4)."""

from collections.abc import Sequence

from torch import Tensor

from locedit.methods import descent, embedding
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import FineTuningHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.windows import EMBEDDING, window_layers


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: FineTuningHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """Adam on the window's down projections, each fact with weight changes of its own.

    Loss: -log p(target | prompt), erasure: p itself; forcing: summed over the noise rows. At
    EMBEDDING: on the rows of the subject's tokens there (`embedding.edit`).
    """
    maximise = requests[0].problem.maximise

    def loss(log_p: Tensor, _: Tensor) -> Tensor:
        return (-log_p if maximise else log_p.exp()).sum(dim=1)

    if layer == EMBEDDING:
        return embedding.edit(lm, requests, loss, hyper, shared, eps=hyper.embedding_eps)
    window = window_layers(layer, hyper.window, lm.n_layers)
    return descent.descend_weights(
        lm,
        descent.Rows.build(lm, requests, shared, first=window.start),
        descent.zero_changes(lm, window, len(requests)),
        loss,
        lr=hyper.lr,
        steps=hyper.steps,
        enough=hyper.enough,
        eps=hyper.eps,
    )
