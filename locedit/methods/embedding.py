"""Fine-tuning of the embedding: the rows of the subject's tokens, and no other weight.

As `--edit_layer -1` of the code of Hase et al. 2023 (arXiv 2301.04213; `FT_subj_embeds`). Where the
head has the embedding's weight for its own, it changes with it, and both give gradients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.engine.updates import LowRank
from locedit.methods import descent
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.windows import EMBEDDING


class Hyperparameters(Protocol):
    """What fine-tuning of the embedding takes of a method's settings."""

    @property
    def embedding_lr(self) -> float: ...
    @property
    def embedding_steps(self) -> int: ...
    @property
    def enough(self) -> float: ...


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    loss: descent.Loss,
    hyper: Hyperparameters,
    shared: SharedInputs,
    *,
    eps: float = math.inf,
    ending: Sequence[int] = (),
) -> Edit:
    """Adam on each fact's own rows of the embedding, no entry beyond +-eps.

    loss, ending: as `descent.descend` and `descent.Rows.build` take them. The updates are of low
    rank: left [facts, vocabulary, n] picks the tokens' rows, right [facts, d, n] is what they
    change by.
    """
    rows = descent.Rows.build(lm, requests, shared, first=0, ending=ending)
    trained = _Trained.start(lm, requests, rows)
    taken, losses = descent.descend(
        lm.device,
        [[change] for change in trained.changes],
        trained.log_probs,
        loss,
        lr=hyper.embedding_lr,
        steps=hyper.embedding_steps,
        enough=hyper.enough,
        eps=eps,
    )
    return Edit(updates={EMBEDDING: trained.update()}, steps=taken, losses=losses)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """Rows of the embedding that are trained, and where they are felt.

    tokens: of each fact, those of the subject in its prompt. changes: of their rows, [n, d] each.
    places: [pieces, T], which of its fact's tokens a piece of `rows` has there; n or more: none.
    """

    lm: LanguageModel
    rows: descent.Rows
    tokens: list[Tensor]
    changes: list[Tensor]
    places: Tensor

    @classmethod
    def start(
        cls, lm: LanguageModel, requests: Sequence[Request], rows: descent.Rows
    ) -> "_Trained":
        tokens = [_subject_tokens(lm, request) for request in requests]
        d, none = lm.hidden_size, max(map(len, tokens))
        changes = [
            torch.zeros(len(some), d, device=lm.device, dtype=lm.trained_dtype, requires_grad=True)
            for some in tokens
        ]
        places = torch.full_like(rows.ids, none)
        for own, some in zip(rows.of_fact, tokens, strict=True):
            piece, at, which = (rows.ids[own, :, None] == some).nonzero(as_tuple=True)
            places[own][piece, at] = which
        return cls(lm=lm, rows=rows, tokens=tokens, changes=changes, places=places)

    def log_probs(self, facts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As `descent.Forward`: the whole network, with the rows of these facts changed."""
        lm, repeats = self.lm, self.rows.repeats
        inputs = self.rows.inputs.clone()
        for fact in facts:
            own = self.rows.of_fact[fact]
            inputs[own] = inputs[own] + self._felt(fact)[self.places[own]]
        batch = replace(self.rows, inputs=inputs).of_facts(lm, facts)
        hidden = passes.run(lm, batch.inputs, batch.part)
        of_target = torch.arange(len(facts), device=lm.device).repeat_interleave(repeats)
        of_state = of_target[batch.queries.target]

        def logits(states: Tensor) -> Tensor:
            return lm.logits(states, lambda normed: self._added(normed, of_state, facts))

        log_p = batch.queries.log_probs(lm, hidden, logits if lm.tied else lm.logits)
        return log_p.view(len(facts), -1), batch.sizes

    def _felt(self, fact: int) -> Tensor:
        """What a fact's tokens add to the first layer's input, [most tokens + 1, d]: 0 of none."""
        change = self.changes[fact].to(self.lm.dtype) * self.lm.embedding_scale
        most = max(map(len, self.tokens))
        return torch.nn.functional.pad(change, (0, 0, 0, most + 1 - len(change)))

    def _added(self, normed: Tensor, of_state: Tensor, facts: Sequence[int]) -> Tensor:
        """What the changed rows add to logits, of states [n, d] of these facts: [n, vocabulary]."""
        added = normed.new_zeros(len(normed), self.lm.vocabulary_size)
        for index, fact in enumerate(facts):
            mine = (of_state == index).nonzero()
            values = normed[mine[:, 0]] @ self.changes[fact].to(normed.dtype).T
            added = added.index_put((mine, self.tokens[fact][None, :]), values)
        return added

    def update(self) -> LowRank:
        """The changes of all facts; of fewer tokens than the most, some columns are 0."""
        n = max(map(len, self.tokens))
        vocabulary, d = self.lm.embedding.weight.shape
        left, right = (
            torch.zeros(len(self.tokens), size, n, device=self.lm.device, dtype=self.lm.dtype)
            for size in (vocabulary, d)
        )
        for fact, (tokens, change) in enumerate(zip(self.tokens, self.changes, strict=True)):
            left[fact, tokens, torch.arange(len(tokens), device=tokens.device)] = 1
            right[fact, :, : len(tokens)] = change.detach().T
        return LowRank(left=left, right=right)


def _subject_tokens(lm: LanguageModel, request: Request) -> Tensor:
    """The distinct tokens of the subject where it stands in the prompt."""
    b, e = lm.subject_range(request.prompt, request.subject, request.subject_start)
    return torch.tensor(sorted(set(lm.encode(request.prompt)[b:e])), device=lm.device)
