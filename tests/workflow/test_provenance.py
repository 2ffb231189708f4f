"""What each table says of its origin; what a change of the code reruns; the same study twice."""

import json
import os
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from handed import handed, input_files
from tiny_study import METHODS, OUT, PROBLEMS, copy_tree

from locedit.store import assets, hashing, tables
from locedit.workflow import provenance
from workflow_scripts import corpus

TARGETS = ["analysis", "tune", str(OUT / "rome/summary.csv"), str(OUT / "report.zip")]


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
        # these are the model's own
        data = set() if made["rule"] in ("contexts", "held_out") else {"data"}
        assert set(made["hashes"]) == {"code", "model", *data}, path
        assert made["seeds"] == {"study": 0, "noise": 1}, path
        assert {"python", "torch", "transformers", "numpy", "pyarrow"} <= set(made["versions"])
        assert ("R" in made["versions"]) == made["rule"].startswith("table_"), path


def test_tables_of_r_name_the_packages_that_made_them(study):
    packages = {
        name: tables.provenance(study.out / f"analysis/{name}.parquet")["versions"].keys()
        for name in ("clusters", "success")
    }
    assert "sandwich" in packages["clusters"]
    assert not packages["success"] & {"sandwich", "stats"}


def test_nothing_in_a_table_tells_when_or_where_it_was_made(study):
    for path in parquets(study.folder):
        made = json.dumps(tables.provenance(study.folder / path))
        assert str(study.folder) not in made, path
        assert str(study.root) not in made, path


def test_one_model_and_one_data_set_are_behind_all_tables(study):
    made = [tables.provenance(study.folder / path)["hashes"] for path in parquets(study.folder)]
    assert len({one["model"] for one in made}) == 1
    assert len({one["data"] for one in made if "data" in one}) == 1


def test_a_fingerprint_covers_settings_code_and_inputs_and_nothing_of_the_machine(tmp_path):
    tables.write(tmp_path / "a.parquet", [], "essence", {"fingerprint": "one"})
    (tmp_path / "noise.json").write_text("1")
    files = {name: tmp_path / name for name in ("a.parquet", "noise.json")}

    def fingerprint(rule="edit", given=files, **more):
        more = {"params": {"settings": {"n": 1}, "code": "c"}, **more}
        return provenance.fingerprint(handed(tmp_path, rule, input_files(**given), **more))

    before = fingerprint()
    assert fingerprint(wildcards={"scatteritem": "1-of-4"}) == before
    assert fingerprint(given={**files, "model": "/elsewhere"}) == before
    found = {fingerprint(params={"settings": {"n": n}, "code": c}) for n, c in [(2, "c"), (1, "d")]}
    found |= {fingerprint("trace"), fingerprint(wildcards={"layer": "3"})}
    (tmp_path / "noise.json").write_text("2")
    found.add(fingerprint())
    tables.write(tmp_path / "a.parquet", [], "essence", {"fingerprint": "another"})
    found.add(fingerprint())
    assert len(found | {before}) == 7


def test_the_corpus_names_the_dump_that_it_was_read_from(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus.assets, "resolve", lambda *_, **__: tmp_path / "dump")
    monkeypatch.setattr(corpus, "paragraphs", lambda _: [])
    params = {"data": assets.named("enwiki-shortened").sha256, "code": "c"}
    corpus.main(handed(tmp_path, "corpus", None, params))
    hashes = tables.provenance(tmp_path / "out.parquet")["hashes"]
    assert set(hashes) == {"code", "data"}


def test_the_report_lists_every_table_behind_it(study, tmp_path):
    shutil.unpack_archive(study.out / "report.zip", tmp_path)
    html = (tmp_path / "report/index.html").read_text()
    rows = html.split('<table class="origins">')[1].split("</table>")[0]
    for path in parquets(study.out):
        if path.parts[0] in ("tuning", "rome"):  # not part of the study proper
            continue
        assert f'<th scope="row">{path}</th>' in rows
        assert tables.provenance(study.out / path)["fingerprint"] in rows
    assert '<th scope="row">../contexts.parquet</th>' in rows
    assert "sandwich 3." in html


# ---- what a change of the code reruns ------------------------------------------------------------

# A file, and the rules whose code it is part of; what lies below them is Snakemake's to know
CHANGED = {
    "locedit/localizers/restoration.py": {"trace", "heatmap_cells", "effects"},
    "locedit/study/measure.py": {"baseline", "essence", "edit", "sweep"},
    "locedit/study/held_out.py": {"held_out", "baseline", "edit", "sweep"},
    "locedit/localizers/zeroing.py": {"localize"},
    "workflow_scripts/effects.py": {"effects"},
    "locedit/study/peaks.py": {"edit", "scores"},
    "analysis/clusters.R": {"table_clusters"},
}


@pytest.mark.parametrize("file", CHANGED)
def test_a_changed_file_reruns_the_rules_that_use_it_and_what_follows(study, tmp_path, file):
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    path = changed.root / file
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    asked = [*TARGETS, "figures"]
    forced = study.plan(*asked, "--forcerun", *sorted(CHANGED[file]))
    assert set(forced.jobs) >= CHANGED[file]
    assert changed.plan(*asked).jobs == forced.jobs


# ---- results restored beside a fresh clone -------------------------------------------------------


def restored(study, folder, *, record: bool):
    """The results copied elsewhere, what was made first newest; with Snakemake's record or not."""
    shutil.copytree(study.folder / "results", folder / "results")
    if record:
        shutil.copytree(study.folder / ".snakemake/metadata", folder / ".snakemake/metadata")
    for order, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        os.utime(path, (1.5e9 + order,) * 2)
    return replace(study, folder=folder)


def test_results_restored_with_their_record_rerun_nothing_but_what_a_change_asks_for(
    study, tmp_path
):
    copy = restored(study, tmp_path / "clone", record=True)
    assert copy.plan(*TARGETS, "figures").nothing
    assert set(copy.plan(scores={"aggregate": "first"}).jobs) >= {"scores", "table_r2"}


def test_results_restored_without_their_record_are_touched_once(study, tmp_path):
    copy = restored(study, tmp_path / "clone", record=False)
    assert copy.run("--touch", *TARGETS, "figures").status == 0
    assert copy.plan(*TARGETS, "figures").nothing


def test_a_record_in_a_database_serves_as_one_in_files(study, tmp_path):
    copy = restored(study, tmp_path / "clone", record=False)
    in_database = ("--persistence-backend", "db")
    assert copy.run(*in_database, "--touch", "analysis").status == 0
    scores = str(OUT / "scores.parquet")
    (copy.out / "scores.parquet").unlink()
    assert copy.run(*in_database, scores).status == 0
    assert copy.plan(*in_database, scores).nothing
    assert copy.plan(*in_database, scores, scores={"aggregate": "first"}).jobs == {"scores": 1}


# ---- the same study twice ------------------------------------------------------------------------


def test_the_same_study_makes_the_same_bytes(study, tmp_path):
    """Every table, with all that it says of itself, and every other file but figures.

    In processes whose sets have another order.
    """
    again = replace(study, folder=tmp_path / "again")
    again.folder.mkdir()
    cells = str(OUT / "analysis/heatmap_cells.parquet")
    run = again.run(
        *("analysis", str(OUT / "tuning/tuned.yaml"), str(OUT / "rome/summary.csv"), cells),
        environment={"PYTHONHASHSEED": "7"},
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
    close = partial(np.allclose, rtol=1e-5, atol=1e-5, equal_nan=True)  # of ROME no neurons: NaN
    return all(close(a, b) for a, b in zip(one, two, strict=True))


def test_the_corpus_is_no_data_set(tmp_path):
    """What a model shares among its studies states no data, or they could not share it."""
    corpus = tmp_path / "enwiki.parquet"
    rows = [{"title": "a", "index": 0, "text": "b"}]
    tables.write(corpus, rows, "corpus", {"hashes": {"data": "x"}})
    job = handed(tmp_path, "contexts", input_files(corpus=corpus), {"code": "c"})
    assert provenance.hashes(job) == {"code": hashing.digest("c")}
