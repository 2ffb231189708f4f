"""How much of each score do edit layer and tracing effect explain, overall and within layers.

Inputs: `scores`, `effects` (Parquet). Params: `arguments`, those of `r2_table` in
analysis/regressions.R: `score_names`, and if wanted `tracing`, `problems`, `methods`,
`correct_only`. Outputs: `parquet` and `csv` of the R2 table, `correlations_parquet` and
`correlations_csv` of the correlations within each edit layer.
"""

import logging
import os
from pathlib import Path

import pandas as pd

from locedit import rbridge

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
SOURCES = [ANALYSIS / "frames.R", ANALYSIS / "regressions.R"]


def write_table(path: str, table: pd.DataFrame) -> None:
    """Write Parquet or CSV, by the path's ending, through a temporary name."""
    part = f"{path}.part"
    if path.endswith(".parquet"):
        table.to_parquet(part, index=False)
    else:
        table.to_csv(part, index=False)
    os.replace(part, path)


def main(snakemake) -> None:
    """Read the tables, fit, write."""
    logging.basicConfig(filename=snakemake.log[0], filemode="w", level=logging.INFO)
    try:
        frames = {name: rbridge.read_frame(snakemake.input[name]) for name in ("scores", "effects")}
        arguments = dict(snakemake.params.arguments)
        for function, prefix in (("r2_table", ""), ("correlation_table", "correlations_")):
            table = rbridge.call(function, frames, arguments, SOURCES)
            for kind in ("parquet", "csv"):
                write_table(str(snakemake.output[prefix + kind]), table)
    except Exception:
        logging.exception("the regressions failed")
        raise


if __name__ == "__main__":
    main(snakemake)
