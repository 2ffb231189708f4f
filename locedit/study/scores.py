"""Scores of an edit from stored log-probabilities (METHODS section 6)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from locedit.methods.problems import PROBLEMS

KINDS = ("rewrite", "paraphrase", "neighbourhood")

# The scores that a study's primary comparison may be of, of which edits that are made again have a
# column each
REPEATED = (*(f"{kind}_log_odds" for kind in KINDS), "essence", "overall")

# log p of the largest probability below 1 that float32 tells from it: p is computed no finer
_MOST = math.log1p(-float(np.finfo(np.float32).epsneg))


def score_row(row: Mapping[str, Any], how: str) -> dict[str, Any]:
    """Scores of one editing-table row (METHODS section 6); `how` aggregates prompts."""
    maximise = PROBLEMS[row["problem"]].maximise

    def moved(kind: str) -> list[float]:
        pairs = zip(_p(row, f"{kind}_target_before"), _p(row, f"{kind}_target_after"), strict=True)
        return [rewrite_score(a, b, maximise=maximise) for a, b in pairs]

    near = (_p(row, f"neighbourhood_target_{when}") for when in ("before", "after"))
    kept = [neighbourhood_score(a, b) for a, b in zip(*near, strict=True)]
    scores: dict[str, Any] = {
        "rewrite": aggregate(moved("rewrite"), how),
        "paraphrase": aggregate(moved("paraphrase"), how),
        "neighbourhood": aggregate(kept, how),
        "essence": essence_score(row["perplexity_before"], row["perplexity_after"]),
    }
    scores["text"] = text_score(row["text_before"], row["text_after"])
    parts = [scores[name] for name in KINDS]
    scores["overall"] = sum(parts) / 3
    scores["overall_essence"] = (sum(parts) + scores["essence"]) / 4
    for kind in KINDS:
        scores |= _after(row, kind, how, maximise=maximise)
    scores |= _said(row, how, maximise=maximise)
    scores["ngram_entropy_before"] = ngram_entropy(list(row["generations_before"]))
    scores["ngram_entropy_after"] = ngram_entropy(list(row["generations_after"]))
    return scores


def _after(row: Mapping[str, Any], kind: str, how: str, *, maximise: bool) -> dict[str, float]:
    """What the edited model says of one kind of prompts: larger is more successful.

    In the ROME suite's sense: the target should win, except among neighbours and in erasure.
    """
    sign = -1 if (kind == "neighbourhood") == maximise else 1
    pairs = zip(_p(row, f"{kind}_target_after"), _p(row, f"{kind}_other_after"), strict=True)
    gaps = [sign * (target - other) for target, other in pairs]
    odds = [sign * log_odds(value) for value in _log_p(row, f"{kind}_target_after")]
    found = {
        f"{kind}_magnitude": aggregate(gaps, how),
        f"{kind}_success": aggregate([_won(gap) for gap in gaps], how),
        f"{kind}_log_odds": aggregate(odds, how),
    }
    if kind == "paraphrase":  # of which a fact has several: how reliable the outcome is
        halves = _halves(odds if how == "mean" else odds[:1])
        found |= {f"{kind}_log_odds_{half}": value for half, value in halves.items()}
    return found


def _won(gap: float) -> float:
    return gap if math.isnan(gap) else float(gap > 0)


def _said(row: Mapping[str, Any], how: str, *, maximise: bool) -> dict[str, float]:
    """Whether what the edited model writes has the target in it (erasure: lacks it), and whether
    it has the other object: shares of the prompt and of its paraphrases.
    """
    texts = list(row["said_after"])
    found: dict[str, float] = {}
    for kind, some in (("rewrite", texts[:1]), ("paraphrase", texts[1:])):
        target = [float(occurs(row["target"], text) == maximise) for text in some]
        other = [float(occurs(row["other"], text)) for text in some]
        found[f"{kind}_said"] = aggregate(target, how)
        found[f"{kind}_other_said"] = aggregate(other, how)
    return found


def occurs(name: str, text: str) -> bool:
    """Whether a text has an object in it, as the model's knowledge is told: in lower case."""
    return name.lower() in text.lower()


def _log_p(row: Mapping[str, Any], column: str) -> list[float]:
    """A column's log-probabilities, one a prompt."""
    value = row[column]
    return [value] if isinstance(value, float) else list(value)


def _p(row: Mapping[str, Any], column: str) -> list[float]:
    return [math.exp(value) for value in _log_p(row, column)]


def rewrite_score(p: float, p_after: float, *, maximise: bool = True) -> float:
    """(p* - p) / (1 - p), floored at 2e-8; for erasure (p - p*) / p, floored at 0.

    Where nothing is left to be written, 1 for an edit that keeps it so.
    """
    moved, room, floor = (p_after - p, 1 - p, 2e-8) if maximise else (p - p_after, p, 0.0)
    if room <= 0:
        return math.nan if math.isnan(moved) else 1.0 if moved >= 0 else floor
    return max(moved / room, floor)


def neighbourhood_score(p: float, p_after: float) -> float:
    """1 - |p* - p| / (.5 + |p - .5|): 1 untouched, 0 moved all the way."""
    return 1 - abs(p_after - p) / (0.5 + abs(p - 0.5))


def essence_score(before: Sequence[float], after: Sequence[float]) -> float:
    """1 - clip(mean perplexity after - before, 0, 5) / 5; NaN without texts."""
    if not len(before):
        return float("nan")
    return 1 - float(np.clip(np.mean(after) - np.mean(before), 0, 5)) / 5


def text_score(before: Sequence[float], after: Sequence[float]) -> float:
    """Perplexity of held-out text before by that after, at most 1; NaN without text.

    Of paragraphs of one length, whose perplexity together is the geometric mean of theirs.
    """
    if not len(before):
        return float("nan")
    gained = float(np.mean(np.log(np.array(after))) - np.mean(np.log(np.array(before))))
    return math.exp(-max(gained, 0.0))  # in this order NaN stays NaN


def aggregate(values: Iterable[float], how: str) -> float:
    """Of a fact's several prompts: their `mean`, or the `first` as the released code has it."""
    values = list(values)
    if not values:
        return float("nan")
    return values[0] if how == "first" else float(np.mean(values))


def log_odds(log_p: float) -> float:
    """log(p / (1 - p)) from log p.

    log p - log(1 - p) with 1 - p = -expm1(log p): exact also where p itself would round to 0 or
    to 1 (Maechler 2012, "Accurately computing log(1 - exp(-|a|))"). What is stored as p = 1 counts
    as float32's next number below, so that the log odds stay finite: 16.6 at most.
    """
    log_p = min(log_p, _MOST)
    return log_p - math.log(-math.expm1(log_p))


def _halves(values: Sequence[float]) -> dict[str, float]:
    """Means of the first and of the second half of a fact's prompts; NaN of fewer than two."""
    middle = len(values) // 2
    if middle == 0:
        return dict.fromkeys(("half1", "half2"), float("nan"))
    return {"half1": float(np.mean(values[:middle])), "half2": float(np.mean(values[middle:]))}


def ngram_entropy(texts: Sequence[str]) -> float:
    """Fluency of generated text: mean over texts of 1/3 H(bigrams) + 2/3 H(trigrams), in bits.

    The mean of both, weighted 2/3 and 4/3, as in the ROME suite (Meng et al. 2022, section 3.4).
    Words come from nltk's regular expressions, which need no data. NaN without texts of three
    words.
    """
    from nltk.tokenize import wordpunct_tokenize

    values = []
    for text in texts:
        words = wordpunct_tokenize(text)
        if len(words) >= 3:
            values.append(_entropy(words, 2) / 3 + 2 * _entropy(words, 3) / 3)
    return float(np.mean(values)) if values else float("nan")


def _entropy(words: Sequence[str], n: int) -> float:
    from nltk import FreqDist, ngrams

    counts = np.array(list(FreqDist(ngrams(words, n)).values()), dtype=float)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
