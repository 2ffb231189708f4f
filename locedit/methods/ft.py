"""Constrained fine-tuning, FT-1 and FT-5 (Zhu et al. 2020, arXiv 2012.00363; METHODS section 4)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from locedit import passes
from locedit.methods.base import EDIT_WINDOW, Edit, SharedInputs
from locedit.models import LanguageModel
from locedit.noise import place
from locedit.problems import Request
from locedit.updates import Dense, applied
from locedit.windows import window_layers


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """window: layers edited around the edit layer. eps: L_inf bound on every weight's change.

    A fact whose loss has fallen below `enough` is left alone.
    """

    window: int
    eps: float
    lr: float = 5e-4
    steps: int = 25
    enough: float = 1e-2


def _presets(window: int, paper: Sequence[float], released: Sequence[float]) -> dict:
    problems = [
        "error_injection",
        "tracing_reversal",
        "fact_erasure",
        "fact_amplification",
        "fact_forcing",
    ]

    def preset(values: Sequence[float]) -> dict:
        table: dict = {"all": {"window": window}}
        table |= {problem: {"eps": eps} for problem, eps in zip(problems, values, strict=True)}
        table["fact_forcing"]["steps"] = 50
        return table

    return {"paper": preset(paper), "released": preset(released)}


PRESETS = {
    "FT-1": _presets(1, (1e-4, 1e-5, 1e-5, 1e-5, 1e-4), (1e-4, 1e-3, 1e-5, 5e-5, 1e-4)),
    "FT-5": _presets(EDIT_WINDOW, (2e-5, 2e-5, 1e-5, 1e-5, 1e-4), (5e-5, 1e-3, 1e-5, 1e-5, 1e-4)),
}


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: Hyperparameters,
    shared: SharedInputs,
) -> Edit:
    """Adam on the window's down projections, each fact with weight changes of its own.

    Loss: -log p(target | prompt), erasure: p itself; forcing: summed over the noise rows. Only
    layers from the window up are run, from the unedited network's hidden states below it. A fact
    is done once its loss is below `enough`: nothing random remains that could raise it again.
    """
    window = window_layers(layer, hyper.window, lm.n_layers)
    problem = requests[0].problem
    repeats = shared.n_noise if problem.noised else 1
    prompts = [lm.encode(request.prompt) for request in requests]
    targets = [lm.encode_target(request.target) for request in requests]
    rows = [p + t[:-1] for p, t in zip(prompts, targets, strict=True) for _ in range(repeats)]
    ends = [len(p) - 1 for p in prompts for _ in range(repeats)]
    row_targets = [t for t in targets for _ in range(repeats)]
    ids, lengths = passes.pad(rows, lm.device)
    noise = None
    if problem.noised:
        ranges = [lm.subject_range(r.prompt, r.subject) for r in requests for _ in range(repeats)]
        draws = [i for _ in requests for i in range(repeats)]
        noise = place(lm, ranges, ids.shape[1], sigma=shared.sigma, seed=shared.seed, draws=draws)
    with torch.no_grad():
        below = passes.record(lm, ids, lengths, noise=noise, last=window.start)
    part = passes.whole(lm, ids.shape[1])
    counts = [repeats] * len(requests)

    changes = _zero_changes(lm, window, len(requests))
    optimiser = torch.optim.Adam(
        [parameter for change in changes.values() for parameter in _parameters(change)],
        lr=hyper.lr,
        fused=lm.device.type != "mps",
    )
    active = [True] * len(requests)
    steps = [0] * len(requests)
    history: list[list[float]] = [[] for _ in requests]
    for _ in range(hyper.steps):
        optimiser.zero_grad(set_to_none=True)
        with applied(lm, dict(changes), counts):
            hidden = passes.run(lm, below.inputs[window.start], part, first=window.start)
        log_p = passes.target_log_probs(lm, hidden, range(len(rows)), ends, row_targets)
        loss = (-log_p if problem.maximise else log_p.exp()).view(-1, repeats).sum(dim=1)
        for fact, value in enumerate(loss.tolist()):
            if active[fact]:
                history[fact].append(value)
                active[fact] = value >= hyper.enough
        if not any(active):
            break
        loss[torch.tensor(active, device=lm.device)].sum().backward()
        for change in changes.values():
            for fact, parameters in enumerate(zip(*_per_fact(change), strict=True)):
                for parameter in parameters:
                    if not active[fact]:
                        parameter.grad = None
        optimiser.step()
        with torch.no_grad():
            for change in changes.values():
                for parameter in _parameters(change):
                    parameter.clamp_(-hyper.eps, hyper.eps)
        steps = [n + a for n, a in zip(steps, active, strict=True)]
    for change in changes.values():
        for parameter in _parameters(change):
            parameter.requires_grad_(False).grad = None
    return Edit(updates=dict(changes), steps=steps, losses=[(h[0], h[-1]) for h in history])


def _zero_changes(lm: LanguageModel, window: range, facts: int) -> dict[int, Dense]:
    def zeros(*shape: int) -> list[torch.Tensor]:
        return [
            torch.zeros(*shape, device=lm.device, dtype=lm.dtype, requires_grad=True)
            for _ in range(facts)
        ]

    return {
        layer: Dense(
            weights=zeros(lm.hidden_size, lm.inner_size),
            biases=zeros(lm.hidden_size) if lm.down_projection(layer).bias is not None else None,
        )
        for layer in window
    }


def _per_fact(change: Dense) -> list[Sequence[torch.Tensor]]:
    return [change.weights] if change.biases is None else [change.weights, change.biases]


def _parameters(change: Dense) -> list[torch.Tensor]:
    return [parameter for group in _per_fact(change) for parameter in group]
