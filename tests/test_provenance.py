"""What each table says of its origin; what a change of the code reruns; the same study twice."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_workflow import EDIT_TABLES, TRACING_TABLES
from tiny_study import METHODS, OUT, PROBLEMS, ROOT, copy_tree, snakemake

from locedit.methods import METHODS as KNOWN
from locedit.store import assets, tables
from locedit.workflow import provenance
from workflow_scripts import corpus

TARGETS = ["analysis", "tune", str(OUT / "rome/summary.csv"), str(OUT / "report.zip")]
R_TABLES = {f"table_{name}" for name in (*EDIT_TABLES, *TRACING_TABLES)}


def parquets(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))


# ---- what a table says ---------------------------------------------------------------------------


def test_every_table_says_how_it_was_made(study):
    paths = parquets(study.folder)
    assert len(paths) > 30
    for path in paths:
        made = tables.provenance(study.folder / path)
        assert {"rule", "wildcards", "config", "seeds"} <= made.keys(), path
        assert len(made["fingerprint"]) == 16, path
        data = set() if made["rule"] == "contexts" else {"data"}  # these are the model's own
        assert set(made["hashes"]) == {"code", "model", *data}, path
        assert made["seeds"] == {"study": 0, "noise": 1}, path
        assert {"python", "torch", "transformers", "numpy", "pyarrow"} <= set(made["versions"])
        assert ("R" in made["versions"]) == (made["rule"] in R_TABLES), path


def test_tables_of_r_name_the_packages_that_made_them(study):
    packages = {
        name: tables.provenance(study.out / f"analysis/{name}.parquet")["versions"].keys()
        for name in ("mixed", "diff_intervals", "success")
    }
    assert "lme4" in packages["mixed"]
    assert "sandwich" in packages["diff_intervals"]
    assert not packages["success"] & {"lme4", "sandwich", "stats"}


def test_nothing_in_a_table_tells_when_or_where_it_was_made(study):
    for path in parquets(study.folder):
        made = json.dumps(tables.provenance(study.folder / path))
        assert str(study.folder) not in made, path
        assert str(study.root) not in made, path


def test_one_model_and_one_data_set_are_behind_all_tables(study):
    made = [tables.provenance(study.folder / path)["hashes"] for path in parquets(study.folder)]
    assert len({one["model"] for one in made}) == 1
    assert len({one["data"] for one in made if "data" in one}) == 1


def job(tmp_path, **given):
    named = {"input": {}, "params": {}, "wildcards": {}, "config": {"plugins": []}}
    return SimpleNamespace(**{**named, **given})


def test_the_code_behind_a_table_includes_what_no_import_names(tmp_path):
    """A method's module and R's files, of this checkout; a plug-in's file, wherever it lies."""
    script = ROOT / "workflow_scripts/edit.py"
    plain = provenance.code(script, job(tmp_path))
    of = {
        name: provenance.code(script, job(tmp_path, wildcards={"method": name})) for name in KNOWN
    }
    assert plain not in of.values()
    assert of["FT-1"] == of["FT-5"]  # one module
    assert len({of["FT-1"], of["ROME"], of["MEMIT"]}) == 3
    with_r = [
        provenance.code(script, job(tmp_path, params={"sources": sources}))
        for sources in (["frames.R"], ["frames.R", "mixed.R"])
    ]
    assert len({plain, *with_r}) == 3


def test_the_corpus_names_the_dump_that_it_was_read_from(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.assets, "resolve", lambda *_, **__: tmp_path / "dump")
    monkeypatch.setattr(corpus, "paragraphs", lambda _: [])
    config = {"plugins": [], "seed": 0, "tracing": {"noise_seed": 1}}
    outputs = {"output": [str(tmp_path / "a.parquet")], "log": [str(tmp_path / "log")]}
    given = {"params": Named(override=None, fingerprint="f"), "rule": "corpus", "config": config}
    corpus.main(SimpleNamespace(input=Named(), wildcards=Named(), **outputs, **given))
    named = assets.named("enwiki-shortened")
    assert named.sha256.startswith(tables.provenance(tmp_path / "a.parquet")["hashes"]["data"])


class Named(dict):
    """As Snakemake gives a job its inputs: iterated over by value."""

    __getattr__ = dict.__getitem__

    def __iter__(self):
        return iter(self.values())


def test_the_report_lists_every_table_behind_it(study):
    page = study.folder / "page"
    shutil.unpack_archive(study.out / "report.zip", page)
    html = (page / "report/index.html").read_text()
    shutil.rmtree(page)
    rows = html.split('<table class="origins">')[1].split("</table>")[0]
    for path in parquets(study.out):
        if path.parts[0] in ("tuning", "rome"):  # not part of the study proper
            continue
        assert f'<th scope="row">{path}</th>' in rows
        assert tables.provenance(study.out / path)["fingerprint"] in rows
    assert '<th scope="row">../contexts.parquet</th>' in rows
    assert "lme4 1." in html


# ---- what a change of the code reruns ------------------------------------------------------------


# Read by Snakemake in place of the workflow's own file, which it includes. Hashes keep what they
# are made of, so that each rule's fingerprint lists the files behind it.
LISTING = """
import json
from types import SimpleNamespace
from locedit import fingerprints

class Parts(list):
    __str__ = lambda self: "hash"
    __format__ = lambda self, spec: "hash"

fingerprints.digest = lambda value: Parts([value])
whole, JOB = fingerprints.code, ("locedit.workflow.job",)  # logging, progress, origins

include: "Snakefile"

def flat(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return {name for part in value for name in flat(part)}
    return {value} if isinstance(value, str) else set()

one = SimpleNamespace(method="ROME", problem="error_injection", layer="0", kind="mlp", window="1")
found = {}
for rule in workflow.rules:
    given = dict(rule.params._allitems())
    if "fingerprint" in given:
        print_of = given["fingerprint"]
        behind = flat(print_of(one) if callable(print_of) else print_of)
        script = (ROOT / "rules" / rule.script).resolve()
        found[rule.name] = {
            "behind": [name for name in behind if name.endswith((".py", ".R"))],
            "script": [name for name in flat(whole(script, ROOT, JOB)) if name.endswith(".py")],
            "sources": list(given.get("sources", [])),
        }
(ROOT / "listing.json").write_text(json.dumps(found))
"""
# What a fingerprint leaves out though the script imports it: how a table is laid out as a page,
# which another parameter covers; methods, but for the one that is used, whose presets count by the
# values that they give; what computes the fingerprints
LAID_OUT = {"locedit/report/grids.py", "locedit/report/layouts.py"}
REGISTRY = {f"locedit/methods/{name}.py" for name in ("__init__", "base", "builtin", "settings")}
# Files behind no table: the command line, what reads the configuration or deals facts out to jobs,
# and what fetches or builds files that are known by their own hashes
ELSEWHERE = {
    *(f"locedit/{name}.py" for name in ("__main__", "facts/bundled", "store/hub")),
    *(
        f"locedit/workflow/{name}.py"
        for name in ("config", "failures", "gpus", "job", "plugins", "provenance")
    ),
    *(f"workflow_scripts/{name}.py" for name in ("build_dataset", "data_file", "model_download")),
    *(f"workflow_scripts/{name}.py" for name in ("merge", "model_weights")),
    "locedit/methods/memit.py",  # used, but not in this study
}


@pytest.fixture(scope="module")
def behind(study, tmp_path_factory):
    """Of each rule: the files behind its fingerprint, its script's imports, its R sources."""
    root = copy_tree(study.root, tmp_path_factory.mktemp("listing") / "tree")
    (root / "Listing").write_text(LISTING)
    run = snakemake(study.folder, study.settings, "--list-rules", root=root, snakefile="Listing")
    assert (root / "listing.json").exists(), run.text
    return json.loads((root / "listing.json").read_text())


def test_every_file_that_a_rule_uses_is_behind_its_fingerprint(behind):
    assert {"filter_facts", "trace", "edit", "report", *R_TABLES} <= behind.keys()
    for rule, files in behind.items():
        left_out = REGISTRY | (LAID_OUT if rule in R_TABLES else set())
        left_out |= (
            {"locedit/engine/key_statistics.py"} if rule == "baseline" else set()
        )  # methods' alone
        assert set(files["script"]) - set(files["behind"]) <= left_out, rule
        assert set(files["sources"]) <= set(files["behind"]), rule
    for rule in (
        "filter_facts",
        "trace",
        "zero",
        "edit",
        "sweep",
        "key_statistics",
        "heatmap_cells",
    ):
        assert (
            "locedit/model/language_model.py" in behind[rule]["behind"]
        )  # they load it through job.py
    assert "locedit/methods/rome.py" in behind["edit"]["behind"]


def test_every_file_of_the_project_is_behind_some_rule_or_known_not_to_be(behind):
    seen = {name for files in behind.values() for name in (*files["behind"], *files["script"])}
    names = {
        str(path.relative_to(ROOT))
        for pattern in ("locedit/**/*.py", "workflow_scripts/*.py")
        for path in ROOT.glob(pattern)
        if path.parent.name != "cli"
    }
    assert names - seen == ELSEWHERE
    assert {path.name for path in (ROOT / "analysis").glob("*.R")} <= seen


CHANGED = [
    "locedit/localizers/restoration.py",
    "locedit/study/measure.py",
    "workflow_scripts/effects.py",
    "mixed.R",
]


@pytest.mark.parametrize("file", CHANGED)
def test_a_changed_file_reruns_the_rules_that_it_is_behind_and_no_other(
    study, behind, tmp_path, file
):
    """What Snakemake plans is what the fingerprints list, so the lists above can be relied on."""
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    path = changed.root / ("analysis" if file.endswith(".R") else "") / file
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    wanted = {rule for rule, files in behind.items() if file in files["behind"]}
    planned = set(changed.plan(*TARGETS, "figures").jobs) - {"analysis", "figures"}
    assert planned == wanted


# ---- results restored beside a fresh clone -------------------------------------------------------


@pytest.mark.parametrize("record", [True, False], ids=["with its record", "without"])
def test_restored_results_of_any_size_and_time_rerun_nothing(study, tmp_path, record):
    """The record is .snakemake/metadata; without it, a table that does not fit is an error."""
    folder = tmp_path / "clone"
    shutil.copytree(study.folder / "results", folder / "results")
    if record:
        shutil.copytree(study.folder / ".snakemake/metadata", folder / ".snakemake/metadata")
    out = folder / OUT
    for path in (out.parent / "key_statistics.safetensors", out / "facts.parquet"):
        os.truncate(path, 2 << 20)  # Snakemake keeps no checksum of more than a megabyte
    for order, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, (1.5e9 + order,) * 2)  # what was made first is newest
    restored = replace(study, folder=folder)
    assert restored.plan(*TARGETS, "figures").nothing
    changed = restored.run("--dry-run", scores={"aggregate": "first"})
    if record:
        assert changed.status == 0
        assert set(changed.jobs) >= {"scores", "table_r2"}
    else:
        assert changed.status == 1
        assert f"{OUT}/analysis/correlations.parquet was made by other settings" in changed.text
        assert "delete what does not fit" in changed.text
        assert f"{OUT}/effects.parquet" not in changed.text


def test_times_of_results_that_stay_where_they_are_are_left_alone(study, tmp_path):
    moved = study.copied(tmp_path / "moved")
    table = moved.out / "scores.parquet"
    moved.plan()
    os.utime(table, (1.5e9, 1.5e9))
    moved.plan()
    assert table.stat().st_mtime == 1.5e9


# ---- the same study twice ------------------------------------------------------------------------


def test_the_same_study_makes_the_same_bytes(study, tmp_path):
    """Every table, with all that it says of itself, and every other file but figures."""
    again = replace(study, folder=tmp_path / "again")
    again.folder.mkdir()
    cells = str(OUT / "analysis/heatmap_cells.parquet")
    run = again.run(
        "analysis", str(OUT / "tuning/tuned.yaml"), str(OUT / "rome/summary.csv"), cells
    )
    assert run.status == 0, run.text
    made = [path for path in (again.folder / "results").rglob("*") if path.is_file()]
    assert {path.relative_to(again.folder) for path in made} >= set(parquets(study.folder))
    for path in made:
        other = study.folder / path.relative_to(again.folder)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_numbers_do_not_depend_on_the_number_of_threads(study, tmp_path):
    """1 and 2 threads of torch and of the linear algebra behind numpy; within 1e-5."""
    again = study.copied(tmp_path / "threads")
    edits = [f"editing/{method}/{PROBLEMS[0]}/layer-0.parquet" for method in METHODS]
    names = ["tracing/mlp/window-3.parquet", "baseline/error_injection.parquet", *edits]
    for name in names:
        (again.out / name).unlink()
    more = [f"--set-threads={rule}=2" for rule in ("trace", "baseline", "edit")]
    run = again.run(*(str(OUT / name) for name in names), *more)
    assert run.status == 0, run.text
    assert run.jobs.keys() >= {"trace", "baseline", "edit"}
    for name in names:
        one, two = (pd.read_parquet(one.out / name) for one in (study, again))
        for column in one:
            assert same(one[column], two[column]), (name, column)


def same(one, two):
    """Equal, numbers and lists of numbers up to 1e-5."""
    values = [value for value in one if value is not None]
    if len(one) != len(two):
        return False
    numbers = values and isinstance(np.ravel(values[0])[0], (float, np.floating))
    if not numbers:
        return [list(np.ravel(v)) for v in one] == [list(np.ravel(v)) for v in two]
    return all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(one, two, strict=True))
