"""The localizers of the library as data: where each can look, and what it needs.

What they do is in modules of their own, which are imported when they are first used. The dataclass
of a localizer's settings stands here too, so that the configuration can be checked against it.
"""

from dataclasses import dataclass
from typing import Annotated

from locedit.localizers.base import MODULES, Localizer
from locedit.settings import Count, Limit

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

    draw: Annotated[int, Limit("minimum", 0)] = 0


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
)
