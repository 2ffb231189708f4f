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
    done: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Continue prompt i by steps[i] tokens: [B, most steps], -1 where a row has no token.

    choose(step, rows [R], logits [R, V]) picks the next token of each row that lacks some. noise:
    [B, T, d] on the prompts' embeddings. done(rows [R], tokens [R, n]) says every few steps which
    of these rows need no more.
    """
    wanted = torch.tensor(steps, dtype=torch.long, device=lm.device)
    written = torch.full((len(prompts), max(steps, default=0)), -1, device=lm.device)
    left = (wanted > 0).nonzero()[:, 0]
    if not len(left):
        return written
    ids, lengths = pad([prompts[i] for i in left.tolist()], lm.device)
    lm.check_length(int((lengths + wanted[left]).max()) - 1)
    width = ids.shape[1]
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
            going = wanted[left] > index + 1
            if asked:
                going &= ~asked(left, written[left, : index + 1])
            left, tokens, lengths, visible = (x[going] for x in (left, tokens, lengths, visible))
            keys = {layer: (k[going], v[going]) for layer, (k, v) in keys.items()}
            if not len(left):
                break
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
