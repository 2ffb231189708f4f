"""Layer gradient analysis: whether learning the new object moves a layer as the old one would.

The inner product of the gradients of -log p(o_true) and of -log p(o_new) by each layer's down
projection (Datta, Liu and Chhabra 2026, arXiv 2602.20207, section 5). Each object has a
teacher-forced row, keys and gradients of its own.
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
    """<G_old, G_new> of the bare prompt, signed; further their `cosine`, 0 where one is 0."""
    old = Rows.of_facts(lm, facts, [fact.target_true for fact in facts])
    new = Rows.of_facts(lm, facts, [fact.target_new for fact in facts])
    sizes = [len(a) + len(b) for a, b in zip(old.ids, new.ids, strict=True)]
    answers: list[Localization] = []
    for part in parts(lm, sizes):
        one, other = down_projections(lm, old[part]), down_projections(lm, new[part])
        products = inner_products(one, other).double()
        squares = inner_products(one, one).double() * inner_products(other, other).double()
        lengths = squares.clamp(min=0).sqrt()
        cosines = products.where(lengths > 0, 0.0) / lengths.where(lengths > 0, 1.0)
        answers += [
            Localization(values=values, further={"cosine": cosine}, passes=2 * (1 + BACKWARD))
            for values, cosine in zip(products.cpu().numpy(), cosines.cpu().numpy(), strict=True)
        ]
    return answers
