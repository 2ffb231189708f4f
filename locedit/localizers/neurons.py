"""Knowledge neurons, summed over each layer: integrated gradients of the MLP's inner activations.

Dai et al. 2022 (arXiv 2104.08696): a layer's activations k at one token are scaled from 0 to what
they are, and neuron i has k_i times the mean gradient of p(o_true) by it. As the down projection
W k + b is linear, the sum over neurons is W k . the mean gradient at its output. It tends to
p - p(with k = 0) as S grows: what taking the layer's activations away there would cost.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.engine.gradients import BACKWARD, Rows
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, Place, SharedInputs
from locedit.localizers.builtin import NeuronSettings
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import token_budget


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
    token = row.ends[0] if settings.token == "last" else row.subjects[0][1] - 1
    ids, lengths = passes.pad(row.ids, lm.device)
    with torch.no_grad():
        clean = passes.record(lm, ids, lengths)
    shares = torch.arange(1, settings.steps + 1, device=lm.device, dtype=lm.dtype) / settings.steps
    length = ids.shape[1] - token
    size = max(1, token_budget(lm, layers=lm.n_layers) // (lm.n_layers * length))
    sums = [_of_steps(lm, clean, row, token, part) for part in shares.split(size)]
    return Localization(
        values=np.sum(sums, axis=0) / settings.steps,
        passes=1 + settings.steps * (1 + BACKWARD) * (lm.n_layers + 1) / 2 * length / ids.shape[1],
    )


def _of_steps(
    lm: LanguageModel, clean: passes.Record, row: Rows, token: int, shares: Tensor
) -> np.ndarray:
    """W k . the gradient at each layer's output, summed over some steps: [layers].

    Only the scaled token and what follows it are run. All layers' rows walk up together: a layer's,
    one a step, are the clean run's below it and join there.
    """
    part = passes.after(lm, clean, torch.tensor([token], device=lm.device), range(lm.n_layers))
    scaled: list[Tensor] = []
    spans: list[Tensor] = []  # W k of each layer

    def scale(bias: Tensor | None) -> hooks.Hook:
        def hook(_: Tensor, output: Tensor) -> Tensor:
            own = output[-len(shares) :, 0].detach()
            span = own if bias is None else own - bias
            leaf = (own + (shares[:, None] - 1) * span).requires_grad_()
            spans.append(span)
            scaled.append(leaf)
            output = output.clone()
            output[-len(shares) :, 0] = leaf
            return output

        return hook

    hidden = clean.inputs[0][:0, token:]
    with torch.enable_grad():
        for layer in range(lm.n_layers):
            joining = clean.inputs[layer][:, token:].expand(len(shares), -1, -1)
            down = lm.down_projection(layer)
            with hooks.hooked({down: scale(down.bias)}):
                hidden = passes.step(lm, layer, torch.cat([hidden, joining]), part)
        count, target = len(hidden), row.targets[0]
        ends = [row.ends[0] - token] * count
        p = log_probs.target_log_probs(lm, hidden, range(count), ends, [target] * count).exp()
        gradients = torch.autograd.grad(p.sum(), scaled)
    sums = [(span * gradient).sum() for span, gradient in zip(spans, gradients, strict=True)]
    return torch.stack(sums).double().cpu().numpy()
