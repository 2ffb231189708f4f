"""The textbook forms of the quirks: what the released code does otherwise than the paper.

Written as tests/support/oracle.py is, of its parts.
"""

from collections.abc import Sequence
from dataclasses import replace

import oracle


def context_rows_at_bare_positions(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    contexts: Sequence[str],
    *,
    sigma: float | None,
    seed: int,
) -> tuple[list[oracle.Row], oracle.Row]:
    """forcing_noise_position: every row, the KL row too, has its noise at the bare prompt's [b, e).

    That is behind a context's prefix some tokens before the subject, or after it in the KL row.
    """
    what = (model, tokenizer, prompt_template, subject, target, contexts)
    rows, kl_row = ORACLES_CONTEXT_ROWS(*what, sigma=None, seed=seed)
    prompt, start = oracle.fill(prompt_template, subject), prompt_template.index("{}")
    begin, end = oracle.subject_range(tokenizer, prompt, subject, start)
    size, dtype = model.config.hidden_size, model.dtype
    noise = oracle.subject_noise(len(rows), end - begin, size, sigma, seed, dtype)
    noised = [replace(row, noise=z, noise_from=begin) for row, z in zip(rows, noise, strict=True)]
    return noised, replace(kl_row, noise=noise[0], noise_from=begin)


ORACLES_CONTEXT_ROWS = oracle.context_rows  # which a test may have replaced by the other


def reversal_target(
    model, tokenizer, prompt: str, subject: str, *, sigma: float, n_noise: int, seed: int
) -> str:
    """reversal_prompt_in_target: the prompt and its corrupted continuation, 12 tokens in all."""
    ids = oracle.prompt_ids(tokenizer, prompt)
    while len(ids) < 12:
        rows = oracle.with_noise(
            model, tokenizer, oracle.Row(ids=ids), prompt, subject, sigma, n_noise, seed
        )
        ids = [*ids, int(oracle.forward(model, rows)[:, -1].exp().mean(0).argmax())]
    return tokenizer.decode(ids, skip_special_tokens=True)
