"""MEMIT on one fact at a time (Meng et al. 2023, arXiv 2210.07229, sections 4.2-4.3).

METHODS section 4: one value optimised at the window's last layer, its residual spread over the
window's down projections from the bottom up, each change felt by the keys and residuals above.
"""

from collections.abc import Sequence

import torch

from locedit.engine import passes
from locedit.engine.updates import LowRank, Updates, applied
from locedit.errors import LoceditError
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import MemitHyperparameters
from locedit.methods.problems import Request
from locedit.methods.values import Objective, Rows, build, mean_over_sets, optimise
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.windows import window_layers


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: MemitHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW_l = r_l (lambda C_l + k_l k_l^T)^-1 k_l for each layer of the window, ascending."""
    if shared.moments is None:
        raise LoceditError("MEMIT needs key statistics (SharedInputs.moments)")
    window = window_layers(layer, hyper.window, lm.n_layers)
    top = window[-1]
    rows = build(lm, requests, shared)
    with torch.no_grad():
        recorded = passes.record(lm, rows.ids, rows.lengths, noise=rows.noise)
    h0 = _at_subject(recorded.inputs[top + 1], rows)[:, 0]
    objective = Objective(
        lr=hyper.lr,
        steps=hyper.iterations - 1,
        clamp=hyper.clamp,
        kl_factor=hyper.kl_factor,
        decay=hyper.decay,
        maximise=requests[0].problem.maximise,
    )
    delta, losses = optimise(lm, rows, recorded, top, h0, objective)
    updates = _spread(lm, rows, recorded, window, h0 + delta, hyper.moment_weight, shared)
    return Edit(updates=updates, steps=[objective.steps] * len(requests), losses=losses)


@torch.no_grad()
def _spread(
    lm: LanguageModel,
    rows: Rows,
    recorded: passes.Record,
    window: range,
    goal: torch.Tensor,
    weight: float,
    shared: SharedInputs,
) -> Updates:
    """Changes that bring the block output at the window's top to `goal` [facts, d]."""
    assert shared.moments is not None
    counts = [rows.per_fact] * goal.shape[0]
    length = int(rows.last.max()) + 1
    part = passes.whole(lm, length)
    hidden = recorded.inputs[window.start][:, :length]
    updates: Updates = {}
    for position, layer in enumerate(window):
        seen: dict[str, torch.Tensor] = {}

        def see(inner: torch.Tensor, output: torch.Tensor, seen: dict = seen) -> None:
            seen["k"], seen["v"] = _at_subject(inner, rows), _at_subject(output, rows)[:, 0]

        with hooks.hooked({lm.down_projection(layer): see}):
            reached = passes.run(lm, hidden, part, first=layer, last=window.stop)
        residual = (goal - _at_subject(reached, rows)[:, 0]) / (len(window) - position)
        k = mean_over_sets(seen["k"], shared).double()
        # (lambda C + k k^T)^-1 k by Sherman-Morrison: C alone is factored, once a layer
        solved = shared.moments.solve(layer, k) / weight
        right = solved / (1 + (k * solved).sum(dim=1, keepdim=True))
        left = lm.mlp_change(layer, seen["v"], residual)
        updates[layer] = LowRank(left=left, right=right.to(left))
        with applied(lm, {layer: updates[layer]}, counts):
            hidden = passes.step(lm, layer, hidden, part)
    return updates


def _at_subject(x: torch.Tensor, rows: Rows) -> torch.Tensor:
    """[B, T, n] -> [facts, contexts, n] at each context row's subject's last token."""
    index = torch.arange(x.shape[0], device=x.device)
    return rows.of_context(x[index, rows.last])
