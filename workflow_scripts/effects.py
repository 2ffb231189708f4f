"""Tracing effects per fact, module, window and layer, from the traced cells."""

from pathlib import Path

import pandas as pd

from locedit import tables, tracing
from workflow_scripts.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        relations = tables.read(snakemake.input.study, "facts").set_index("case_id")["relation_id"]
        parts = []
        for path in map(Path, snakemake.input.traces):
            cells = tables.read(path, "tracing")
            for case_id in cells.loc[cells["p_restored"].isna(), "case_id"].unique():
                log.warning("%s: fact %s was not traced", path, case_id)
            part = tracing.effects(cells, reference=snakemake.params.reference)
            window = int(path.stem.removeprefix("window-"))
            parts.append(part.assign(module=path.parent.name, window=window))
        table = pd.concat(parts, ignore_index=True).assign(
            model=snakemake.params.model, dataset=snakemake.params.dataset
        )
        table["relation_id"] = table["case_id"].map(relations)
        tables.write(snakemake.output[0], table, "effects", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
