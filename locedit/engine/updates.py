"""Changes to down-projection weights, or the embedding's, as data; how a forward pass feels them.

A change is never written into a weight: inside `applied`, each row's activations get what the
changed weight would have added, y += dW x. So rows of one batch can carry different edits, and the
model is the unedited one before, after and in between. Updates of a single fact may also be felt by
the rows of many, which share them. Where edits follow each other, each has to find the weights as
the others left them: `writing` puts them there for a while. So it does with a change of the
embedding, which the head may share: `felt`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.linear import linear
from locedit.windows import EMBEDDING

Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """dW = left right^T for each fact. left: [facts, d]; right: [facts, d_ff].

    Of a rank above one: [facts, d, rank] and [facts, d_ff, rank].
    """

    left: Tensor
    right: Tensor

    @property
    def facts(self) -> int:
        return self.left.shape[0]

    def added(self, inner: Tensor, counts: Sequence[int]) -> Tensor:
        """dW x of cells [n, d_ff] grouped by fact, counts[f] cells of fact f: [n, d]."""
        parts = [
            (x @ right)[:, None] * left if left.dim() == 1 else (x @ right) @ left.T
            for x, left, right in zip(inner.split(list(counts)), self.left, self.right, strict=True)
        ]
        return torch.cat(parts)

    def norms(self) -> Tensor:
        """Frobenius norm of each fact's change, [facts]."""
        if self.left.dim() == 2:
            return self.left.norm(dim=1) * self.right.norm(dim=1)
        squares = (self.left.mT @ self.left) * (self.right.mT @ self.right)
        return squares.sum(dim=(1, 2)).clamp(min=0).sqrt()

    def factors(self, fact: int = 0) -> tuple[Tensor, Tensor]:
        """One fact's left [d, rank] and right [d_ff, rank]."""
        left, right = (x[fact].reshape(x.shape[1], -1) for x in (self.left, self.right))
        return left, right

    def matrix(self, fact: int = 0) -> Tensor:
        """One fact's change itself, [d, d_ff]."""
        left, right = self.factors(fact)
        return left @ right.T

    def of_fact(self, fact: int) -> "LowRank":
        """One fact's change alone."""
        return LowRank(left=self.left[fact : fact + 1], right=self.right[fact : fact + 1])


@dataclass(frozen=True, kw_only=True)
class Dense:
    """One weight change a fact, [d, d_ff], and a bias change, [d], where the family has biases."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor] | None = None

    @property
    def facts(self) -> int:
        return len(self.weights)

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

    def matrix(self, fact: int = 0) -> Tensor:
        """One fact's change of the weight itself, [d, d_ff]."""
        return self.weights[fact]

    def of_fact(self, fact: int) -> "Dense":
        """One fact's change alone."""
        biases = None if self.biases is None else [self.biases[fact]]
        return Dense(weights=[self.weights[fact]], biases=biases)


# layer -> change of its down projection; EMBEDDING -> of the embedding, with [tokens, d] for [d,
# d_ff] in the shapes above
Updates = dict[int, LowRank | Dense]


def of_fact(updates: Updates, fact: int) -> Updates:
    """One fact's part of updates, as updates of one fact."""
    return {layer: update.of_fact(fact) for layer, update in updates.items()}


@contextmanager
def applied(lm: LanguageModel, updates: Updates, counts: Sequence[int]) -> Iterator[None]:
    """Run the model as if edited: batches inside hold counts[f] rows of each fact f, in order.

    Or cells, where rows are packed: counts are shares of a batch's [B, Q] cells in their order.
    Updates of one fact are shared by all rows, of however many facts. None may be of the embedding:
    see `felt`.
    """
    if EMBEDDING in updates:
        raise ValueError("a change of the embedding is felt in the weights alone, by `felt`")

    def hook(update: LowRank | Dense) -> hooks.Hook:
        def add(inner: Tensor, output: Tensor) -> Tensor:
            cells = inner.flatten(0, 1)
            size = len(cells) // sum(counts)
            shares = [count * size for count in counts]
            added = update.added(cells, shares if update.facts > 1 else [sum(shares)])
            return output + added.view_as(output)

        return add

    with hooks.hooked({lm.down_projection(la): hook(up) for la, up in updates.items()}):
        yield


def total_norms(updates: Updates) -> list[float]:
    """Frobenius norm over all changed layers together, one a fact."""
    squares = torch.stack([update.norms().double() ** 2 for update in updates.values()])
    return squares.sum(dim=0).sqrt().tolist()


def joined(several: Sequence[Updates]) -> Updates:
    """The sum of updates of one fact each, as updates of one fact: what edits leave together."""
    found: dict[int, list[LowRank | Dense]] = {}
    for updates in several:
        for layer, update in updates.items():
            found.setdefault(layer, []).append(update)
    return {layer: _sum(parts) for layer, parts in sorted(found.items())}


def _sum(parts: Sequence[LowRank | Dense]) -> LowRank | Dense:
    low = [part for part in parts if isinstance(part, LowRank)]
    if len(low) == len(parts):

        def beside(factors: Sequence[Tensor]) -> Tensor:
            return torch.cat([x.reshape(1, x.shape[1], -1) for x in factors], dim=2)

        return LowRank(left=beside([p.left for p in low]), right=beside([p.right for p in low]))
    weight = torch.stack([part.matrix() for part in parts]).sum(dim=0)
    biases = [p.biases[0] for p in parts if isinstance(p, Dense) and p.biases is not None]
    return Dense(weights=[weight], biases=[torch.stack(biases).sum(dim=0)] if biases else None)


@contextmanager
def writing(lm: LanguageModel) -> Iterator[Callable[[Updates], None]]:
    """A function that writes updates of one fact into the model's weights, one behind the other.

    After the block, however it ends, the weights are what they were, bit for bit.
    """
    before: dict[int, list[tuple[Tensor, Tensor]]] = {}

    @torch.no_grad()
    def write(updates: Updates) -> None:
        for layer, update in updates.items():
            module = lm.edited_module(layer)
            if layer not in before:
                before[layer] = [(p, p.detach().clone()) for p in module.parameters()]
            lm.edited_weight(layer).add_(update.matrix())
            if isinstance(update, Dense) and update.biases is not None:
                module.bias.add_(update.biases[0])

    try:
        yield write
    finally:
        with torch.no_grad():
            for pairs in before.values():
                for parameter, value in pairs:
                    parameter.copy_(value)


@contextmanager
def felt(lm: LanguageModel, updates: Updates, fact: int = 0) -> Iterator[Updates]:
    """Updates as `applied` takes them. Of the embedding's, one fact's are in the weights meanwhile,
    and none are left to be applied.
    """
    if EMBEDDING not in updates:
        yield updates
        return
    with writing(lm) as write:
        write(of_fact(updates, fact))
        yield {}


def each_felt(
    lm: LanguageModel, updates: Updates, measure: Callable[[Sequence[int], Updates], list[Found]]
) -> list[Found]:
    """measure(facts, updates of them) of all facts at once; one by one where `felt` has to be.

    Of updates that all facts share there is one fact.
    """
    facts = range(next(iter(updates.values())).facts)
    if EMBEDDING not in updates:
        return measure(facts, updates)
    found = []
    for fact in facts:
        with felt(lm, updates, fact) as left:
            found += measure([fact], left)
    return found
