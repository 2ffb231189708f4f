"""What every localizer takes and gives, and what it says of itself.

No heavy imports: Snakemake reads this each time it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from locedit.registry import imported, module_of

if TYPE_CHECKING:
    import numpy as np

    from locedit.engine.key_statistics import KeyMoments
    from locedit.facts.record import Fact
    from locedit.model.language_model import LanguageModel

MODULES = ("mlp", "attn", "hidden")  # whose outputs a localizer may look at
NO_MODULE = "none"  # in tables: of a localizer that looks at no module (the controls)

Need = Literal["noise", "key_statistics", "contexts", "records", "planting"]
NEEDS: tuple[str, ...] = get_args(Need)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a localizer looks: a module's outputs, so many layers together centred at each."""

    module: str
    window: int = 1


@dataclass(frozen=True, kw_only=True)
class SharedInputs:
    """What localizers take that is computed once for a study; a localizer names its `needs`.

    study: all of its facts, whatever batch or shard is localized (means over prompts). records: of
    the data set, those that could be put to the model, known or not (partners).
    sigma, n_noise, noise_seed: the noise of causal tracing. moments: C = E[k k^T] of each layer.
    contexts: sets of templates, the first set starting with the bare "{}". seed: of other draws.
    planting: the layer that each planted fact was trained into, by case_id.
    """

    study: Sequence[Fact] = ()
    records: Sequence[Fact] = ()
    sigma: float = 0.0
    n_noise: int = 10
    noise_seed: int = 1
    moments: KeyMoments | None = None
    contexts: Sequence[Sequence[str]] = (("{}",),)
    seed: int = 0
    planting: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Localization:
    """One fact's answer: `values` [layers], large where the fact is held; NaN where there is none.

    halves: [2, layers], the same from each half of what was drawn at random, for reliability.
    further: other measures by name, each [layers]. passes: what it cost, in forward passes of the
    whole prompt (a backward pass counts as two, a pass over half of the layers as a half).
    """

    values: np.ndarray
    passes: float
    halves: np.ndarray | None = None
    further: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Why a fact has no value from this localizer: foreseen, no failure, never a stand-in."""

    reason: str


_CHECK = "locedit.localizers.returned:check"  # which knows both kinds of answers

Answer = Localization | Unavailable
LocalizerFunction = Callable[
    ["LanguageModel", Sequence["Fact"], Place, Any, SharedInputs], Sequence[Answer]
]


@dataclass(frozen=True)
class NoSettings:
    """Of a localizer that has nothing to set."""


@dataclass(frozen=True, kw_only=True)
class Localizer:
    """A localizer: its name in the configuration and in tables, and what it needs.

    function: (model, facts, place, settings, shared inputs) -> an answer a fact, or
    "module:function", imported when it is first used. settings: the dataclass of its settings.
    modules: whose outputs it can look at; none of them where it looks at no module (controls).
    windows: whether layers can be taken together; else the window is 1. control: whether it is no
    claim about where a fact is held but what such claims are compared with. new_target: whether it
    looks at the object that an edit would write. cheap: whether a fact takes it so little, a few
    passes a layer at most, that one prompt can be put to all such at once.
    """

    name: str
    function: LocalizerFunction | str
    settings: type = NoSettings
    modules: tuple[str, ...] = ("mlp",)
    windows: bool = False
    needs: frozenset[Need] = frozenset()
    control: bool = False
    new_target: bool = False
    cheap: bool = False

    def localize(
        self,
        lm: LanguageModel,
        facts: Sequence[Fact],
        place: Place,
        settings: Any,
        shared: SharedInputs,
    ) -> Sequence[Localization | Unavailable]:
        """What the function gives for these facts, checked.

        Raises LoceditError, naming the localizer, for what is no answer a fact; SpoiledModelError
        where the model was changed; and what the function raises.
        """
        from locedit.model.left_alone import left_alone  # here: torch takes a second to import

        with left_alone(lm, f"the localizer {self.name}"):
            answers = imported(self.function)(lm, facts, place, settings, shared)
        imported(_CHECK)(answers, self.name, len(facts), lm.n_layers)
        return answers

    @property
    def module(self) -> str:
        """The module that holds the function."""
        return module_of(self.function)

    def places(self, modules: Sequence[str], windows: Sequence[int]) -> list[Place]:
        """Of the configured modules and windows, those that it has; one where it has no choice."""
        own = [module for module in modules if module in self.modules]
        own = own or list(self.modules[:1]) or [NO_MODULE]
        return [
            Place(module=module, window=window)
            for module in own
            for window in (windows if self.windows else [1])
        ]
