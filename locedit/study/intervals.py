"""Intervals of means of few facts: Student's t, kept inside the bounds of the scores."""

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
EQUAL = 1e-12  # values that differ by this share of the largest are equal


def bounded(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """(mean, low, high) of values within 0 and 1.

    plogis(logit(m) +- t sd / (sqrt(n) m (1 - m))), t of n - 1 degrees: it stays inside. Of n equal
    values c, whose sd says nothing, [q c, q c + 1 - q] with q = (1 - level)^(1/n): were another
    value likelier than 1 - q, n values would be equal less often than 1 - level of the time.
    Without an interval (NaN) where there are fewer than two values.
    """
    array = np.asarray(values, dtype=float)
    n = len(array)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(array.mean())
    if n < 2:
        return mean, math.nan, math.nan
    if float(np.ptp(array)) <= EQUAL * float(np.abs(array).max()):
        sure = (1 - level) ** (1 / n)
        return mean, sure * mean, sure * mean + 1 - sure
    half = t_quantile(0.5 + level / 2, n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    at, step = math.log(mean / (1 - mean)), half / (mean * (1 - mean))
    return mean, _plogis(at - step), _plogis(at + step)


def difference(
    ones: Sequence[float], others: Sequence[float], level: float = LEVEL
) -> tuple[float, float, float]:
    """(mean, low, high) of the paired differences of values within 0 and 1, so within -1 and 1."""
    pairs = zip(ones, others, strict=True)
    found = bounded([(1 + one - other) / 2 for one, other in pairs], level)
    mean, low, high = (2 * value - 1 for value in found)
    return mean, low, high


def t_quantile(p: float, df: int) -> float:
    """The p quantile, p > 1/2, of Student's t with df degrees of freedom."""
    low, high = 0.0, 1.0
    while t_distribution(high, df) < p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_distribution(middle, df) < p else (low, middle)
    return (low + high) / 2


def t_distribution(t: float, df: int) -> float:
    """P(T <= t) for t >= 0 and whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3-4)."""
    angle = math.atan2(t, math.sqrt(df))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = df % 2
    total, term = 0.0, cosine if odd else 1.0
    for k in range(1 if odd else 0, df - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inner = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return (1 + inner) / 2


def _plogis(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
