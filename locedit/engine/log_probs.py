"""Log-probabilities of targets, from the head's logits of their tokens alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from locedit.model.language_model import LanguageModel

# logits held at once where no gradient is asked for: on a CPU what its cache holds, on a GPU what
# keeps it busy; of so many tokens of the vocabulary at least
HEAD_LOGITS_CPU, HEAD_LOGITS_GPU = 1 << 20, 1 << 26


HEAD_BLOCK = 1024


class _TokenLogProbs(torch.autograd.Function):
    """log p of a token each, with a gradient that needs no further [n, vocabulary] but its own."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor) -> Tensor:
        total = logits.logsumexp(dim=1)
        ctx.save_for_backward(logits, tokens, total)
        return logits.gather(1, tokens[:, None])[:, 0] - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, tokens, total = ctx.saved_tensors
        gradient = gradients[0][:, None]
        p = (logits - total[:, None]).exp_()
        return p.mul_(-gradient).scatter_add_(1, tokens[:, None], gradient), None


def token_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p of tokens [n] under logits [n, vocabulary], [n]."""
    return _TokenLogProbs.apply(logits, tokens)


def target_log_probs(
    lm: LanguageModel,
    hidden: Tensor,
    rows: Sequence[int],
    ends: Sequence[int],
    targets: Sequence[Sequence[int]],
) -> Tensor:
    """log p of whole targets, [queries], from last-layer outputs [B, Q, d].

    Query i: targets[i] is predicted by the positions from ends[i] on of row rows[i], so ends[i] is
    the position of the prompt's last token. Only these positions pass through the head.
    """
    query = [i for i, target in enumerate(targets) for _ in target]
    columns = [e + j for e, target in zip(ends, targets, strict=True) for j in range(len(target))]
    tokens = torch.tensor([token for target in targets for token in target], device=lm.device)
    states = hidden[[rows[i] for i in query], columns]
    if states.requires_grad:
        values = token_log_probs(lm.logits(states), tokens)
    else:
        values = _blockwise_log_probs(lm, states, tokens)
    total = torch.zeros(len(targets), dtype=values.dtype, device=lm.device)
    return total.index_add(0, torch.tensor(query, device=lm.device), values)


def _blockwise_log_probs(lm: LanguageModel, states: Tensor, tokens: Tensor) -> Tensor:
    """log p of tokens [n] from last-layer outputs [n, d], a part of the vocabulary at a time.

    The logits of a part are read while they are in the cache and never written to memory.
    """
    states = lm.final_norm(states)
    held = HEAD_LOGITS_CPU if lm.device.type == "cpu" else HEAD_LOGITS_GPU
    size = max(HEAD_BLOCK, held // max(1, len(states)))
    totals, own = [], states.new_zeros(())
    for low in range(0, lm.vocabulary_size, size):
        logits = lm.head_logits(states, slice(low, low + size))
        totals.append(logits.logsumexp(dim=1))
        index = tokens - low
        there = (index >= 0) & (index < logits.shape[1])
        value = logits.gather(1, index.clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
        own = torch.where(there, value, own)
    return own - torch.stack(totals).logsumexp(dim=0)
