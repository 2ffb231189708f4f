"""Gaussian noise on a subject's input embeddings (METHODS section 2, step 2)."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from locedit.errors import LoceditError
from locedit.messages import shown
from locedit.model.language_model import LanguageModel


def draw(rows: int, tokens: int, size: int, *, seed: int) -> np.ndarray:
    """z of `rows` noise rows, [rows, tokens, size]: the same draw for every pass of a fact."""
    return np.random.RandomState(seed).randn(rows, tokens, size)


def place(
    lm: LanguageModel,
    ranges: Sequence[tuple[int, int]],
    length: int,
    *,
    sigma: float,
    seed: int,
    draws: Sequence[int] | None = None,
) -> Tensor:
    """sigma * z on each row's subject tokens, zero elsewhere: [rows, length, d].

    ranges[i] is row i's subject [b, e), wherever it stands in that row; row i gets draw draws[i]
    (i by default).
    """
    indices = range(len(ranges)) if draws is None else draws
    noise = torch.zeros(len(ranges), length, lm.hidden_size, dtype=torch.float64)
    for row, (index, (b, e)) in enumerate(zip(indices, ranges, strict=True)):
        z = draw(index + 1, e - b, lm.hidden_size, seed=seed)[index]
        noise[row, b:e] = torch.from_numpy(sigma * z)
    return noise.to(lm.device, lm.dtype)


def subject_embedding_sd(lm: LanguageModel, subjects: Iterable[str]) -> float:
    """Standard deviation of all entries of the subjects' token embeddings (ROME's collection).

    Each subject is embedded on its own, without the tokens that a tokenizer puts around a text;
    every token's embedding counts as often as it occurs.
    """
    ids = [token for subject in subjects for token in lm.encode(subject, bare=True)]
    return lm.embedding(torch.tensor(ids, device=lm.device)).double().std(correction=0).item()


def parse_sigma(noise: float | str, embedding_sd: float) -> float:
    """A number as it is; "3sd" as three times the subjects' embedding standard deviation.

    Raises LoceditError for another text, and for what is not a positive number.
    """
    unit = embedding_sd if isinstance(noise, str) and noise.endswith("sd") else 1.0
    try:
        number = float(noise.removesuffix("sd") if isinstance(noise, str) else noise)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(noise, bool) or not 0 < number < math.inf:
        raise LoceditError(
            f"sigma: expected a positive number, or deviations as '3sd'; got {shown(noise)}"
        )
    return number * unit
