"""Log-probabilities of targets, from the head's logits of their tokens alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Queries:
    """Whole targets, and where they are predicted: what is asked of passes that are alike.

    row, column: the position that predicts each token of each target; tokens: these tokens; target:
    which target each is of; all [n], where the model is. count: targets.
    """

    row: Tensor
    column: Tensor
    tokens: Tensor
    target: Tensor
    count: int

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        rows: Sequence[int],
        ends: Sequence[int],
        targets: Sequence[Sequence[int]],
    ) -> "Queries":
        """Target i is predicted by the positions from ends[i] on of row rows[i], so ends[i] is the
        position of the prompt's last token.
        """
        asked = [
            (row, end + step, token, index)
            for index, (row, end, target) in enumerate(zip(rows, ends, targets, strict=True))
            for step, token in enumerate(target)
        ]
        row, column, tokens, index = (
            torch.tensor(asked, dtype=torch.long, device=lm.device).reshape(-1, 4).T
        )
        return cls(row=row, column=column, tokens=tokens, target=index, count=len(targets))

    def log_probs(
        self,
        lm: LanguageModel,
        hidden: Tensor,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """log p of each target, [targets], from last-layer outputs [B, Q, d].

        Only the positions that are asked pass through the head. logits: the head that they pass
        with a gradient, [n, d] -> [n, vocabulary]; the model's own if none is given.
        """
        states = hidden[self.row, self.column]
        if states.requires_grad:
            values = token_log_probs((logits or lm.logits)(states), self.tokens)
        else:
            values = _blockwise_log_probs(lm, states, self.tokens)
        total = torch.zeros(self.count, dtype=values.dtype, device=lm.device)
        return total.index_add(0, self.target, values)


def target_log_probs(
    lm: LanguageModel,
    hidden: Tensor,
    rows: Sequence[int],
    ends: Sequence[int],
    targets: Sequence[Sequence[int]],
) -> Tensor:
    """log p of whole targets, [targets], as `Queries.of` takes them, from one pass [B, Q, d]."""
    return Queries.of(lm, rows, ends, targets).log_probs(lm, hidden)


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
