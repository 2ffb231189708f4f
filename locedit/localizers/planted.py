"""The layer that a planted fact was trained into: the answer, beside what localizers say.

A control: the value is 1 there and 0 elsewhere. What statistics say of it is what they would say of
a localizer that is always right; where even that does not tell where to edit, none can be blamed.
"""

from collections.abc import Sequence

import numpy as np

from locedit.facts.record import Fact
from locedit.localizers.base import (
    Answer,
    Localization,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """Each fact's place as [layers]; Unavailable for one that was trained into all layers."""
    return [_answer(shared.planting.get(fact.case_id), lm.n_layers) for fact in facts]


def _answer(layer: int | None, n_layers: int) -> Answer:
    if layer is None:
        return Unavailable(reason="it was not planted in one layer")
    return Localization(values=(np.arange(n_layers) == layer).astype(float), passes=0.0)
