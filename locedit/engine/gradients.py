"""Gradients of a prediction at every layer's modules, from one backward pass; and of weights.

Weights are frozen, so a backward pass forms gradients of activations alone. The gradient of a down
projection's weight is G = sum_t g_t k_t^T, k_t its input at token t and g_t the gradient at its
output there; what is asked about G needs no matrix of that size (`inner_products`).

Shapes: R rows, T tokens of a row, d hidden size, d_ff inner size of the MLP.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from locedit.engine import log_probs, packing, passes
from locedit.facts.record import Fact
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.memory import token_budget

BACKWARD = 2  # forward passes that a backward pass counts as

Metric = Callable[[Tensor], Tensor]  # last-layer outputs [lines, N, d] -> a value a row, [R]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Teacher-forced rows, one a fact: its prompt and all but its target's last token.

    ends: index of the prompt's last token, which predicts the target's first. subjects: tokens
    [b, e) of the prompt's subject.
    """

    ids: list[list[int]]
    ends: list[int]
    targets: list[list[int]]
    subjects: list[tuple[int, int]]

    @classmethod
    def of_facts(cls, lm: LanguageModel, facts: Sequence[Fact], objects: Sequence[str]) -> "Rows":
        """The rows in which each fact's prompt goes on with its object."""
        prompts = [lm.encode(fact.prompt) for fact in facts]
        targets = [lm.encode_target(o, f.prompt) for f, o in zip(facts, objects, strict=True)]
        return cls(
            ids=[p + t[:-1] for p, t in zip(prompts, targets, strict=True)],
            ends=[len(p) - 1 for p in prompts],
            targets=targets,
            subjects=[lm.subject_range(f.prompt, f.subject, f.subject_start) for f in facts],
        )

    def __getitem__(self, part: slice) -> "Rows":
        return Rows(
            ids=self.ids[part],
            ends=self.ends[part],
            targets=self.targets[part],
            subjects=self.subjects[part],
        )


def parts(lm: LanguageModel, sizes: Sequence[int]) -> Iterator[slice]:
    """Facts in order, as many together as memory holds with every layer kept for a backward pass.

    sizes: each fact's tokens, over all of its rows.
    """
    budget, start, tokens = token_budget(lm, layers=lm.n_layers), 0, 0
    for index, size in enumerate(sizes):
        if index > start and tokens + size > budget:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += size
    if sizes:
        yield slice(start, len(sizes))


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a pass did. value: the metric, [R]; of each layer's module the inputs, the outputs, and
    the gradients of each row's value at its outputs, [lines, N, ...] each.
    """

    value: Tensor
    inputs: list[Tensor]
    outputs: list[Tensor]
    gradients: list[Tensor]


def observe(
    lm: LanguageModel,
    modules: Sequence[nn.Module],
    hidden: Tensor,
    part: passes.Suffix,
    metric: Metric,
) -> Observed:
    """A forward and a backward pass over all layers. modules: one a layer."""
    inputs: dict[int, Tensor] = {}
    outputs: dict[int, Tensor] = {}

    def see(layer: int) -> hooks.Hook:
        def hook(inner: Tensor, output: Tensor) -> Tensor:
            inputs[layer], outputs[layer] = inner.detach(), output
            return output  # what is seen must be what goes on: flattened tokens are a view

        return hook

    watched = {module: see(layer) for layer, module in enumerate(modules)}
    with torch.enable_grad(), hooks.hooked(watched):
        start = hidden.detach().requires_grad_()  # else no graph would begin: weights are frozen
        value = metric(passes.run(lm, start, part))
        seen = [outputs[layer] for layer in range(lm.n_layers)]
        gradients = torch.autograd.grad(value.sum(), seen)
    return Observed(
        value=value.detach(),
        inputs=[inputs[layer] for layer in range(lm.n_layers)],
        outputs=[output.detach() for output in seen],
        gradients=list(gradients),
    )


def log_p_of(
    lm: LanguageModel,
    packed: packing.Packing,
    ends: Sequence[int],
    targets: Sequence[Sequence[int]],
) -> Metric:
    """log p of each packed row's target, predicted from its token `ends[i]` on."""
    cells = [offset + end for offset, end in zip(packed.offset, ends, strict=True)]
    queries = log_probs.Queries.of(lm, packed.line, cells, targets)
    return lambda hidden: queries.log_probs(lm, hidden)


@dataclass(frozen=True, kw_only=True)
class DownProjections:
    """Of each layer's down projection: keys [R, T, d_ff] (inputs) and gradients [R, T, d] of
    -log p(target) at its outputs, 0 behind a row's end. loss: [R].
    """

    loss: Tensor
    keys: list[Tensor]
    gradients: list[Tensor]


def down_projections(lm: LanguageModel, rows: Rows) -> DownProjections:
    """Keys and gradients of whole rows, in a forward and a backward pass."""
    ids, lengths = passes.pad(rows.ids, lm.device)
    packed = packing.pack(lengths, lm.device)
    log_p = log_p_of(lm, packed, rows.ends, rows.targets)
    seen = observe(
        lm,
        [lm.down_projection(layer) for layer in range(lm.n_layers)],
        packing.embed(lm, packed, ids),
        packing.suffix(lm, packed),
        lambda hidden: -log_p(hidden),
    )
    ends = torch.tensor(lengths, device=lm.device)[:, None]
    behind = torch.arange(ids.shape[1], device=lm.device) >= ends
    return DownProjections(
        loss=seen.value,
        keys=[packed.scatter(inner) for inner in seen.inputs],
        gradients=[
            packed.scatter(gradient).masked_fill(behind[:, :, None], 0.0)
            for gradient in seen.gradients
        ],
    )


def inner_products(first: DownProjections, second: DownProjections) -> Tensor:
    """<G, G'> of each row's and layer's weight gradients, [R, layers]; never formed themselves.

    Sum over tokens t of the first and u of the second of (k_t . k'_u)(g_t . g'_u).
    """
    layers = zip(first.keys, second.keys, first.gradients, second.gradients, strict=True)
    return torch.stack([_inner(*layer) for layer in layers], dim=1)


def _inner(k: Tensor, k2: Tensor, g: Tensor, g2: Tensor) -> Tensor:
    """[R]; in single precision at least: gradients of a half are small."""
    k, k2, g, g2 = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (k, k2, g, g2))
    return ((k @ k2.mT) * (g @ g2.mT)).sum(dim=(1, 2))
