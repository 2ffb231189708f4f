"""Salience: how large the gradient is that an edit would follow at each layer's down projection.

The Frobenius norm of the gradient of -log p(o_new) by the layer's down projection (SaLEM: layers
of salient gradients are the ones to edit). Its mean absolute entry is left out: that alone would
need the matrix itself.
"""

from collections.abc import Sequence

from locedit.engine.gradients import BACKWARD, Rows, down_projections, inner_products, parts
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, NoSettings, Place, SharedInputs
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """||G_l|| of -log p(o_new) of the bare prompt, for every layer from one backward pass."""
    rows = Rows.of_facts(lm, facts, [fact.target_new for fact in facts])
    answers: list[Localization] = []
    for part in parts(lm, [len(ids) for ids in rows.ids]):
        seen = down_projections(lm, rows[part])
        norms = inner_products(seen, seen).clamp(min=0).sqrt().double().cpu().numpy()
        answers += [Localization(values=values, passes=1 + BACKWARD) for values in norms]
    return answers
