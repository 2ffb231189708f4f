"""Changes to down-projection weights, as data, and how a forward pass feels them.

A change is never written into a weight: inside `applied`, each row's activations get what the
changed weight would have added, y += dW x. So rows of one batch can carry different edits, and the
model is the unedited one before, after and in between.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.linear import linear


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """dW = left right^T for each fact. left: [facts, d]; right: [facts, d_ff]."""

    left: Tensor
    right: Tensor

    def added(self, inner: Tensor, counts: Sequence[int]) -> Tensor:
        """dW x of cells [n, d_ff] grouped by fact, counts[f] cells of fact f: [n, d]."""
        parts = [
            (x @ right)[:, None] * left
            for x, left, right in zip(inner.split(list(counts)), self.left, self.right, strict=True)
        ]
        return torch.cat(parts)

    def norms(self) -> Tensor:
        """Frobenius norm of each fact's change, [facts]."""
        return self.left.norm(dim=1) * self.right.norm(dim=1)


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One weight change a fact, [d, d_ff], and a bias change, [d], where the family has biases."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor] | None = None

    def added(self, inner: Tensor, counts: Sequence[int]) -> Tensor:
        """dW x + db of cells [n, d_ff] grouped by fact, counts[f] cells of fact f: [n, d]."""
        parts = [
            linear(x, weight)
            for x, weight in zip(inner.split(list(counts)), self.weights, strict=True)
        ]
        if self.biases is not None:
            parts = [part + bias for part, bias in zip(parts, self.biases, strict=True)]
        return torch.cat(parts)

    def norms(self) -> Tensor:
        """Frobenius norm of each fact's weight change, [facts]."""
        return torch.stack([weight.norm() for weight in self.weights])


Updates = dict[int, LowRank | Dense]  # layer -> change of its down projection


@contextmanager
def applied(lm: LanguageModel, updates: Updates, counts: Sequence[int]) -> Iterator[None]:
    """Run the model as if edited: batches inside hold counts[f] rows of each fact f, in order.

    Or cells, where rows are packed: counts are shares of a batch's [B, Q] cells in their order.
    """

    def hook(update: LowRank | Dense) -> hooks.Hook:
        def add(inner: Tensor, output: Tensor) -> Tensor:
            cells = inner.flatten(0, 1)
            size = len(cells) // sum(counts)
            added = update.added(cells, [count * size for count in counts])
            return output + added.view_as(output)

        return add

    with hooks.hooked({lm.down_projection(la): hook(up) for la, up in updates.items()}):
        yield


def total_norms(updates: Updates) -> list[float]:
    """Frobenius norm over all changed layers together, one a fact."""
    squares = torch.stack([update.norms().double() ** 2 for update in updates.values()])
    return squares.sum(dim=0).sqrt().tolist()
