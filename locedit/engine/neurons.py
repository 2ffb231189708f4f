"""Integrated gradients of p(target) by the MLP's inner activations k at one token.

Dai et al. 2022 (arXiv 2104.08696, equation 4): a layer's activations there are scaled together from
0 to what they are, and neuron i has k_i times the mean gradient by it. As the down projection
W k + b is linear, that gradient is W^T times the one at its output, and only the latter is formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import token_budget


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a token's activations are, and what they do on their way up from 0.

    keys: k, [layers, R, d_ff]; written: W k, [layers, R, d]; gradients: of p(target) at the down
    projection's output, a mean over the steps, [layers, R, d], in single precision at least.
    """

    keys: Tensor
    written: Tensor
    gradients: Tensor


def walk(
    lm: LanguageModel,
    ids: Sequence[int],
    target: Sequence[int],
    *,
    token: int,
    steps: int,
    layers: Sequence[int],
    noise: Tensor | None = None,
) -> Way:
    """The way of each of `layers`, ascending, by itself, in steps of 1 / steps to 1.

    ids: T tokens, the prompt and all but the target's last; token: at most the prompt's last.
    noise: [R, T, d], R rows of the same tokens side by side; None: one without any.
    """
    rows = 1 if noise is None else len(noise)
    padded, lengths = passes.pad([ids] * rows, lm.device)
    with torch.no_grad():
        clean = passes.record(lm, padded, lengths, noise=noise)
    shares = torch.arange(1, steps + 1, device=lm.device, dtype=lm.dtype) / steps
    held = len(layers) * rows * (len(ids) - token)  # tokens of a step
    size = max(1, token_budget(lm, layers=lm.n_layers - layers[0]) // held)
    parts = [
        _some_steps(lm, clean, target, token, layers, part, len(ids) - len(target))
        for part in shares.split(size)
    ]
    keys, written, _ = parts[0]
    sums = torch.stack([part[2] for part in parts])
    return Way(keys=keys, written=written, gradients=sums.sum(dim=0) / steps)


def _some_steps(
    lm: LanguageModel,
    clean: passes.Record,
    target: Sequence[int],
    token: int,
    layers: Sequence[int],
    shares: Tensor,
    end: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """k, W k, and the sum of gradients over some steps: [layers, R, ...] each.

    Only the scaled token and what follows it are run. All layers' rows walk up together: a layer's,
    R of each step, are the clean run's below it and join there. end: the prompt's last token.
    """
    rows, first = len(clean.lengths), layers[0]
    part = passes.after(lm, clean, token, range(first, lm.n_layers))
    share = shares.repeat_interleave(rows)[:, None]
    keys: list[Tensor] = []
    written: list[Tensor] = []
    scaled: list[Tensor] = []

    def scale(bias: Tensor | None) -> hooks.Hook:
        def hook(inner: Tensor, output: Tensor) -> Tensor:
            own = output[-len(share) :, 0].detach()
            span = own if bias is None else own - bias
            leaf = (own + (share - 1) * span).requires_grad_()
            keys.append(inner[-rows:, 0].detach())
            written.append(span[-rows:])
            scaled.append(leaf)
            output = output.clone()
            output[-len(share) :, 0] = leaf
            return output

        return hook

    hidden = clean.inputs[first][:0, token:]
    with torch.enable_grad():
        for layer in range(first, lm.n_layers):
            if layer not in layers:
                hidden = passes.step(lm, layer, hidden, part)
                continue
            joining = clean.inputs[layer][:, token:].repeat(len(shares), 1, 1)
            down = lm.down_projection(layer)
            with hooks.hooked({down: scale(down.bias)}):
                hidden = passes.step(lm, layer, torch.cat([hidden, joining]), part)
        count = len(hidden)
        ends = [end - token] * count
        p = log_probs.target_log_probs(lm, hidden, range(count), ends, [target] * count).exp()
        gradients = torch.autograd.grad(p.sum(), scaled)
    wide = torch.promote_types(lm.dtype, torch.float32)
    sums = [g.to(wide).unflatten(0, (len(shares), rows)).sum(dim=0) for g in gradients]
    return torch.stack(keys), torch.stack(written), torch.stack(sums)
