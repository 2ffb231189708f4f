"""The textbook forms of what the paper leaves out or does otherwise: r-ROME, the quirks.

Written as tests/support/oracle.py is, of its parts.
"""

from collections.abc import Sequence
from dataclasses import replace

import oracle
import torch
from torch import Tensor


def r_rome_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    *,
    contexts: Sequence[str],
    statistics: dict[int, Tensor],
    learning_rate: float,
    evaluations: int,
    kl_factor: float,
    weight_decay: float,
    clamp: float,
    sigma: float,
    seed: int,
) -> oracle.Edit:
    """Gupta et al. 2024, section 4: the mean key and the mean output wherever ROME has any."""
    sigma = sigma if problem == "fact_forcing" else None
    what = (model, tokenizer, prompt_template, subject, target, contexts)
    rows, kl_row = oracle.context_rows(*what, sigma=sigma, seed=seed)
    down = oracle.parts(model).down_projection(layer)
    keys, outputs = oracle.at_last_subject_token(model, rows, down)
    k, w = keys.mean(0), outputs.mean(0)
    u = torch.linalg.solve(statistics[layer], k)
    erasing = problem == "fact_erasure"
    steps = evaluations if erasing else evaluations - 1
    delta, v0, losses = oracle.optimised_delta(
        model,
        rows,
        kl_row,
        oracle.parts(model).module("mlp", layer),
        erasing=erasing,
        evaluations=evaluations,
        steps=steps,
        learning_rate=learning_rate,
        kl_factor=kl_factor,
        weight_decay=weight_decay,
        clamp=clamp,
    )
    change = torch.outer((v0 + delta) - w, u) / (k @ u)
    return oracle.Edit(changes={layer: (change, None)}, losses=losses, steps=steps, delta=delta)


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
