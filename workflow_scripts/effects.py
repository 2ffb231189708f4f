"""What every localizer says of each fact, module, window and layer: one long table."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from locedit.errors import LoceditError
from locedit.localizers import restoration
from locedit.store import schemas, tables
from locedit.workflow.job import provenance, running

COLUMNS = schemas.SCHEMAS["effects"].names
# the tracing effect is what tracing says of a layer; the other measures keep their names
TRACED = {f"fraction_max{half}": f"value{half}" for half in ("", "_half1", "_half2")}


def main(snakemake) -> None:
    with running(snakemake) as log:
        relations = tables.read(snakemake.input.study, "facts").set_index("case_id")["relation_id"]
        traced = partial(tracing_effects, reference=snakemake.params.reference)
        parts = [
            *gathered(snakemake.input.traces, "tracing", "p_restored", traced, log),
            *gathered(snakemake.input.localized, "localizing", "layer", localized, log),
        ]
        table = joined([part for part in parts if not part.empty])
        table["relation_id"] = table["case_id"].map(relations)
        table["model"], table["dataset"] = snakemake.params.model, snakemake.params.dataset
        table = table.reindex(columns=COLUMNS)
        tables.write(snakemake.output[0], table, "effects", provenance(snakemake))


def gathered(
    paths: Iterable[str],
    schema: str,
    value: str,
    effects: Callable[[pd.DataFrame], pd.DataFrame],
    log: logging.Logger,
) -> Iterable[pd.DataFrame]:
    """The effects of each table; a fact without `value` is named in the log."""
    for path in map(Path, paths):
        cells = tables.read(path, schema)
        for case_id in cells.loc[cells[value].isna(), "case_id"].unique():
            log.warning("%s: fact %s has no value", path, case_id)
        window, module = int(path.stem.rpartition("-")[2]), path.parent.name
        # tracing/MODULE/..., localizing/LOCALIZER/MODULE/...
        localizer = path.parent.parent.name
        yield effects(cells).assign(localizer=localizer, module=module, window=window)


def tracing_effects(cells: pd.DataFrame, *, reference: str) -> pd.DataFrame:
    """Per fact and layer, from the tracing table's cells: the tracing effect as `value`."""
    cost = cells.groupby("case_id")[["passes"]].first()
    table = restoration.effects(cells, reference=reference).rename(columns=TRACED)
    return table.join(cost, on="case_id")


def localized(cells: pd.DataFrame) -> pd.DataFrame:
    """Per fact and layer, from another localizer's table, with those further measures that the
    effects have columns for; facts without a value are left out.
    """
    cells = cells[cells["layer"].notna()].reset_index(drop=True)
    further = pd.DataFrame([dict(pairs) for pairs in cells.pop("further")], index=cells.index)
    further = further[[name for name in further if name in COLUMNS]]
    return cells.drop(columns="status").join(further)


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables one below the other; LoceditError where there is none."""
    if not parts:
        raise LoceditError("no fact could be localized; the log of each localizer's job says why")
    return pd.concat(parts, ignore_index=True)


if __name__ == "__main__":
    main(snakemake)
