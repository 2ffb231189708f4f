"""The localizers of the library as data: where each can look, and what it needs.

What they do is in modules of their own, which are imported when they are first used. The dataclass
of a localizer's settings stands here too, so that the configuration can be checked against it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from locedit.localizers.base import MODULES, Localizer
from locedit.methods.builtin import ROME_PRESETS, RomeHyperparameters
from locedit.settings import Count, NotNegative

TRACING = "tracing"  # its tables have every token and noise row, so a rule of its own makes them


@dataclass(frozen=True, kw_only=True)
class SwapSettings:
    """partners: with how many other subjects a fact's is swapped, side by side, where it can be.

    Two are the least that tell how reliable a fact's values are.
    """

    partners: Count = 2


@dataclass(frozen=True, kw_only=True)
class RandomSettings:
    """draw: which of the seed's draws; 0, 1, 2 ... are independent of each other."""

    draw: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True)
class AttributionSettings:
    """metric: what is attributed, p(o_true), as causal tracing has it, or log p(o_true)."""

    metric: Literal["log_p", "p"] = "p"


@dataclass(frozen=True, kw_only=True)
class IntegratedSettings:
    """steps: S. n_noise: noise rows, causal tracing's first ones: each costs S passes and back.

    metric: log p(o_true), or p(o_true), which rises near the clean run alone.
    """

    steps: Count = 10
    n_noise: Count = 2
    metric: Literal["log_p", "p"] = "log_p"


@dataclass(frozen=True, kw_only=True)
class EditCostSettings(RomeHyperparameters):
    """target: v* from one gradient step (`cheap`) or from ROME's optimisation (`full`), whose
    hyperparameters the others are, as the paper has them where o_new is written.
    """

    target: Literal["cheap", "full"] = "cheap"
    kl_factor: NotNegative = ROME_PRESETS["paper"]["error_injection"]["kl_factor"]


@dataclass(frozen=True, kw_only=True)
class NeuronSettings:
    """steps: S. token: where activations are scaled, at the prompt's `last` token, from which the
    object is predicted (the paper's), or at the `subject`'s last, where edits write.
    """

    steps: Count = 20
    token: Literal["last", "subject"] = "last"


BUILTIN = (
    Localizer(
        name=TRACING,
        function="locedit.localizers.restoration:localize",
        modules=MODULES,
        windows=True,
        needs=frozenset({"noise"}),
    ),
    Localizer(
        name="zeroing",
        function="locedit.localizers.zeroing:localize",
        modules=MODULES,
        windows=True,
        cheap=True,
    ),
    Localizer(
        name="swap_tracing",
        function="locedit.localizers.swap_tracing:localize",
        settings=SwapSettings,
        modules=MODULES,
        windows=True,
        needs=frozenset({"records"}),
    ),
    Localizer(
        name="mean_ablation",
        function="locedit.localizers.mean_ablation:localize",
        modules=MODULES,
        windows=True,
        cheap=True,
    ),
    Localizer(
        name="lens_rise",
        function="locedit.localizers.lens_rise:localize",
        modules=("hidden",),
        cheap=True,
    ),
    Localizer(
        name="direct",
        function="locedit.localizers.direct:localize",
        modules=MODULES,
        new_target=True,
        cheap=True,
    ),
    Localizer(
        name="placebo",
        function="locedit.localizers.placebo:localize",
        modules=MODULES,
        windows=True,
        needs=frozenset({"noise"}),
        control=True,
    ),
    Localizer(
        name="depth",
        function="locedit.localizers.controls:depth",
        modules=(),
        control=True,
    ),
    Localizer(
        name="middle",
        function="locedit.localizers.controls:middle",
        modules=(),
        control=True,
    ),
    Localizer(
        name="random",
        function="locedit.localizers.controls:random",
        settings=RandomSettings,
        modules=(),
        control=True,
    ),
    Localizer(
        name="attribution",
        function="locedit.localizers.attribution:localize",
        settings=AttributionSettings,
        modules=MODULES,
        needs=frozenset({"noise"}),
        cheap=True,
    ),
    Localizer(
        name="integrated",
        function="locedit.localizers.integrated:localize",
        settings=IntegratedSettings,
        modules=MODULES,
        needs=frozenset({"noise"}),
        cheap=True,
    ),
    Localizer(
        name="salience",
        function="locedit.localizers.salience:localize",
        new_target=True,
        cheap=True,
    ),
    Localizer(
        name="gradient_agreement",
        function="locedit.localizers.gradient_agreement:localize",
        new_target=True,
        cheap=True,
    ),
    Localizer(
        name="edit_cost",
        function="locedit.localizers.edit_cost:localize",
        settings=EditCostSettings,
        needs=frozenset({"key_statistics", "contexts"}),
        control=True,  # it sees the editor's own quantities
        new_target=True,
        cheap=True,
    ),
    Localizer(
        name="neurons",
        function="locedit.localizers.neurons:localize",
        settings=NeuronSettings,
    ),
    Localizer(
        name="planted",
        function="locedit.localizers.planted:localize",
        modules=(),
        needs=frozenset({"planting"}),
        control=True,
    ),
)
