"""The built-in methods as data: hyperparameters, presets and needs (METHODS section 4, Editors).

First the paper's four, then the others. What each does is in a module of its own, which is
imported when it is first used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from locedit.methods.base import Method
from locedit.methods.problems import PROBLEMS
from locedit.settings import Count, NotNegative, Positive

EDIT_WINDOW = 5  # width of the window that FT-5 and MEMIT edit (Hase et al. 2023, section 5.2)

# Where the key is read and the value written: the subject's last token, or the prompt's
FactToken = Literal["subject_last", "last"]
Iterations = Annotated[int, Field(ge=2)]  # of a loop that steps one time less


@dataclass(frozen=True, kw_only=True)
class FineTuningHyperparameters:
    """window: layers edited around the edit layer. eps: L_inf bound on every weight's change.

    A fact whose loss has fallen below `enough` is left alone. embedding_eps, embedding_lr,
    embedding_steps: in place of the others where the embedding is edited.
    """

    window: Count
    eps: Positive
    lr: Positive = 5e-4
    steps: Count = 25
    enough: NotNegative = 1e-2
    embedding_eps: Positive = 1e-2
    embedding_lr: Positive = 1e-3
    embedding_steps: Count = 100


@dataclass(frozen=True, kw_only=True)
class RomeHyperparameters:
    """iterations: loss evaluations of the released loop, which steps one time less (not erasure).

    kl_factor, decay, clamp: see `values.Objective`. fact_token: see `values.build`.
    """

    lr: Positive = 0.5
    iterations: Iterations = 20
    clamp: Positive = 4.0
    kl_factor: NotNegative = 0.0625
    decay: NotNegative = 0.5
    fact_token: FactToken = "subject_last"


@dataclass(frozen=True, kw_only=True)
class SpreadHyperparameters:
    """Of a value that a window writes. iterations: loss evaluations, one more than Adam steps.

    fact_token: see `values.build`.
    """

    window: Count = EDIT_WINDOW
    lr: Positive = 0.5
    iterations: Iterations = 25
    clamp: Positive = 0.75
    kl_factor: NotNegative = 0.0625
    decay: NotNegative = 0.5
    fact_token: FactToken = "subject_last"


@dataclass(frozen=True, kw_only=True)
class MemitHyperparameters(SpreadHyperparameters):
    """moment_weight: lambda, C's weight."""

    moment_weight: Positive = 15000.0


@dataclass(frozen=True, kw_only=True)
class EmmetHyperparameters(SpreadHyperparameters):
    """ridge: added to K^T C^-1 K, for which values are not met exactly."""

    ridge: NotNegative = 0.1


@dataclass(frozen=True, kw_only=True)
class AlphaEditHyperparameters(SpreadHyperparameters):
    """l2: weight of the change's own size. threshold and its kind: see `alphaedit.null_space`."""

    l2: Positive = 10.0
    threshold: Positive = 1.0
    threshold_kind: Literal["relative", "absolute", "energy"] = "relative"


@dataclass(frozen=True, kw_only=True)
class MaskedFineTuningHyperparameters:
    """A fact whose loss, per token, has fallen below `enough` is left alone. embedding_lr,
    embedding_steps: in place of the others where the embedding is edited.
    """

    lr: Positive = 5e-4
    steps: Count = 25
    enough: NotNegative = 1e-2
    embedding_lr: Positive = 1e-3
    embedding_steps: Count = 100


@dataclass(frozen=True, kw_only=True)
class NeuronHyperparameters:
    """share: of the layer's largest attribution, above which a neuron is rewritten. steps: of the
    integrated gradients. subtract, add: lambda 1 and 2, the lengths of what is taken from a value
    row and put in, as multiples of its own.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    steps: Count = 20
    subtract: NotNegative = 1.0
    add: NotNegative = 8.0


def _fine_tuning(
    name: str, window: int, paper: Sequence[float], released: Sequence[float]
) -> Method:
    """Fine-tuning with each preset's eps, in the order of the problems."""

    def preset(values: Sequence[float]) -> dict:
        table: dict = {"all": {"window": window}}
        table |= {problem: {"eps": eps} for problem, eps in zip(PROBLEMS, values, strict=True)}
        table["fact_forcing"] |= {"steps": 50, "embedding_steps": 50}
        return table

    return Method(
        name=name,
        function="locedit.methods.ft:edit",
        settings=FineTuningHyperparameters,
        presets={"paper": preset(paper), "released": preset(released)},
        embedding=True,
    )


ROME_PRESETS: dict[str, dict[str, dict]] = {
    "paper": {
        "error_injection": {"kl_factor": 1.0},
        "fact_forcing": {"iterations": 25},
    },
    "released": {"fact_forcing": {"iterations": 25, "lr": 0.05}},
}

BUILTIN = (
    _fine_tuning("FT-1", 1, (1e-4, 1e-5, 1e-5, 1e-5, 1e-4), (1e-4, 1e-3, 1e-5, 5e-5, 1e-4)),
    _fine_tuning(
        "FT-5", EDIT_WINDOW, (2e-5, 2e-5, 1e-5, 1e-5, 1e-4), (5e-5, 1e-3, 1e-5, 1e-5, 1e-4)
    ),
    Method(
        name="ROME",
        function="locedit.methods.rome:edit",
        settings=RomeHyperparameters,
        presets=ROME_PRESETS,
        contexts="rome",
        statistics=True,
    ),
    Method(
        name="MEMIT",
        function="locedit.methods.memit:edit",
        settings=MemitHyperparameters,
        presets={"paper": {"error_injection": {"kl_factor": 0.9}}},
        contexts="memit",
        statistics=True,
        jointly=True,
    ),
    Method(
        name="r-ROME",
        function="locedit.methods.r_rome:edit",
        settings=RomeHyperparameters,
        presets=ROME_PRESETS,
        contexts="rome",
        statistics=True,
    ),
    Method(
        name="FT-M",
        function="locedit.methods.ft_m:edit",
        settings=MaskedFineTuningHyperparameters,
        jointly=True,
        embedding=True,
    ),
    Method(
        name="EMMET",
        function="locedit.methods.emmet:edit",
        settings=EmmetHyperparameters,
        contexts="memit",
        statistics=True,
        jointly=True,
    ),
    Method(
        name="AlphaEdit",
        function="locedit.methods.alphaedit:edit",
        settings=AlphaEditHyperparameters,
        contexts="memit",
        statistics=True,
        jointly=True,
    ),
    Method(
        name="KN",
        function="locedit.methods.kn:edit",
        settings=NeuronHyperparameters,
    ),
)
