"""ROME: a rank-one change of one down projection (Meng et al. 2022, arXiv 2202.05262, section 3).

METHODS section 4, with the released code's irregularity that the update is solved at the bare
prompt's key while its direction comes from the mean key (Gupta et al. 2024, arXiv 2403.07175).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from locedit.engine.updates import LowRank
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import RomeHyperparameters
from locedit.methods.problems import Request
from locedit.methods.values import Objective, build, mean_over_sets, observe, optimise
from locedit.model.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a rank-one change of one layer is made of, for a batch of facts.

    keys, outputs: the down projection's, at the subject's last token of each context row, [facts,
    contexts, d_ff] and [facts, contexts, d]. value: v0 + delta, [facts, d]. mean_key: [facts,
    d_ff]; direction: u = C^-1 mean_key / ||C^-1 mean_key||, [facts, d_ff].
    """

    keys: Tensor
    outputs: Tensor
    value: Tensor
    mean_key: Tensor
    direction: Tensor
    steps: int
    losses: list[tuple[float, float]]

    def at(self, layer: int, key: Tensor, output: Tensor) -> Edit:
        """dW = (value - output) u^T / (key . u): the layer then answers `key` with `value`.

        key: [facts, d_ff]; output: what the unedited layer answers it with, [facts, d].
        """
        left = (self.value - output) / (key * self.direction).sum(dim=1, keepdim=True)
        update = LowRank(left=left, right=self.direction)
        return Edit(updates={layer: update}, steps=[self.steps] * len(left), losses=self.losses)


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: RomeHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """dW = ((v0 + delta) - w0) u^T / (k0 . u), one rank-one change a fact."""
    found = solve(lm, requests, layer, hyper, shared)
    return found.at(layer, found.keys[:, 0], found.outputs[:, 0])


def solve(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: RomeHyperparameters,
    shared: SharedInputs,
) -> Written:
    """The optimised value and the direction of the change, before its scale is chosen."""
    moments = shared.moments_for("ROME")
    maximise = requests[0].problem.maximise
    rows = build(lm, requests, shared, fact_token=hyper.fact_token)
    recorded, keys, outputs, mlp_output = observe(lm, rows, layer)
    v0 = rows.of_context(mlp_output)[:, 0]
    objective = Objective(
        lr=hyper.lr,
        steps=hyper.iterations - maximise,
        clamp=hyper.clamp,
        kl_factor=hyper.kl_factor,
        decay=hyper.decay,
        maximise=maximise,
    )
    delta, losses = optimise(lm, rows, recorded, layer, v0, objective, mlp_output)
    mean_key = mean_over_sets(keys, shared)
    direction = moments.solve(layer, mean_key)
    return Written(
        keys=keys,
        outputs=outputs,
        value=v0 + delta,
        mean_key=mean_key,
        direction=direction / direction.norm(dim=1, keepdim=True),
        steps=objective.steps,
        losses=losses,
    )
