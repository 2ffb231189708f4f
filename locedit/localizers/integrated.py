"""Integrated gradients along the embeddings, from the corrupted run to the clean one (EAP-IG).

(clean - corrupted) . the mean gradient of log p(o_true) over S points between the two (Hanna,
Pezzelle and Belinkov 2024, arXiv 2403.17806): `attribution` without its trust in the corrupted
run's gradient alone. Where what enters a module moves straight from one run to the other, the
outputs' values sum over tokens to m(clean) - m(corrupted) as S grows.
"""

from collections.abc import Sequence

import torch

from locedit.engine.gradients import BACKWARD
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, Place, SharedInputs
from locedit.localizers.builtin import IntegratedSettings
from locedit.localizers.corrupted import Corrupted, batches
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: IntegratedSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """At the best token, with what `attribution` gives further."""
    answers: list[Localization] = []
    for rows in batches(lm, facts, settings.n_noise):
        runs = Corrupted.build(lm, rows, place.module, shared, settings.n_noise)
        outputs, metric = runs.outputs(), runs.metric(settings.metric)
        steps = [step / settings.steps for step in range(1, settings.steps + 1)]
        restored = [runs.restored(outputs, runs.observe(s, metric).gradients) for s in steps]
        row = 1 + settings.steps * (1 + BACKWARD)
        passes = [1 + settings.n_noise * row * share for share in runs.share_of_prompt()]
        answers += runs.localizations(torch.stack(restored).mean(dim=0), passes)
    return answers
