"""Tracing effects per fact, module, window and layer, from the restored and the zeroed cells."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pandas as pd

from locedit.errors import LoceditError
from locedit.localizers import restoration, zeroing
from locedit.store import schemas, tables
from locedit.workflow.job import provenance, running

KEYS = ["case_id", "module", "window", "layer"]


def main(snakemake) -> None:
    with running(snakemake) as log:
        relations = tables.read(snakemake.input.study, "facts").set_index("case_id")["relation_id"]
        restored = partial(restoration.effects, reference=snakemake.params.reference)
        parts = [
            gathered(snakemake.input.traces, "tracing", "p_restored", restored, log),
            gathered(snakemake.input.zeros, "zeroing", "p_zeroed", zeroing.effects, log),
        ]
        table = joined([part for part in parts if not part.empty])
        table["relation_id"] = table["case_id"].map(relations)
        table["model"], table["dataset"] = snakemake.params.model, snakemake.params.dataset
        table = table.reindex(columns=schemas.SCHEMAS["effects"].names)
        tables.write(snakemake.output[0], table, "effects", provenance(snakemake))


def gathered(
    paths: Iterable[str],
    schema: str,
    value: str,
    effects: Callable[[pd.DataFrame], pd.DataFrame],
    log: logging.Logger,
) -> pd.DataFrame:
    """One localizer's effects in all its tables; a fact without `value` is named in the log."""
    parts = [pd.DataFrame()]
    for path in map(Path, paths):
        cells = tables.read(path, schema)
        for case_id in cells.loc[cells[value].isna(), "case_id"].unique():
            log.warning("%s: fact %s was not traced", path, case_id)
        window = int(path.stem.rpartition("-")[2])
        parts.append(effects(cells).assign(module=path.parent.name, window=window))
    return pd.concat(parts, ignore_index=True)


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The localizers side by side; what only one has of a fact stays, the other's cells empty."""
    if not parts:
        raise LoceditError("no fact could be traced; the log of each tracing job says why")
    table = parts[0]
    for part in parts[1:]:
        table = table.merge(part, on=KEYS, how="outer", suffixes=("", "_too"))
        table["p_clean"] = table["p_clean"].fillna(table.pop("p_clean_too"))
    return table


if __name__ == "__main__":
    main(snakemake)
