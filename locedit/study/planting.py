"""Training facts into chosen layers of a model: the positive control of a study of localization.

Adam on a change of the layers' down projections, all facts at once. A planted fact's loss reaches
the change of its own layer alone (every other layer's is felt, but detached); a placebo fact's
reaches those of all layers. Beside them, KL to the unchanged model on plain text reaches all
changes. The layers of planted facts are drawn at random (`facts.planted.assigned`): whatever else
training does to a model, it does to the facts of all layers alike.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.engine.updates import Dense, Updates, applied
from locedit.facts.planted import PLACEBO, PLANTED, Planted, Training
from locedit.model.language_model import LanguageModel
from locedit.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Planting:
    """changes: of down projections by layer, [d, d_ff]. p_before, p_after: [facts], of each object.

    These are means over a fact's held-out prompts. kl: per token of plain text, in the last step.
    """

    changes: dict[int, Tensor]
    p_before: list[float]
    p_after: list[float]
    kl: float
    steps: int


def plant(
    lm: LanguageModel,
    facts: Sequence[Planted],
    texts: Sequence[str],
    settings: Training,
    *,
    progress: Callable[[int], None] = lambda _steps: None,
) -> Planting:
    """Train the facts into their layers; the changes are returned, and the model stays as it was.

    texts: plain text, of which each step draws `settings.texts`. progress: told of each step.
    """
    changes = {
        layer: torch.zeros(
            lm.hidden_size, lm.inner_size, device=lm.device, dtype=lm.dtype, requires_grad=True
        )
        for layer in _changed(lm, facts)
    }
    optimiser = torch.optim.Adam(changes.values(), lr=settings.lr, eps=settings.eps)
    before = after = held_out(lm, facts, changes)
    steps, kl = 0, 0.0
    while steps < settings.steps and _share_known(facts, after) < settings.enough:
        learning = [one for one, p in zip(facts, after, strict=True) if p < settings.rest]
        for _ in range(min(settings.look, settings.steps - steps)):
            optimiser.zero_grad(set_to_none=True)
            kl = _backward(lm, learning, texts, changes, steps, settings)
            optimiser.step()
            steps += 1
            progress(1)
        after = held_out(lm, facts, changes)
    found = {layer: change.detach() for layer, change in changes.items()}
    return Planting(changes=found, p_before=before, p_after=after, kl=kl, steps=steps)


def held_out(
    lm: LanguageModel, facts: Sequence[Planted], changes: Mapping[int, Tensor]
) -> list[float]:
    """p of each fact's object under the changes, the mean over its held-out prompts, [facts]."""
    prompts = [prompt for one in facts for prompt in one.fact.paraphrases]
    objects = [one.fact.target_true for one in facts for _ in one.fact.paraphrases]
    with torch.inference_mode():
        values = iter(_log_probs(lm, prompts, objects, changes).exp().tolist())
    return [
        sum(next(values) for _ in one.fact.paraphrases) / len(one.fact.paraphrases) for one in facts
    ]


def _changed(lm: LanguageModel, facts: Sequence[Planted]) -> Sequence[int]:
    """The layers that some fact may change."""
    if any(one.layer is None for one in facts):
        return range(lm.n_layers)
    return sorted({one.layer for one in facts if one.layer is not None})


def _share_known(facts: Sequence[Planted], p: Sequence[float]) -> float:
    """The share of facts above .5, of planted or of placebo facts, whichever is smaller."""
    shares = []
    for kind in (PLANTED, PLACEBO):
        known = [value > 0.5 for value, one in zip(p, facts, strict=True) if one.kind == kind]
        shares += [sum(known) / len(known)] if known else []
    return min(shares)


def _backward(
    lm: LanguageModel,
    learning: Sequence[Planted],
    texts: Sequence[str],
    changes: Mapping[int, Tensor],
    step: int,
    settings: Training,
) -> float:
    """One step's gradients, added to the changes' own; the KL per token of plain text.

    Facts of one layer run together, without any gradient below it.
    """
    for layer in dict.fromkeys(one.layer for one in learning):
        members = [one for one in learning if one.layer == layer]
        prompts = [one.trained[step % len(one.trained)] for one in members]
        objects = [one.fact.target_true for one in members]
        own = {at: c if layer in (None, at) else c.detach() for at, c in changes.items()}
        (-_log_probs(lm, prompts, objects, own).sum() / len(learning)).backward()
    kl = _text_kl(lm, _drawn(texts, step, settings), changes, settings.text_tokens)
    (settings.kl_factor * kl).backward()
    return float(kl.detach())


def _drawn(texts: Sequence[str], step: int, settings: Training) -> list[str]:
    """The texts of one step, by its number alone."""
    rng = random.Random(derive(settings.seed, "planting", step))
    return rng.sample(list(texts), min(settings.texts, len(texts)))


def _log_probs(
    lm: LanguageModel,
    prompts: Sequence[str],
    objects: Sequence[str],
    changes: Mapping[int, Tensor],
) -> Tensor:
    """log p of an object behind each prompt, [prompts]."""
    encoded = [lm.encode(prompt) for prompt in prompts]
    targets = [lm.encode_target(o, prompt) for o, prompt in zip(objects, prompts, strict=True)]
    ids, _ = passes.pad([p + t[:-1] for p, t in zip(encoded, targets, strict=True)], lm.device)
    hidden = _run(lm, ids, changes)
    ends = [len(prompt) - 1 for prompt in encoded]
    return log_probs.target_log_probs(lm, hidden, range(len(ids)), ends, targets)


def _text_kl(
    lm: LanguageModel, texts: Sequence[str], changes: Mapping[int, Tensor], tokens: int
) -> Tensor:
    """KL(unchanged model || changed one) of the next token, the mean over the texts' tokens."""
    ids, lengths = passes.pad([lm.encode(text)[:tokens] for text in texts], lm.device)
    ends = torch.tensor(lengths, device=lm.device)[:, None]
    real = torch.arange(ids.shape[1], device=lm.device) < ends
    with torch.no_grad():
        base = lm.logits(_run(lm, ids, {})[real]).log_softmax(dim=-1)
    changed = lm.logits(_run(lm, ids, changes)[real]).log_softmax(dim=-1)
    return torch.nn.functional.kl_div(changed, base, reduction="batchmean", log_target=True)


def _run(lm: LanguageModel, ids: Tensor, changes: Mapping[int, Tensor]) -> Tensor:
    """Last-layer outputs [B, T, d] of rows [B, T] under the changes."""
    updates: Updates = {layer: Dense(weights=[change]) for layer, change in changes.items()}
    with applied(lm, updates, [len(ids)]):
        return passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
