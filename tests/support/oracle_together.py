"""The textbook forms of facts that are edited together: whole passes, weights really changed.

Written as tests/support/oracle.py is, of its parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import oracle
import torch
from torch import Tensor

Fact = tuple[str, str, str]  # template, subject, target
Solve = Callable[[int, Tensor, Tensor], Tensor]  # (layer, K [d_ff, n], R [d, n]) -> dW [d, d_ff]


def memit(statistics: dict[int, Tensor], weight: float) -> Solve:
    """Meng et al. 2023, equation 14: R K^T (lambda C + K K^T)^-1."""
    return lambda layer, k, r: r @ k.T @ torch.linalg.inv(weight * statistics[layer] + k @ k.T)


def emmet(statistics: dict[int, Tensor], ridge: float) -> Solve:
    """Gupta et al. 2024 (2403.14236): R (K^T C^-1 K + r I)^-1 K^T C^-1."""

    def solve(layer: int, k: Tensor, r: Tensor) -> Tensor:
        inverse = torch.linalg.inv(statistics[layer])
        eye = torch.eye(k.shape[1], dtype=k.dtype)
        return r @ torch.linalg.inv(k.T @ inverse @ k + ridge * eye) @ k.T @ inverse

    return solve


def alphaedit(projections: dict[int, Tensor], l2: float) -> Solve:
    """Fang et al. 2025 (2410.02355) without K_p: (P K K^T + L2 I) dW^T = P K R^T."""

    def solve(layer: int, k: Tensor, r: Tensor) -> Tensor:
        p = projections[layer]
        return torch.linalg.solve(p @ k @ k.T + l2 * torch.eye(len(k)).to(p), p @ k @ r.T).T

    return solve


def spread(
    model: Any,
    tokenizer: Any,
    facts: Sequence[Fact],
    problem: str,
    layer: int,
    solve: Solve,
    *,
    contexts: Sequence[Sequence[str]],
    window: int,
    learning_rate: float,
    evaluations: int,
    kl_factor: float,
    weight_decay: float,
    clamp: float,
    sigma: float,
    seed: int,
) -> oracle.Changes:
    """A value for each fact, on the unedited model; then layer by layer one change for all."""
    layers = oracle.window_layers(layer, window, len(oracle.parts(model).blocks))
    top = oracle.parts(model).module("hidden", layers[-1])
    all_rows, goals = [], []
    for fact in facts:
        rows, kl_row = oracle.context_rows(
            *(model, tokenizer, *fact, [context for group in contexts for context in group]),
            sigma=sigma if problem == "fact_forcing" else None,
            seed=seed,
        )
        _, goal, _ = oracle.goal_of_window(
            *(model, rows, kl_row, layers[-1]),
            erasing=problem == "fact_erasure",
            evaluations=evaluations,
            steps=evaluations - 1,
            learning_rate=learning_rate,
            kl_factor=kl_factor,
            weight_decay=weight_decay,
            clamp=clamp,
        )
        all_rows.append(rows)
        goals.append(goal)
    changes: oracle.Changes = {}
    for position, i in enumerate(layers):
        columns, residuals = [], []
        down = oracle.parts(model).down_projection(i)
        with oracle.edited(model, changes):
            for rows, goal in zip(all_rows, goals, strict=True):
                keys, outputs = oracle.at_last_subject_token(model, rows, down)
                groups = keys.split([len(group) for group in contexts])
                columns.append(torch.stack([group.mean(0) for group in groups]).mean(0))
                _, reached = oracle.at_last_subject_token(model, rows[:1], top)
                residual = (goal - reached[0]) / (len(layers) - position)
                if oracle.parts(model).normed:
                    residual = oracle.change_before_norm(model, i, outputs[0], residual)
                residuals.append(residual)
        changes[i] = (solve(i, torch.stack(columns, 1), torch.stack(residuals, 1)), None)
    return changes


def ft_m(
    model: Any,
    tokenizer: Any,
    facts: Sequence[Fact],
    problem: str,
    layer: int,
    *,
    learning_rate: float,
    iterations: int,
    enough: float,
    sigma: float,
    n_noise: int,
    seed: int,
) -> tuple[oracle.Changes, int]:
    """Adam on one matrix, the mean loss of all facts; and the steps taken."""
    erasing = problem == "fact_erasure"
    rows_of = []
    for template, subject, target in facts:
        prompt = oracle.fill(template, subject)
        row = oracle.scored_row(tokenizer, prompt, target)
        if not erasing:
            end = tokenizer.eos_token_id
            row = replace(row, ids=[*row.ids, end], target=[*row.target, end])
        rows = [row]
        if problem == "fact_forcing":
            noise = (sigma, n_noise, seed, template.index("{}"))
            rows = oracle.with_noise(model, tokenizer, row, prompt, subject, *noise)
        rows_of.append(rows)
    module: Any = oracle.parts(model).down_projection(layer)
    weight, original = module.weight, module.weight.detach().clone()
    steps = 0
    with oracle.weights_restored([module]), oracle.parameters_frozen(model, trained=[weight]):
        optimiser = torch.optim.Adam([weight], lr=learning_rate)
        for _ in range(iterations):
            losses = []
            for rows in rows_of:
                log_p = oracle.target_logprobs(oracle.forward(model, rows), rows)
                log_p = log_p / len(rows[0].target)
                losses.append((log_p.exp() if erasing else -log_p).mean())
            loss = torch.stack(losses).mean()
            if loss.item() < enough:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps += 1
        change = oracle.as_stored(module, weight.detach() - original)
    return {layer: (change, None)}, steps


def in_turn(
    model: Any, facts: Sequence[Any], edit: Callable[[Any], oracle.Edit]
) -> tuple[oracle.Changes, list[int]]:
    """Single-fact edits, each of the model as those before it left it: what they add up to."""
    total: oracle.Changes = {}
    steps = []
    for fact in facts:
        with oracle.edited(model, total):
            found = edit(fact)
        steps.append(found.steps)
        for layer, (weight, bias) in found.changes.items():
            before = total.get(layer, (torch.zeros_like(weight), None))
            biases = [one for one in (before[1], bias) if one is not None]
            total[layer] = (before[0] + weight, torch.stack(biases).sum(0) if biases else None)
    return total, steps
