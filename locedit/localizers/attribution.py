"""Attribution patching: what restoring each module output would bring back, to first order.

(clean - corrupted) . gradient of p(o_true) at the corrupted run, for all layers and tokens from one
backward pass (Nanda 2023; Kramár et al. 2024, arXiv 2403.00745): causal tracing of window 1, to
first order. The sum over a window is not the effect of restoring the window, which blocks the paths
inside it: so there are no windows.
"""

from collections.abc import Sequence

from locedit.engine.gradients import BACKWARD
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, Place, SharedInputs
from locedit.localizers.builtin import AttributionSettings
from locedit.localizers.corrupted import Corrupted, batches
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: AttributionSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """At the best token, mean over noise rows; further at the subject's `last` token, and the `sum`
    over the tokens from the subject's first to the prompt's last.
    """
    answers: list[Localization] = []
    for rows in batches(lm, facts, shared.n_noise):
        runs = Corrupted.build(lm, rows, place.module, shared, shared.n_noise)
        seen = runs.observe(0.0, runs.metric(settings.metric))
        passes = [1 + shared.n_noise * (1 + BACKWARD) * share for share in runs.share_of_prompt()]
        answers += runs.localizations(runs.restored(seen.outputs, seen.gradients), passes)
    return answers
