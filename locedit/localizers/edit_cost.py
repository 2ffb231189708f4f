"""Edit cost: how much a rank-one edit at each layer must disturb what the layer does elsewhere.

A ROME edit that lets the layer answer key k with v* and changes other keys k' least disturbs them
by E||dW k'||^2 = ||v* - W k||^2 / (k^T C^-1 k) (after Hu et al. 2024, arXiv 2402.10987, and Meng et
al. 2022, equation 2). It sees the editor's own quantities: among localizers the upper control.
Editing is easy where the cost is low, so the value is minus its logarithm.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from locedit.engine.gradients import BACKWARD, DownProjections, Rows, down_projections, parts
from locedit.engine.key_statistics import KeyMoments
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, Place, SharedInputs
from locedit.localizers.builtin import EditCostSettings
from locedit.methods import base, rome, values
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel

PROBLEM = "error_injection"  # the edit that writes the new object


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: EditCostSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """-log cost; NaN where what is written at the subject's last token cannot reach the prediction.

    Raises LoceditError without key statistics.
    """
    if shared.moments is None:
        raise LoceditError("edit_cost needs key statistics (SharedInputs.moments)")
    if settings.target == "full":
        return _full(lm, facts, settings, shared)
    rows = Rows.of_facts(lm, facts, [fact.target_new for fact in facts])
    answers: list[Localization] = []
    for part in parts(lm, [len(ids) for ids in rows.ids]):
        costs = _cheap(down_projections(lm, rows[part]), rows[part], shared.moments)
        answers += [Localization(values=v, passes=1 + BACKWARD) for v in _values(costs)]
    return answers


def _cheap(seen: DownProjections, rows: Rows, moments: KeyMoments) -> Tensor:
    """Costs [facts, layers], in the bare prompt; infinite where the gradient is 0.

    v* = W k - (L / ||g||^2) g, L = -log p(o_new) and g its gradient at the output: the step that
    would bring the loss to 0, were it linear (Polyak's). Its square is L^2 / ||g||^2.
    """
    last = torch.tensor([e - 1 for _, e in rows.subjects], device=seen.loss.device)
    index = torch.arange(len(last), device=last.device)
    costs = []
    for layer, (keys, gradients) in enumerate(zip(seen.keys, seen.gradients, strict=True)):
        slope = gradients[index, last].double().square().sum(dim=1)
        costs.append(seen.loss.double() ** 2 / slope / _ease(moments, layer, keys[index, last]))
    return torch.stack(costs, dim=1)


def _ease(moments: KeyMoments, layer: int, keys: Tensor) -> Tensor:
    """k^T C^-1 k of each key [facts, d_ff], [facts]."""
    return (keys * moments.solve(layer, keys)).double().sum(dim=1)


def _values(costs: Tensor) -> np.ndarray:
    """-log cost, NaN where it is infinite."""
    return (-costs.log()).where(costs.isfinite(), torch.nan).cpu().numpy()


def _full(
    lm: LanguageModel, facts: Sequence[Fact], settings: EditCostSettings, shared: SharedInputs
) -> list[Localization]:
    """By ROME's own value, with the mean key over its contexts: a whole optimisation a layer."""
    requests = [
        Request(
            case_id=fact.case_id,
            template=fact.template,
            subject=fact.subject,
            target=fact.target_new,
            problem=PROBLEMS[PROBLEM],
        )
        for fact in facts
    ]
    edits = base.SharedInputs(contexts=shared.contexts, moments=shared.moments)
    rows = values.build(lm, requests, edits)
    layers = range(lm.n_layers)
    costs = [
        torch.stack(
            [_of_rome(lm, requests[part], layer, settings, edits) for layer in layers], dim=1
        )
        for part in parts(lm, _by_fact(rows, rows.lengths))
    ]
    lengths = [len(ids) for ids in Rows.of_facts(lm, facts, [r.target for r in requests]).ids]
    counts = _passes(lm, rows, settings.iterations - 1, lengths)
    found = _values(torch.cat(costs))
    return [Localization(values=one, passes=n) for one, n in zip(found, counts, strict=True)]


def _of_rome(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    settings: EditCostSettings,
    edits: base.SharedInputs,
) -> Tensor:
    """Costs of one layer, [facts]; infinite where the value is the layer's own: no edit is made."""
    assert edits.moments is not None
    found = rome.solve(lm, requests, layer, settings, edits)
    moved = found.value - values.mean_over_sets(found.outputs, edits)
    costs = moved.double().square().sum(dim=1) / _ease(edits.moments, layer, found.mean_key)
    unmoved = (found.value == found.outputs[:, 0]).all(dim=1)
    return costs.masked_fill(unmoved, torch.inf)


def _passes(
    lm: LanguageModel, rows: values.Rows, steps: int, lengths: Sequence[int]
) -> list[float]:
    """Each fact's passes over its prompt of `lengths` tokens.

    A layer takes a whole pass of all rows, then its steps: forward and backward through the layers
    above it, from the subject's last token on (of the KL row, that token alone).
    """
    counted = [n - last for n, last in zip(rows.lengths, rows.last.tolist(), strict=True)]
    counted[rows.contexts :: rows.per_fact] = [1] * len(lengths)
    whole, later = (_by_fact(rows, counts) for counts in (rows.lengths, counted))
    above = (lm.n_layers - 1) / 2  # layers, on average
    return [
        (lm.n_layers * tokens + steps * (1 + BACKWARD) * above * moved) / length
        for tokens, moved, length in zip(whole, later, lengths, strict=True)
    ]


def _by_fact(rows: values.Rows, counts: Sequence[int]) -> list[int]:
    """The sum of each fact's rows' counts."""
    size = rows.per_fact
    return [sum(counts[low : low + size]) for low in range(0, len(counts), size)]
