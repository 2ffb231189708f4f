"""Snakemake's own report: every figure and table of a study, with its caption and category."""

import json
import re
import zipfile

import pytest


@pytest.fixture(scope="module")
def results(study, tmp_path_factory) -> dict[str, dict]:
    """What `snakemake --report report.zip` shows of the tiny study, by path."""
    archive = tmp_path_factory.mktemp("snakemake") / "report.zip"
    run = study.run("--report", str(archive))
    assert run.status == 0, run.text
    with zipfile.ZipFile(archive) as opened:
        files = opened.namelist()
        page = opened.read("report/report.html").decode()
    found = variable(page, "results")
    categories = variable(page, "categories")
    for path, result in found.items():
        assert any(name.endswith(f"/{result['name']}") for name in files), path
    by_category = {
        path: category
        for category, groups in categories.items()
        for paths in groups.values()
        for path in paths
    }
    return {path: {**result, "category": by_category[path]} for path, result in found.items()}


def variable(page: str, name: str) -> dict:
    """A JSON variable of the report's page."""
    at = re.search(rf'<script id="{name}">\s*var {name} = ', page)
    assert at, name
    return json.JSONDecoder().raw_decode(page, at.end())[0]


def test_all_figures_and_tables_are_in_it_under_their_categories(study, results):
    drawn = {f"figures/{path.name}" for path in (study.out / "figures").glob("*.svg")}
    tables = {f"tables/{path.name}" for path in (study.out / "tables").glob("*.html")}
    assert len(drawn) > 20
    assert len(tables) > 8
    base = study.out.relative_to(study.folder)
    found = {path.removeprefix(f"{base}/"): result["category"] for path, result in results.items()}
    assert found == {**dict.fromkeys(drawn, "Figures"), **dict.fromkeys(tables, "Tables")}


def test_each_has_a_caption_that_was_filled_in_and_a_label(results):
    for path, result in results.items():
        assert result["caption"].startswith("<p>"), path
        assert "Tiny Llama" in result["caption"], path
        assert "{{" not in result["caption"], path
        assert "problematic" not in result["caption"], path  # what docutils could not read
        assert list(result["labels"]) == ["figure" if "/figures/" in path else "table"]
