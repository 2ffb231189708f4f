"""What every editing method takes and gives, and what it says of itself.

No heavy imports: Snakemake reads this each time it starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from locedit.errors import LoceditError
from locedit.messages import unknown
from locedit.registry import ALL, imported, module_of
from locedit.windows import EMBEDDING

if TYPE_CHECKING:
    from locedit.engine.key_statistics import KeyMoments
    from locedit.engine.updates import Updates
    from locedit.methods.problems import Request
    from locedit.model.language_model import LanguageModel

Preset = Literal["paper", "released"]  # whose hyperparameters (METHODS section 4)
PRESETS: tuple[str, ...] = get_args(Preset)
CONTEXTS = ("rome", "memit")  # the sets of context templates that a study samples


@dataclass(frozen=True, kw_only=True)
class SharedInputs:
    """Inputs of edits that are computed once for a study (METHODS section 5).

    contexts: sets of templates, each with one `{}` for the prompt; the first set starts with the
    bare "{}". moments: C = E[k k^T] of each layer. sigma, seed, n_noise: the noise of fact forcing.
    jointly: None, each fact gets an edit of its own; a number, all facts are edited in one update
    (asked of methods that can, see `Method`), so many of them side by side.
    """

    contexts: Sequence[Sequence[str]] = (("{}",),)
    moments: KeyMoments | None = None
    sigma: float = 0.0
    seed: int = 1
    n_noise: int = 10
    jointly: int | None = None

    def moments_for(self, method: str) -> KeyMoments:
        """The key statistics; LoceditError, naming the method, where there are none."""
        if self.moments is None:
            raise LoceditError(f"{method} needs key statistics (SharedInputs.moments)")
        return self.moments


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Changes for a batch of facts. steps and losses (first, last evaluated): one a fact; no losses
    where a method has none. Of facts edited in one update, the changes are those of one fact.

    null_space_rank: of each edited layer, lowest first, how many of d_ff dimensions the change was
    confined to; None where a method confines it to none. neurons: of each fact, how many were
    rewritten; None where a method picks none. not_edited: facts that there is no edit of, by their
    place in the batch, with the reason; what `updates` has for them is not looked at.
    """

    updates: Updates
    steps: list[int]
    losses: list[tuple[float, float]] = field(default_factory=list)
    null_space_rank: Sequence[int] | None = None
    neurons: Sequence[int] | None = None
    not_edited: Mapping[int, str] = field(default_factory=dict)


_CHECK = "locedit.methods.returned:check"  # which knows `Edit`

EditFunction = Callable[["LanguageModel", Sequence["Request"], int, Any, SharedInputs], Edit]


@dataclass(frozen=True, kw_only=True)
class Method:
    """An editing method: its name in the configuration and in tables, and what it needs.

    function: (model, requests of one problem, layer, hyperparameters, shared inputs) -> Edit, or
    "module:function", imported when it is first used. settings: the dataclass of its
    hyperparameters. presets: `paper` and `released` -> "all" or problem -> settings, where they
    differ from the dataclass's defaults. contexts: the sampled contexts that it takes (`rome`,
    `memit`, or none); statistics: whether it takes key statistics. jointly: whether it can edit
    many facts in one update, as `SharedInputs.jointly` then asks it to; where it cannot, facts that
    are edited together are edited one after another, each on the model as the others left it.
    embedding: whether it can edit the input embedding, at layer EMBEDDING.
    """

    name: str
    function: EditFunction | str
    settings: type
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    contexts: Literal["rome", "memit"] | None = None
    statistics: bool = False
    jointly: bool = False
    embedding: bool = False

    def unfit(self, layer: int) -> str | None:
        """Why there is no edit of any fact at a layer; None where there is."""
        if layer != EMBEDDING or self.embedding:
            return None
        return f"{self.name} writes to MLPs and has no meaning for the embedding"

    def fine_tuned(self, settings: Any) -> int:
        """Layers each weight of which is trained: what an edit holds most of, unless contexts."""
        return 0 if self.contexts else getattr(settings, "window", 1)

    def edit(
        self,
        lm: LanguageModel,
        requests: Sequence[Request],
        layer: int,
        hyper: Any,
        shared: SharedInputs,
    ) -> Edit:
        """What the function gives for these requests, checked.

        Raises LoceditError, naming the method and the field, for what is no `Edit` of them;
        SpoiledModelError where the model was changed; and what the function raises.
        """
        from locedit.model.left_alone import left_alone  # here: torch takes a second to import

        with left_alone(lm, f"the method {self.name}"):
            found = imported(self.function)(lm, requests, layer, hyper, shared)
        check = imported(_CHECK)
        check(found, self.name, lm, len(requests), jointly=shared.jointly is not None)
        return found

    @property
    def module(self) -> str:
        """The module that holds the function."""
        return module_of(self.function)

    def hyperparameters(
        self, problem: str, preset: str, *overlays: Mapping[str, Mapping[str, Any]]
    ) -> Any:
        """The settings for a problem: the preset's, then each overlay's in turn.

        An overlay maps "all" or a problem's name to settings, the problem's own winning. Raises
        ValueError for a setting that the method does not have, naming the nearest, and for one
        that is given nowhere.
        """
        values: dict[str, Any] = {}
        for overlay in (self.presets.get(preset, {}), *overlays):
            values |= {**overlay.get(ALL, {}), **overlay.get(problem, {})}
        fields = {field.name: field for field in dataclasses.fields(self.settings)}
        for name in values:
            if name not in fields:
                raise LoceditError(
                    f"hyperparameters of {self.name}: {unknown('setting', name, fields)}"
                )
        missing = dataclasses.MISSING
        for name, one in fields.items():
            if name not in values and one.default is missing and one.default_factory is missing:
                raise LoceditError(
                    f"hyperparameters of {self.name}: {name!r} has no default and the preset "
                    f"{preset!r} gives none for {problem}"
                )
        return self.settings(**values)
