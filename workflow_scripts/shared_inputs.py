"""Context templates and key statistics, from files to what the methods take."""

from pathlib import Path
from typing import Any

from locedit import tables
from locedit.editing import Measuring
from locedit.methods import METHODS, SharedInputs
from locedit.models import LanguageModel
from locedit.statistics import moments_from_file


def shared_inputs(snakemake: Any, lm: LanguageModel, method: str, how: Measuring) -> SharedInputs:
    """The shared inputs of a method's edits; those that it does not take stay at their defaults."""
    needs, given = METHODS[method], snakemake.input
    found: dict[str, Any] = {}
    if needs.contexts is not None:
        found["contexts"] = tables.context_sets(given.contexts, needs.contexts)
    if needs.statistics:
        found["moments"] = moments_from_file(Path(given.statistics), lm.device)
    return SharedInputs(sigma=how.sigma, seed=how.noise_seed, n_noise=how.n_noise, **found)
