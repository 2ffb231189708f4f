"""Causal tracing: how much of a fact's probability one restored window brings back.

Meng et al. 2022 (arXiv 2202.05262, section 2), Hase et al. 2023 (arXiv 2301.04213, section 3);
METHODS section 2. The corrupted run is made once per fact; every restoration starts at its
window's first layer and its token, and all layers' restorations of a token walk up together.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from locedit import outcomes
from locedit.engine import log_probs, passes
from locedit.engine.noise import place
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, NoSettings, Place, SharedInputs
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import in_batches, token_budget
from locedit.windows import window_layers

EFFECTS = ("effect_max", "fraction_max", "effect_last", "fraction_last")
HALVES = tuple(f"{effect}_{half}" for half in ("half1", "half2") for effect in EFFECTS)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One fact's trace. corrupted: [n_noise]; restored: [tokens b .. last, layers, n_noise].

    Each noise row's p(target) is kept: their mean is the paper's, their spread tells how much of
    an effect is the draw's. b is the first token with noise: of the subject, unless it was put
    elsewhere. passes: what it cost, in forward passes of the whole prompt.
    """

    subject_range: tuple[int, int]
    tokens: list[str]
    p_clean: float
    corrupted: np.ndarray
    restored: np.ndarray
    passes: float

    @property
    def p_corrupted(self) -> float:
        return float(self.corrupted.mean())

    @property
    def p_restored(self) -> np.ndarray:
        """Mean over noise rows, [tokens, layers]."""
        return self.restored.mean(axis=-1)

    @property
    def fraction(self) -> np.ndarray:
        """The tracing effect of each layer, [layers]: `fraction_max` of :func:`effects`.

        At the token where restoring helps most, as a share of what corruption took; NaN where it
        took nothing.
        """
        gap = abs(self.p_clean - self.p_corrupted)
        brought = self.p_restored.max(axis=0) - self.p_corrupted
        return (brought / (gap if gap > 0 else np.nan)).clip(min=0)


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
    subject_start: int | None = None,
    batch_tokens: int | None = None,
    noised: Sequence[int] | None = None,
) -> Trace:
    """Trace one fact; `batch_tokens` bounds the token rows of one partial pass, not the result.

    None: what the machine's memory holds (`memory.token_budget`). subject_start: as
    `LanguageModel.subject_range` takes it. noised: positions, ascending, that the noise is put on
    in place of the subject's tokens.
    """
    prompt_ids, target_ids = lm.encode(prompt), lm.encode_target(target, prompt)
    b, e = lm.subject_range(prompt, subject, subject_start)
    tokens = list(range(b, e)) if noised is None else list(noised)
    end = len(prompt_ids) - 1
    ids, _ = passes.pad([prompt_ids + target_ids[:-1]], lm.device)
    draws = [(0, len(tokens))] * n_noise
    placed = place(lm, draws, len(tokens), sigma=sigma, seed=seed)
    noise = placed.new_zeros(n_noise, ids.shape[1], lm.hidden_size)
    noise[:, tokens] = placed

    def probability(hidden: Tensor, start: int) -> np.ndarray:
        """Each row's p(target)."""
        rows = hidden.shape[0]
        ends, targets = [end - start] * rows, [target_ids] * rows
        log_p = log_probs.target_log_probs(lm, hidden, range(rows), ends, targets)
        return log_p.cpu().double().exp().numpy()

    swept = sweep(
        lm,
        ids,
        passes.embed(lm, ids.expand(n_noise, -1), noise=noise)[:, tokens[0] :],
        module=module,
        window=window,
        read_from=end,
        measure=probability,
        batch_tokens=batch_tokens,
    )
    return Trace(
        subject_range=(b, e),
        tokens=[lm.token_text(i) for i in prompt_ids[tokens[0] :]],
        p_clean=float(swept.clean),
        corrupted=swept.corrupted,
        restored=swept.restored,
        passes=swept.passes,
    )


# last-layer outputs [rows, Q, d] from a position on, and that position -> numbers [rows, ...]
Measure = Callable[[Tensor, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What was measured in each run of one fact, N corrupted rows.

    clean: [...]; corrupted: [N, ...]; restored: [tokens from the first corrupted to the prompt's
    last, layers, N, ...]. passes: what it cost, in forward passes of the whole clean row.
    """

    clean: np.ndarray
    corrupted: np.ndarray
    restored: np.ndarray
    passes: float


@torch.inference_mode()
def sweep(
    lm: LanguageModel,
    ids: Tensor,
    embedded: Tensor,
    *,
    module: str,
    window: int,
    read_from: int,
    measure: Measure,
    batch_tokens: int | None = None,
) -> Sweep:
    """Restore every token's module outputs around every layer, in each of N corrupted rows.

    ids: [1, T], the clean row. embedded: [N, Q, d], inputs of layer 0 of the corrupted rows' last Q
    positions, which differ from the clean row's in any way; the positions before them are its own.
    read_from: the first position whose prediction is measured, the prompt's last. batch_tokens: as
    of :func:`trace`.
    """
    if batch_tokens is None:
        batch_tokens = token_budget(lm)
    length, begin, n_rows = ids.shape[1], ids.shape[1] - embedded.shape[1], len(embedded)
    clean_outputs: dict[int, Tensor] = {}

    def remember(layer: int) -> hooks.Hook:
        return lambda _, output: clean_outputs.update({layer: output})

    with hooks.hooked({lm.module(module, i): remember(i) for i in range(lm.n_layers)}):
        clean = passes.record(lm, ids, [length])
    corrupted = passes.branch(lm, clean, begin, embedded)
    windows = [window_layers(centre, window, lm.n_layers) for centre in range(lm.n_layers)]
    first_restored = _first_restored(lm, module, begin, clean_outputs, corrupted)
    restored = []
    for token in range(begin, read_from + 1):
        restoration = _Restoration(
            lm=lm,
            kind=module,
            begin=begin,
            token=token,
            read_from=read_from,
            clean_outputs=clean_outputs,
            corrupted=corrupted,
            first_restored=first_restored,
        )

        def measured(
            some: Sequence[range], token: int = token, restoration: _Restoration = restoration
        ) -> list[np.ndarray]:
            hidden = restoration.run(some)
            values = measure(torch.cat(list(hidden.values())), token)
            rows = dict(zip(hidden, np.split(values, len(hidden)), strict=True))
            return [rows[window] for window in some]

        size = max(1, batch_tokens // (n_rows * (length - token)))
        restored.append(in_batches(measured, windows, "restored layers", size))
    last = lm.n_layers
    return Sweep(
        clean=measure(clean.inputs[last], 0)[0],
        corrupted=measure(corrupted.inputs[last], 0),
        restored=np.array(restored),
        passes=1 + n_rows * _whole_passes(windows, begin, read_from, length, lm.n_layers),
    )


def _whole_passes(
    windows: Sequence[range], begin: int, end: int, length: int, n_layers: int
) -> float:
    """Of one corrupted row, whole passes that its partial ones are: layers times positions run.

    The corrupted run and all first restored layers run from `begin` on; a token's restorations
    walk on from the layer behind, those that begin together as one until the shorter ends.
    """
    alike = list(dict.fromkeys(windows))
    longest = {w.start: w for w in sorted(alike, key=lambda w: w.stop)}
    run = sum(n_layers - (w.start + 1 if longest[w.start] == w else w.stop) for w in alike)
    positions = sum(length - token for token in range(begin, end + 1))
    return (2 * (length - begin) + positions * run / n_layers) / length


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Localization]:
    """Each fact's tracing effect, `fraction_max` of :func:`effects`, with the further measures."""
    return [_localization(lm, fact, place, shared) for fact in facts]


def trace_fact(
    lm: LanguageModel,
    fact: Fact,
    place: Place,
    shared: SharedInputs,
    *,
    noised: Sequence[int] | None = None,
) -> Trace:
    """A fact's trace at a place, under a study's noise; noised: as :func:`trace` takes it."""
    return trace(
        lm,
        fact.prompt,
        fact.subject,
        fact.target_true,
        module=place.module,
        window=place.window,
        sigma=shared.sigma,
        n_noise=shared.n_noise,
        seed=shared.noise_seed,
        subject_start=fact.subject_start,
        noised=noised,
    )


def _localization(
    lm: LanguageModel, fact: Fact, place: Place, shared: SharedInputs
) -> Localization:
    found = trace_fact(lm, fact, place, shared)
    table = effects(pd.DataFrame(_cells(fact, found)))
    columns = {name: table[name].to_numpy(float) for name in table if name != "case_id"}
    columns.pop("layer")
    halves = np.stack([columns.pop(f"fraction_max_{half}") for half in ("half1", "half2")])
    value = columns.pop("fraction_max")
    return Localization(values=value, halves=halves, further=columns, passes=found.passes)


def trace_rows(lm: LanguageModel, fact: Fact, **settings: Any) -> list[dict[str, Any]]:
    """A fact's rows of the tracing table; one row with the reason where it cannot be traced."""
    try:
        what = fact.prompt, fact.subject, fact.target_true
        found = trace(lm, *what, subject_start=fact.subject_start, **settings)
    except Exception as error:  # of a plug-in's family of models any may come
        return [{"case_id": fact.case_id, "status": outcomes.failure(error)}]
    return _cells(fact, found)


def _cells(fact: Fact, found: Trace) -> list[dict[str, Any]]:
    """A row of the tracing table for each token and layer."""
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
            "p_restored": float(p.mean()),
            "p_corrupted_rows": found.corrupted.tolist(),
            "p_restored_rows": p.tolist(),
            "passes": found.passes,
            "status": outcomes.OK,
        }
        for index, row in enumerate(found.restored)
        for layer, p in enumerate(row)
    ]


def _first_restored(
    lm: LanguageModel,
    kind: str,
    begin: int,
    clean_outputs: dict[int, Tensor],
    corrupted: passes.Record,
) -> dict[int, Tensor]:
    """Each layer's output [N, T - begin, d] where it is the first of a window.

    At each position as if it were the token that is restored: what is restored there reaches other
    positions in the next layer only, so one pass serves all tokens.
    """
    part = passes.after(lm, corrupted, begin, range(lm.n_layers))
    outputs = {}
    cells = corrupted.inputs[0][:, begin:].shape[:2].numel()
    everywhere = Spots(torch.arange(0, device=lm.device), torch.arange(cells, device=lm.device))
    for layer in range(lm.n_layers):
        hidden = corrupted.inputs[layer][:, begin:]
        value = clean_outputs[layer][:, begin:].expand_as(hidden).flatten(0, 1)
        with _put_in(lm, kind, layer, everywhere, value):
            outputs[layer] = passes.step(lm, layer, hidden, part)
    return outputs


class Spots(NamedTuple):
    """Of a batch's [B * Q] tokens those for which a module is run, and those where its output is
    put in: indices, which the host knows before a card has come so far.
    """

    keep: Tensor
    spare: Tensor


def _spots(masks: Sequence[np.ndarray], device: torch.device) -> list[Spots]:
    """Of each mask of tokens that are put in, [B, Q]: copied to the device together."""
    parts = [np.flatnonzero(put_in) for mask in masks for put_in in (~mask, mask)]
    cells = torch.from_numpy(np.concatenate(parts)).to(device)
    split = cells.split([len(part) for part in parts])
    return [Spots(*pair) for pair in zip(split[::2], split[1::2], strict=True)]


def _put_in(
    lm: LanguageModel, kind: str, layer: int, spots: Spots, value: Tensor
) -> AbstractContextManager:
    """`value` [spare, d] in place of a module's output in the batch's tokens `spare`."""
    module = lm.module(kind, layer)
    if kind == "mlp":
        return hooks.spared(module, spots.keep, spots.spare, value)

    def put(_: Tensor, output: Tensor) -> Tensor:
        replaced = output.flatten(0, 1).index_copy(0, spots.spare, value)
        return replaced.view_as(output)

    return hooks.hooked({module: put})


def _going(windows: Sequence[range], longest: dict[int, range], layers: range) -> list[list[range]]:
    """The windows that walk through each layer, in their rows' order.

    Those of one start walk as `longest` of them until the shorter end.
    """
    going: list[range] = []
    through = []
    for layer in layers:
        going += [w for w in windows if w.stop == layer and longest[w.start] != w]
        through.append([*going])
        going += [longest[layer]] if layer in longest else []
    return through


@dataclass(frozen=True, kw_only=True)
class _Restoration:
    """Restores one token's module outputs, for many windows side by side.

    A window's rows are the corrupted ones until its first layer, where only the token's own output
    changes; there they join the batch. Windows that begin together are one until the shorter ends.
    begin: the first position of the corrupted rows that is not the clean row's. read_from: the
    first position whose prediction is read. first_restored: as `_first_restored` gives it.
    """

    lm: LanguageModel
    kind: str
    begin: int
    token: int
    read_from: int
    clean_outputs: dict[int, Tensor]
    corrupted: passes.Record
    first_restored: dict[int, Tensor]

    def run(self, windows: Sequence[range]) -> dict[range, Tensor]:
        """Last-layer outputs of each window's rows, [N, Q, d]."""
        lm, windows = self.lm, list(dict.fromkeys(windows))
        longest = {w.start: w for w in sorted(windows, key=lambda w: w.stop)}
        layers = range(min(longest), lm.n_layers)
        going = _going(windows, longest, layers)
        part = passes.after(lm, self.corrupted, self.token, range(lm.n_layers))
        spots = _spots([self._restored(*one) for one in zip(layers, going, strict=True)], lm.device)
        walking: dict[range, Tensor] = {}
        for layer, rows, where in zip(layers, going, spots, strict=True):
            if rows:
                entering = [walking.get(w, walking[longest[w.start]]) for w in rows]
                hidden = self._step(layer, torch.cat(entering), where, part)
                walking = dict(zip(rows, hidden.split(self.n_rows), strict=True))
            if layer in longest:
                walking[longest[layer]] = self._joining(layer)
        return walking

    @property
    def n_rows(self) -> int:
        return len(self.corrupted.lengths)

    def _restored(self, layer: int, windows: Sequence[range]) -> np.ndarray:
        """Of the windows' rows at a layer the tokens that are restored, bool [rows, Q]."""
        length = self.corrupted.lengths[0] - self.token
        restored = np.zeros((len(windows) * self.n_rows, length), dtype=bool)
        restored[:, 0] = np.repeat([layer in window for window in windows], self.n_rows)
        if layer == self.lm.n_layers - 1 and self.kind == "mlp":
            # nothing reads what this layer gives before the prediction, so anything may stand there
            restored[:, : self.read_from - self.token] = True
        return restored

    def _step(self, layer: int, hidden: Tensor, spots: Spots, part: passes.Suffix) -> Tensor:
        if len(spots.spare) == 0:
            return passes.step(self.lm, layer, hidden, part)
        value = self.clean_outputs[layer][0, self.token].expand(len(spots.spare), -1)
        with _put_in(self.lm, self.kind, layer, spots, value):
            return passes.step(self.lm, layer, hidden, part)

    def _joining(self, layer: int) -> Tensor:
        """Outputs [N, Q, d] of the first restored layer: new at the token, old after it."""
        outputs = self.corrupted.inputs[layer + 1][:, self.token :].clone()
        outputs[:, 0] = self.first_restored[layer][:, self.token - self.begin]
        return outputs


def effects(cells: pd.DataFrame, *, reference: str = "clean") -> pd.DataFrame:
    """Per fact and layer, from the tracing table's cells: effect and fraction restored.

    effect = p_restored - p_corrupted; fraction = max(0, effect / |p_corrupted - p_clean|), at the
    best token (`_max`, the paper's tracing effect) and at the subject's last token (`_last`). Each
    again from the first and from the second half of the noise rows alone (`_half1`, `_half2`; NaN
    for a single row), for their reliability.
    reference: `max` takes the largest of p_clean and the fact's cells in place of p_clean, as the
    released code does. Columns in: those of the tracing table but `status` and the token's text;
    rows of failed facts (no p_restored) are left out.
    """
    cells = cells[cells["p_restored"].notna()].reset_index(drop=True)
    table = _effects(cells, reference)
    restored, corrupted = (_by_row(cells[f"p_{run}_rows"]) for run in ("restored", "corrupted"))
    middle = restored.shape[1] // 2
    if middle == 0:
        return table.assign(**dict.fromkeys(HALVES, np.nan)).reset_index()
    for name, half in (("half1", slice(0, middle)), ("half2", slice(middle, None))):
        part = cells.assign(
            p_restored=restored[:, half].mean(axis=1), p_corrupted=corrupted[:, half].mean(axis=1)
        )
        table = table.join(_effects(part, reference)[list(EFFECTS)].add_suffix(f"_{name}"))
    return table.reset_index()


def _by_row(column: pd.Series) -> np.ndarray:
    """Lists of n_noise probabilities, as [cells, n_noise]."""
    return np.stack(column.tolist()) if len(column) else np.empty((0, 0))


def _effects(cells: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The effects of whole cells, indexed by case_id and layer."""
    top = cells["p_clean"]
    if reference == "max":
        best = cells.groupby("case_id")["p_restored"].transform("max")
        top = np.maximum(top, best)
    gap = (cells["p_corrupted"] - top).abs()
    effect = cells["p_restored"] - cells["p_corrupted"]
    cells = cells.assign(effect=effect, fraction=(effect / gap.where(gap > 0)).clip(lower=0))
    key = ["case_id", "layer"]
    best_rows = cells.loc[cells.groupby(key)["p_restored"].idxmax()].set_index(key)
    # beside failed facts no column of flags, and none at all where every fact failed
    last_rows = cells[cells["is_last_subject"].astype(bool)].set_index(key)
    return best_rows[["p_clean", "p_corrupted"]].assign(
        effect_max=best_rows["effect"],
        fraction_max=best_rows["fraction"],
        effect_last=last_rows["effect"],
        fraction_last=last_rows["fraction"],
        peak_token=best_rows["token"],
    )
