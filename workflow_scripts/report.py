"""The report: one zip with a page of every figure and table that opens without a network.

Inputs: `facts`, `study`; `analysis`, the tables shown; `upstream`, more tables whose origin is
shown. The figures with their words, and the tables as pages and CSV, lie beside the report by their
names. Params: `design`, of findings.Design; `figures` and `tables`, the names of those shown.
"""

from pathlib import Path
from typing import Any

import yaml

from locedit import rbridge, tables
from workflow_scripts import findings, report_page
from workflow_scripts.job import running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
R_PACKAGES = ["ggplot2", "lme4", "sandwich", "svglite", "ragg"]


def origins(paths, base: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Where each table comes from, and the versions of all packages that they were made with."""
    rows, versions = [], {}
    for path in map(Path, paths):
        made = tables.provenance(path)
        name = str(path.relative_to(base).with_suffix(""))
        rows.append({"table": name, "rule": made.get("rule", "")})
        rows[-1]["fingerprint"] = made.get("fingerprint") or "none"
        for package, version in made.get("versions", {}).items():
            versions.setdefault(package, {})[version] = None
    return rows, {name: " and ".join(found) for name, found in sorted(versions.items())}


def r_versions() -> dict[str, str]:
    """The versions of R and of its packages that the analysis uses."""
    sources = [ANALYSIS / "versions.R"]
    table = rbridge.call("used_versions", {}, {"packages": R_PACKAGES}, sources)
    return {} if table is None else dict(zip(table["name"], table["version"], strict=True))


def make(
    target: Path, inputs: Any, params: Any, config: dict[str, Any], versions: dict[str, str]
) -> None:
    """Write the report of one study from the files that the workflow names.

    `versions`: of the programs that the tables do not name themselves.
    """
    base = target.parent
    design = findings.Design(**params.design)
    analysis = {Path(path).stem: tables.read(path, None, flat=True) for path in inputs.analysis}
    asked = {name: tables.read(getattr(inputs, name), "facts") for name in ("facts", "study")}
    figures = [report_page.read_figure(base / "figures", name) for name in params.figures]
    shown = [
        report_page.read_table(base / "tables", name, len(analysis[name])) for name in params.tables
    ]
    rows, named = origins([*inputs.upstream, *inputs.analysis], base)
    science = {key: value for key, value in config.items() if key != "assets"}
    settings = yaml.safe_dump(science, sort_keys=False, allow_unicode=True)
    page = report_page.render(
        ANALYSIS / "report",
        design=design,
        paragraph=findings.paragraph({**analysis, **asked}, design),
        sections=report_page.arranged(figures),
        tables=shown,
        origins=rows,
        versions={**named, **versions},
        config=settings,
        folder=base,
    )
    beside = {f"figures/{path.name}": path for figure in figures for path in figure.files.values()}
    beside |= {f"tables/{path.name}": path for table in shown for path in table.files.values()}
    report_page.pack(target, page, {"study.yaml": settings}, beside)


def main(snakemake) -> None:
    with running(snakemake):
        target = Path(snakemake.output[0])
        config = dict(snakemake.config)
        make(target, snakemake.input, snakemake.params, config, r_versions())


if __name__ == "__main__":
    main(snakemake)
