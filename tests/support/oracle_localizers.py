"""The textbook forms of the localizers built on gradients: whole passes, one fact, whole weights.

Written as tests/support/oracle.py is, of its parts: a pass a layer and a step, gradients of whole
weight matrices, changes of weights formed and measured. Shapes: N noise rows, S tokens, d hidden
size, d_ff inner size of the MLP.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import oracle
import torch
from torch import Tensor, nn

METRICS: dict[str, Callable[[Tensor], Tensor]] = {"log_p": lambda log_p: log_p, "p": torch.exp}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A fact's prompt; start: characters before its subject."""

    text: str
    subject: str
    start: int


def _modules(model, kind: str) -> list[nn.Module]:
    return [oracle.parts(model).module(kind, i) for i in range(len(oracle.parts(model).blocks))]


def value(model, row: oracle.Row, metric: str = "log_p") -> Tensor:
    """The metric of a row's target, with its graph."""
    return METRICS[metric](oracle.target_logprobs(oracle.forward(model, [row]), [row]))[0]


def _output(model, row: oracle.Row, module: nn.Module) -> Tensor:
    with torch.no_grad(), oracle.recorded(module) as record:
        oracle.forward(model, [row])
    return record["output"][0]


def _gradient(model, row: oracle.Row, module: nn.Module, metric: str = "log_p") -> Tensor:
    """[S, d]: of the metric, by a vector added to the module's output at every token."""
    added: list[Tensor] = []

    def add(output: Tensor) -> Tensor:
        added.append(torch.zeros_like(output, requires_grad=True))
        return output + added[0]

    with oracle.parameters_frozen(model), oracle.output_changed(module, add):
        return torch.autograd.grad(value(model, row, metric), added)[0][0]


def _noised(model, tokenizer, prompt: Prompt, target: str, **noise) -> list[oracle.Row]:
    row = oracle.scored_row(tokenizer, prompt.text, target)
    return oracle.with_noise(
        model, tokenizer, row, prompt.text, prompt.subject, start=prompt.start, **noise
    )


def attributions(
    model,
    tokenizer,
    prompt: Prompt,
    target: str,
    *,
    module: str,
    metric: str,
    shares: Sequence[float],
    **noise,
) -> Tensor:
    """(clean - corrupted) . mean gradient: [N, tokens b .. the prompt's last, layers].

    shares: how far from the corrupted embeddings to the clean ones each gradient is taken; (0,) is
    attribution patching, (1 / S, ..., 1) are integrated gradients along the embeddings.
    """
    clean = oracle.scored_row(tokenizer, prompt.text, target)
    rows = _noised(model, tokenizer, prompt, target, **noise)
    tokens = slice(rows[0].begin, clean.predicted_from + 1)
    found = []
    for row in rows:
        path = [replace(row, noise=(1 - share) * row.noise) for share in shares]
        layers = []
        for part in _modules(model, module):
            gradient = torch.stack([_gradient(model, r, part, metric) for r in path]).mean(0)
            moved = _output(model, clean, part) - _output(model, row, part)
            layers.append((moved * gradient).sum(-1)[tokens])
        found.append(torch.stack(layers, dim=1))
    return torch.stack(found)


def weight_gradients(model, tokenizer, prompt: Prompt, target: str) -> list[Tensor]:
    """Gradient of -log p(target) by each layer's whole down projection, as it is stored."""
    row = oracle.scored_row(tokenizer, prompt.text, target)
    blocks = range(len(oracle.parts(model).blocks))
    weights = [oracle.parts(model).down_projection(layer).weight for layer in blocks]
    with oracle.parameters_frozen(model, trained=weights):
        return list(torch.autograd.grad(-value(model, row), weights))


def salience(model, tokenizer, prompt: Prompt, new: str) -> Tensor:
    """[layers]: Frobenius norm of each layer's gradient."""
    return torch.stack(
        [g.square().sum().sqrt() for g in weight_gradients(model, tokenizer, prompt, new)]
    )


def gradient_agreement(model, tokenizer, prompt: Prompt, old: str, new: str) -> Tensor:
    """[layers]: inner product of both objects' gradients."""
    pairs = zip(
        weight_gradients(model, tokenizer, prompt, old),
        weight_gradients(model, tokenizer, prompt, new),
        strict=True,
    )
    return torch.stack([(a * b).sum() for a, b in pairs])


def _disturbance(key: Tensor, wanted: Tensor, output: Tensor, c: Tensor) -> Tensor:
    """E||dW k'||^2 = tr(dW C dW^T) of the rank-one change by which `key` is answered `wanted`."""
    u = torch.linalg.solve(c, key)
    change = torch.outer(wanted - output, u) / (key @ u)
    assert torch.allclose(output + change @ key, wanted)
    return torch.trace(change @ c @ change.T)


def edit_cost_cheap(
    model, tokenizer, prompt: Prompt, new: str, statistics: dict[int, Tensor], layer: int
) -> Tensor:
    """Of the step down the gradient that would bring a linear loss to 0."""
    row = oracle.scored_row(tokenizer, prompt.text, new)
    _, end = oracle.subject_range(tokenizer, prompt.text, prompt.subject, prompt.start)
    row = replace(row, begin=end - 1, end=end)
    down = oracle.parts(model).down_projection(layer)
    keys, outputs = oracle.at_last_subject_token(model, [row], down)
    gradient = -_gradient(model, row, down)[end - 1]
    with torch.no_grad():
        loss = -value(model, row)
    wanted = outputs[0] - loss / (gradient @ gradient) * gradient
    return _disturbance(keys[0], wanted, outputs[0], statistics[layer])


def edit_cost_full(
    model,
    tokenizer,
    template: str,
    subject: str,
    new: str,
    statistics: dict[int, Tensor],
    layer: int,
    *,
    contexts: Sequence[Sequence[str]],
    learning_rate: float,
    evaluations: int,
    kl_factor: float,
    weight_decay: float,
    clamp: float,
) -> Tensor:
    """Of ROME's value at the mean key, where the layer's own answer is the mean output."""
    flat = [context for group in contexts for context in group]
    what = (model, tokenizer, template, subject, new, flat)
    rows, kl_row = oracle.context_rows(*what, sigma=None, seed=1)
    down = oracle.parts(model).down_projection(layer)
    keys, outputs = oracle.at_last_subject_token(model, rows, down)
    sizes = [len(group) for group in contexts]
    k, w = (torch.stack([s.mean(0) for s in x.split(sizes)]).mean(0) for x in (keys, outputs))
    delta, v0, _ = oracle.optimised_delta(
        model,
        rows,
        kl_row,
        oracle.parts(model).module("mlp", layer),
        erasing=False,
        evaluations=evaluations,
        steps=evaluations - 1,
        learning_rate=learning_rate,
        kl_factor=kl_factor,
        weight_decay=weight_decay,
        clamp=clamp,
    )
    return _disturbance(k, v0 + delta, w, statistics[layer])


@contextmanager
def inner_changed(module: nn.Module, token: int, change: oracle.Change) -> Iterator[None]:
    """Within the context the module's input [d_ff] at one token of the one row is changed."""

    def hook(module, inputs):
        inner = inputs[0].clone()
        row = inner if inner.dim() == 2 else inner[0]
        row[token] = change(row[token].clone())
        return (inner, *inputs[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def neurons(model, tokenizer, prompt: Prompt, target: str, *, token: int, steps: int) -> Tensor:
    """[layers, d_ff]: the attributions of every layer's neurons."""
    row = oracle.scored_row(tokenizer, prompt.text, target)
    layers = range(len(oracle.parts(model).blocks))
    return torch.stack([neurons_of(model, row, i, token=token, steps=steps) for i in layers])


def neurons_of(model, row: oracle.Row, layer: int, *, token: int, steps: int) -> Tensor:
    """[d_ff]: each neuron's activation times the mean gradient of p by it, on its way up from 0
    together with its layer's others."""
    down = oracle.parts(model).down_projection(layer)
    total = torch.zeros(())
    for step in range(1, steps + 1):
        scaled: list[Tensor] = []
        whole: list[Tensor] = []

        def scale(k: Tensor, step: int = step, scaled=scaled, whole=whole) -> Tensor:
            whole.append(k.detach())
            scaled.append((step / steps * k.detach()).requires_grad_())
            return scaled[0]

        with oracle.parameters_frozen(model), inner_changed(down, token, scale):
            gradient = torch.autograd.grad(value(model, row, "p"), scaled)[0]
        total = total + whole[0] * gradient
    return total / steps


@torch.no_grad()
def p_without_inner(model, tokenizer, prompt: Prompt, target: str, *, token: int) -> Tensor:
    """[layers]: p(target) with a layer's inner activations at a token set to 0."""
    row = oracle.scored_row(tokenizer, prompt.text, target)
    found = []
    for layer in range(len(oracle.parts(model).blocks)):
        down = oracle.parts(model).down_projection(layer)
        with inner_changed(down, token, torch.zeros_like):
            found.append(value(model, row, "p"))
    return torch.stack(found)
