"""What every editing method takes and gives."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from locedit.models import LanguageModel
from locedit.problems import Request
from locedit.statistics import KeyMoments
from locedit.updates import Updates

EDIT_WINDOW = 5  # width of the window that FT-5 and MEMIT edit (Hase et al. 2023, section 5.2)


@dataclass(frozen=True, kw_only=True)
class SharedInputs:
    """Inputs of edits that are computed once for a study (METHODS section 5).

    contexts: sets of templates, each with one `{}` for the prompt; the first set starts with the
    bare "{}". moments: C = E[k k^T] of each layer. sigma, seed, n_noise: the noise of fact forcing.
    """

    contexts: Sequence[Sequence[str]] = (("{}",),)
    moments: KeyMoments | None = None
    sigma: float = 0.0
    seed: int = 1
    n_noise: int = 10


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Changes for a batch of facts. steps and losses (first, last evaluated): one a fact."""

    updates: Updates
    steps: list[int]
    losses: list[tuple[float, float]] = field(default_factory=list)


EditFunction = Callable[[LanguageModel, Sequence[Request], int, Any, SharedInputs], Edit]


@dataclass(frozen=True)
class Method:
    """A registered method.

    edit: (model, requests of one problem, layer, settings, shared inputs) -> Edit. settings: its
    hyperparameters dataclass. presets: preset -> "all" or problem -> settings. contexts: which
    context sets it takes (`rome`, `memit` or none); methods with contexts need key statistics.
    """

    name: str
    edit: EditFunction
    settings: type
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]]
    contexts: str | None

    def hyperparameters(
        self, problem: str, preset: str, *overlays: Mapping[str, Mapping[str, Any]]
    ) -> Any:
        """The settings for a problem: the preset's, then each overlay's in turn.

        An overlay maps "all" or a problem's name to settings, the problem's own winning. Raises
        ValueError for a setting that the method does not have, naming the nearest.
        """
        values = {**self.presets[preset]["all"], **self.presets[preset].get(problem, {})}
        for overlay in overlays:
            values |= {**overlay.get("all", {}), **overlay.get(problem, {})}
        known = [field.name for field in dataclasses.fields(self.settings)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"hyperparameters of {self.name}: unknown setting {name!r} (known: "
                    f"{', '.join(known)}){hint}"
                )
        return self.settings(**values)
