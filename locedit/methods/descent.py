"""Adam on changes of weights, of facts side by side: what every fine-tuning shares."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locedit import shards
from locedit.engine import log_probs, packing, passes
from locedit.engine.noise import place
from locedit.engine.updates import Dense, LowRank, applied
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel

LOOK_EVERY = 4  # steps between two looks at a card's losses

Loss = Callable[[Tensor, Tensor], Tensor]  # (log p [facts, rows], target tokens [facts]) -> [facts]


# Facts -> (log p of the target in each one's rows [facts, rows], tokens of each target [facts])
Forward = Callable[[Sequence[int]], tuple[Tensor, Tensor]]


def descend_weights(
    lm: LanguageModel, rows: "Rows", changes: dict[int, Dense], loss_of: Loss, **how: Any
) -> Edit:
    """`descend` on changes of down projections.

    Only layers from the lowest changed one up are run, from the unedited network's hidden states
    below it.
    """

    @functools.lru_cache(maxsize=1)
    def batch_of(facts: tuple[int, ...]) -> _Batch:
        return rows.of_facts(lm, facts)

    def forward(facts: Sequence[int]) -> tuple[Tensor, Tensor]:
        batch = batch_of(tuple(facts))
        with applied(lm, _felt(lm, changes, facts), batch.cells):
            hidden = passes.run(lm, batch.inputs, batch.part, first=min(changes))
        return batch.queries.log_probs(lm, hidden).view(len(facts), -1), batch.sizes

    parameters = [_parameters_of(changes, [fact]) for fact in range(rows.facts)]
    taken, losses = descend(lm.device, parameters, forward, loss_of, **how)
    return Edit(updates=_felt(lm, changes, range(rows.facts)), steps=taken, losses=losses)


def descend(
    device: torch.device,
    parameters: Sequence[Sequence[Tensor]],
    forward: Forward,
    loss_of: Loss,
    *,
    lr: float,
    steps: int,
    enough: float,
    eps: float = math.inf,
) -> tuple[list[int], list[tuple[float, float]]]:
    """Adam on the parameters of every fact at once and each on its own, no entry beyond +-eps.

    Returns of each fact the steps taken, and its first and last loss. A fact is done once its loss
    is below `enough`: nothing random remains that could raise it again. A card is asked for losses
    every few steps only; until then it leaves those that are done as they are by itself.
    """
    facts = range(len(parameters))
    fused = device.type != "mps"  # which has no optimiser that could be told to skip a step
    every = LOOK_EVERY if fused and device.type != "cpu" else 1
    optimisers = [torch.optim.Adam(parameters[fact], lr=lr, fused=fused) for fact in facts]
    active = list(facts)
    losses: list[list[float]] = [[] for _ in facts]
    unread: list[Tensor] = []
    for step in range(1, steps + 1):
        loss = loss_of(*forward(active))
        unread.append(loss.detach())
        going = active
        if len(unread) == every or step == steps:
            going = _read(unread, active, losses, enough)
            unread = []
            if not going:
                break
        for fact in active:
            optimisers[fact].zero_grad(set_to_none=True)
        kept = loss if going == active else loss[[active.index(fact) for fact in going]]
        kept.sum().backward()
        if every > 1:
            _skip_what_is_done(optimisers, active, unread, enough)
        active = going
        for fact in active:
            optimisers[fact].step()
        with torch.no_grad():
            for fact in active:
                for parameter in parameters[fact]:
                    parameter.clamp_(-eps, eps)
    for of_this in parameters:
        for parameter in of_this:
            parameter.requires_grad_(False).grad = None
    taken = [sum(value >= enough for value in of_fact) for of_fact in losses]
    return taken, [(h[0], h[-1]) for h in losses]


def _read(
    unread: Sequence[Tensor], active: Sequence[int], losses: list[list[float]], enough: float
) -> list[int]:
    """Adds the active facts' losses of some steps, up to the one that was enough; who goes on."""
    going = []
    for fact, values in zip(active, torch.stack([*unread], dim=1).tolist(), strict=True):
        needed = next((i for i, value in enumerate(values) if not value >= enough), None)
        losses[fact] += values if needed is None else values[: needed + 1]
        going += [fact] if needed is None else []
    return going


def _skip_what_is_done(
    optimisers: Sequence[Any],  # whose types do not tell of `found_inf`
    active: Sequence[int],
    unread: Sequence[Tensor],
    enough: float,
) -> None:
    """Let the next step leave facts alone one of whose unread losses was enough.

    Fused optimisers skip a step by a number on the device, as mixed precision has them do where
    gradients overflow.
    """
    done = ~torch.stack([*unread]).ge(enough).all(dim=0) if unread else None
    for index, fact in enumerate(active):
        optimisers[fact].found_inf = None if done is None else done[index].float()


def descend_jointly(
    lm: LanguageModel,
    rows: "Rows",
    changes: dict[int, Dense],
    loss_of: Loss,
    *,
    lr: float,
    steps: int,
    enough: float,
    side_by_side: int,
) -> Edit:
    """Adam on one change that all facts share; the loss is the mean of theirs.

    It is done once that is below `enough`. side_by_side: facts of one pass; gradients add up.
    """
    facts = range(rows.facts)
    parameters = _parameters_of(changes, [0])
    optimiser = torch.optim.Adam(parameters, lr=lr, fused=lm.device.type != "mps")
    parts = [rows.of_facts(lm, some) for some in shards.batches(facts, side_by_side)]
    history: list[list[float]] = []
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        history.append([])
        for part in parts:
            with applied(lm, _felt(lm, changes, [0]), part.cells):
                hidden = passes.run(lm, part.inputs, part.part, first=min(changes))
            log_p = part.queries.log_probs(lm, hidden)
            loss = loss_of(log_p.view(len(part.sizes), -1), part.sizes)
            (loss.sum() / len(facts)).backward()
            history[-1] += loss.tolist()
        if sum(history[-1]) / len(facts) < enough:
            break
        optimiser.step()
    taken = len(history) - (sum(history[-1]) / len(facts) < enough)
    for parameter in parameters:
        parameter.requires_grad_(False).grad = None
    losses = list(zip(history[0], history[-1], strict=True))
    return Edit(updates=_felt(lm, changes, [0]), steps=[taken] * len(facts), losses=losses)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Packed rows of some facts. cells: each fact's share; queries: the rows' targets.

    sizes: tokens of each fact's target, [facts].
    """

    inputs: Tensor
    part: passes.Suffix
    cells: list[int]
    queries: log_probs.Queries
    sizes: Tensor


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Tokens of a fact's row: a whole one, or a part where noise rows share what precedes their
    subject.

    start: position of the first; behind: how many pieces before it the shared part stands, 0 for
    none; subject: tokens [b, e) of the piece that are noised; draw: which noise row it is of; end:
    the token that predicts the target's first, None of a shared part, in which nothing is read.
    """

    tokens: list[int]
    start: int = 0
    behind: int = 0
    subject: tuple[int, int] = (0, 0)
    draw: int = 0
    end: int | None = None


def _noise_rows(row: list[int], subject: tuple[int, int], end: int, count: int) -> list[_Piece]:
    """`count` noise rows of a fact, whose subject is tokens [b, e); they part where it begins.

    end: of the row, the token that predicts the target's first.
    """
    begin, past = subject
    found: list[_Piece] = []
    for some in packing.branches(begin, len(row) - begin, count):
        cut = begin if some > 1 else 0
        if cut:
            found.append(_Piece(tokens=row[:cut]))
        first = sum(piece.end is not None for piece in found)
        found += [
            _Piece(
                tokens=row[cut:],
                start=cut,
                behind=1 + i if cut else 0,
                subject=(begin - cut, past - cut),
                draw=first + i,
                end=end - cut,
            )
            for i in range(some)
        ]
    return found


def _packed(pieces: Sequence[_Piece], device: torch.device) -> packing.Packing:
    return packing.pack(
        [len(piece.tokens) for piece in pieces],
        device,
        starts=[piece.start for piece in pieces],
        behind=[piece.behind for piece in pieces],
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of all facts, `repeats` each, in pieces.

    ids: the pieces' tokens, [pieces, T]; inputs: of the first changed layer, [pieces, T, d];
    of_fact: which pieces are a fact's; targets: of the facts.
    """

    pieces: list[_Piece]
    of_fact: list[slice]
    ids: Tensor
    inputs: Tensor
    targets: list[list[int]]
    repeats: int

    @property
    def facts(self) -> int:
        return len(self.targets)

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        lm: LanguageModel,
        requests: Sequence[Request],
        shared: SharedInputs,
        *,
        first: int,
        ending: Sequence[int] = (),
    ) -> "Rows":
        """first: the lowest layer that changes. ending: tokens behind each target, trained too."""
        noised = requests[0].problem.noised
        repeats = shared.n_noise if noised else 1
        targets = [[*lm.encode_target(r.target, r.prompt), *ending] for r in requests]
        pieces: list[_Piece] = []
        of_fact = []
        for request, target in zip(requests, targets, strict=True):
            prompt, before = lm.encode(request.prompt), len(pieces)
            row, end = prompt + target[:-1], len(prompt) - 1
            if noised:
                stands = lm.subject_range(request.prompt, request.subject, request.subject_start)
                pieces += _noise_rows(row, stands, end, repeats)
            else:
                pieces.append(_Piece(tokens=row, end=end))
            of_fact.append(slice(before, len(pieces)))
        ids, _ = passes.pad([piece.tokens for piece in pieces], lm.device)
        noise = None
        if noised:
            noise = place(
                lm,
                [piece.subject for piece in pieces],
                ids.shape[1],
                sigma=shared.sigma,
                seed=shared.seed,
                draws=[piece.draw for piece in pieces],
            )
        packed = _packed(pieces, lm.device)
        hidden = packing.embed(lm, packed, ids, noise)
        hidden = passes.run(lm, hidden, packing.suffix(lm, packed), last=first)
        return cls(
            pieces=pieces,
            of_fact=of_fact,
            ids=ids,
            inputs=packed.scatter(hidden),
            targets=targets,
            repeats=repeats,
        )

    def of_facts(self, lm: LanguageModel, facts: Sequence[int]) -> _Batch:
        """The rows of some facts alone."""
        of_these = [range(len(self.pieces))[self.of_fact[fact]] for fact in facts]
        chosen = [i for some in of_these for i in some]
        packed = _packed([self.pieces[i] for i in chosen], lm.device)
        targets = [self.targets[fact] for fact in facts for _ in range(self.repeats)]
        lines, ends = [], []
        for i, line, offset in zip(chosen, packed.line, packed.offset, strict=True):
            end = self.pieces[i].end
            if end is not None:
                lines.append(line)
                ends.append(offset + end)
        return _Batch(
            inputs=packed.gather(self.inputs[chosen]),
            part=packing.suffix(lm, packed),
            cells=packed.share([len(some) for some in of_these]),
            queries=log_probs.Queries.of(lm, lines, ends, targets),
            sizes=torch.tensor([len(self.targets[fact]) for fact in facts], device=lm.device),
        )


def zero_changes(
    lm: LanguageModel, window: Iterable[int], facts: int, *, biases: bool = True
) -> dict[int, Dense]:
    """A change of nothing yet for each fact, of weights and, unless told otherwise, of biases."""

    def zeros(*shape: int) -> list[Tensor]:
        return [
            torch.zeros(*shape, device=lm.device, dtype=lm.trained_dtype, requires_grad=True)
            for _ in range(facts)
        ]

    return {
        layer: Dense(
            weights=zeros(lm.hidden_size, lm.inner_size),
            biases=zeros(lm.hidden_size)
            if biases and lm.down_projection(layer).bias is not None
            else None,
        )
        for layer in window
    }


def _felt(
    lm: LanguageModel, changes: dict[int, Dense], facts: Iterable[int]
) -> dict[int, LowRank | Dense]:
    """These facts' changes as the network has them: in its own dtype."""

    def chosen(group: Sequence[Tensor]) -> list[Tensor]:
        return [group[fact].to(lm.dtype) for fact in facts]

    return {
        layer: Dense(
            weights=chosen(change.weights),
            biases=None if change.biases is None else chosen(change.biases),
        )
        for layer, change in changes.items()
    }


def _parameters_of(changes: dict[int, Dense], facts: Iterable[int]) -> list[Tensor]:
    return [
        group[fact]
        for change in changes.values()
        for group in (change.weights, change.biases)
        if group is not None
        for fact in facts
    ]
