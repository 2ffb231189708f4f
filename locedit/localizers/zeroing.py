"""Representation zeroing: how much of a fact's probability goes with one window's outputs.

A second localizer beside causal tracing (Hase et al. 2023, arXiv 2301.04213; METHODS section 2): a
window's module outputs at the subject's tokens are set to zero in the clean run. Everything below
the window and before the subject is the clean run's, so only the rest is run, and all layers'
windows walk up together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, NoSettings, Place, SharedInputs
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import in_batches, token_budget
from locedit.windows import window_layers


@dataclass(frozen=True, kw_only=True)
class Zeroed:
    """One fact's probabilities. p_zeroed: [layers], of the window centred at each.

    passes: what it cost, in forward passes of the whole prompt.
    """

    p_clean: float
    p_zeroed: np.ndarray
    passes: float

    @property
    def lost(self) -> np.ndarray:
        """The share of p_clean that is lost, (p_clean - p_zeroed) / p_clean, [layers].

        Negative where zeroing raises p; NaN where p_clean is 0.
        """
        return (self.p_clean - self.p_zeroed) / (self.p_clean if self.p_clean > 0 else np.nan)


@torch.inference_mode()
def zero(
    lm: LanguageModel,
    prompt: str,
    subject: str,
    target: str,
    *,
    module: str,
    window: int,
    subject_start: int | None = None,
    batch_tokens: int | None = None,
    instead: Tensor | None = None,
) -> Zeroed:
    """Zero each layer's window for one fact; `batch_tokens` bounds one pass, not the result.

    subject_start: as `LanguageModel.subject_range` takes it. instead: [layers, subject tokens, d],
    what stands in for each layer's outputs where it is not 0.
    """
    prompt_ids, target_ids = lm.encode(prompt), lm.encode_target(target, prompt)
    b, e = lm.subject_range(prompt, subject, subject_start)
    ids, lengths = passes.pad([prompt_ids + target_ids[:-1]], lm.device)
    clean = passes.record(lm, ids, lengths)
    if instead is None:
        instead = torch.zeros(lm.n_layers, 1, 1, dtype=lm.dtype, device=lm.device)

    def probability(hidden: Tensor, start: int) -> np.ndarray:
        rows = hidden.shape[0]
        ends, targets = [len(prompt_ids) - 1 - start] * rows, [target_ids] * rows
        log_p = log_probs.target_log_probs(lm, hidden, range(rows), ends, targets)
        return log_p.cpu().double().exp().numpy()

    windows = [window_layers(centre, window, lm.n_layers) for centre in range(lm.n_layers)]
    budget = token_budget(lm) if batch_tokens is None else batch_tokens

    def without(some: Sequence[range]) -> list[float]:
        return probability(_walk(lm, clean, some, module, b, e, instead), b).tolist()

    size = max(1, budget // (ids.shape[1] - b))
    zeroed = in_batches(without, windows, "zeroed layers", size)
    last = clean.inputs[lm.n_layers]
    run = sum(lm.n_layers - window.start for window in windows) / lm.n_layers
    return Zeroed(
        p_clean=float(probability(last, 0)[0]),
        p_zeroed=np.array(zeroed),
        passes=1 + run * (ids.shape[1] - b) / ids.shape[1],
    )


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """Each fact's share of p(o_true) that goes with a window's outputs, and p_clean beside it."""
    return [localize_fact(lm, fact, place) for fact in facts]


def localize_fact(
    lm: LanguageModel,
    fact: Fact,
    place: Place,
    *,
    instead: Tensor | None = None,
    more_passes: int = 0,
) -> Localization:
    """One fact's answer; instead: as :func:`zero` takes it, which had cost `more_passes`."""
    found = zero(
        lm,
        fact.prompt,
        fact.subject,
        fact.target_true,
        module=place.module,
        window=place.window,
        subject_start=fact.subject_start,
        instead=instead,
    )
    return Localization(
        values=found.lost,
        further={"p_clean": np.full(lm.n_layers, found.p_clean)},
        passes=found.passes + more_passes,
    )


def _walk(
    lm: LanguageModel,
    clean: passes.Record,
    windows: Sequence[range],
    module: str,
    b: int,
    e: int,
    instead: Tensor,
) -> Tensor:
    """Last-layer outputs [windows, Q, d] from position b on; starts and stops ascend.

    A window's row joins at its first layer, as the clean run's.
    """
    part = passes.after(lm, clean, b, range(lm.n_layers))
    reached = [[layer in window for window in windows] for layer in range(lm.n_layers)]
    inside = torch.tensor(reached, device=lm.device)[:, :, None, None]
    hidden = clean.inputs[windows[0].start][:0, b:]
    for layer in range(windows[0].start, lm.n_layers):
        joining = sum(window.start == layer for window in windows)
        hidden = torch.cat([hidden, clean.inputs[layer][:, b:].expand(joining, -1, -1)])
        put = _put(inside[layer, : len(hidden)], e - b, instead[layer])
        with hooks.hooked({lm.module(module, layer): put}):
            hidden = passes.step(lm, layer, hidden, part)
    return hidden


def _put(inside: Tensor, tokens: int, value: Tensor) -> hooks.Hook:
    """`value` [tokens or 1, d or 1] in the first tokens of the rows `inside` [B, 1, 1]."""

    def put(_: Tensor, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, :tokens] = torch.where(inside, value, output[:, :tokens])
        return output

    return put
