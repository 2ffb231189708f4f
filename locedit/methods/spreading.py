"""What MEMIT, EMMET and AlphaEdit share: a value for a window's top, spread over its layers.

Meng et al. 2023 (arXiv 2210.07229, sections 4.2-4.3; METHODS section 4). One value is optimised at
the window's last layer, before a norm behind its MLP if there is one; the residual of its block's
output is spread over the window's down projections from the bottom up, each change felt by the keys
and residuals above. The methods differ in how a layer's change is solved for, and all of them
solve, for keys K and residuals R of facts edited together (columns),

    dW = R (K^T M K + ridge I)^-1 K^T M

with a symmetric M [d_ff, d_ff] of the layer's own, which is applied to keys and never formed. K has
one column where each fact has an edit of its own, and a column a fact where all share an update.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit import shards
from locedit.engine import passes
from locedit.engine.updates import LowRank, Updates, applied
from locedit.errors import LoceditError
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import SpreadHyperparameters
from locedit.methods.problems import Request
from locedit.methods.values import Objective, Rows, build, mean_over_sets, observe, optimise
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.windows import window_layers

Metric = Callable[[int, Tensor], Tensor]  # (layer, keys [facts, d_ff]) -> M k of each, float64


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Facts that run side by side, of those that are edited. goal: for the block output at the
    window's top, [facts, d]; hidden: input of the layer that the spreading has come to, [B, T, d].
    """

    rows: Rows
    goal: Tensor
    hidden: Tensor


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
    """Edits of a batch of facts, each on its own or all in one, in the window around `layer`."""
    window = window_layers(layer, hyper.window, lm.n_layers)
    objective = Objective(
        lr=hyper.lr,
        steps=hyper.iterations - 1,
        clamp=hyper.clamp,
        kl_factor=hyper.kl_factor,
        decay=hyper.decay,
        maximise=requests[0].problem.maximise,
    )
    parts, losses = [], []
    for some in shards.batches(requests, shared.jointly or len(requests)):
        part, found = _aimed(lm, some, window, objective, shared, hyper.fact_token)
        parts.append(part)
        losses += found

    def solved(layer: int, keys: Tensor) -> Tensor:
        mapped = metric(layer, keys)
        if shared.jointly is None:
            return right_factor(keys, mapped, ridge)
        return joint_right_factor(keys, mapped, ridge)

    updates = _spread(lm, parts, window, shared, solved)
    return Edit(updates=updates, steps=[objective.steps] * len(requests), losses=losses)


def _aimed(
    lm: LanguageModel,
    requests: Sequence[Request],
    window: range,
    objective: Objective,
    shared: SharedInputs,
    fact_token: str,
) -> tuple[_Part, list[tuple[float, float]]]:
    """The facts with their goals, each optimised on the unedited model, and the losses of that."""
    top = window[-1]
    rows = build(lm, requests, shared, fact_token=fact_token)
    recorded, _, _, mlp_output = observe(lm, rows, top)
    h0 = _at_subject(recorded.inputs[top + 1], rows)[:, 0]
    # few changes of the block's output can be written behind a norm: there the MLP's is changed
    before_norm = None if lm.mlp_norm(top) is None else mlp_output
    v0 = h0 if before_norm is None else rows.of_context(before_norm)[:, 0]
    delta, losses = optimise(lm, rows, recorded, top, v0, objective, before_norm)
    with torch.no_grad():
        goal = h0 + lm.block_change(top, v0, delta)
    hidden = recorded.inputs[window.start][:, : int(rows.last.max()) + 1]
    return _Part(rows=rows, goal=goal, hidden=hidden), losses


def right_factor(keys: Tensor, mapped: Tensor, ridge: float) -> Tensor:
    """M K (K^T M K + ridge I)^-1 of facts that are edited one at a time, each a K of one column.

    keys: [facts, d_ff]; mapped: M k of each.
    """
    return mapped / (ridge + (keys * mapped).sum(dim=1, keepdim=True))


def joint_right_factor(keys: Tensor, mapped: Tensor, ridge: float) -> Tensor:
    """The same of facts that are edited in one update: K has a column for each, [facts, d_ff].

    Raises LoceditError where keys depend on each other and no ridge is there to tell them apart.
    """
    gram = keys @ mapped.T + ridge * torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
    factor, failed = torch.linalg.cholesky_ex((gram + gram.T) / 2)
    # of keys that depend on each other rounding may leave a pivot above zero
    least, rounding = factor.diagonal().square().min(), keys.shape[1] * torch.finfo(gram.dtype).eps
    if failed or (ridge == 0 and least <= rounding * gram.diagonal().max()):
        raise LoceditError(
            f"the keys of the {len(keys)} facts edited together depend on each other, as those of "
            "one subject in two facts do; set the method's ridge above 0, or edit fewer together"
        )
    return torch.cholesky_solve(mapped, factor)


@torch.no_grad()
def _spread(
    lm: LanguageModel,
    parts: Sequence[_Part],
    window: range,
    shared: SharedInputs,
    solved: Metric,
) -> Updates:
    """Changes that bring the block outputs at the window's top to the facts' goals.

    solved: a layer's keys -> the right factor of its change.
    """
    suffixes = [passes.whole(lm, part.hidden.shape[1]) for part in parts]
    states = [part.hidden for part in parts]
    updates: Updates = {}
    for position, layer in enumerate(window):
        keys, lefts = [], []
        for part, suffix, hidden in zip(parts, suffixes, states, strict=True):
            seen: dict[str, Tensor] = {}

            def see(
                inner: Tensor, output: Tensor, seen: dict = seen, rows: Rows = part.rows
            ) -> None:
                seen["k"], seen["v"] = _at_subject(inner, rows), _at_subject(output, rows)[:, 0]

            with hooks.hooked({lm.down_projection(layer): see}):
                reached = passes.run(lm, hidden, suffix, first=layer, last=window.stop)
            left_over = part.goal - _at_subject(reached, part.rows)[:, 0]
            residual = left_over / (len(window) - position)
            keys.append(mean_over_sets(seen["k"], shared).double())
            lefts.append(lm.mlp_change(layer, seen["v"], residual))
        left, right = torch.cat(lefts), solved(layer, torch.cat(keys)).to(lefts[0])
        if shared.jointly is not None:
            left, right = left.T[None], right.T[None]
        updates[layer] = LowRank(left=left, right=right)
        for i, (part, suffix) in enumerate(zip(parts, suffixes, strict=True)):
            counts = [part.rows.per_fact] * len(part.goal)
            with applied(lm, {layer: updates[layer]}, counts):
                states[i] = passes.step(lm, layer, states[i], suffix)
    return updates


def _at_subject(x: Tensor, rows: Rows) -> Tensor:
    """[B, T, n] -> [facts, contexts, n] at each context row's subject's last token."""
    index = torch.arange(x.shape[0], device=x.device)
    return rows.of_context(x[index, rows.last])
