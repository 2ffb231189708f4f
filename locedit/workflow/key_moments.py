"""Key statistics, from the job's input to what methods and localizers take."""

from pathlib import Path
from typing import Any

from locedit.engine.key_statistics import KeyMoments, check_size, moments_from_file
from locedit.model.language_model import LanguageModel


def key_moments(snakemake: Any, lm: LanguageModel) -> KeyMoments:
    """C = E[k k^T] of each layer, with the configured ridge."""
    path, ridge = Path(snakemake.input.statistics), snakemake.config["statistics"]["ridge"]
    check_size(path, lm)
    return moments_from_file(path, lm.device, ridge=ridge)
