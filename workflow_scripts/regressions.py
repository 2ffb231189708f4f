"""How much of each score do edit layer and tracing effect explain, overall and within layers.

Params: `sources`, R files of analysis/; `arguments`, those of `r2_table` in regressions.R. Outputs:
the R2 table and the correlations within each edit layer, each as Parquet, CSV and a page.
"""

from pathlib import Path

import pandas as pd

from locedit import files, rbridge, tables
from workflow_scripts.job import provenance, running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
STYLE = """<!doctype html><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 sans-serif; margin: 1.5em }} table {{ border-collapse: collapse }}
th, td {{ padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd }}
th {{ background: #f3f3f3; position: sticky; top: 0 }}
td:nth-child(-n+8) {{ text-align: left }}</style><h1>{title}</h1>
"""


def page(table: pd.DataFrame, title: str) -> str:
    """A readable HTML page of a table: three digits, empty cells where a number cannot be had."""
    body = table.to_html(index=False, na_rep="", float_format=lambda x: f"{x:.3g}", border=0)
    return STYLE.format(title=title) + body


def main(snakemake) -> None:
    with running(snakemake):
        frames = {name: rbridge.read_frame(snakemake.input[name]) for name in ("scores", "effects")}
        sources = [ANALYSIS / name for name in snakemake.params.sources]
        arguments = dict(snakemake.params.arguments)
        made = provenance(snakemake)
        for function, prefix, title in (
            ("r2_table", "", "R2 of edit layer and tracing effect"),
            ("correlation_table", "correlations_", "Score and tracing effect within each layer"),
        ):
            table = rbridge.call(function, frames, arguments, sources)
            tables.write(snakemake.output[f"{prefix}parquet"], table, None, made)
            with files.atomic(snakemake.output[f"{prefix}csv"]) as path:
                table.to_csv(path, index=False)
            with files.atomic(snakemake.output[f"{prefix}html"]) as path:
                path.write_text(page(table, f"{title}: {snakemake.params.model_label}"))


if __name__ == "__main__":
    main(snakemake)
