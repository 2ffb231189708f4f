"""Where each fact's localizer peaks, and the edits that are made there.

A layer at which every fact of a study is edited is *listed*. A fact's own peak is a layer of its
own, so edits at peaks are told from the listed ones: a layer that only some facts were edited at
has the facts that trace well there, and no mean of it compares with another layer's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pandas as pd

from locedit import outcomes
from locedit.study.edit import Subject

NO_PEAK = f"{outcomes.NOT_EDITED}no layer has an effect above zero"


def of_localizer(effects: pd.DataFrame, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of the effects table that :func:`layers` takes: of one localizer, module and window.

    chosen: these three, and `effect`, the localizer's measure that becomes `value`.
    """
    same = (effects[key] == chosen[key] for key in ("localizer", "module", "window"))
    return measured(effects[reduce(and_, same)], chosen["effect"])


def measured(effects: pd.DataFrame, effect: str) -> pd.DataFrame:
    """`case_id`, `layer` and, as `value`, one of the measures in rows of one localizer."""
    return effects[["case_id", "layer", effect]].rename(columns={effect: "value"})


def layers(effects: pd.DataFrame) -> dict[str, int]:
    """Each fact's peak: the layer with its largest value, the first of several.

    effects: rows of one localizer, module and window, with `case_id`, `layer` and `value`. A fact
    without a finite value above zero peaks nowhere and is left out.
    """
    above = effects[np.isfinite(effects["value"]) & (effects["value"] > 0)]
    order = above.sort_values(["value", "layer"], ascending=[False, True])
    first = order.drop_duplicates("case_id").set_index("case_id")["layer"]
    return {str(case_id): int(layer) for case_id, layer in first.items()}


def mean_layer(effects: pd.DataFrame) -> int | None:
    """The layer whose mean value over facts is largest, the first of several.

    effects: as of :func:`layers`. None where no layer's mean is above zero.
    """
    finite = effects[np.isfinite(effects["value"])]
    means = finite.groupby("layer")["value"].mean()  # layers ascending, so the first of several
    return int(means.idxmax()) if len(means) and means.max() > 0 else None


def grouped(
    subjects: Iterable[Subject], peaks: Mapping[str, int]
) -> list[tuple[int | None, list[Subject]]]:
    """The subjects by the layer where each peaks, ascending; each group in the order given.

    Those that peak nowhere come last, under None, with that as the reason why they are not edited.
    """
    groups: dict[int, list[Subject]] = {}
    nowhere = []
    for subject in subjects:
        layer = peaks.get(subject.fact.case_id)
        if layer is not None:
            groups.setdefault(layer, []).append(subject)
        elif subject.before["status"] == outcomes.OK:
            nowhere.append(replace(subject, before={**subject.before, "status": NO_PEAK}))
        else:  # what else keeps it from being edited
            nowhere.append(subject)
    return [*sorted(groups.items()), *([(None, nowhere)] if nowhere else [])]


def marked(
    listed: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Rows of listed edits and of edits at facts' own peaks, one for each fact, pair and layer.

    Where a fact's peak is a listed layer of its pair, the listed edit stays. `listed` and `at_peak`
    are added; without any edit at a peak no peak is known, and no row is at one. Rows: `case_id`,
    `method`, `problem`, `layer` (None of a fact that peaks nowhere), and whatever else they have.
    """
    peaks = {row["case_id"]: row["layer"] for row in own if row["layer"] is not None}
    there = {_key(row) for row in listed}
    others = (row for row in own if _key(row) not in there)
    for rows, is_listed in ((listed, True), (others, False)):
        for row in rows:
            at_peak = row["layer"] is not None and peaks.get(row["case_id"]) == row["layer"]
            yield {**row, "listed": is_listed, "at_peak": at_peak}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["case_id"], row["method"], row["problem"], row["layer"]
