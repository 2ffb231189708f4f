"""The optimised value vector that ROME and MEMIT share, and the rows that it is optimised on.

Meng et al. 2022 (arXiv 2202.05262, equation 4), Meng et al. 2023 (arXiv 2210.07229, equation 16).
Rows: for each fact its prompt in every context, then the KL row "{subject} is a". The vector
enters at one layer and at the subject's last token, so all below and before is run only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import log_probs, packing, passes
from locedit.engine.noise import place
from locedit.methods.base import SharedInputs
from locedit.methods.problems import Request
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.text.subjects import in_template

KL_TEMPLATE = "{} is a"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Token rows of a batch of facts, fact-major: `contexts` context rows, then the KL row.

    last: index of the token that the vector stands on, the subject's last by default, [B]; noise:
    [B, T, d] or None.
    """

    ids: Tensor
    lengths: list[int]
    last: Tensor
    noise: Tensor | None
    targets: list[list[int]]
    contexts: int

    @property
    def per_fact(self) -> int:
        return self.contexts + 1

    def of_context(self, x: Tensor) -> Tensor:
        """[B, ...] -> [facts, contexts, ...], without the KL rows."""
        return x.view(-1, self.per_fact, *x.shape[1:])[:, :-1]


def build(
    lm: LanguageModel,
    requests: Sequence[Request],
    shared: SharedInputs,
    *,
    fact_token: str = "subject_last",
) -> Rows:
    """Prefix and prompt are one string, all but the target's last token stand behind its tokens.

    fact_token: where the vector stands, `subject_last` or `last`, the prompt's last token; of the
    KL row its own last one.

    As one string they make the same tokens, unless target and prompt merge: then the target would
    be read in the wrong place, and a letter of several tokens, cut in two, would be another.
    """
    contexts = [context for group in shared.contexts for context in group]
    targets = [lm.encode_target(request.target, request.prompt) for request in requests]
    rows, ranges, prompt_ends = [], [], []
    for request, target in zip(requests, targets, strict=True):
        prompt, subject = request.prompt, request.subject
        heads = [(context.replace("{}", prompt), target[:-1]) for context in contexts]
        heads.append((KL_TEMPLATE.replace("{}", subject), []))
        starts = [in_template(context, prompt) + request.subject_start for context in contexts]
        starts.append(in_template(KL_TEMPLATE, subject))
        for (head, tail), start in zip(heads, starts, strict=True):
            before = lm.encode(head)
            rows.append(before + tail)
            prompt_ends.append(len(before) - 1)
            ranges.append(lm.subject_range(head, subject, start))
    ids, lengths = passes.pad(rows, lm.device)
    noise = None
    problem = requests[0].problem
    if problem.noised:
        draws, noised = [*range(len(contexts)), 0] * len(requests), ranges
        if problem.bare_positions:
            bare = [lm.subject_range(r.prompt, r.subject, r.subject_start) for r in requests]
            noised = [pair for pair in bare for _ in range(len(contexts) + 1)]
        noise = place(lm, noised, ids.shape[1], sigma=shared.sigma, seed=shared.seed, draws=draws)
    ends = prompt_ends if fact_token == "last" else [e - 1 for _, e in ranges]
    last = torch.tensor(ends, device=lm.device)
    return Rows(
        ids=ids,
        lengths=lengths,
        last=last,
        noise=noise,
        targets=targets,
        contexts=len(contexts),
    )


@torch.no_grad()
def observe(
    lm: LanguageModel, rows: Rows, layer: int
) -> tuple[passes.Record, Tensor, Tensor, Tensor]:
    """A whole pass and, at the subject's last token, what the layer's MLP does.

    The down projection's inputs and outputs in every context, [facts, contexts, ...], and the MLP's
    output in every row, [B, d].
    """
    seen: dict[str, Tensor] = {}
    index = torch.arange(len(rows.last), device=lm.device)

    def see(inner: Tensor, output: Tensor) -> None:
        seen["k"], seen["w"] = inner[index, rows.last], output[index, rows.last]

    def see_mlp(_: Tensor, output: Tensor) -> None:
        seen["v"] = output[index, rows.last]

    with (
        hooks.hooked({lm.down_projection(layer): see}),
        hooks.hooked({lm.mlp(layer): see_mlp}),
    ):
        recorded = passes.record(lm, rows.ids, rows.lengths, noise=rows.noise)
    return recorded, rows.of_context(seen["k"]), rows.of_context(seen["w"]), seen["v"]


def mean_over_sets(x: Tensor, shared: SharedInputs) -> Tensor:
    """[facts, contexts, n] -> [facts, n]: the mean of the context sets' means."""
    groups = x.split([len(group) for group in shared.contexts], dim=1)
    return torch.stack([group.mean(dim=1) for group in groups]).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Settings of the optimisation. clamp: ||delta|| <= clamp * ||v0||. steps: Adam steps taken."""

    lr: float
    steps: int
    clamp: float
    kl_factor: float
    decay: float
    maximise: bool


def optimise(
    lm: LanguageModel,
    rows: Rows,
    recorded: passes.Record,
    layer: int,
    v0: Tensor,
    objective: Objective,
    mlp_output: Tensor | None = None,
) -> tuple[Tensor, list[tuple[float, float]]]:
    """delta [facts, d], added to the output of `layer` at each row's subject's last token, or to
    its MLP's output where that is given, mlp_output [B, d].

    Loss of a fact: the mean over contexts of -(1/|o|) log p(o), for erasure exp of minus that; plus
    kl_factor * KL(edited || unedited) of the next token at the KL row's subject; plus
    decay * ||delta|| / ||v0||^2. v0: [facts, d]. Returns also the first and last loss evaluated.
    """
    per_fact = rows.per_fact
    # of the KL row only the subject's last token itself is read
    starts = rows.last.tolist()
    moved = [n - start for n, start in zip(rows.lengths, starts, strict=True)]
    moved[rows.contexts :: per_fact] = [1] * (len(starts) // per_fact)
    packed = packing.pack(moved, lm.device, starts=starts)
    part = packing.suffix(lm, packed, recorded, range(layer + 1, lm.n_layers))
    row = packed.row.clamp(min=0)
    start = recorded.inputs[layer + 1][row, packed.positions]
    fact_of = torch.arange(len(rows.last), device=lm.device) // per_fact
    at_subject = ((packed.row >= 0) & (packed.column == 0))[:, :, None]
    reading = _Reading(lm, rows, packed)
    norms = v0.to(lm.trained_dtype).norm(dim=1)

    deltas = [torch.zeros_like(v, dtype=lm.trained_dtype, requires_grad=True) for v in v0]
    optimiser = torch.optim.Adam(deltas, lr=objective.lr)
    history: list[Tensor] = []
    unedited: Tensor | None = None
    for _ in range(objective.steps):
        optimiser.zero_grad()
        delta = torch.stack(deltas)
        change = delta[fact_of].to(lm.dtype)  # [B, d]
        if mlp_output is not None:
            change = lm.block_change(layer, mlp_output, change)
        hidden = torch.where(at_subject, start + change[row], start)
        hidden = passes.run(lm, hidden, part, first=layer + 1)
        nll, edited = reading.read(lm, hidden)
        aim = nll if objective.maximise else (-nll).exp()
        if unedited is None:
            unedited = edited.detach()  # delta is zero, so this pass is the unedited one
        # as a Bregman divergence, whose gradient is exactly zero where both are equal: where
        # nothing above depends on delta, Adam would make full steps out of rounding errors
        kl = (edited.exp() * (edited - unedited) - edited.exp() + unedited.exp()).sum(dim=-1)
        loss = aim + objective.kl_factor * kl + objective.decay * delta.norm(dim=1) / norms**2
        loss.sum().backward()
        optimiser.step()
        history.append(loss.detach())
        with torch.no_grad():
            for delta_f, norm in zip(deltas, norms, strict=True):
                delta_f *= (objective.clamp * norm / delta_f.norm()).clamp(max=1.0)
    losses = list(zip(history[0].tolist(), history[-1].tolist(), strict=True))
    return torch.stack([delta_f.detach() for delta_f in deltas]).to(lm.dtype), losses


class _Reading:
    """What the loss reads of a pass over packed rows: all of it through the head at once."""

    def __init__(self, lm: LanguageModel, rows: Rows, packed: packing.Packing) -> None:
        lines, cells, targets = [], [], []
        of_kl = range(rows.contexts, len(packed.line), rows.per_fact)
        for index in range(len(packed.line)):
            if index in of_kl:
                continue
            target = rows.targets[index // rows.per_fact]
            lines.append(packed.line[index])
            # where the first token is predicted
            cells.append(packed.offset[index] + packed.lengths[index] - len(target))
            targets.append(target)
        self.asked = log_probs.Queries.of(lm, lines, cells, targets)
        kl = [(packed.line[index], packed.offset[index]) for index in of_kl]
        line, cell = torch.tensor(kl, device=lm.device).T
        self.line = torch.cat([self.asked.row, line])
        self.cell = torch.cat([self.asked.column, cell])
        sizes = [len(target) for target in targets]
        self.sizes, self.facts = torch.tensor(sizes, device=lm.device), len(rows.targets)

    def read(self, lm: LanguageModel, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Mean NLL of a target token over contexts [facts], KL rows' log p [facts, vocabulary]."""
        logits = lm.logits(hidden[self.line, self.cell])
        of_targets, of_kl = logits.split([len(self.asked.tokens), self.facts])
        log_p = log_probs.token_log_probs(of_targets, self.asked.tokens)
        total = log_p.new_zeros(self.asked.count).index_add(0, self.asked.target, log_p)
        nll = (-total / self.sizes).view(self.facts, -1).mean(dim=1)
        return nll, of_kl.log_softmax(dim=-1)
