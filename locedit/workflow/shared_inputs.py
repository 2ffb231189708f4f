"""Context templates and key statistics, from files to what the methods take."""

from typing import Any

from locedit.methods import METHODS, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study.edit import Measuring
from locedit.workflow.key_moments import key_moments


def shared_inputs(snakemake: Any, lm: LanguageModel, method: str, how: Measuring) -> SharedInputs:
    """The shared inputs of a method's edits; those that it does not take stay at their defaults."""
    needs, given = METHODS[method], snakemake.input
    found: dict[str, Any] = {}
    if needs.contexts is not None:
        found["contexts"] = tables.context_sets(given.contexts, needs.contexts)
    if needs.statistics:
        found["moments"] = key_moments(snakemake, lm)
    return SharedInputs(sigma=how.sigma, seed=how.noise_seed, n_noise=how.n_noise, **found)
