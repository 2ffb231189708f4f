"""One cell of localization: a localizer at one place, over all facts, as rows of its table."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from locedit import outcomes
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, Localization, Place, SharedInputs, Unavailable
from locedit.localizers.returned import HALVES
from locedit.model.language_model import LanguageModel
from locedit.study.batching import together_or_alone


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A localizer, where it looks, and its settings."""

    localizer: str
    place: Place
    settings: Any


def localize_cell(
    lm: LanguageModel,
    cell: Cell,
    together: Iterable[Sequence[Fact]],
    shared: SharedInputs,
    *,
    progress: Callable[[int], None] = lambda _done: None,
) -> Iterator[dict[str, Any]]:
    """Rows of the localizing table, one a fact and layer, in the order of the batches.

    A fact without a value is one row with the reason, and one that fails alike: where a batch
    fails, its facts are tried one by one so that only the bad one is lost.
    """
    for batch in together:
        found = together_or_alone(lambda some: _localize_batch(lm, cell, some, shared), batch)
        for fact, row in zip(batch, found, strict=True):
            yield from _by_layer(fact.case_id, row)
        progress(len(batch))


def _localize_batch(
    lm: LanguageModel, cell: Cell, facts: Sequence[Fact], shared: SharedInputs
) -> list[dict[str, Any]]:
    """Each fact's answer, as columns of [layers]."""
    localizer = LOCALIZERS[cell.localizer]
    answers = localizer.localize(lm, facts, cell.place, cell.settings, shared)
    return [
        {"status": f"{outcomes.NOT_LOCALIZED}{answer.reason}"}
        if isinstance(answer, Unavailable)
        else _columns(answer)
        for answer in answers
    ]


def _columns(answer: Localization) -> dict[str, Any]:
    columns = {"value": answer.values}
    if answer.halves is not None:
        columns |= dict(zip(HALVES, answer.halves, strict=True))
    arrays = {
        key: np.asarray(values, dtype=float)
        for key, values in {**columns, **answer.further}.items()
    }
    infinite = any(map(math.isinf, arrays["value"]))
    return {
        "columns": {key: arrays[key] for key in columns},
        "further": {key: arrays[key] for key in answer.further},
        "passes": float(answer.passes),
        "status": f"{outcomes.FAILED}its values are not finite" if infinite else outcomes.OK,
    }


def _by_layer(case_id: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if row["status"] != outcomes.OK:
        yield {"case_id": case_id, "status": row["status"]}
        return
    cost = {key: row[key] for key in ("passes", "status")}
    for layer in range(len(row["columns"]["value"])):
        yield {
            "case_id": case_id,
            "layer": layer,
            **{key: float(values[layer]) for key, values in row["columns"].items()},
            "further": [(key, float(values[layer])) for key, values in row["further"].items()],
            **cost,
        }
