"""Causal tracing whose corrupted prompt names another subject: no noise, no invented embeddings.

Symmetric token replacement (Zhang & Nanda 2024, arXiv 2309.16042): the prompt x'
has another subject of the same relation and the same number of tokens, whose object o' is another.
Restoring is as in causal tracing (:mod:`locedit.localizers.restoration`), and what it brings back
is measured by the logit difference m = logit(o) - logit(o') of the objects' first tokens.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.facts.record import Fact
from locedit.localizers import prompts
from locedit.localizers.base import (
    Answer,
    Localization,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.localizers.builtin import SwapSettings
from locedit.localizers.restoration import Measure, sweep
from locedit.model.language_model import LanguageModel
from locedit.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A fact's prompt about another subject. ids: the prompt's tokens; other: the first of o'."""

    partner: Fact
    ids: list[int]
    other: int


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: SwapSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """m(restored) - m(corrupted) at the token where it is largest, [layers], mean over partners.

    halves: from each half of the partners, where there are two or more. further: the same at the
    subject's last token (`last`), both as a share of what the swap took (`share`, `share_last`),
    and the effects on p(o) (`p`, `p_last`). Unavailable where no other record can be
    swapped in.
    """
    return [_localize(lm, fact, place, settings, shared) for fact in facts]


def _localize(
    lm: LanguageModel, fact: Fact, place: Place, settings: SwapSettings, shared: SharedInputs
) -> Answer:
    row = prompts.read(lm, fact)
    found = swaps(lm, fact, row, shared, settings.partners)
    if isinstance(found, Unavailable):
        return found
    begin, last = row.subject[0], row.subject[1] - 1
    corrupted, _ = passes.pad([swap.ids + row.target[:-1] for swap in found], lm.device)
    swept = sweep(
        lm,
        torch.tensor([row.ids], device=lm.device),
        passes.embed(lm, corrupted)[:, begin:],
        module=place.module,
        window=place.window,
        read_from=row.end,
        measure=_measure(lm, row, [swap.other for swap in found]),
    )
    taken = (_own(np.stack([swept.clean] * len(found))) - _own(swept.corrupted))[:, 1].mean()
    effect = _own(swept.restored) - _own(swept.corrupted)
    p, m = np.moveaxis(effect.mean(axis=2), -1, 0)  # each [tokens, layers]
    best, at_last = m.max(axis=0), m[last - begin]
    return Localization(
        values=best,
        passes=swept.passes,
        halves=_halves(effect[..., 1]),
        further={
            "last": at_last,
            "share": _share(best, taken),
            "share_last": _share(at_last, taken),
            "p": p.max(axis=0),
            "p_last": p[last - begin],
        },
    )


def _measure(lm: LanguageModel, row: prompts.Row, others: Sequence[int]) -> Measure:
    """p(o), the logit of o's first token, and those of N partners' objects: [rows, 2 + N]."""
    tokens = torch.tensor([row.target[0], *others], device=lm.device)

    def measure(hidden: Tensor, start: int) -> np.ndarray:
        n, end = len(hidden), row.end - start
        log_p = log_probs.target_log_probs(lm, hidden, range(n), [end] * n, [row.target] * n)
        logits = lm.head_logits(lm.final_norm(hidden[:, end]), tokens)
        return torch.cat([log_p[:, None].double().exp(), logits.double()], dim=1).cpu().numpy()

    return measure


def _own(measured: np.ndarray) -> np.ndarray:
    """(p, m) of each partner's row, [..., N, 2], out of [..., N, 2 + N] of `_measure`."""
    rows = np.arange(measured.shape[-2])
    m = measured[..., 1] - measured[..., rows, 2 + rows]
    return np.stack([measured[..., 0], m], axis=-1)


def _halves(effect: np.ndarray) -> np.ndarray | None:
    """The best token's effect [2, layers] from each half of [tokens, layers, N] alone."""
    middle = effect.shape[-1] // 2
    if middle == 0:
        return None
    halves = effect[..., :middle], effect[..., middle:]
    return np.stack([half.mean(axis=-1).max(axis=0) for half in halves])


def _share(effect: np.ndarray, taken: float) -> np.ndarray:
    """As tracing has it: of the size of what corruption took, and 0 at least."""
    return (effect / (abs(taken) if taken else np.nan)).clip(min=0)


# --------------------------------------------------------------------------------------------------
# Partners


def swaps(
    lm: LanguageModel, fact: Fact, row: prompts.Row, shared: SharedInputs, n: int
) -> list[Swap] | Unavailable:
    """Up to n records whose subjects can stand in a fact's prompt; else why none can.

    Their order is drawn from the study's seed for each pair of facts, so neither the order of the
    records nor the batch decides.
    """
    same = [other for other in shared.records if _of_its_relation(fact, other)]
    if not same:
        return Unavailable(reason="the data set has no other subject of its relation")
    differing = [o for o in same if o.target_true.casefold() != fact.target_true.casefold()]
    if not differing:
        return Unavailable(reason="all other subjects of its relation have its object")
    differing.sort(key=lambda other: derive(shared.seed, "swap", fact.case_id, other.case_id))
    found = list(islice(_fitting(lm, fact, row, differing), n))
    if found:
        return found
    tokens = row.subject[1] - row.subject[0]
    return Unavailable(
        reason=f"no other subject of its relation has {tokens} "
        f"{'token' if tokens == 1 else 'tokens'} here and an object that begins otherwise"
    )


def _of_its_relation(fact: Fact, other: Fact) -> bool:
    """Where relations have no names, those of one template are of one relation."""
    if fact.relation_id:
        related = other.relation_id == fact.relation_id
    else:
        related = other.template == fact.template
    return related and other.subject != fact.subject


def _fitting(
    lm: LanguageModel, fact: Fact, row: prompts.Row, others: Sequence[Fact]
) -> Iterator[Swap]:
    """Those whose subjects make the same prompt but for as many tokens, and o' begins unlike o."""
    b, e = row.subject
    for other in others:
        swapped = dataclasses.replace(fact, subject=other.subject)
        ids, first = lm.encode(swapped.prompt), lm.encode_target(other.target_true, swapped.prompt)
        around = ids[:b] == row.prompt[:b] and ids[e:] == row.prompt[e:]
        if len(ids) != len(row.prompt) or not around or ids == row.prompt:
            continue
        place = lm.subject_range(swapped.prompt, other.subject, swapped.subject_start)
        if place == (b, e) and first[0] != row.target[0]:
            yield Swap(partner=other, ids=ids, other=first[0])
