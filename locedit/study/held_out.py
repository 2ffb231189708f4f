"""Whether the rest survives an edit: the perplexity of held-out paragraphs (METHODS section 6)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from locedit import seeds, shards
from locedit.engine import log_probs, passes
from locedit.engine.updates import Updates, applied, of_fact
from locedit.errors import LoceditError
from locedit.model.language_model import LanguageModel

SIDE_BY_SIDE = 16  # paragraphs: their logits for a block of the vocabulary stay in a CPU's cache


def draw(
    lm: LanguageModel, texts: Sequence[str], *, count: int, tokens: int, seed: int
) -> dict[int, list[int]]:
    """The first `tokens` tokens of `count` texts that have so many, by their place among `texts`.

    They are drawn with a seed. Raises LoceditError where there are too few.
    """
    order = np.random.RandomState(seeds.derive(seed, "held out")).permutation(len(texts))
    found: dict[int, list[int]] = {}
    for place in order.tolist():
        row = lm.encode(texts[place])
        if len(row) >= tokens:
            found[place] = row[:tokens]
        if len(found) == count:
            return dict(sorted(found.items()))
    raise LoceditError(
        f"scores.text_paragraphs: {count} paragraphs of {tokens} tokens that the key statistics do "
        f"not read are wanted, and the corpus has {len(found)}; lower it, or scores.text_tokens"
    )


class HeldOut:
    """Paragraphs of one length, of a model whose edits start from the same weights.

    rows: their tokens, [paragraphs][tokens]. What lies below an edit is the same for all edits
    there, and is run once for those that follow each other.
    """

    def __init__(self, rows: Sequence[Sequence[int]], perplexity: Sequence[float] = ()) -> None:
        self.rows, self.perplexity = [list(row) for row in rows], list(perplexity)
        self._below: tuple[int, list[Tensor]] | None = None

    @torch.inference_mode()
    def perplexities(self, lm: LanguageModel, updates: Updates | None = None) -> list[list[float]]:
        """Of each paragraph, under each fact's own change: [facts][paragraphs].

        One list where facts share a change, or there is none. exp(-(1/n) sum over tokens 2..n of
        log p), n tokens.
        """
        facts = next(iter(updates.values())).facts if updates else 1
        first = min(updates) if updates else 0
        hidden = self._states(lm, first)
        part = passes.whole(lm, len(self.rows[0]))
        found = []
        for fact in range(facts):
            changed = of_fact(updates, fact) if updates else {}
            of_this: list[float] = []
            for rows, states in zip(self._batches(), hidden, strict=True):
                with applied(lm, changed, [len(rows)]):
                    output = passes.run(lm, states, part, first=first)
                targets = [row[1:] for row in rows]
                asked = ([*range(len(rows))], [0] * len(rows), targets)
                log_p = log_probs.target_log_probs(lm, output, *asked)
                of_this += (-log_p / len(rows[0])).exp().tolist()
            found.append(of_this)
        return found

    def _batches(self) -> list[Sequence[list[int]]]:
        return shards.batches(self.rows, SIDE_BY_SIDE)

    def _states(self, lm: LanguageModel, first: int) -> list[Tensor]:
        """Inputs of layer `first` of the unedited model, [B, T, d] for each batch."""
        if self._below is not None and self._below[0] == first:
            return self._below[1]
        part = passes.whole(lm, len(self.rows[0]))
        states = []
        for rows in self._batches():
            hidden = passes.embed(lm, torch.tensor(rows, device=lm.device))
            states.append(passes.run(lm, hidden, part, last=first))
        if first > 0:  # the embeddings cost nothing, and may be what was edited
            self._below = first, states
        return states
