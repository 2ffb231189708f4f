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
    noise = {"sigma": how.sigma, "seed": how.noise_seed, "n_noise": how.n_noise}
    kind = METHODS[method].contexts
    if kind is None:
        return SharedInputs(**noise)
    table = tables.read(snakemake.input.contexts, "contexts")
    table = table[table["method"] == kind]
    return SharedInputs(
        contexts=[list(group["template"]) for _, group in table.groupby("set")],
        moments=moments_from_file(Path(snakemake.input.statistics), lm.device),
        **noise,
    )
