"""Representation zeroing: how much of a fact's probability goes with one window's outputs.

A second localizer beside causal tracing (Hase et al. 2023, arXiv 2301.04213; METHODS section 2): a
window's module outputs at the subject's tokens are set to zero in the clean run. Everything below
the window and before the subject is the clean run's, so only the rest is run, and all layers'
windows walk up together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from locedit import outcomes
from locedit.engine import log_probs, passes
from locedit.facts.record import Fact
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import token_budget
from locedit.windows import window_layers


@dataclass(frozen=True, kw_only=True)
class Zeroed:
    """One fact's probabilities. p_zeroed: [layers], of the window centred at each."""

    p_clean: float
    p_zeroed: np.ndarray


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
) -> Zeroed:
    """Zero each layer's window for one fact; `batch_tokens` bounds one pass, not the result.

    subject_start: as `LanguageModel.subject_range` takes it.
    """
    prompt_ids, target_ids = lm.encode(prompt), lm.encode_target(target, prompt)
    b, e = lm.subject_range(prompt, subject, subject_start)
    ids, lengths = passes.pad([prompt_ids + target_ids[:-1]], lm.device)
    clean = passes.record(lm, ids, lengths)

    def probability(hidden: Tensor, start: int) -> np.ndarray:
        rows = hidden.shape[0]
        ends, targets = [len(prompt_ids) - 1 - start] * rows, [target_ids] * rows
        log_p = log_probs.target_log_probs(lm, hidden, range(rows), ends, targets)
        return log_p.cpu().double().exp().numpy()

    windows = [window_layers(centre, window, lm.n_layers) for centre in range(lm.n_layers)]
    budget = token_budget(lm) if batch_tokens is None else batch_tokens
    size = max(1, budget // (ids.shape[1] - b))
    zeroed = []
    for low in range(0, lm.n_layers, size):
        hidden = _walk(lm, clean, windows[low : low + size], module, b, e)
        zeroed.append(probability(hidden, b))
    last = clean.inputs[lm.n_layers]
    return Zeroed(p_clean=float(probability(last, 0)[0]), p_zeroed=np.concatenate(zeroed))


def _walk(
    lm: LanguageModel, clean: passes.Record, windows: Sequence[range], module: str, b: int, e: int
) -> Tensor:
    """Last-layer outputs [windows, Q, d] from position b on; starts and stops ascend.

    A window's row joins at its first layer, as the clean run's.
    """
    part = passes.after(lm, clean, torch.tensor([b], device=lm.device), range(lm.n_layers))
    hidden = clean.inputs[windows[0].start][:0, b:]
    subject = torch.arange(hidden.shape[1], device=lm.device) < e - b
    for layer in range(windows[0].start, lm.n_layers):
        joining = sum(window.start == layer for window in windows)
        hidden = torch.cat([hidden, clean.inputs[layer][:, b:].expand(joining, -1, -1)])
        inside = torch.tensor([layer in w for w in windows[: len(hidden)]], device=lm.device)
        where = (inside[:, None] & subject)[:, :, None]
        with hooks.hooked({lm.module(module, layer): _zero_at(where)}):
            hidden = passes.step(lm, layer, hidden, part)
    return hidden


def _zero_at(where: Tensor) -> hooks.Hook:
    return lambda _, output: output.masked_fill(where, 0.0)


def zero_rows(lm: LanguageModel, fact: Fact, **settings: Any) -> list[dict[str, Any]]:
    """A fact's rows of the zeroing table; one row with the reason where it cannot be done."""
    try:
        what = fact.prompt, fact.subject, fact.target_true
        found = zero(lm, *what, subject_start=fact.subject_start, **settings)
    except Exception as error:  # of a plug-in's family of models any may come
        return [{"case_id": fact.case_id, "status": outcomes.failure(error)}]
    return [
        {
            "case_id": fact.case_id,
            "layer": layer,
            "p_clean": found.p_clean,
            "p_zeroed": p,
            "status": outcomes.OK,
        }
        for layer, p in enumerate(found.p_zeroed.tolist())
    ]


def effects(cells: pd.DataFrame) -> pd.DataFrame:
    """Per fact and layer, `zeroed`: the share of p_clean lost, (p_clean - p_zeroed) / p_clean.

    Negative where zeroing raises p; empty where p_clean is 0. Columns in: case_id, layer, p_clean,
    p_zeroed; rows of failed facts (no p_zeroed) are left out.
    """
    cells = cells[cells["p_zeroed"].notna()].reset_index(drop=True)
    lost = cells["p_clean"] - cells["p_zeroed"]
    share = lost / cells["p_clean"].where(cells["p_clean"] > 0)
    return cells[["case_id", "layer", "p_clean"]].assign(zeroed=share)
