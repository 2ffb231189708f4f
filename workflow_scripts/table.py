"""Make one table of the analysis: as Parquet, as CSV and as a page to read.

Inputs: every named file is handed to the R function as the data frame of that name. Params:
`sources`, labels and R files of analysis/; `function`, the table's R function; `arguments`, its
other arguments; `name`, the table's; `title`, `model_label`, `dataset`; `own`, the tracing that the
page shows first; `orders`, of problems, methods and scores; `caption`, a file of analysis/words/.
Outputs: `parquet`, `csv`, `html`.
"""

from pathlib import Path

import pandas as pd

from locedit.report import grids, layouts, rbridge
from locedit.store import files, tables
from locedit.workflow.job import provenance, running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"


def read(path: str) -> pd.DataFrame:
    """A data frame from Parquet or CSV, by the file's name."""
    return pd.read_csv(path) if path.endswith(".csv") else rbridge.read_frame(path)


def main(snakemake) -> None:
    with running(snakemake):
        frames = {name: read(str(path)) for name, path in snakemake.input.items()}
        sources = [ANALYSIS / name for name in snakemake.params.sources]
        arguments = dict(snakemake.params.arguments)
        table = rbridge.call(snakemake.params.function, frames, arguments, sources)
        assert table is not None, f"{snakemake.params.function} gives no table"
        made = provenance(snakemake, versions=rbridge.versions())
        tables.write(snakemake.output.parquet, table, None, made)
        with files.atomic(snakemake.output.csv) as path:
            table.to_csv(path, index=False)
        with files.atomic(snakemake.output.html) as path:
            about = grids.described(snakemake.params, ANALYSIS)
            layout = layouts.LAYOUTS[snakemake.params.name]
            path.write_text(grids.page(table, layout, about), encoding="utf-8")


if __name__ == "__main__":
    main(snakemake)
