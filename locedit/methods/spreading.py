"""What MEMIT, EMMET and AlphaEdit share: a value for a window's top, spread over its layers.

Meng et al. 2023 (arXiv 2210.07229, sections 4.2-4.3; METHODS section 4). One value is optimised at
the window's last layer, before a norm behind its MLP if there is one; the residual of its block's
output is spread over the window's down projections from the bottom up, each change felt by the keys
and residuals above. The methods differ in how a layer's change is solved for, and all of them
solve, for keys K and residuals R of facts edited together (columns),

    dW = R (K^T M K + ridge I)^-1 K^T M

with a symmetric M [d_ff, d_ff] of the layer's own, which is applied to keys and never formed.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.engine.updates import LowRank, Updates, applied
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import SpreadHyperparameters
from locedit.methods.problems import Request
from locedit.methods.values import Objective, Rows, build, mean_over_sets, observe, optimise
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.windows import window_layers

Metric = Callable[[int, Tensor], Tensor]  # (layer, keys [facts, d_ff]) -> M k of each, float64


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: SpreadHyperparameters,
    shared: SharedInputs,
    *,
    metric: Metric,
    ridge: float,
) -> Edit:
    """Edits of a batch of facts, each on its own, in the window around `layer`."""
    window = window_layers(layer, hyper.window, lm.n_layers)
    top = window[-1]
    rows = build(lm, requests, shared)
    recorded, _, _, mlp_output = observe(lm, rows, top)
    h0 = _at_subject(recorded.inputs[top + 1], rows)[:, 0]
    # few changes of the block's output can be written behind a norm: there the MLP's is changed
    before_norm = None if lm.mlp_norm(top) is None else mlp_output
    v0 = h0 if before_norm is None else rows.of_context(before_norm)[:, 0]
    objective = Objective(
        lr=hyper.lr,
        steps=hyper.iterations - 1,
        clamp=hyper.clamp,
        kl_factor=hyper.kl_factor,
        decay=hyper.decay,
        maximise=requests[0].problem.maximise,
    )
    delta, losses = optimise(lm, rows, recorded, top, v0, objective, before_norm)
    with torch.no_grad():
        goal = h0 + lm.block_change(top, v0, delta)

    def solved(layer: int, keys: Tensor) -> Tensor:
        return right_factor(keys, metric(layer, keys), ridge)

    updates = _spread(lm, rows, recorded, window, goal, shared, solved)
    return Edit(updates=updates, steps=[objective.steps] * len(requests), losses=losses)


def right_factor(keys: Tensor, mapped: Tensor, ridge: float) -> Tensor:
    """M K (K^T M K + ridge I)^-1 of facts that are edited one at a time, each a K of one column.

    keys: [facts, d_ff]; mapped: M k of each.
    """
    return mapped / (ridge + (keys * mapped).sum(dim=1, keepdim=True))


@torch.no_grad()
def _spread(
    lm: LanguageModel,
    rows: Rows,
    recorded: passes.Record,
    window: range,
    goal: Tensor,
    shared: SharedInputs,
    solved: Metric,
) -> Updates:
    """Changes that bring the block output at the window's top to `goal` [facts, d].

    solved: a layer's keys -> the right factor of its change.
    """
    counts = [rows.per_fact] * goal.shape[0]
    length = int(rows.last.max()) + 1
    part = passes.whole(lm, length)
    hidden = recorded.inputs[window.start][:, :length]
    updates: Updates = {}
    for position, layer in enumerate(window):
        seen: dict[str, Tensor] = {}

        def see(inner: Tensor, output: Tensor, seen: dict = seen) -> None:
            seen["k"], seen["v"] = _at_subject(inner, rows), _at_subject(output, rows)[:, 0]

        with hooks.hooked({lm.down_projection(layer): see}):
            reached = passes.run(lm, hidden, part, first=layer, last=window.stop)
        residual = (goal - _at_subject(reached, rows)[:, 0]) / (len(window) - position)
        right = solved(layer, mean_over_sets(seen["k"], shared).double())
        left = lm.mlp_change(layer, seen["v"], residual)
        updates[layer] = LowRank(left=left, right=right.to(left))
        with applied(lm, {layer: updates[layer]}, counts):
            hidden = passes.step(lm, layer, hidden, part)
    return updates


def _at_subject(x: Tensor, rows: Rows) -> Tensor:
    """[B, T, n] -> [facts, contexts, n] at each context row's subject's last token."""
    index = torch.arange(x.shape[0], device=x.device)
    return rows.of_context(x[index, rows.last])
