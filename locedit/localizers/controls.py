"""Controls that look at nothing: what a localizer must beat to say anything about facts."""

from collections.abc import Sequence

import numpy as np

from locedit.facts.record import Fact
from locedit.localizers.base import Answer, Localization, NoSettings, Place, SharedInputs
from locedit.localizers.builtin import RandomSettings
from locedit.model.language_model import LanguageModel
from locedit.seeds import derive


def depth(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """The layer's number: largest in the last layer."""
    return [Localization(values=np.arange(lm.n_layers, dtype=float), passes=0.0) for _ in facts]


def middle(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """Minus the distance to the middle of the network, in layers."""
    distance = np.abs(np.arange(lm.n_layers) - (lm.n_layers - 1) / 2)
    return [Localization(values=-distance, passes=0.0) for _ in facts]


def random(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: RandomSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """A number from 0 to 1 for each layer, drawn for each fact from the study's seed."""

    def drawn(fact: Fact) -> np.ndarray:
        seed = derive(shared.seed, "random", fact.case_id, settings.draw)
        return np.random.RandomState(seed).rand(lm.n_layers)

    return [Localization(values=drawn(fact), passes=0.0) for fact in facts]
