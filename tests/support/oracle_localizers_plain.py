"""Localizers that ask for no gradient, in their textbook form: one fact, whole passes, hooks.

What the fast ones (`locedit.localizers`) must equal. Built on :mod:`oracle`, whose words these are.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import oracle
import torch
from oracle import Row
from torch import Tensor, nn

Numbers = Callable[[Tensor], Tensor]  # log-probabilities of the corrupted rows -> what is measured


@torch.no_grad()
def restorations(
    model,
    clean: Row,
    corrupted: Sequence[Row],
    first: int,
    numbers: Numbers,
    module: str,
    window: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(unrestored, restored [tokens first .. the prompt's last, layers, ...]), one pass each."""
    rows, layers = [clean, *corrupted], range(len(oracle.parts(model).blocks))
    modules = [oracle.parts(model).module(module, layer) for layer in layers]

    def measured(token: int | None = None, window_: Sequence[int] = ()) -> np.ndarray:
        def restore(output: Tensor) -> Tensor:
            output = output.clone()
            output[1:, token] = output[0, token]
            return output

        with ExitStack() as stack:
            for layer in window_:
                stack.enter_context(oracle.output_changed(modules[layer], restore))
            return numbers(oracle.forward(model, rows)[1:]).numpy()

    restored = [
        [measured(token, oracle.window_layers(la, window, len(layers))) for la in layers]
        for token in range(first, clean.predicted_from + 1)
    ]
    return measured(), np.array(restored)


def swap_effects(
    model,
    tokenizer,
    template: str,
    subject: str,
    target: str,
    partners: Sequence[tuple[str, str]],
    *,
    module: str,
    window: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects on p and on m, [tokens, layers, partners] each, and m(clean) - m(corrupted).

    partners: (subject, object) of each.
    """
    prompt = oracle.fill(template, subject)
    clean = oracle.scored_row(tokenizer, prompt, target)
    begin, _ = oracle.subject_range(tokenizer, prompt, subject, template.index("{}"))
    corrupted, others = [], []
    for other_subject, other in partners:
        other_prompt = oracle.fill(template, other_subject)
        corrupted.append(oracle.scored_row(tokenizer, other_prompt, target))
        others.append(oracle.target_ids(tokenizer, other, other_prompt)[0])
    n, at, rows = len(others), clean.predicted_from, torch.arange(len(others))

    def numbers(logprobs: Tensor) -> Tensor:
        """[partners, (p, m)]."""
        p = oracle.target_logprobs(logprobs, corrupted).exp()
        m = logprobs[:, at, clean.target[0]] - logprobs[rows, at, others]
        return torch.stack([p, m], dim=-1)

    before, after = restorations(model, clean, corrupted, begin, numbers, module, window)
    with torch.no_grad():
        of_clean = oracle.forward(model, [clean])[0, at]
    m_clean = np.array([float(of_clean[clean.target[0]] - of_clean[other]) for other in others])
    effect = after - before
    assert effect.shape[2:] == (n, 2)
    return effect[..., 0], effect[..., 1], m_clean - before[:, 1]


def noised_at(
    model,
    tokenizer,
    prompt: str,
    target: str,
    tokens: Sequence[int],
    *,
    module: str,
    window: int,
    sigma: float,
    n_noise: int,
    seed: int,
) -> np.ndarray:
    """[layers]: tracing's fraction restored at the best token, noise on the tokens given."""
    clean = oracle.scored_row(tokenizer, prompt, target)
    d = oracle.width(model)
    z = oracle.subject_noise(n_noise, len(tokens), d, sigma, seed, model.dtype)
    corrupted = []
    for of_row in z:
        noise = torch.zeros(len(clean.ids), d, dtype=model.dtype)
        for token, of_token in zip(tokens, of_row, strict=True):
            noise[token] = of_token
        corrupted.append(oracle.replace(clean, noise=noise, noise_from=0))

    def numbers(logprobs: Tensor) -> Tensor:
        return oracle.target_logprobs(logprobs, corrupted).exp()

    first = min(tokens)
    before, after = restorations(model, clean, corrupted, first, numbers, module, window)
    p_clean = np.exp(oracle.target_logprob(model, tokenizer, prompt, target))
    p_corrupted, p_restored = before.mean(), after.mean(axis=-1)
    return ((p_restored.max(axis=0) - p_corrupted) / abs(p_clean - p_corrupted)).clip(min=0)


@torch.no_grad()
def mean_ablation(
    model,
    tokenizer,
    template: str,
    subject: str,
    target: str,
    others: Sequence[tuple[str, str]],
    *,
    module: str,
    window: int,
) -> np.ndarray:
    """[layers]: share of p lost where the subject's tokens put out a mean over other prompts.

    others: (template, subject). Means are of first tokens, and of subjects' tokens behind them.
    """
    parts = oracle.parts(model)
    n_layers = len(parts.blocks)
    seen: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in range(n_layers)]
    for other_template, other in others:
        prompt = oracle.fill(other_template, other)
        b, e = oracle.subject_range(tokenizer, prompt, other, other_template.index("{}"))
        for layer in range(n_layers):
            with oracle.recorded(parts.module(module, layer)) as record:
                oracle.forward(model, [Row(ids=oracle.prompt_ids(tokenizer, prompt))])
            output = record["output"][0]
            seen[layer][0].append(output[0])
            seen[layer][1].extend(output[t] for t in range(b, e) if t > 0)
    prompt = oracle.fill(template, subject)
    row = oracle.scored_row(tokenizer, prompt, target)
    b, e = oracle.subject_range(tokenizer, prompt, subject, template.index("{}"))

    def replaced(layer: int) -> oracle.Change:
        def change(output: Tensor) -> Tensor:
            output = output.clone()
            for token in range(b, e):
                output[:, token] = torch.stack(seen[layer][token > 0]).mean(dim=0)
            return output

        return change

    def probability(layers: Sequence[int] = ()) -> float:
        with ExitStack() as stack:
            for layer in layers:
                changed = oracle.output_changed(parts.module(module, layer), replaced(layer))
                stack.enter_context(changed)
            return float(oracle.target_logprobs(oracle.forward(model, [row]), [row]).exp())

    clean = probability()
    windows = [oracle.window_layers(centre, window, n_layers) for centre in range(n_layers)]
    return np.array([(clean - probability(layers)) / clean for layers in windows])


def block_states(model, row: Row) -> list[Tensor]:
    """The residual stream before the first block and behind each, [S, d]."""
    states = []
    for layer, block in enumerate(oracle.parts(model).blocks):
        with oracle.recorded(block) as record:
            oracle.forward(model, [row])
        states += [record["input"][0]] if layer == 0 else []
        states.append(record["output"][0])
    return states


@torch.no_grad()
def lens(model, tokenizer, prompt: str, subject: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """log p of the object read from the stream behind each block.

    Of the whole object, behind the prompt; of its first token, at the subject's last: [layers]
    each. The stream takes the place of the last block's output, so that norm, head and whatever
    comes after them are the model's own.
    """
    row = oracle.scored_row(tokenizer, prompt, target)
    _, e = oracle.subject_range(tokenizer, prompt, subject)
    last = oracle.parts(model).blocks[-1]
    whole, first = [], []
    for state in block_states(model, row)[1:]:
        with oracle.output_changed(last, lambda output, state=state: state[None]):
            logprobs = oracle.forward(model, [row])
        whole.append(float(oracle.target_logprobs(logprobs, [row])))
        first.append(float(logprobs[0, e - 1, row.target[0]]))
    return np.array(whole), np.array(first)


@torch.no_grad()
def direct(model, tokenizer, prompt: str, true: str, new: str) -> dict[str, np.ndarray]:
    """What the embedding and each layer's modules add to logit(true) - logit(new), first tokens.

    The final norm's scale is that of the whole stream. `constant`: what norm and head add always.
    """
    parts = oracle.parts(model)
    row = Row(ids=oracle.prompt_ids(tokenizer, prompt))
    tokens = [oracle.target_ids(tokenizer, text, prompt)[0] for text in (true, new)]
    states = [state[-1] for state in block_states(model, row)]
    head, norm = model.get_output_embeddings(), final_norm(model)
    towards = head.weight[tokens[0]] - head.weight[tokens[1]]
    if isinstance(norm, nn.LayerNorm):
        scale = (states[-1].var(correction=0) + norm.eps).sqrt()
        gain, bias = norm.weight, norm.bias
    else:
        epsilon = getattr(norm, "variance_epsilon", None)
        epsilon = norm.eps if epsilon is None else epsilon
        scale = (states[-1].square().mean() + epsilon).sqrt()
        gain, bias = norm.weight + 1 if parts.normed else norm.weight, torch.zeros_like(towards)

    def along(x: Tensor) -> float:
        x = x - x.mean() if isinstance(norm, nn.LayerNorm) else x
        return float((gain * x / scale) @ towards)

    def written(layer: int, kind: str) -> Tensor:
        names = {"attn": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
        block = parts.blocks[layer]
        module = getattr(block, names[kind]) if parts.normed else parts.module(kind, layer)
        with oracle.recorded(module) as record:
            oracle.forward(model, [row])
        return record["output"][0, -1]

    layers = range(len(parts.blocks))
    by_kind = {
        kind: np.array([along(written(la, kind)) for la in layers]) for kind in ("attn", "mlp")
    }
    constant = float(bias @ towards)
    if getattr(head, "bias", None) is not None:
        constant += float(head.bias[tokens[0]] - head.bias[tokens[1]])
    return {
        **by_kind,
        "hidden": by_kind["attn"] + by_kind["mlp"],
        "embedding": np.array(along(states[0])),
        "constant": np.array(constant),
    }


@torch.no_grad()
def logit_difference(model, tokenizer, prompt: str, true: str, new: str) -> float:
    """Of the objects' first tokens, without a cap on logits."""
    ids = torch.tensor([oracle.prompt_ids(tokenizer, prompt)])
    true_, new_ = (oracle.target_ids(tokenizer, text, prompt)[0] for text in (true, new))
    logits = model(input_ids=ids).logits[0, -1]
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap is not None:
        logits = cap * torch.atanh(logits / cap)
    return float(logits[true_] - logits[new_])


def final_norm(model) -> nn.Module:
    inner = model.base_model
    inner = getattr(inner, "language_model", inner)
    inner = getattr(inner, "decoder", inner)
    names = ("norm", "ln_f", "final_layer_norm")
    return next(getattr(inner, name) for name in names if hasattr(inner, name))
