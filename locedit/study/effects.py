"""What a localizer says of each fact and layer, in the columns of the effects table.

Tracing keeps its cells (a row per fact, token and layer), every other localizer a row per fact and
layer; here both become rows of one kind.
"""

from pathlib import Path

import pandas as pd

from locedit.localizers import TRACING, restoration
from locedit.store import schemas, tables

COLUMNS = schemas.SCHEMAS["effects"].names
# the tracing effect is what tracing says of a layer; the other measures keep their names
TRACED = {f"fraction_max{half}": f"value{half}" for half in ("", "_half1", "_half2")}


def of_table(path: str | Path, localizer: str, *, reference: str) -> tuple[pd.DataFrame, list[str]]:
    """One localizer's effects from its own table, and the facts that have no value there.

    path: tracing/MODULE/window-W.parquet of tracing, localizing/LOCALIZER/MODULE/window-W.parquet
    of the others. reference: of tracing, what an effect is a share of, as `restoration.effects`
    takes it. Rows per fact and layer with `case_id`, `layer`, `value` and what else there is of
    the effects table's columns.
    """
    if localizer == TRACING:
        cells = tables.read(path, "tracing")
        return of_cells(cells, reference=reference), _without(cells, "p_restored")
    rows = tables.read(path, "localizing")
    return of_layers(rows), _without(rows, "layer")


def of_cells(cells: pd.DataFrame, *, reference: str) -> pd.DataFrame:
    """Per fact and layer, from the tracing table's cells: the tracing effect as `value`."""
    cost = cells.groupby("case_id")[["passes"]].first()
    table = restoration.effects(cells, reference=reference).rename(columns=TRACED)
    return table.join(cost, on="case_id")


def of_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """Per fact and layer, from another localizer's table, with those further measures that the
    effects have columns for; facts without a value are left out.
    """
    rows = rows[rows["layer"].notna()].reset_index(drop=True)
    further = pd.DataFrame([dict(pairs) for pairs in rows.pop("further")], index=rows.index)
    further = further[[name for name in further if name in COLUMNS]]
    return rows.drop(columns="status").join(further)


def _without(rows: pd.DataFrame, value: str) -> list[str]:
    return list(rows.loc[rows[value].isna(), "case_id"].unique())
