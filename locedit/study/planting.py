"""Training facts into chosen layers of a model: the positive control of a study of localization.

Gradient descent on a change of the layers' down projections, in groups: the planted facts of one
layer, whose loss reaches that layer's change alone (every other layer's is felt, but detached), and
the placebo facts, whose loss reaches those of all layers. KL to the unchanged model on plain text
is in every group's loss. The layers of planted facts are drawn at random
(`facts.planted.assigned`): whatever else training does to a model, it does to the facts of all
layers alike.

A change D of a layer is measured by what it does to other tokens, tr(D C D') / s: the mean square
of what it adds to the layer's output on plain text, C = E[k k'] being the key moment, as a share of
the output's own usual square s (the metric in which ROME's edit is the least change; Meng et al.
2022, arXiv 2202.05262, section 3.1). Steepest descent in that metric is along G C^-1 (natural
gradient: Amari 1998): it writes where other keys do not look.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import log_probs, passes
from locedit.engine.key_statistics import KeyMoments, key_moments
from locedit.engine.updates import Dense, Updates, applied
from locedit.errors import LoceditError
from locedit.facts.planted import PLACEBO, PLANTED, Planted, Training
from locedit.model import hooks
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

    Raises LoceditError in float16, in whose range the steps' squares are 0.
    """
    if lm.dtype == torch.float16:
        raise LoceditError("facts cannot be planted in float16; set `dtype` to float32 or bfloat16")
    changes = {
        layer: torch.zeros(lm.hidden_size, lm.inner_size, device=lm.device, dtype=lm.dtype)
        for layer in _changed(lm, facts)
    }
    metrics = metrics_of(lm, changes, texts, settings)
    groups = {layer: Descent(metrics, settings) for layer in dict.fromkeys(f.layer for f in facts)}
    before = after = held_out(lm, facts, changes)
    steps, kl = 0, 0.0
    while steps < settings.steps and _share_known(facts, after) < settings.enough:
        learning = [one for one, p in zip(facts, after, strict=True) if p < settings.rest]
        for _ in range(min(settings.look, settings.steps - steps)):
            kl, of_text = _text_gradients(lm, texts, changes, steps, settings)
            found = {}
            for layer in dict.fromkeys(one.layer for one in learning):
                members = [one for one in learning if one.layer == layer]
                found[layer] = gradients(lm, members, changes, steps)
            for layer, of_facts in found.items():
                groups[layer].step(
                    changes,
                    {at: g + settings.kl_factor * of_text[at] for at, g in of_facts.items()},
                )
            steps += 1
            progress(1)
        after = held_out(lm, facts, changes)
    return Planting(changes=changes, p_before=before, p_after=after, kl=kl, steps=steps)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What changes of one layer's down projection W are measured in.

    inverse: C^-1, [d_ff, d_ff]. square: the median over tokens of plain text of ||W k||^2; a mean
    would be that of the few tokens, a text's first above all, whose outputs are huge.
    """

    inverse: Tensor
    square: float


def metrics_of(
    lm: LanguageModel, layers: Iterable[int], texts: Sequence[str], settings: Training
) -> dict[int, Metric]:
    """Each layer's metric, by the unchanged model's keys on the first of the texts.

    Raises LoceditError where there is too little text.
    """
    layers = list(layers)
    tokens = settings.tokens or 10 * lm.inner_size
    moments, count = key_moments(lm, texts, layers=layers, tokens=tokens)
    solving = KeyMoments(moments.__getitem__, tokens=count, ridge=settings.ridge)
    unit = torch.eye(lm.inner_size, device=lm.device, dtype=lm.dtype)
    squares = _output_squares(lm, layers, texts, settings)
    return {
        layer: Metric(inverse=solving.solve(layer, unit), square=squares[layer]) for layer in layers
    }


@torch.inference_mode()
def _output_squares(
    lm: LanguageModel, layers: Iterable[int], texts: Sequence[str], settings: Training
) -> dict[int, float]:
    """The median over tokens of the squared norm of each down projection's output."""
    ids, real = _padded(lm, _drawn(texts, 0, settings), settings.text_tokens)
    squares: dict[int, float] = {}

    def see(layer: int) -> hooks.Hook:
        def hook(_: Tensor, output: Tensor) -> None:
            squares[layer] = float(output[real].square().sum(dim=-1).median())

        return hook

    with hooks.hooked({lm.down_projection(layer): see(layer) for layer in layers}):
        _run(lm, ids, {})
    return squares


class Descent:
    """The steps of one group of facts: along the mean of its recent natural gradients.

    A step's length, over all the group's layers together, is `lr` in the layers' metrics for
    gradients of the usual size. As Adam's, means are exponential and corrected for their start, but
    there is one scale for all weights, so that directions stay as they are.
    """

    def __init__(self, metrics: Mapping[int, Metric], settings: Training) -> None:
        self._metrics, self._settings = metrics, settings
        self._mean: dict[int, Tensor] = {}
        self._square = 0.0
        self._steps = 0

    def step(self, changes: Mapping[int, Tensor], gradients: Mapping[int, Tensor]) -> None:
        """Move the changes [d, d_ff] at the layers of the gradients, in place."""
        keep = self._settings.momentum
        self._steps += 1
        square = 0.0
        for layer, gradient in gradients.items():
            metric = self._metrics[layer]
            natural = metric.square * (gradient @ metric.inverse)
            square += float((gradient * natural).sum())
            mean = self._mean.setdefault(layer, torch.zeros_like(natural))
            mean.mul_(keep).add_(natural, alpha=1 - keep)
        self._square = keep * self._square + (1 - keep) * square
        started = 1 - keep**self._steps
        size = math.sqrt(self._square / started)
        if size > 0:
            for layer in gradients:
                scale = self._settings.lr / (started * size)
                changes[layer].sub_(self._mean[layer], alpha=scale)


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


def gradients(
    lm: LanguageModel, members: Sequence[Planted], changes: Mapping[int, Tensor], step: int
) -> dict[int, Tensor]:
    """Of one group's mean -log p of its objects to the changes that it may move, by layer.

    Each fact by one of its prompts, in turn. No gradient runs below the group's layer.
    """
    layer = members[0].layer
    own = {at: c.detach().requires_grad_(layer in (None, at)) for at, c in changes.items()}
    moved = {at: c for at, c in own.items() if c.requires_grad}
    prompts = [one.trained[step % len(one.trained)] for one in members]
    objects = [one.fact.target_true for one in members]
    loss = -_log_probs(lm, prompts, objects, own).mean()
    return dict(zip(moved, torch.autograd.grad(loss, list(moved.values())), strict=True))


def _text_gradients(
    lm: LanguageModel,
    texts: Sequence[str],
    changes: Mapping[int, Tensor],
    step: int,
    settings: Training,
) -> tuple[float, dict[int, Tensor]]:
    """The KL per token of plain text, and its gradients to all changes."""
    own = {layer: change.detach().requires_grad_() for layer, change in changes.items()}
    kl = _text_kl(lm, _drawn(texts, step, settings), own, settings.text_tokens)
    found = torch.autograd.grad(kl, list(own.values()))
    return float(kl.detach()), dict(zip(own, found, strict=True))


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
    ids, real = _padded(lm, texts, tokens)
    with torch.no_grad():
        base = lm.logits(_run(lm, ids, {})[real]).log_softmax(dim=-1)
    changed = lm.logits(_run(lm, ids, changes)[real]).log_softmax(dim=-1)
    return torch.nn.functional.kl_div(changed, base, reduction="batchmean", log_target=True)


def _padded(lm: LanguageModel, texts: Sequence[str], tokens: int) -> tuple[Tensor, Tensor]:
    """Rows of the texts' first tokens, [B, T], and which of these are no padding."""
    ids, lengths = passes.pad([lm.encode(text)[:tokens] for text in texts], lm.device)
    ends = torch.tensor(lengths, device=lm.device)[:, None]
    return ids, torch.arange(ids.shape[1], device=lm.device) < ends


def _run(lm: LanguageModel, ids: Tensor, changes: Mapping[int, Tensor]) -> Tensor:
    """Last-layer outputs [B, T, d] of rows [B, T] under the changes."""
    updates: Updates = {layer: Dense(weights=[change]) for layer, change in changes.items()}
    with applied(lm, updates, [len(ids)]):
        return passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
