"""Causal tracing with the noise on other tokens than the subject's: a control.

The same noise, on as many tokens drawn from the rest of the prompt. What it finds as well as
tracing does, tracing does not owe to the subject.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from locedit.facts.record import Fact
from locedit.localizers import prompts
from locedit.localizers.base import (
    Answer,
    Localization,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.localizers.restoration import trace_fact
from locedit.model.language_model import LanguageModel
from locedit.seeds import derive


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """Tracing's fraction restored at the best token, [layers], under noise put elsewhere.

    Unavailable where the prompt has fewer other tokens than the subject has.
    """
    return [_localize(lm, fact, place, shared) for fact in facts]


def _localize(lm: LanguageModel, fact: Fact, place: Place, shared: SharedInputs) -> Answer:
    row = prompts.read(lm, fact)
    noised = other_tokens(lm, row, derive(shared.seed, "placebo", fact.case_id))
    if isinstance(noised, Unavailable):
        return noised
    found = trace_fact(lm, fact, place, shared, noised=noised)
    middle = shared.n_noise // 2
    halves = [
        dataclasses.replace(
            found, corrupted=found.corrupted[half], restored=found.restored[..., half]
        ).fraction
        for half in (slice(middle), slice(middle, None))
        if middle
    ]
    return Localization(
        values=found.fraction,
        passes=found.passes,
        halves=np.stack(halves) if halves else None,
    )


def other_tokens(lm: LanguageModel, row: prompts.Row, seed: int) -> list[int] | Unavailable:
    """As many positions as the subject has tokens, among the prompt's others; special ones aside.

    Their order is drawn from the seed, and they are told ascending.
    """
    b, e = row.subject
    special = set(lm.special_ids)
    others = [i for i, token in enumerate(row.prompt) if not b <= i < e and token not in special]
    if len(others) < e - b:
        return Unavailable(
            reason=f"the subject has {e - b} of the prompt's tokens, and {len(others)} are others"
        )
    return sorted(np.random.RandomState(seed).permutation(others)[: e - b].tolist())
