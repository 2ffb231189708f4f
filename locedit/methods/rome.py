"""ROME: a rank-one change of one down projection (Meng et al. 2022, arXiv 2202.05262, section 3).

METHODS section 4, with the released code's irregularity that the update is solved at the bare
prompt's key while its direction comes from the mean key (Gupta et al. 2024, arXiv 2403.07175).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from locedit import passes
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.values import Objective, build, mean_over_sets, optimise
from locedit.models import LanguageModel
from locedit.problems import Request
from locedit.updates import LowRank


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """iterations: loss evaluations of the released loop, which steps one time less (not erasure).

    kl_factor, decay, clamp: see `values.Objective`.
    """

    lr: float = 0.5
    iterations: int = 20
    clamp: float = 4.0
    kl_factor: float = 0.0625
    decay: float = 0.5


PRESETS: dict[str, dict[str, dict]] = {
    "paper": {
        "all": {},
        "error_injection": {"kl_factor": 1.0},
        "fact_forcing": {"iterations": 25},
    },
    "released": {"all": {}, "fact_forcing": {"iterations": 25, "lr": 0.05}},
}


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: Hyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW = ((v0 + delta) - w0) u^T / (k0 . u) with u along C^-1 k, one rank-one change a fact."""
    if shared.moments is None:
        raise ValueError("ROME needs key statistics (SharedInputs.moments)")
    maximise = requests[0].problem.maximise
    rows = build(lm, requests, shared)
    seen: dict[str, torch.Tensor] = {}
    index = torch.arange(len(rows.last), device=lm.device)

    def see(inner: torch.Tensor, output: torch.Tensor) -> None:
        seen["k"], seen["w"] = inner[index, rows.last], output[index, rows.last]

    def see_mlp(_: torch.Tensor, output: torch.Tensor) -> None:
        seen["v"] = output[index, rows.last]

    with (
        torch.no_grad(),
        passes.hooked({lm.down_projection(layer): see}),
        passes.hooked({lm.mlp(layer): see_mlp}),
    ):
        recorded = passes.record(lm, rows.ids, rows.lengths, noise=rows.noise)
    keys = rows.of_context(seen["k"])
    v0, w0, k0 = (
        rows.of_context(seen["v"])[:, 0],
        rows.of_context(seen["w"])[:, 0],
        keys[:, 0],
    )
    objective = Objective(
        lr=hyper.lr,
        steps=hyper.iterations - maximise,
        clamp=hyper.clamp,
        kl_factor=hyper.kl_factor,
        decay=hyper.decay,
        maximise=maximise,
    )
    delta, losses = optimise(lm, rows, recorded, layer, v0, objective, mlp_output=seen["v"])
    direction = shared.moments.solve(layer, mean_over_sets(keys, shared))
    direction = direction / direction.norm(dim=1, keepdim=True)
    left = (v0 + delta - w0) / (k0 * direction).sum(dim=1, keepdim=True)
    update = LowRank(left=left, right=direction)
    return Edit(updates={layer: update}, steps=[objective.steps] * len(requests), losses=losses)
