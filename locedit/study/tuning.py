"""Choosing a model's hyperparameters: a grid, scored on facts outside the study.

The choice is that of Hase et al. 2023, appendix B: the best mean of rewrite and neighbourhood
score, among settings whose mean rewrite score is admissible. The paper admits all that is not
beyond a limit, so that edits nearly always succeed; an interval further down leaves layers and
facts room to differ.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from locedit.study.edit import OK
from locedit.study.scores import score_row


def settings(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the grid's values, the first name varying slowest."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def in_words(values: Mapping[str, Any]) -> str:
    """Settings as people read them; some are words themselves."""
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}"
        for key, value in values.items()
    )


def summarise(rows: Sequence[Mapping[str, Any]], aggregate: str) -> dict[str, Any]:
    """Mean rewrite and neighbourhood score over the edited facts, and their mean.

    rows: of the editing table. A neighbourhood score is averaged over the facts that have
    neighbours. Values are NaN where no fact has the score.
    """
    scored = [score_row(row, aggregate) for row in rows if row["status"] == OK]

    def mean(name: str) -> float:
        values = [score[name] for score in scored if not math.isnan(score[name])]
        return float(np.mean(values)) if values else float("nan")

    rewrite, neighbourhood = mean("rewrite"), mean("neighbourhood")
    return {
        "n_facts": len(scored),
        "rewrite": rewrite,
        "neighbourhood": neighbourhood,
        "objective": (rewrite + neighbourhood) / 2,
    }


def choose(
    rows: Sequence[Mapping[str, Any]], interval: tuple[float, float]
) -> list[dict[str, Any]]:
    """The rows with `admissible` (rewrite within the interval, its ends included) and `chosen`.

    Chosen is the best objective among the admissible; where none is, the rewrite score nearest to
    the interval. None is where no row has an objective.
    """
    low, high = interval
    beyond = {
        i: max(low - row["rewrite"], row["rewrite"] - high, 0.0)
        for i, row in enumerate(rows)
        if math.isfinite(row["objective"])
    }
    best = min(beyond, key=lambda i: (beyond[i], -rows[i]["objective"]), default=None)
    return [
        {**row, "admissible": beyond.get(i) == 0, "chosen": i == best} for i, row in enumerate(rows)
    ]
