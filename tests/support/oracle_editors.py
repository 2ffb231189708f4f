"""The textbook forms of the editors beside the paper's: r-ROME, FT-M, EMMET, AlphaEdit, KN.

Written as tests/support/oracle.py is, of its parts: whole passes, one fact, weights really changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import oracle
import oracle_localizers
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


@dataclass(frozen=True, kw_only=True)
class Value:
    """Settings of the optimised vector and of the window that it is spread over."""

    contexts: Sequence[Sequence[str]]
    window: int
    learning_rate: float
    evaluations: int
    kl_factor: float
    weight_decay: float
    clamp: float
    sigma: float
    seed: int


Solve = Callable[[int, Tensor, Tensor], Tensor]  # (layer, K [d_ff, 1], R [d, 1]) -> dW [d, d_ff]


def spread_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    value: Value,
    solve: Solve,
) -> oracle.Edit:
    """MEMIT's value for the top of a window, written from the bottom up by a solution for each
    layer's K (of one fact, in float64) and R."""
    sigma = value.sigma if problem == "fact_forcing" else None
    contexts = [context for group in value.contexts for context in group]
    what = (model, tokenizer, prompt_template, subject, target, contexts)
    rows, kl_row = oracle.context_rows(*what, sigma=sigma, seed=value.seed)
    layers = oracle.window_layers(layer, value.window, len(oracle.parts(model).blocks))
    top = oracle.parts(model).module("hidden", layers[-1])
    steps = value.evaluations - 1
    delta, z, losses = oracle.goal_of_window(
        model,
        rows,
        kl_row,
        layers[-1],
        erasing=problem == "fact_erasure",
        evaluations=value.evaluations,
        steps=steps,
        learning_rate=value.learning_rate,
        kl_factor=value.kl_factor,
        weight_decay=value.weight_decay,
        clamp=value.clamp,
    )
    changes: oracle.Changes = {}
    for position, i in enumerate(layers):
        down = oracle.parts(model).down_projection(i)
        with oracle.edited(model, changes):
            keys, outputs = oracle.at_last_subject_token(model, rows, down)
            _, reached = oracle.at_last_subject_token(model, rows[:1], top)
        groups = keys.split([len(group) for group in value.contexts])
        k = torch.stack([group.mean(0) for group in groups]).mean(0).double()
        r = (z - reached[0]).double() / (len(layers) - position)
        if oracle.parts(model).normed:
            r = oracle.change_before_norm(model, i, outputs[0], r)
        changes[i] = (solve(i, k[:, None], r[:, None]).to(model.dtype), None)
    return oracle.Edit(changes=changes, losses=losses, steps=steps, delta=delta)


def emmet_edit(
    *fact: Any, statistics: dict[int, Tensor], ridge: float, **value: Any
) -> oracle.Edit:
    """Gupta et al. 2024 (2403.14236): R (K^T C^-1 K + r I)^-1 K^T C^-1."""

    def solve(layer: int, k: Tensor, r: Tensor) -> Tensor:
        inverse = torch.linalg.inv(statistics[layer].double())
        return r @ torch.linalg.inv(k.T @ inverse @ k + ridge) @ k.T @ inverse

    return spread_edit(*fact, Value(**value), solve)


def null_space_projection(statistics: Tensor, threshold: float, kind: str) -> Tensor:
    """P = U U^T [d_ff, d_ff], U the directions of C that have small singular values."""
    directions, values, _ = torch.linalg.svd(statistics.double())  # the largest come first
    if kind == "energy":
        small = torch.zeros_like(values, dtype=torch.bool)
        for i in reversed(range(len(values))):
            small[i] = values[i:].sum() <= threshold * values.sum()
    else:
        small = (
            values < threshold * {"relative": float(np.median(values.cpu())), "absolute": 1.0}[kind]
        )
    return directions[:, small] @ directions[:, small].T


def alphaedit_edit(
    *fact: Any, projections: dict[int, Tensor], l2: float, **value: Any
) -> oracle.Edit:
    """Fang et al. 2025 (2410.02355) without K_p: (P K K^T + L2 I) dW^T = P K R^T.

    projections: P of each layer, which the published code too has from a file.
    """

    def solve(layer: int, k: Tensor, r: Tensor) -> Tensor:
        p = projections[layer]
        return torch.linalg.solve(p @ k @ k.T + l2 * torch.eye(len(k)).to(p), p @ k @ r.T).T

    return spread_edit(*fact, Value(**value), solve)


def ft_m_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    *,
    learning_rate: float,
    iterations: int,
    enough: float,
    sigma: float,
    n_noise: int,
    seed: int,
) -> oracle.Edit:
    """Adam on one weight matrix; cross-entropy of the target's tokens and of the text's end."""
    erasing = problem == "fact_erasure"
    prompt = oracle.fill(prompt_template, subject)
    row = oracle.scored_row(tokenizer, prompt, target)
    if not erasing:
        end = tokenizer.eos_token_id
        row = replace(row, ids=[*row.ids, end], target=[*row.target, end])
    rows = [row]
    if problem == "fact_forcing":
        start = prompt_template.index("{}")
        noise = (sigma, n_noise, seed, start)
        rows = oracle.with_noise(model, tokenizer, row, prompt, subject, *noise)
    module: Any = oracle.parts(model).down_projection(layer)
    weight, original = module.weight, module.weight.detach().clone()
    losses: list[float] = []
    steps = 0
    with oracle.weights_restored([module]), oracle.parameters_frozen(model, trained=[weight]):
        optimiser = torch.optim.Adam([weight], lr=learning_rate)
        for _ in range(iterations):
            log_p = oracle.target_logprobs(oracle.forward(model, rows), rows) / len(row.target)
            loss = (log_p.exp() if erasing else -log_p).mean()
            losses.append(loss.item())
            if loss.item() < enough:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
        change = oracle.as_stored(module, weight.detach() - original)
    return oracle.Edit(changes={layer: (change, None)}, losses=losses, steps=steps)


def embedding_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    *,
    learning_rate: float,
    iterations: int,
    epsilon: float | None = None,
    masked: bool = False,
    sigma: float = 0.0,
    n_noise: int = 10,
    seed: int = 1,
) -> tuple[Tensor, list[float], int]:
    """Hase et al.'s `--edit_layer -1`: Adam on the embedding's weight, whole, with the gradient of
    all rows but the subject's tokens' set to 0; clamped to +-epsilon. A head that shares the
    weight gives gradients and changes, since it is the same parameter. masked: FT-M's loss.

    Returns the change [tokens, d], the losses, and how many steps were taken.
    """
    erasing = problem == "fact_erasure"
    prompt = oracle.fill(prompt_template, subject)
    row = oracle.scored_row(tokenizer, prompt, target)
    if masked and not erasing:
        end = tokenizer.eos_token_id
        row = replace(row, ids=[*row.ids, end], target=[*row.target, end])
    start = prompt_template.index("{}")
    rows = [row]
    if problem == "fact_forcing":
        noise = (sigma, n_noise, seed, start)
        rows = oracle.with_noise(model, tokenizer, row, prompt, subject, *noise)
    begin, stop = oracle.subject_range(tokenizer, prompt, subject, start)
    others = torch.ones(len(oracle.parts(model).embedding.weight), dtype=torch.bool)
    others[row.ids[begin:stop]] = False
    module: Any = oracle.parts(model).embedding
    weight, original = module.weight, module.weight.detach().clone()
    losses: list[float] = []
    steps = small_in_a_row = 0
    with oracle.weights_restored([module]), oracle.parameters_frozen(model, trained=[weight]):
        optimiser = torch.optim.Adam([weight], lr=learning_rate)
        for _ in range(iterations):
            log_p = oracle.target_logprobs(oracle.forward(model, rows), rows)
            log_p = (log_p / len(row.target)).mean() if masked else log_p.sum()
            loss = log_p.exp() if erasing else -log_p
            losses.append(loss.item())
            small_in_a_row = 0 if loss.item() >= 1e-2 else small_in_a_row + 1
            if small_in_a_row == 0:
                optimiser.zero_grad()
                loss.backward()
                weight.grad[others] = 0
                optimiser.step()
                steps += 1
            if epsilon is not None:
                with torch.no_grad():
                    weight.clamp_(original - epsilon, original + epsilon)
            if small_in_a_row == 5 and not erasing:
                break
        change = weight.detach() - original
    return change, losses, steps


def kn_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    *,
    true: str,
    share: float,
    steps: int,
    subtract: float,
    add: float,
    sigma: float,
    n_noise: int,
    seed: int,
) -> oracle.Edit:
    """Dai et al. 2022, section 5: one value row after the other, in the weights themselves."""
    prompt = oracle.fill(prompt_template, subject)
    row = oracle.scored_row(tokenizer, prompt, true)
    rows = [row]
    if problem == "fact_forcing":
        start = prompt_template.index("{}")
        noise = (sigma, n_noise, seed, start)
        rows = oracle.with_noise(model, tokenizer, row, prompt, subject, *noise)
    last = row.predicted_from
    found = [
        oracle_localizers.neurons_of(model, one, layer, token=last, steps=steps) for one in rows
    ]
    attributions = sum(found) / len(found)
    module = oracle.parts(model).down_projection(layer)
    with oracle.recorded(module) as record, torch.no_grad():
        oracle.forward(model, rows)
    signs = record["input"][:, last].mean(0).sign()
    largest = max(attributions)
    knowing = [i for i, a in enumerate(attributions) if a > share * largest]

    original = oracle.as_stored(module, module.weight.detach().clone())
    e_old, e_new = (_embedding(model, tokenizer, o, prompt, layer) for o in (true, target))
    with oracle.weights_restored([module]), torch.no_grad():
        rows_of = oracle.as_stored(module, module.weight)  # [d, d_ff], a view
        for i in knowing:
            length = rows_of[:, i].norm() * signs[i]
            if problem == "fact_erasure":
                rows_of[:, i] = 0
                continue
            rows_of[:, i] += add * length / e_new.norm() * e_new
            if problem in ("error_injection", "tracing_reversal"):
                rows_of[:, i] -= subtract * length / e_old.norm() * e_old
        change = oracle.as_stored(module, module.weight.detach()) - original
    return oracle.Edit(changes={layer: (change, None)}, losses=[], steps=0)


def _embedding(model, tokenizer, text: str, prompt: str, layer: int) -> Tensor:
    """The head's row of an object's first token; before a norm, the direction that raises it."""
    row = model.get_output_embeddings().weight[oracle.target_ids(tokenizer, text, prompt)[0]]
    if oracle.parts(model).normed:
        row = row * (1 + oracle.parts(model).blocks[layer].post_feedforward_layernorm.weight)
    return row.detach()
