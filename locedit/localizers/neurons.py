"""Knowledge neurons, summed over each layer: integrated gradients of the MLP's inner activations.

Dai et al. 2022 (arXiv 2104.08696): a layer's activations k at one token are scaled from 0 to what
they are, and neuron i has k_i times the mean gradient of p(o_true) by it. As the down projection
W k + b is linear, the sum over neurons is W k . the mean gradient at its output. It tends to
p - p(with k = 0) as S grows: what taking the layer's activations away there would cost.
"""

from collections.abc import Sequence

from locedit.engine import neurons
from locedit.engine.gradients import BACKWARD, Rows
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, Place, SharedInputs
from locedit.localizers.builtin import NeuronSettings
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NeuronSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """One fact after the other: all layers and steps of one fill a batch."""
    rows = Rows.of_facts(lm, facts, [fact.target_true for fact in facts])
    return [_of_fact(lm, rows[index : index + 1], settings) for index in range(len(facts))]


def _of_fact(lm: LanguageModel, row: Rows, settings: NeuronSettings) -> Localization:
    (ids,), (target,) = row.ids, row.targets
    token = row.ends[0] if settings.token == "last" else row.subjects[0][1] - 1
    layers = range(lm.n_layers)
    way = neurons.walk(lm, ids, target, token=token, steps=settings.steps, layers=layers)
    share = (len(ids) - token) / len(ids)
    return Localization(
        values=(way.written * way.gradients).sum(dim=(1, 2)).double().cpu().numpy(),
        passes=1 + settings.steps * (1 + BACKWARD) * (lm.n_layers + 1) / 2 * share,
    )
