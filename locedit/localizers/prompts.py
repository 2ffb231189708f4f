"""Facts as rows of tokens, and what modules put out for many of them in one pass.

Shapes: B rows, T tokens of each, L layers, d hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.facts.record import Fact
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import token_budget


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fact's prompt and its object behind it, as tokens. subject: its tokens [b, e)."""

    prompt: list[int]
    target: list[int]
    subject: tuple[int, int]

    @property
    def ids(self) -> list[int]:
        """What is run for all of the object to be predicted."""
        return self.prompt + self.target[:-1]

    @property
    def end(self) -> int:
        """The position of the prompt's last token, which predicts the object's first."""
        return len(self.prompt) - 1


def read(lm: LanguageModel, fact: Fact) -> Row:
    """A fact as tokens (METHODS section 0); LoceditError where its subject is not in its prompt."""
    return Row(
        prompt=lm.encode(fact.prompt),
        target=lm.encode_target(fact.target_true, fact.prompt),
        subject=lm.subject_range(fact.prompt, fact.subject, fact.subject_start),
    )


def batches(lm: LanguageModel, rows: Sequence[Row]) -> Iterator[slice]:
    """The rows in order, as many together as the machine's memory holds, one at least."""
    budget, low, longest = token_budget(lm), 0, 0
    for index, row in enumerate(rows):
        longest = max(longest, len(row.ids))
        if index > low and longest * (index + 1 - low) > budget:
            yield slice(low, index)
            low, longest = index, len(row.ids)
    if rows:
        yield slice(low, len(rows))


@torch.inference_mode()
def outputs(
    lm: LanguageModel,
    ids: Sequence[Sequence[int]],
    kinds: Sequence[str],
    take: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """What is taken of layers' outputs [B, T, d], in one pass: [L, ...] of each kind of module.

    `hidden` has the first layer's input before them: [L + 1, ...].
    """
    padded, _ = passes.pad(ids, lm.device)
    embedded = passes.embed(lm, padded)
    found: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    if "hidden" in found:
        found["hidden"].append(take(embedded))

    def keep(kind: str) -> hooks.Hook:
        return lambda _, output: found[kind].append(take(output))

    modules = {lm.module(kind, la): keep(kind) for kind in kinds for la in range(lm.n_layers)}
    with hooks.hooked(modules):
        passes.run(lm, embedded, passes.whole(lm, padded.shape[1]))
    return {kind: torch.stack(of_layers) for kind, of_layers in found.items()}
