"""The report: one zip with a page of every figure and table that opens without a network.

Inputs: `facts`, `study`, `effects`; `explorer`, the page of single facts; `analysis`, the tables
shown; `upstream`, the tables before them, whose origin is shown too. The figures with their words,
and the tables as pages and CSV, lie beside the report by their names. Params: `design`, of
findings.Design; `figures`, the names of those shown; `tables`, by name the params of those shown
that say how they are laid out.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml

from locedit.report import findings, grids, layouts, rbridge
from locedit.report.labels import Labels
from locedit.report.page import Table, arranged, pack, read_figure, render, sections, shown_table
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


def laid_out(folder: Path, name: str, rows: pd.DataFrame, params: Mapping[str, Any]) -> Table:
    """A table as the page shows it, from its rows; folder: of its own page and CSV."""
    about = grids.described(SimpleNamespace(**params), ANALYSIS)
    return shown_table(folder, name, rows, layouts.LAYOUTS[name], about)


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
    asked["effects"] = tables.read(inputs.effects, "effects")
    figures = [read_figure(base / "figures", name) for name in params.figures]
    shown = [
        laid_out(base / "tables", name, analysis[name], described)
        for name, described in params.tables.items()
    ]
    labels = Labels.read(ANALYSIS / "labels.yaml")
    rows, named = origins([*inputs.upstream, *inputs.analysis], base)
    settings = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    page = render(
        design=design,
        paragraph=findings.paragraph({**analysis, **asked}, design),
        conclusion=findings.CONCLUSION,
        sections=arranged(figures, sections(design.localizer, labels)),
        tables=shown,
        origins=rows,
        # a table knows best what it was made with
        versions=dict(sorted({**versions, **named}.items(), key=lambda item: item[0].casefold())),
        config=settings,
        folder=base,
    )
    beside = {f"figures/{path.name}": path for figure in figures for path in figure.files.values()}
    beside |= {f"tables/{path.name}": path for table in shown for path in table.files.values()}
    beside["facts.html"] = Path(inputs.explorer)
    pack(target, page, {"study.yaml": settings}, beside)


def main(snakemake) -> None:
    with running(snakemake):
        target = Path(snakemake.output[0])
        config = dict(snakemake.config)
        make(target, snakemake.input, snakemake.params, config, rbridge.versions(DRAWING))


if __name__ == "__main__":
    main(snakemake)
