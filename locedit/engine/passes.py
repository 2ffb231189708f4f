"""Partial forward passes: run layers a..b over token positions t..S against frozen keys and values.

Everything fast in this project rests on one observation: an intervention at (layer, position)
changes only what lies above it and to its right. `Record` keeps a whole pass once; `Suffix`
describes the part to run again; `step` and `run` run it, calling the model's own layer modules, so
that a partial pass computes exactly what the whole pass computes there.

Shapes: B rows, T tokens of a whole row, Q tokens of a suffix, P tokens of a prefix, d hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence

from locedit.model.hooks import running
from locedit.model.language_model import LanguageModel

KeyValue = tuple[Tensor, Tensor]  # keys and values of one layer, each [B, heads, T, d_head]


class FrozenPrefix:
    """Stands in for transformers' key/value cache during one partial pass.

    `update` puts the frozen prefix before the new keys and values, and stores nothing but, if
    asked, the new ones. A prefix of fewer rows than the batch repeats: the batch then holds the
    prefix's rows several times over (row r of the batch has prefix row r mod rows).
    """

    def __init__(self, prefix: dict[int, KeyValue], keep: dict[int, KeyValue] | None) -> None:
        self.prefix, self.keep = prefix, keep

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_args: Any, **_kwargs: Any
    ) -> KeyValue:
        if self.keep is not None:
            self.keep[layer] = (keys, values)
        if layer not in self.prefix:
            return keys, values
        old_keys, old_values = self.prefix[layer]
        return _behind(old_keys, keys), _behind(old_values, values)

    def get_seq_length(self, *_args: Any) -> int:
        return 0


def _behind(prefix: Tensor, new: Tensor) -> Tensor:
    """[n, heads, P, d] before each group of n rows of [B, heads, Q, d]: one copy of each."""
    groups = new.unflatten(0, (-1, prefix.shape[0]))
    repeated = prefix.expand(groups.shape[0], *prefix.shape)
    return torch.cat([repeated, groups], dim=3).flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Suffix:
    """Positions to run, and what they may look at.

    positions: [B or 1, Q]; masks: for each width of attention window [B or 1, 1, Q, P + Q], 0 where
    visible, the dtype's lowest number elsewhere; rotary: for each type of layer (cos, sin) of the
    positions, empty for families that do not share them between layers; prefix: frozen keys and
    values of the P positions before, per layer (empty where P = 0).
    """

    positions: Tensor
    masks: dict[int | None, Tensor]
    rotary: dict[str | None, KeyValue]
    prefix: dict[int, KeyValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a whole pass over right-padded rows left behind.

    inputs[l]: input of layer l, [B, T, d]; inputs[n_layers]: output of the last layer, before the
    final norm. keys[l]: keys and values of layer l. lengths: the rows' true lengths.
    """

    inputs: dict[int, Tensor]
    keys: dict[int, KeyValue]
    lengths: Sequence[int]


def pad(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, list[int]]:
    """Right-pad token rows: ids [B, T] (padding is token 0, never looked at), and their lengths."""
    ids = pad_sequence([torch.tensor(row, dtype=torch.long) for row in rows], batch_first=True)
    return ids.to(device), [len(row) for row in rows]


def embed(
    lm: LanguageModel,
    ids: Tensor,
    positions: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Input of layer 0, [B, Q, d]; `noise` [B, Q, d] is added to the token embeddings.

    These are what the embedding module puts out: where a family scales them (Gemma), scaled.
    Raises LoceditError for rows longer than a model's table of positions; of `positions` that are
    given, who made them has checked that (`LanguageModel.check_length`): numbers on a card are not
    looked at here.
    """
    hidden = lm.embedding(ids)
    if noise is not None:
        hidden = hidden + noise.to(hidden)
    if lm.architecture.positions is not None:
        if positions is None:
            lm.check_length(ids.shape[1])
            positions = torch.arange(ids.shape[1], device=ids.device)
        table = lm.model.get_submodule(lm.architecture.positions).weight
        hidden = hidden + embedding(positions + lm.architecture.position_offset, table)
    return hidden


def suffix(
    lm: LanguageModel,
    positions: Tensor,
    visible: Tensor,
    prefix: dict[int, KeyValue] | None = None,
) -> Suffix:
    """A Suffix from positions [B or 1, Q] and what each may see, bool [B or 1, Q, P + Q].

    A token sees all of its own row before it, in order; attention windows narrow that further.
    """
    narrowed = {
        window: visible if window is None else _within(visible, window)
        for window in dict.fromkeys(lm.windows)
    }
    return Suffix(
        positions=positions,
        masks={window: _mask(lm, seen) for window, seen in narrowed.items()},
        rotary=_rotary(lm, positions),
        prefix=prefix or {},
    )


def _within(visible: Tensor, window: int) -> Tensor:
    """Of what each token sees, the last `window` tokens, itself included."""
    if visible.shape[-1] <= window:
        return visible
    distance = visible.flip(-1).cumsum(dim=-1).flip(-1)  # 1 for the token itself
    return visible & (distance <= window)


def _mask(lm: LanguageModel, visible: Tensor) -> Tensor:
    mask = torch.zeros(visible.shape, dtype=lm.dtype, device=visible.device)
    return mask.masked_fill_(~visible, torch.finfo(lm.dtype).min).unsqueeze(1)


def _rotary(lm: LanguageModel, positions: Tensor) -> dict[str | None, KeyValue]:
    if lm.rotary is None:
        return {}
    reference = torch.empty(0, dtype=lm.dtype, device=lm.device)
    return {
        kind: lm.rotary(reference, positions, *([] if kind is None else [kind]))
        for kind in dict.fromkeys(lm.rotary_types)
    }


def whole(lm: LanguageModel, length: int) -> Suffix:
    """All positions of rows of `length` tokens; right padding is invisible to what precedes it."""
    lm.check_length(length)
    positions = torch.arange(length, device=lm.device)[None]
    return suffix(lm, positions, positions[:, :, None] >= positions[:, None, :])


def after(lm: LanguageModel, record: Record, starts: int | Sequence[int], layers: range) -> Suffix:
    """The positions starts[i] .. end of each recorded row i, against that row's frozen prefix.

    starts: one for all rows, or one a row. Suffixes are as long as the longest; what lies behind a
    row's end is padding, of no effect on the row's own positions. `layers` are those whose prefix
    is needed.
    """
    starts = [starts] * len(record.lengths) if isinstance(starts, int) else starts
    p, q = max(starts), max(n - start for n, start in zip(record.lengths, starts, strict=True))
    if min(starts) == p:
        first = torch.full((1,), p, device=lm.device)
    else:
        first = torch.tensor(starts, device=lm.device)
    offset = torch.arange(q, device=lm.device)
    before = torch.arange(p, device=lm.device)
    seen_prefix = (before[None, :] < first[:, None])[:, None, :].expand(-1, q, -1)
    seen_suffix = (offset[:, None] >= offset[None, :])[None].expand(len(first), -1, -1)
    prefix = {
        layer: (record.keys[layer][0][:, :, :p], record.keys[layer][1][:, :, :p])
        for layer in layers
        if p
    }
    positions = first[:, None] + offset[None, :]
    return suffix(lm, positions, torch.cat([seen_prefix, seen_suffix], dim=2), prefix)


def at(hidden: Tensor, positions: Tensor) -> Tensor:
    """hidden [B, T, d] at positions [B or 1, Q] -> [B, Q, d]; positions past T give the last."""
    index = positions.clamp(max=hidden.shape[1] - 1).expand(hidden.shape[0], -1)
    return hidden.gather(1, index[:, :, None].expand(-1, -1, hidden.shape[2]))


def step(
    lm: LanguageModel,
    layer: int,
    hidden: Tensor,
    part: Suffix,
    keep: dict[int, KeyValue] | None = None,
) -> Tensor:
    """One layer: input [B, Q, d] -> output [B, Q, d]; `keep` collects its new keys and values."""
    running(hidden.shape[:2])
    output = lm.layers[layer](
        hidden,
        attention_mask=part.masks[lm.windows[layer]],
        position_ids=part.positions.expand(hidden.shape[0], -1),
        position_embeddings=part.rotary.get(lm.rotary_types[layer]),
        use_cache=True,
        **{lm.cache_argument: FrozenPrefix(part.prefix, keep)},
    )
    return output if isinstance(output, Tensor) else output[0]


def run(
    lm: LanguageModel,
    hidden: Tensor,
    part: Suffix,
    *,
    first: int = 0,
    last: int | None = None,
    keep: dict[int, KeyValue] | None = None,
) -> Tensor:
    """Layers first .. last - 1 (all by default) on the input of layer `first`."""
    for layer in range(first, lm.n_layers if last is None else last):
        hidden = step(lm, layer, hidden, part, keep)
    return hidden


def record(
    lm: LanguageModel,
    ids: Tensor,
    lengths: Sequence[int],
    *,
    noise: Tensor | None = None,
    last: int | None = None,
) -> Record:
    """A whole pass through layers 0 .. last - 1 that keeps every layer's input, keys and values."""
    last = lm.n_layers if last is None else last
    inputs, keys = _walk(lm, embed(lm, ids, noise=noise), whole(lm, ids.shape[1]), last)
    return Record(inputs=inputs, keys=keys, lengths=lengths)


def _walk(
    lm: LanguageModel, hidden: Tensor, part: Suffix, last: int
) -> tuple[dict[int, Tensor], dict[int, KeyValue]]:
    """Every input, and every layer's new keys and values, of layers 0 .. last - 1."""
    inputs = {0: hidden}
    keys: dict[int, KeyValue] = {}
    for layer in range(last):
        inputs[layer + 1] = step(lm, layer, inputs[layer], part, keys)
    return inputs, keys


def branch(lm: LanguageModel, base: Record, start: int, hidden: Tensor) -> Record:
    """The record of B rows that share the one row of `base` before position `start`.

    hidden: [B, T - start, d], input of layer 0 from there on; only these positions are run.
    """
    part = after(lm, base, start, range(lm.n_layers))
    inputs, own = _walk(lm, hidden, part, lm.n_layers)
    return Record(
        inputs={
            layer: torch.cat([before[:, :start].expand(len(hidden), -1, -1), inputs[layer]], dim=1)
            for layer, before in base.inputs.items()
        },
        keys={
            layer: (
                _behind(keys[:, :, :start], own[layer][0]),
                _behind(values[:, :, :start], own[layer][1]),
            )
            for layer, (keys, values) in base.keys.items()
        },
        lengths=[*base.lengths] * len(hidden),
    )
