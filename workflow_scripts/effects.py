"""What every localizer says of each fact, module, window and layer: one long table."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from locedit.errors import LoceditError
from locedit.store import tables
from locedit.study import effects
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        relations = tables.read(snakemake.input.study, "facts").set_index("case_id")["relation_id"]
        table = joined([*gathered(snakemake, log)])
        table["relation_id"] = table["case_id"].map(relations)
        table["model"], table["dataset"] = snakemake.params.model, snakemake.params.dataset
        table = table.reindex(columns=effects.COLUMNS)
        tables.write(snakemake.output[0], table, "effects", provenance(snakemake))


def gathered(snakemake, log: logging.Logger) -> Iterator[pd.DataFrame]:
    """The effects of each table; a fact without a value is named in the log.

    Of a table without any value its facts, with neither layer nor value.
    """
    for path in map(Path, snakemake.input.localized):
        # tracing/MODULE/window-W.parquet, localizing/LOCALIZER/MODULE/window-W.parquet
        localizer, module = path.parts[-3:-1]
        rows, without = effects.of_table(path, localizer, reference=snakemake.params.reference)
        for case_id in without:
            log.warning("%s: fact %s has no value", path, case_id)
        if rows.empty:
            rows = pd.DataFrame({"case_id": without, "layer": None, "value": float("nan")})
        window = int(path.stem.rpartition("-")[2])
        yield rows.assign(localizer=localizer, module=module, window=window)


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The tables one below the other; LoceditError where none has a value.

    A localizer without any has empty ones at the layers of the others: analyses name it then.
    """
    have = [part for part in parts if part["value"].notna().any()]
    if not have:
        raise LoceditError("no fact could be localized; the log of each localizer's job says why")
    layers = pd.concat(have)[["layer"]].drop_duplicates().sort_values("layer")
    whole = [
        part if part["layer"].notna().any() else part.drop(columns="layer").merge(layers, "cross")
        for part in parts
    ]
    return pd.concat(whole, ignore_index=True)


if __name__ == "__main__":
    main(snakemake)
