"""The report: one zip with a page of every figure and table that opens without a network.

Inputs: `facts`, `study`; `analysis`, the tables shown; `upstream`, the tables before them, whose
origin is shown too. The figures with their words, and the tables as pages and CSV, lie beside the
report by their names. Params: `design`, of findings.Design; `figures` and `tables`, the names of
those shown.
"""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from locedit.report import findings, rbridge
from locedit.report.page import arranged, pack, read_figure, read_table, render
from locedit.store import tables
from locedit.workflow.job import running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
DRAWING = ["ggplot2", "ragg", "svglite"]  # R's packages behind the figures


def origins(paths, base: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Where each table comes from, and the versions of all packages that they were made with."""
    rows: list[dict[str, Any]] = []
    versions: dict[str, dict[str, None]] = {}
    for path in paths:
        made = tables.provenance(path)
        hashes, seeds = made.get("hashes", {}), made.get("seeds", {})
        rows.append(
            {
                "file": os.path.relpath(path, base),
                "rule": made.get("rule", ""),
                "rows": pq.read_metadata(path).num_rows,
                "seeds": [seeds[name] for name in ("study", "noise") if name in seeds],
                "hashes": [
                    *(hashes.get(name) for name in ("code", "model", "data")),
                    made.get("fingerprint"),
                ],
            }
        )
        for package, version in made.get("versions", {}).items():
            versions.setdefault(package, {})[version] = None
    return rows, {name: " and ".join(found) for name, found in versions.items()}


def make(
    target: Path, inputs: Any, params: Any, config: dict[str, Any], versions: dict[str, str]
) -> None:
    """Write the report of one study from the files that the workflow names.

    `versions`: of the programs behind the figures, which do not name them as the tables do.
    """
    base = target.parent
    design = findings.Design(**params.design)
    analysis = {Path(path).stem: tables.read(path, None, flat=True) for path in inputs.analysis}
    asked = {name: tables.read(getattr(inputs, name), "facts") for name in ("facts", "study")}
    figures = [read_figure(base / "figures", name) for name in params.figures]
    shown = [read_table(base / "tables", name, len(analysis[name])) for name in params.tables]
    rows, named = origins([*inputs.upstream, *inputs.analysis], base)
    science = {key: value for key, value in config.items() if key != "assets"}
    settings = yaml.safe_dump(science, sort_keys=False, allow_unicode=True)
    page = render(
        ANALYSIS / "report",
        design=design,
        paragraph=findings.paragraph({**analysis, **asked}, design),
        sections=arranged(figures),
        tables=shown,
        origins=rows,
        # a table knows best what it was made with
        versions=dict(sorted({**versions, **named}.items(), key=lambda item: item[0].casefold())),
        config=settings,
        folder=base,
    )
    beside = {f"figures/{path.name}": path for figure in figures for path in figure.files.values()}
    beside |= {f"tables/{path.name}": path for table in shown for path in table.files.values()}
    pack(target, page, {"study.yaml": settings}, beside)


def main(snakemake) -> None:
    with running(snakemake):
        target = Path(snakemake.output[0])
        config = dict(snakemake.config)
        make(target, snakemake.input, snakemake.params, config, rbridge.versions(DRAWING))


if __name__ == "__main__":
    main(snakemake)
