"""The textbook algorithms of the paper, written for obviousness: what the fast engine must equal.

Every number here costs whole-network passes, one per restoration and one per optimiser step;
nothing is cached, batched across facts or started half-way up the network. Section numbers are
those of the methods page. Shapes: N noise rows, R rows of a batch, S tokens, V vocabulary, d hidden
size, d_ff inner size of the MLP.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# --------------------------------------------------------------------------------------------------
# Where a family keeps its parts


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The modules of a causal language model that tracing and editing touch.

    `down` is a path from the block; `normed` says that an RMS norm of gain 1 + weight follows it.
    """

    embedding: nn.Module
    blocks: Sequence[nn.Module]
    attention: str = "self_attn"
    mlp: str = "mlp"
    down: str = "mlp.down_proj"
    normed: bool = False

    def down_projection(self, layer: int) -> nn.Module:
        return self.blocks[layer].get_submodule(self.down)

    def module(self, kind: str, layer: int) -> nn.Module:
        """The module whose output is restored or edited: 'mlp', 'attn' or 'hidden' (the block)."""
        block = self.blocks[layer]
        return {
            "mlp": getattr(block, self.mlp),
            "attn": getattr(block, self.attention),
            "hidden": block,
        }[kind]


def parts(model: nn.Module) -> Parts:
    kind, inner = model.config.model_type, model.base_model
    if kind in ("llama", "mistral", "qwen2", "qwen3"):
        return Parts(embedding=inner.embed_tokens, blocks=inner.layers)
    if kind in ("gemma2", "gemma3_text", "gemma3"):
        inner = getattr(inner, "language_model", inner)
        return Parts(embedding=inner.embed_tokens, blocks=inner.layers, normed=True)
    if kind in ("gpt2", "gptj"):
        down = {"gpt2": "mlp.c_proj", "gptj": "mlp.fc_out"}[kind]
        return Parts(embedding=inner.wte, blocks=inner.h, attention="attn", down=down)
    if kind == "gpt_neox":
        names = {"attention": "attention", "down": "mlp.dense_4h_to_h"}
        return Parts(embedding=inner.embed_in, blocks=inner.layers, **names)
    if kind == "opt":
        inner = inner.decoder
        return Parts(embedding=inner.embed_tokens, blocks=inner.layers, mlp="fc2", down="fc2")
    raise ValueError(f"model type {kind!r} is unknown to the oracle: add it to `parts`")


def width(model: nn.Module) -> int:
    """d."""
    return parts(model).embedding.weight.shape[1]


def as_stored(module: nn.Module, matrix: Tensor) -> Tensor:
    """A [d, d_ff] matrix in the orientation of the module's weight: Conv1D keeps the transpose."""
    return matrix if isinstance(module, nn.Linear) else matrix.T


def window_layers(layer: int, width: int, n_layers: int) -> range:
    """Section 0: `width` layers around `layer`, clipped at the edges of the network."""
    return range(max(0, layer - width // 2), min(n_layers, layer - (-width // 2)))


# --------------------------------------------------------------------------------------------------
# Text to tokens


@dataclass(frozen=True, kw_only=True)
class Row:
    """One token sequence, its subject's tokens [begin, end) with their noise, and its target.

    `predicted_from` is the index of the token whose next-token distribution scores the target's
    first token; the target's other tokens are scored by those that follow it in `ids`. The noise
    stands on the subject, unless `noise_from` says where it begins.
    """

    ids: list[int]
    begin: int = 0
    end: int = 0
    noise: Tensor | None = None  # [end - begin, d]
    noise_from: int | None = None
    target: list[int] = field(default_factory=list)
    predicted_from: int = 0


def subject_range(
    tokenizer, prompt: str, subject: str, start: int | None = None
) -> tuple[int, int]:
    """Tokens [b, e) that overlap the subject in `prompt`, by offsets: from character `start` on, as
    a template says, else at its last occurrence."""
    first = prompt.rindex(subject) if start is None else start
    assert prompt[first : first + len(subject)] == subject
    last = first + len(subject)
    offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    inside = [i for i, (start, stop) in enumerate(offsets) if start < last and stop > first]
    return inside[0], inside[-1] + 1


def prompt_ids(tokenizer, prompt: str) -> list[int]:
    """The prompt as the tokenizer's default has it, special tokens included."""
    return tokenizer(prompt)["input_ids"]


def target_ids(tokenizer, target: str, prompt: str = "") -> list[int]:
    """The target string behind a space, tokenised alone and without special tokens.

    No space where the prompt ends in what here can only open or part: `(`, `[`, a line feed, or a
    quotation mark behind a space.
    """
    opened = prompt.endswith(("(", "[", "\n", ' "', " '"))
    text = target if opened else " " + target
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def fill(template: str, text: str) -> str:
    return template.replace("{}", text)


def subject_noise(
    n_rows: int, n_tokens: int, d: int, sigma: float, seed: int, dtype: torch.dtype
) -> Tensor:
    """[n_rows, n_tokens, d] of sigma * z, z the draw of section 2."""
    z = np.random.RandomState(seed).randn(n_rows, n_tokens, d)
    return torch.from_numpy(z * sigma).to(dtype)


def scored_row(tokenizer, prompt: str, target: str) -> Row:
    """Prompt and " " + target, tokenised separately and concatenated, as every score is."""
    before, after = prompt_ids(tokenizer, prompt), target_ids(tokenizer, target, prompt)
    return Row(ids=before + after, target=after, predicted_from=len(before) - 1)


def with_noise(
    model,
    tokenizer,
    row: Row,
    prompt: str,
    subject: str,
    sigma: float,
    n_noise: int,
    seed: int,
    start: int | None = None,
) -> list[Row]:
    """The corrupted runs of section 2: N copies of the row that differ in their noise."""
    begin, end = subject_range(tokenizer, prompt, subject, start)
    noise = subject_noise(n_noise, end - begin, width(model), sigma, seed, model.dtype)
    return [replace(row, begin=begin, end=end, noise=z) for z in noise]


# --------------------------------------------------------------------------------------------------
# Whole-network passes with forward hooks

Change = Callable[[Tensor], Tensor]

n_rows = 1  # of the latest `forward`


def by_row(hidden: Tensor) -> Tensor:
    """[R, S, ...], also where a block flattens its tokens before the MLP (OPT)."""
    return hidden if hidden.dim() == 3 else hidden.unflatten(0, (n_rows, -1))


@contextmanager
def output_changed(module: nn.Module, change: Change) -> Iterator[None]:
    """Within the context the module returns `change(output)`."""

    def hook(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        changed = change(by_row(hidden)).view_as(hidden)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recorded(module: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The module's input and output of the latest pass, detached: [R, S, ...]."""
    record: dict[str, Tensor] = {}

    def hook(module, inputs, output):
        # The attention modules get their input by keyword; only the others' is ever read.
        if inputs:
            record["input"] = by_row(inputs[0]).detach().clone()
        hidden = output[0] if isinstance(output, tuple) else output
        record["output"] = by_row(hidden).detach().clone()

    handle = module.register_forward_hook(hook)
    try:
        yield record
    finally:
        handle.remove()


@contextmanager
def parameters_frozen(model: nn.Module, trained: Sequence[nn.Parameter] = ()) -> Iterator[None]:
    """Gradients flow to `trained` alone; the flags are put back afterwards."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None


def forward(model, rows: Sequence[Row]) -> Tensor:
    """Next-token log-probabilities [R, S, V] of all rows, padded on the right, noise added."""
    global n_rows
    n_rows = len(rows)
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows])
    ids, mask = ids.to(model.device), mask.to(model.device)

    def add_noise(embedded: Tensor) -> Tensor:
        embedded = embedded.clone()
        for i, row in enumerate(rows):
            if row.noise is not None:
                first = row.begin if row.noise_from is None else row.noise_from
                embedded[i, first : first + len(row.noise)] += row.noise.to(embedded)
        return embedded

    with output_changed(parts(model).embedding, add_noise):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return torch.log_softmax(logits, dim=-1)


def target_logprobs(logprobs: Tensor, rows: Sequence[Row]) -> Tensor:
    """[R]: log-probability of each row's whole target, summed over its tokens."""
    return torch.stack(
        [
            sum(logprobs[i, row.predicted_from + j, token] for j, token in enumerate(row.target))
            for i, row in enumerate(rows)
        ]
    )


# --------------------------------------------------------------------------------------------------
# Sections 0 and 2: probabilities and causal tracing


@torch.no_grad()
def target_logprob(
    model,
    tokenizer,
    prompt: str,
    target: str,
    *,
    subject: str | None = None,
    sigma: float | None = None,
    n_noise: int = 10,
    seed: int = 1,
    start: int | None = None,
) -> float:
    """log p(" " + target | prompt); with a sigma, of the mean p over noised rows."""
    rows = [scored_row(tokenizer, prompt, target)]
    if sigma is not None:
        rows = with_noise(model, tokenizer, rows[0], prompt, subject, sigma, n_noise, seed, start)
    return float(target_logprobs(forward(model, rows), rows).double().exp().mean().log())


@torch.no_grad()
def trace(
    model,
    tokenizer,
    prompt: str,
    subject: str,
    target: str,
    *,
    module: str,
    window: int,
    sigma: float,
    n_noise: int = 10,
    seed: int = 1,
    start: int | None = None,
    cells: Collection[tuple[int, int]] | None = None,
) -> dict:
    """Clean, corrupted and every restored probability [tokens b..last of the prompt, layers].

    cells: of these (token, layer) alone, the others NaN.
    """
    clean = scored_row(tokenizer, prompt, target)
    rows = with_noise(model, tokenizer, clean, prompt, subject, sigma, n_noise, seed, start)
    begin, end = rows[0].begin, rows[0].end
    n_layers = len(parts(model).blocks)
    modules = [parts(model).module(module, layer) for layer in range(n_layers)]

    def probabilities() -> Tensor:
        """Of the clean row and the noised ones, which each pass runs side by side."""
        return target_logprobs(forward(model, [clean, *rows]), [clean, *rows]).exp()

    def restoration(token: int) -> Change:
        def restore(output: Tensor) -> Tensor:
            output = output.clone()
            output[1:, token] = output[0, token]
            return output

        return restore

    tokens = range(begin, clean.predicted_from + 1)
    p_restored = np.full((len(tokens), n_layers), np.nan)
    for i, token in enumerate(tokens):
        for centre in range(n_layers):
            if cells is not None and (token, centre) not in cells:
                continue
            with ExitStack() as stack:
                for layer in window_layers(centre, window, n_layers):
                    stack.enter_context(output_changed(modules[layer], restoration(token)))
                p_restored[i, centre] = float(probabilities()[1:].mean())
    unrestored = probabilities()
    return {
        "subject_range": (begin, end),
        "p_clean": float(unrestored[0]),
        "p_corrupted": float(unrestored[1:].mean()),
        "p_restored": p_restored,
    }


@torch.no_grad()
def zeroing_effect(
    model,
    tokenizer,
    prompt: str,
    subject: str,
    target: str,
    *,
    window: int,
    module: str = "mlp",
    start: int | None = None,
) -> np.ndarray:
    """[layers]: share of p_clean lost by zeroing the window's outputs at the subject tokens."""
    row = scored_row(tokenizer, prompt, target)
    begin, end = subject_range(tokenizer, prompt, subject, start)
    n_layers = len(parts(model).blocks)

    def zero(output: Tensor) -> Tensor:
        output = output.clone()
        output[:, begin:end] = 0
        return output

    def probability() -> float:
        return float(target_logprobs(forward(model, [row]), [row]).exp())

    p_clean = probability()
    effects = np.zeros(n_layers)
    for centre in range(n_layers):
        with ExitStack() as stack:
            for layer in window_layers(centre, window, n_layers):
                stack.enter_context(output_changed(parts(model).module(module, layer), zero))
            effects[centre] = (p_clean - probability()) / p_clean
    return effects


@torch.no_grad()
def corrupted_continuation(
    model,
    tokenizer,
    prompt: str,
    subject: str,
    *,
    sigma: float,
    steps: int,
    n_noise: int = 10,
    seed: int = 1,
) -> list[int]:
    """o_noise: greedy tokens of the noised prompt, probabilities averaged over the noise rows."""
    clean = Row(ids=prompt_ids(tokenizer, prompt))
    rows = with_noise(model, tokenizer, clean, prompt, subject, sigma, n_noise, seed)
    chosen: list[int] = []
    for _ in range(steps):
        grown = [replace(row, ids=row.ids + chosen) for row in rows]
        chosen.append(int(forward(model, grown)[:, -1].exp().mean(0).argmax()))
    return chosen


@torch.no_grad()
def key_statistics(
    model,
    tokenizer,
    paragraphs: Sequence[str],
    layers: Sequence[int],
    *,
    max_tokens: int = 256,
) -> dict[int, Tensor]:
    """C_l = mean over tokens of k k^T [d_ff, d_ff], k the input of layer l's down projection."""
    sums: dict[int, Tensor] = {}
    count = 0
    with ExitStack() as stack:
        records = {
            layer: stack.enter_context(recorded(parts(model).down_projection(layer)))
            for layer in layers
        }
        for paragraph in paragraphs:
            ids = prompt_ids(tokenizer, paragraph)[:max_tokens]
            forward(model, [Row(ids=ids)])
            count += len(ids)
            for layer, record in records.items():
                keys = record["input"][0]
                sums[layer] = sums.get(layer, 0) + (keys.T @ keys).double()
    return {layer: (total / count).to(model.dtype) for layer, total in sums.items()}


# --------------------------------------------------------------------------------------------------
# Section 4: edits

Changes = dict[int, tuple[Tensor, Tensor | None]]  # layer: dW [d, d_ff], db [d]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What an editing method returns: the weight changes and how its optimisation went."""

    changes: Changes
    losses: list[float]  # one per evaluation of the loss
    steps: int  # optimiser steps taken
    delta: Tensor | None = None  # ROME and MEMIT: the optimised vector [d]


@contextmanager
def weights_restored(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Whatever happens to the modules' parameters within the context is undone bit for bit."""
    saved = [(p, p.detach().clone()) for module in modules for p in module.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in saved:
                parameter.copy_(original)


@contextmanager
def edited(model, changes: Changes) -> Iterator[None]:
    """Within the context the changes are written into the model's down projections."""
    modules = {layer: parts(model).down_projection(layer) for layer in changes}
    with weights_restored(modules.values()):
        with torch.no_grad():
            for layer, (weight_change, bias_change) in changes.items():
                modules[layer].weight += as_stored(modules[layer], weight_change)
                if bias_change is not None:
                    modules[layer].bias += bias_change
        yield


def ft_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    *,
    window: int,
    epsilon: float,
    learning_rate: float = 5e-4,
    iterations: int = 25,
    sigma: float | None = None,
    n_noise: int = 10,
    seed: int = 1,
) -> Edit:
    """FT-1 (window 1) and FT-5 (window 5): Adam on the weights, clamped to +-epsilon."""
    prompt = fill(prompt_template, subject)
    rows = [scored_row(tokenizer, prompt, target)]
    if problem == "fact_forcing":
        start = prompt_template.index("{}")
        rows = with_noise(model, tokenizer, rows[0], prompt, subject, sigma, n_noise, seed, start)
    erasing = problem == "fact_erasure"

    layers = window_layers(layer, window, len(parts(model).blocks))
    modules = {i: parts(model).down_projection(i) for i in layers}
    weights = [weight for module in modules.values() for weight in module.parameters()]
    originals = [weight.detach().clone() for weight in weights]
    losses: list[float] = []
    steps = small_in_a_row = 0
    with weights_restored(modules.values()), parameters_frozen(model, trained=weights):
        optimiser = torch.optim.Adam(weights, lr=learning_rate)
        for _ in range(iterations):
            logprob = target_logprobs(forward(model, rows), rows).sum()
            loss = logprob.exp() if erasing else -logprob
            losses.append(loss.item())
            if loss.item() >= 1e-2:  # erasure too: only its early stop is off
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                steps += 1
                small_in_a_row = 0
            else:
                small_in_a_row += 1
            with torch.no_grad():
                for weight, original in zip(weights, originals, strict=True):
                    weight.clamp_(original - epsilon, original + epsilon)
            if small_in_a_row == 5 and not erasing:
                break
        start = dict(zip(weights, originals, strict=True))
        changes: Changes = {}
        for i, module in modules.items():
            weight, bias = module.weight, module.bias
            change = as_stored(module, weight.detach() - start[weight])
            changes[i] = (change, None if bias is None else bias.detach() - start[bias])
    return Edit(changes=changes, losses=losses, steps=steps)


def context_rows(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    contexts: Sequence[str],
    *,
    sigma: float | None,
    seed: int,
) -> tuple[list[Row], Row]:
    """The rows that ROME and MEMIT optimise over: one per context, and the KL row "{s} is a".

    Each context row is one string, the target without its last token included. With a sigma, row j
    gets the noise z_j where its own subject tokens stand and the KL row gets z_0.
    """
    prompt = fill(prompt_template, subject)
    after = target_ids(tokenizer, target, prompt)
    suffix = tokenizer.decode(after[:-1])

    def row(text: str, suffix: str, start: int, draw: int) -> Row:
        begin, end = subject_range(tokenizer, text + suffix, subject, start)
        d, dtype = width(model), model.dtype
        noise = None
        if sigma is not None:
            noise = subject_noise(len(contexts), end - begin, d, sigma, seed, dtype)[draw]
        return Row(ids=prompt_ids(tokenizer, text + suffix), begin=begin, end=end, noise=noise)

    rows = []
    for j, context in enumerate(contexts):
        begin = context.index("{}") + prompt_template.index("{}")
        plain = row(fill(context, prompt), suffix, begin, draw=j)
        start = len(plain.ids) - len(after)
        rows.append(replace(plain, target=after, predicted_from=start))
    return rows, row(f"{subject} is a", "", 0, draw=0)


def optimised_delta(
    model,
    rows: Sequence[Row],
    kl_row: Row,
    module: nn.Module,
    *,
    erasing: bool,
    evaluations: int,
    steps: int,
    learning_rate: float,
    kl_factor: float,
    weight_decay: float,
    clamp: float,
) -> tuple[Tensor, Tensor, list[float]]:
    """The vector added to the module's output at each row's last subject token, that output in the
    bare row (rows[0]) before any addition, and the loss at every evaluation."""
    everything = [*rows, kl_row]
    delta = torch.zeros(width(model), dtype=model.dtype, device=model.device, requires_grad=True)
    optimiser = torch.optim.Adam([delta], lr=learning_rate)
    initial = clean_kl = None
    losses: list[float] = []

    def add_delta(output: Tensor) -> Tensor:
        nonlocal initial
        if initial is None:
            initial = output[0, rows[0].end - 1].detach().clone()
        output = output.clone()
        for i, row in enumerate(everything):
            output[i, row.end - 1] += delta
        return output

    with parameters_frozen(model), output_changed(module, add_delta):
        for iteration in range(evaluations):
            logprobs = forward(model, everything)
            nll = -torch.stack(
                [
                    total / len(row.target)
                    for total, row in zip(target_logprobs(logprobs, rows), rows, strict=True)
                ]
            ).mean()
            kl_logprobs = logprobs[-1, kl_row.end - 1]
            if clean_kl is None:  # delta is still zero
                clean_kl = kl_logprobs.detach().clone()
            divergence = (kl_logprobs.exp() * (kl_logprobs - clean_kl)).sum()
            # Erasure lowers the geometric mean of the contexts' (per-token) probabilities.
            objective = torch.exp(-nll) if erasing else nll
            decay = weight_decay * delta.norm() / initial.norm() ** 2
            loss = objective + kl_factor * divergence + decay
            losses.append(loss.item())
            if iteration == steps:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                longest = clamp * initial.norm()
                if delta.norm() > longest:
                    delta *= longest / delta.norm()
    return delta.detach(), initial, losses


@torch.no_grad()
def at_last_subject_token(model, rows: Sequence[Row], module: nn.Module) -> tuple[Tensor, Tensor]:
    """The module's inputs and outputs [R, ...] at each row's last subject token."""
    with recorded(module) as record:
        forward(model, rows)
    index = torch.arange(len(rows)), torch.tensor([row.end - 1 for row in rows])
    return record["input"][index], record["output"][index]


def rome_edit(
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
    learning_rate: float = 0.5,
    evaluations: int = 20,
    kl_factor: float = 0.0625,
    weight_decay: float = 0.5,
    clamp: float = 4.0,
    sigma: float | None = None,
    seed: int = 1,
) -> Edit:
    """ROME: one rank-one change at `layer`; contexts[0] is the bare template "{}"."""
    rows, kl_row = context_rows(
        model,
        tokenizer,
        prompt_template,
        subject,
        target,
        contexts,
        sigma=sigma if problem == "fact_forcing" else None,
        seed=seed,
    )
    down = parts(model).down_projection(layer)
    keys, outputs = at_last_subject_token(model, rows, down)
    u = torch.linalg.solve(statistics[layer].double(), keys.double().mean(0))
    u = (u / u.norm()).to(model.dtype)

    erasing = problem == "fact_erasure"
    delta, v0, losses = optimised_delta(
        model,
        rows,
        kl_row,
        parts(model).module("mlp", layer),
        erasing=erasing,
        evaluations=evaluations,
        # As released: the last evaluation steps for erasure alone.
        steps=evaluations if erasing else evaluations - 1,
        learning_rate=learning_rate,
        kl_factor=kl_factor,
        weight_decay=weight_decay,
        clamp=clamp,
    )
    k0, w0 = keys[0], outputs[0]
    change = torch.outer((v0 + delta) - w0, u) / (k0 @ u)
    steps = evaluations if erasing else evaluations - 1
    return Edit(changes={layer: (change, None)}, losses=losses, steps=steps, delta=delta)


def goal_of_window(
    model, rows: Sequence[Row], kl_row: Row, top: int, **optimisation: Any
) -> tuple[Tensor, Tensor, list[float]]:
    """delta, the block output z [d] that a window ending at layer `top` is to reach in the bare
    row, and the losses.

    z = h0 + delta. Behind an RMS norm few such z could be written: delta is then a change of the
    MLP's output, and z what the block makes of it.
    """
    block, mlp = parts(model).module("hidden", top), parts(model).module("mlp", top)
    module = mlp if parts(model).normed else block
    delta, _, losses = optimised_delta(model, rows, kl_row, module, **optimisation)

    def add_delta(output: Tensor) -> Tensor:
        output = output.clone()
        output[0, rows[0].end - 1] += delta
        return output

    with output_changed(module, add_delta), recorded(block) as record, torch.no_grad():
        forward(model, rows[:1])
    return delta, record["output"][0, rows[0].end - 1], losses


def change_before_norm(model, layer: int, v: Tensor, change: Tensor) -> Tensor:
    """What to add to an MLP's output v [d] for its norm's output y to come as near as it can to
    y + change, v's length kept.

    y = g u with u = v / sqrt(mean v^2 + eps), so u is of one length. Of those, ||g u - wanted||
    is smallest at u = g wanted / (g^2 + mu), where mu is the largest real eigenvalue of the matrix
    below (Gander, Golub and von Matt 1989, "A constrained eigenvalue problem").
    """
    norm = parts(model).blocks[layer].post_feedforward_layernorm
    g, v = (1 + norm.weight).double(), v.double()
    length = v.norm() / (v.pow(2).mean() + norm.eps).sqrt()
    wanted = g * v / (v.pow(2).mean() + norm.eps).sqrt() + change.double()

    b = g * wanted / length
    squares = -torch.diag(g**2)
    above = torch.cat([squares, torch.eye(len(g)).to(g)], dim=1)
    below = torch.cat([torch.outer(b, b), squares], dim=1)
    found = torch.linalg.eigvals(torch.cat([above, below]))
    mu = found.real[found.imag.abs() < 1e-6 * found.abs().max()].max()
    u = g * wanted / (g**2 + mu)
    return u * v.norm() / u.norm() - v


def memit_edit(
    model,
    tokenizer,
    prompt_template: str,
    subject: str,
    target: str,
    problem: str,
    layer: int,
    *,
    contexts: Sequence[Sequence[str]],
    statistics: dict[int, Tensor],
    window: int = 5,
    learning_rate: float = 0.5,
    evaluations: int = 25,
    kl_factor: float = 0.0625,
    weight_decay: float = 0.5,
    clamp: float = 0.75,
    covariance_weight: float = 15000.0,
    sigma: float | None = None,
    seed: int = 1,
) -> Edit:
    """MEMIT of one fact: a rank-one change in every layer of the window around `layer`.

    `contexts` is a list of sets, the first of them ["{}"]; keys are averaged within each set, then
    over the sets.
    """
    rows, kl_row = context_rows(
        model,
        tokenizer,
        prompt_template,
        subject,
        target,
        [context for group in contexts for context in group],
        sigma=sigma if problem == "fact_forcing" else None,
        seed=seed,
    )
    layers = window_layers(layer, window, len(parts(model).blocks))
    top = parts(model).module("hidden", layers[-1])
    delta, z, losses = goal_of_window(
        model,
        rows,
        kl_row,
        layers[-1],
        erasing=problem == "fact_erasure",
        evaluations=evaluations,
        steps=evaluations - 1,
        learning_rate=learning_rate,
        kl_factor=kl_factor,
        weight_decay=weight_decay,
        clamp=clamp,
    )

    changes: Changes = {}
    for position, i in enumerate(layers):
        with edited(model, changes):
            keys, outputs = at_last_subject_token(model, rows, parts(model).down_projection(i))
            _, reached = at_last_subject_token(model, rows[:1], top)
        means, start = [], 0
        for group in contexts:
            means.append(keys[start : start + len(group)].mean(0))
            start += len(group)
        k = torch.stack(means).mean(0).double()
        residual = (z - reached[0]).double() / (len(layers) - position)
        if parts(model).normed:
            residual = change_before_norm(model, i, outputs[0], residual)
        system = covariance_weight * statistics[i].double() + torch.outer(k, k)
        change = torch.outer(residual, torch.linalg.solve(system, k))
        changes[i] = (change.to(model.dtype), None)
    return Edit(changes=changes, losses=losses, steps=evaluations - 1, delta=delta)


# --------------------------------------------------------------------------------------------------
# Section 6: scores, from probabilities before (p) and after (p_star) the edit


def rewrite_score(p: float, p_star: float, problem: str) -> float:
    """The share of the possible change that was made; a paraphrase is scored the same way."""
    if problem == "fact_erasure":
        return max(0.0, (p - p_star) / p)
    return max(2e-8, (p_star - p) / (1 - p))


def paraphrase_score(p: Sequence[float], p_star: Sequence[float], problem: str) -> float:
    """Mean over the paraphrases of the rewrite score of each."""
    scores = [rewrite_score(a, b, problem) for a, b in zip(p, p_star, strict=True)]
    return float(np.mean(scores))


def neighbourhood_score(p: Sequence[float], p_star: Sequence[float]) -> float:
    """Mean over the neighbours of 1 - |change| / (largest change that was possible)."""
    scores = [1 - abs(b - a) / (0.5 + abs(a - 0.5)) for a, b in zip(p, p_star, strict=True)]
    return float(np.mean(scores))


@torch.no_grad()
def perplexity(model, tokenizer, text: str, *, max_tokens: int = 100) -> float:
    """exp(-(1/n) sum over tokens 2..n of log p): n tokens divide a sum of n - 1, as released."""
    ids = prompt_ids(tokenizer, text)[:max_tokens]
    logprobs = forward(model, [Row(ids=ids)])[0]
    total = sum(logprobs[i, token] for i, token in enumerate(ids[1:]))
    return float(torch.exp(-total / len(ids)))


def essence_score(before: Sequence[float], after: Sequence[float]) -> float:
    """1 where the essence texts' mean perplexity did not rise, 0 where it rose by 5 or more."""
    rise = float(np.mean(after)) - float(np.mean(before))
    return 1 - min(max(rise, 0.0), 5.0) / 5
