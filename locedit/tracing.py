"""Causal tracing: how much of a fact's probability one restored window brings back.

Meng et al. 2022 (arXiv 2202.05262, section 2), Hase et al. 2023 (arXiv 2301.04213, section 3);
METHODS section 2. The corrupted run is made once per fact; every restoration starts at its
window's first layer and its token, and all layers' restorations of a token walk up together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from locedit import passes
from locedit.facts import Fact
from locedit.models import LanguageModel
from locedit.noise import place
from locedit.windows import window_layers

MODULES = ("mlp", "attn", "hidden")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One fact's trace. p_restored: [tokens b .. last prompt token, layers]."""

    subject_range: tuple[int, int]
    tokens: list[str]
    p_clean: float
    p_corrupted: float
    p_restored: np.ndarray


@torch.inference_mode()
def trace(
    lm: LanguageModel,
    prompt: str,
    subject: str,
    target: str,
    *,
    module: str,
    window: int,
    sigma: float,
    n_noise: int = 10,
    seed: int = 1,
    batch_tokens: int = 8192,
) -> Trace:
    """Trace one fact; `batch_tokens` bounds the token rows of one partial pass, not the result."""
    prompt_ids, target_ids = lm.encode(prompt), lm.encode_target(target)
    b, e = lm.subject_range(prompt, subject)
    end = len(prompt_ids) - 1
    ids, lengths = passes.pad([prompt_ids + target_ids[:-1]], lm.device)

    clean_outputs: dict[int, Tensor] = {}

    def remember(layer: int) -> passes.Hook:
        return lambda _, output: clean_outputs.update({layer: output})

    with passes.hooked({lm.module(module, i): remember(i) for i in range(lm.n_layers)}):
        clean = passes.record(lm, ids, lengths)
    noise = place(lm, [(b, e)] * n_noise, ids.shape[1], sigma=sigma, seed=seed)
    corrupted = passes.record(lm, ids.expand(n_noise, -1), lengths.expand(n_noise), noise=noise)

    def probability(hidden: Tensor, start: int) -> Tensor:
        """p(target) averaged over each group of n_noise rows (or the one clean row)."""
        rows = hidden.shape[0]
        ends, targets = [end - start] * rows, [target_ids] * rows
        log_p = passes.target_log_probs(lm, hidden, range(rows), ends, targets)
        return log_p.exp().view(-1, min(n_noise, rows)).mean(dim=1)

    restored = np.empty((end + 1 - b, lm.n_layers))
    for token in range(b, end + 1):
        part = passes.after(
            lm, corrupted, torch.tensor([token], device=lm.device), range(lm.n_layers)
        )
        size = max(1, batch_tokens // (n_noise * part.positions.shape[1]))
        for low in range(0, lm.n_layers, size):
            centres = range(low, min(low + size, lm.n_layers))
            hidden = _restore(
                lm,
                centres,
                corrupted,
                clean_outputs,
                part,
                token,
                module,
                window,
                n_noise,
            )
            restored[token - b, low : low + size] = probability(hidden, token).cpu()
    last = clean.inputs[lm.n_layers]
    return Trace(
        subject_range=(b, e),
        tokens=[lm.tokenizer.decode([i]) for i in prompt_ids[b:]],
        p_clean=probability(last, 0).item(),
        p_corrupted=probability(corrupted.inputs[lm.n_layers], 0).item(),
        p_restored=restored,
    )


def trace_rows(lm: LanguageModel, fact: Fact, **settings: Any) -> list[dict[str, Any]]:
    """A fact's rows of the tracing table; one row with the reason where it cannot be traced."""
    try:
        found = trace(lm, fact.prompt, fact.subject, fact.target_true, **settings)
    except (ValueError, IndexError, RuntimeError) as error:
        return [{"case_id": fact.case_id, "status": f"failed: {error}"}]
    b, e = found.subject_range
    return [
        {
            "case_id": fact.case_id,
            "token": b + index,
            "token_text": found.tokens[index],
            "is_subject": b + index < e,
            "is_last_subject": b + index == e - 1,
            "layer": layer,
            "p_clean": found.p_clean,
            "p_corrupted": found.p_corrupted,
            "p_restored": p,
            "status": "ok",
        }
        for index, row in enumerate(found.p_restored.tolist())
        for layer, p in enumerate(row)
    ]


def _restore(
    lm: LanguageModel,
    centres: range,
    corrupted: passes.Record,
    clean_outputs: dict[int, Tensor],
    part: passes.Suffix,
    token: int,
    module: str,
    window: int,
    n_noise: int,
) -> Tensor:
    """Last-layer outputs [centres * n_noise, Q, d] of one token's restorations, centre by centre.

    Windows start in the order of their centres, so the batch grows at its end as the walk goes up.
    """
    windows = [window_layers(centre, window, lm.n_layers) for centre in centres]
    hidden = corrupted.inputs[0][:0, token:]
    for layer in range(windows[0].start, lm.n_layers):
        joining = sum(w.start == layer for w in windows)
        if joining:
            fresh = corrupted.inputs[layer][:, token:].repeat(joining, 1, 1)
            hidden = torch.cat([hidden, fresh])
        inside = [i for i, w in enumerate(windows) if layer in w]
        rows = slice(inside[0] * n_noise, (inside[-1] + 1) * n_noise) if inside else slice(0)

        restore = _restoring(rows, clean_outputs[layer][0, token])
        with passes.hooked({lm.module(module, layer): restore} if inside else {}):
            hidden = passes.step(lm, layer, hidden, part)
    return hidden


def _restoring(rows: slice, value: Tensor) -> passes.Hook:
    """Puts the clean output [d] in place of the suffix's first position in some rows."""

    def hook(_: Tensor, output: Tensor) -> Tensor:
        output = output.clone()
        output[rows, 0] = value
        return output

    return hook


def effects(cells: pd.DataFrame, *, reference: str = "clean") -> pd.DataFrame:
    """Per fact and layer, from the tracing table's cells: effect and fraction restored.

    effect = p_restored - p_corrupted; fraction = max(0, effect / |p_corrupted - p_clean|), at the
    best token (`_max`, the paper's tracing effect) and at the subject's last token (`_last`).
    reference: `max` takes the largest of p_clean and the fact's cells in place of p_clean, as the
    released code does. Columns in: case_id, token, is_last_subject, layer, p_clean, p_corrupted,
    p_restored; rows of failed facts (no p_restored) are left out.
    """
    cells = cells[cells["p_restored"].notna()].reset_index(drop=True)
    cells["effect"] = cells["p_restored"] - cells["p_corrupted"]
    top = cells["p_clean"]
    if reference == "max":
        best = cells.groupby("case_id")["p_restored"].transform("max")
        top = np.maximum(top, best)
    gap = (cells["p_corrupted"] - top).abs()
    cells["fraction"] = (cells["effect"] / gap.where(gap > 0)).clip(lower=0)
    key = ["case_id", "layer"]
    best_rows = cells.loc[cells.groupby(key)["p_restored"].idxmax()].set_index(key)
    last_rows = cells[cells["is_last_subject"]].set_index(key)
    table = best_rows[["p_clean", "p_corrupted"]].assign(
        effect_max=best_rows["effect"],
        fraction_max=best_rows["fraction"],
        effect_last=last_rows["effect"],
        fraction_last=last_rows["fraction"],
        peak_token=best_rows["token"],
    )
    return table.reset_index()
