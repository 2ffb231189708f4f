"""Mean ablation: what a fact's probability loses where a window puts out what is usual there.

As representation zeroing (:mod:`locedit.localizers.zeroing`), but a window's module outputs at the
subject's tokens become their mean over the study's other facts, so that what goes is which subject
it is, and not that there is one (after Wang et al. 2023, arXiv 2211.00593, who take the mean over
prompts at the same place). A prompt's first token, on which much attention rests and whose states
are a hundred times larger than others', has a mean of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from locedit.facts.record import Fact
from locedit.localizers import prompts, zeroing
from locedit.localizers.base import (
    Answer,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.model.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Module outputs summed over prompts: at first tokens, and at the subject's other ones.

    sums: [2, L, d] in float64; counts: of tokens.
    """

    sums: Tensor
    counts: tuple[int, int]

    def __sub__(self, other: Sums) -> Sums:
        counts = self.counts[0] - other.counts[0], self.counts[1] - other.counts[1]
        return Sums(sums=self.sums - other.sums, counts=counts)


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """The share of p(o) lost, (p - p_ablated) / p, [layers]: negative where ablating raises p.

    NaN where p is 0. Unavailable where no other fact of the study gives a mean.
    """
    whole = _of_study(lm, shared.study, place.module)
    within = {fact.case_id for fact in shared.study}
    return [_localize(lm, fact, place, whole, fact.case_id in within) for fact in facts]


def _localize(lm: LanguageModel, fact: Fact, place: Place, whole: Sums, is_within: bool) -> Answer:
    row = prompts.read(lm, fact)
    others = whole - _summed(lm, [row], place.module) if is_within else whole
    b, e = row.subject
    needed = [int(token > 0) for token in range(b, e)]  # which of the two means
    if not all(others.counts[kind] for kind in needed):
        return Unavailable(reason="no other fact of the study has a token to take the mean over")
    means = [total / max(1, n) for total, n in zip(others.sums, others.counts, strict=True)]
    return zeroing.localize_fact(
        lm,
        fact,
        place,
        instead=torch.stack([means[kind] for kind in needed], dim=1).to(lm.dtype),
        more_passes=2 * is_within,  # once among the study's, once to take itself out
    )


_KNOWN: WeakKeyDictionary[LanguageModel, dict[tuple, Sums]] = WeakKeyDictionary()


def _of_study(lm: LanguageModel, study: Sequence[Fact], module: str) -> Sums:
    """The sums over all facts of a study: computed once, whatever batches are localized."""
    known = _KNOWN.setdefault(lm, {})
    key = module, *((fact.prompt, fact.subject, fact.subject_start) for fact in study)
    if key not in known:
        rows = [prompts.read(lm, fact) for fact in study]
        known[key] = _summed(lm, rows, module)
    return known[key]


def _summed(lm: LanguageModel, rows: Sequence[prompts.Row], module: str) -> Sums:
    shape = 2, lm.n_layers, lm.hidden_size
    sums = torch.zeros(shape, dtype=torch.float64, device=lm.device)
    firsts, rest = 0, 0
    for part in prompts.batches(lm, rows):
        batch = rows[part]
        found_at = torch.tensor(_behind_first(batch), dtype=torch.long, device=lm.device)
        cells = found_at.reshape(-1, 2).T

        def take(output: Tensor, cells: Tensor = cells) -> Tensor:
            return torch.stack([output[:, 0].double().sum(0), output[*cells].double().sum(0)])

        found = prompts.outputs(lm, [row.prompt for row in batch], [module], take)[module]
        sums += found[-lm.n_layers :].transpose(0, 1)
        firsts, rest = firsts + len(batch), rest + cells.shape[1]
    return Sums(sums=sums, counts=(firsts, rest))


def _behind_first(rows: Sequence[prompts.Row]) -> list[tuple[int, int]]:
    """(row, position) of each subject's tokens but a prompt's first."""
    return [
        (index, token)
        for index, row in enumerate(rows)
        for token in range(*row.subject)
        if token > 0
    ]
