"""Greedy and sampled continuations of many rows at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from locedit.engine.passes import KeyValue, at, embed, pad, run, suffix, whole
from locedit.model.language_model import LanguageModel

DONE_EVERY = 4  # decoding steps between two looks at which rows are done


def decode(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    steps: Sequence[int],
    choose: Callable[[int, Tensor, Tensor], Tensor],
    *,
    noise: Tensor | None = None,
    done: Callable[[Sequence[int], Tensor], Sequence[bool]] | None = None,
) -> Tensor:
    """Continue prompt i by steps[i] tokens: [B, most steps], -1 where a row has no token.

    choose(step, rows [R], logits [R, V]) picks the next token of each row that lacks some. noise:
    [B, T, d] on the prompts' embeddings. done(rows, tokens [R, n]) says every few steps which of
    these rows need no more.
    """
    written = torch.full((len(prompts), max(steps, default=0)), -1, device=lm.device)
    rows = [i for i, count in enumerate(steps) if count > 0]
    if not rows:
        return written
    ids, sizes = pad([prompts[i] for i in rows], lm.device)
    lm.check_length(max(size + steps[i] for i, size in zip(rows, sizes, strict=True)) - 1)
    width = ids.shape[1]
    left, lengths = torch.tensor([rows, sizes], device=lm.device)
    noise = None if noise is None else noise[left, :width]
    ends = set(steps)
    keys: dict[int, KeyValue] = {}
    hidden = run(lm, embed(lm, ids, noise=noise), whole(lm, width), keep=keys)
    hidden = at(hidden, lengths[:, None] - 1)
    visible = torch.arange(width, device=lm.device)[None, :] < lengths[:, None]
    for index in range(written.shape[1]):
        tokens = choose(index, left, lm.logits(hidden[:, 0]))
        written[left, index] = tokens
        asked = done if index % DONE_EVERY == DONE_EVERY - 1 else None
        if asked or index + 1 in ends:
            is_done = asked(rows, written[left, : index + 1]) if asked else [False] * len(rows)
            going = [i for i, row in enumerate(rows) if steps[row] > index + 1 and not is_done[i]]
            if not going:
                break
            if len(going) < len(rows):
                rows = [rows[i] for i in going]
                kept = torch.tensor(going, device=lm.device)
                left, tokens, lengths, visible = (x[kept] for x in (left, tokens, lengths, visible))
                keys = {layer: (k[kept], v[kept]) for layer, (k, v) in keys.items()}
        visible = torch.nn.functional.pad(visible, (0, 1), value=True)
        positions = (lengths + index)[:, None]
        part = suffix(lm, positions, visible[:, None, :], keys)
        fresh: dict[int, KeyValue] = {}
        hidden = run(lm, embed(lm, tokens[:, None], positions), part, keep=fresh)
        keys = {
            layer: (
                torch.cat([keys[layer][0], k], 2),
                torch.cat([keys[layer][1], v], 2),
            )
            for layer, (k, v) in fresh.items()
        }
    return written
