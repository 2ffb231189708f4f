"""Facts that were not edited or traced, cells and studies in which everything failed.

What is missing crosses every stage behind the edits, from the stored tables to the report: the tiny
study's own tables are damaged and everything after them is made again, for all five problems. A
cell without a single edit fails its job, and says why.
"""

import json
import logging
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from handed import handed, input_files
from snakemake.iocontainers import InputFiles
from tiny_study import LAYERS, METHODS, OUT, Run, Study

from locedit import outcomes
from locedit.errors import LoceditError
from locedit.facts.record import study_order
from locedit.methods.problems import PROBLEMS
from locedit.report import findings
from locedit.store import schemas, tables
from locedit.study import effects
from locedit.workflow import job as jobs
from workflow_scripts import merge, scores, sweep, sweep_table

FAILED, NOT_EDITED = "failed: a singular matrix", "not edited: p(o_true) = 0.001 < 0.02"
UNFIT = "not edited: ROME writes to MLPs and has no meaning for the embedding"
BAD_CELL = ("FT-1", 0)


# ---- from a table to rows ------------------------------------------------------------------------


def test_rows_have_none_for_whatever_is_missing(tmp_path):
    path = tmp_path / "t.parquet"
    whole = {"case_id": "1", "target": "Paris", "layers": [1], "steps": 3, "update_norm": 0.5}
    rows = [whole, {"case_id": "2", "status": FAILED}, {"case_id": "3", "update_norm": math.nan}]
    tables.write(path, rows, "editing")
    one, empty, computed = tables.records(path, "editing")
    assert {name: one[name] for name in whole} == whole
    assert {name: v for name, v in empty.items() if v is not None} == rows[1]
    assert list(empty) == schemas.SCHEMAS["editing"].names
    assert math.isnan(computed["update_norm"]), "a number that was computed and is none"
    tables.write(path, tables.records(path, "editing"), "editing")  # as they came


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_rows_of_any_table_can_be_written_again(tmp_path, name):
    """Every column of every schema, empty."""
    path = tmp_path / "t.parquet"
    tables.write(path, [{schemas.SCHEMAS[name].names[0]: "x"}], name)
    (row,) = tables.records(path, name)
    tables.write(path, [row], name)
    assert tables.records(path, name) == [row]
    assert set(list(row.values())[1:]) == {None}


# ---- the whole study, damaged --------------------------------------------------------------------


def damage(path: Path, status_of: Callable[[str], str | None]) -> None:
    """Make a stored table's facts what `status_of` says: rows of failed facts have their keys."""
    keys = ("case_id", "method", "problem", "layer")
    rows: dict[Any, dict] = {}
    schema = "editing" if "editing" in path.parts else "tracing"
    schema = "localizing" if "localizing" in path.parts else schema
    for index, row in enumerate(tables.records(path, schema)):
        status = status_of(row["case_id"])
        if status:
            kept = keys if schema == "editing" else keys[:1]
            rows[row["case_id"]] = {key: row[key] for key in kept} | {"status": status}
        else:
            rows[index] = row
    tables.write(path, list(rows.values()), schema, tables.provenance(path))


def edit_status(problem: str, method: str, layer: int, facts: list[str]) -> Callable:
    """Of each fact in a cell: one fails there alone, one everywhere, one is not erased."""

    def status(case_id: str) -> str | None:
        place = facts.index(case_id)
        if place == 2 and problem == "fact_erasure":
            return NOT_EDITED
        here = (method, layer) == ("FT-1", 2)
        failed = (method, layer) == BAD_CELL or place == 1 or (place == 0 and here)
        return FAILED if failed else None

    return status


ALL = {"editing": {"problems": list(PROBLEMS)}}


@pytest.fixture(scope="module")
def damaged(study, tmp_path_factory) -> tuple[Study, list[str], Run]:
    """A copy of the study, of all problems; its damaged tables; the run of all that follows."""
    copy = study.copied(tmp_path_factory.mktemp("damaged") / "work")
    edited = copy.run("editing", **ALL)
    assert edited.status == 0, edited.text
    facts = [row["case_id"] for row in tables.records(copy.out / "study.parquet", "facts")]
    for problem in PROBLEMS:
        for method in METHODS:
            for layer in LAYERS:
                path = copy.out / f"editing/{method}/{problem}/layer-{layer}.parquet"
                damage(path, edit_status(problem, method, layer, facts))
    damage(copy.out / "tracing/mlp/window-1.parquet", lambda c: FAILED if c == facts[3] else None)
    damage(copy.out / "localizing/zeroing/mlp/window-1.parquet", lambda _: FAILED)
    return copy, facts, copy.run("all", "report", "rome_layout", **ALL)


def test_the_study_goes_on_to_its_report(damaged):
    copy, _, run = damaged
    assert run.status == 0, run.text
    assert run.jobs["scores"] == run.jobs["report"] == run.jobs["rome_layout"] == 1
    assert not {"edit", "baseline", "trace"} & set(run.jobs)
    with zipfile.ZipFile(copy.out / "report.zip") as archive:
        page = archive.read("report/index.html").decode()
    said = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|script|svg).*?</\1>", "", page))
    assert not re.search(r"\b(nan|NaN|None|NA)\b", said)
    assert "none of 6 edits could be scored" in said
    # a problem's: six in its bad cell, one in each other and one more in FT-1's; of erasure one in
    # each cell is not attempted, one of them in the bad one
    assert "Of 120 edits 49 failed and 4 were not attempted" in " ".join(said.split())


def expected_counts(problem: str, method: str, layer: int) -> tuple[int, int, int]:
    """(n, n_failed, n_not_edited) of a cell of six facts."""
    passed_over = int(problem == "fact_erasure")
    if (method, layer) == BAD_CELL:
        return 0, 6 - passed_over, passed_over
    failed = 2 if (method, layer) == ("FT-1", 2) else 1
    return 6 - failed - passed_over, failed, passed_over


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_edit_has_a_row_with_its_scores_or_its_reason(damaged, problem):
    copy, facts, _ = damaged
    got = tables.read(copy.out / "scores.parquet", "scores").query("problem == @problem")
    assert len(got) == len(METHODS) * len(LAYERS) * len(facts)
    for (method, layer), cell in got.groupby(["method", "layer"]):
        status = edit_status(problem, method, layer, facts)
        assert cell.set_index("case_id")["status"].to_dict() == {
            fact: status(fact) or "ok" for fact in facts
        }
    done = got["status"] == "ok"
    assert got.loc[done, ["rewrite", "overall"]].notna().all(axis=None)
    assert got.loc[~done, ["target", "rewrite", "overall", "update_norm"]].isna().all(axis=None)
    assert got[["relation_id", "is_correct"]].notna().all(axis=None)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_cell_is_summed_up_with_what_was_lost(damaged, problem):
    copy, _, _ = damaged
    success = pd.read_parquet(copy.out / "analysis/success.parquet")
    rome = tables.read(copy.out / "rome/summary.parquet", "rome_summary")
    for method in METHODS:
        for layer in LAYERS:
            at = "problem == @problem and method == @method and layer == @layer"
            (row,) = success.query(at).to_dict("records")
            counts = expected_counts(problem, method, layer)
            assert (row["n"], row["n_failed"], row["n_not_edited"]) == counts
            (run,) = rome.query(at).to_dict("records")
            assert run["num_cases"] == counts[0]
            params = json.loads(
                (copy.out / f"rome/{method}" / run["run"] / "params.json").read_text()
            )
            assert len(params["left_out"]) == sum(counts[1:])
            empty = (method, layer) == BAD_CELL
            assert pd.isna(row["rewrite"]) == pd.isna(run["post_score"]) == empty
            assert (row["reason"] == "none of 6 edits could be scored") == empty


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(
    "name", "r2 correlations clusters out_of_fold choice within value arena success".split()
)
def test_a_number_that_an_analysis_lacks_has_its_reason(damaged, problem, name):
    copy, _, _ = damaged
    table = pd.read_parquet(copy.out / f"analysis/{name}.parquet").query("problem == @problem")
    assert set(table["method"]) == set(METHODS)
    numbers = table.select_dtypes("number").drop(columns=["best_layer", "slope"], errors="ignore")
    numbers = numbers[[c for c in numbers if not c.startswith("published")]]
    assert (table.loc[numbers.isna().any(axis=1), "reason"] != "").all()
    assert numbers.loc[table["method"] == "ROME"].notna().any(axis=None)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_lost_is_the_same_as_if_it_had_never_been(damaged, problem):
    """The facts that all cells of a method have decide what its layers are worth."""
    copy, facts, _ = damaged
    table = pd.read_parquet(copy.out / "analysis/value.parquet")
    rows = table.query(
        "problem == @problem and score == 'overall' and window == 3 and localizer == 'tracing' "
        "and strategy == 'random'"
    ).set_index("method")
    lost = 1 + (problem == "fact_erasure")
    assert rows.loc["ROME", ["n_facts", "n_dropped"]].tolist() == [len(facts) - lost, lost]
    got = tables.read(copy.out / "scores.parquet", "scores")
    cells = got.query("problem == @problem and method == 'ROME' and status == 'ok'")
    each = cells.groupby("case_id")["overall"]
    if (each.max() == each.min()).all():
        assert "does not differ between layers" in rows.loc["ROME", "reason"]
    else:
        assert rows.loc["ROME", "mean"] == pytest.approx(each.mean().mean(), rel=1e-9)
    assert "layers 0, left out" in rows.loc["FT-1", "reason"]


def test_facts_that_were_not_traced_are_missing_from_the_effects_alone(damaged):
    copy, facts, _ = damaged
    found = tables.read(copy.out / "effects.parquet", "effects")
    of = {key: set(rows["case_id"]) for key, rows in found.groupby(["localizer", "window"])}
    assert of == {
        ("tracing", 1): set(facts) - {facts[3]},
        ("tracing", 3): set(facts),
        ("zeroing", 1): set(facts),  # of which there is none: empty, for analyses to name it
        ("zeroing", 3): set(facts),
    }
    without = found["localizer"].eq("zeroing") & found["window"].eq(1)
    assert found["value"].isna().equals(without)


def test_a_traced_table_may_hold_no_traced_fact(tmp_path):
    for schema, localizer in (("tracing", "tracing"), ("localizing", "zeroing")):
        tables.write(tmp_path / "t.parquet", [{"case_id": "1", "status": FAILED}], schema)
        got, without = effects.of_table(tmp_path / "t.parquet", localizer, reference="clean")
        assert (len(got), without) == (0, ["1"])
        assert {"case_id", "layer", "value"} <= set(got.columns)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ([(6, 0, 0), (6, 0, 0)], ""),
        ([(5, 1, 0), (6, 0, 0)], "Of 12 edits 1 failed: these have no scores."),
        (
            [(4, 1, 1), (0, 5, 1)],
            "Of 12 edits 6 failed and 2 were not attempted (erasures of facts that the model "
            "hardly knows, or facts of which a method has no edit): these have no scores.",
        ),
    ],
)
def test_the_report_counts_the_edits_without_scores(cells, sentence):
    success = pd.DataFrame(cells, columns=["n", "n_failed", "n_not_edited"])
    assert findings.lost(success) == sentence


def test_every_figure_is_drawn(damaged):
    copy, _, _ = damaged
    words = {p.stem: json.loads(p.read_text()) for p in (copy.out / "figures").glob("*.json")}
    assert {f"rewrite_vs_effect_{problem}" for problem in PROBLEMS} <= set(words)
    for name, said in words.items():
        assert not re.search(r"\b(NaN|NA|Inf)\b", " ".join(said.values())), name
    assert (
        "53 edits without a usable rewrite score left out" in (words["rewrite_by_layer"]["caption"])
    )


# ---- all failed ----------------------------------------------------------------------------------

BROKEN = '''"""A method that cannot edit."""

from dataclasses import dataclass

from locedit.methods import Method, register
from locedit.settings import Positive


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """One."""

    rate: Positive = 0.1


def edit(lm, requests, layer, hyper, shared):
    """An index that there is not."""
    return [][len(requests)]


register(Method(name="Broken", function=edit, settings=Hyperparameters))
'''
CELL = "method Broken, problem error_injection, layer 2: none of 6 facts could be edited "
CELL += (
    "(6 x unforeseen IndexError: list index out of range); what was not foreseen is a bug, of a "
)
CELL += "plug-in or of this project, whose traceback is in "
BROKEN_EDIT = "editing/Broken/error_injection/layer-2"


@pytest.fixture
def broken(study, tmp_path) -> tuple[Study, dict[str, Any]]:
    """A copy of the study, and what sets a method beside others that fails with every fact."""
    (tmp_path / "broken.py").write_text(BROKEN)
    return study.copied(tmp_path / "work"), {
        "plugins": [str(tmp_path / "broken.py")],
        "editing": {
            "methods": ["FT-1", "Broken"],
            "problems": ["error_injection"],
            "layers": LAYERS[1:],
        },
        "tuning": {"aims": {"unsaturated": {"grid": {"Broken": {"rate": [0.1, 0.2]}}}}},
    }


def test_a_cell_without_an_edit_fails_and_the_others_stay(broken):
    copy, settings = broken
    kept = copy.out / "editing/FT-1/error_injection/layer-2.parquet"
    kept.unlink()
    swept = str(OUT / "tuning/Broken/error_injection.parquet")
    run = copy.run("editing", swept, "--keep-going", **settings)
    assert run.status != 0
    log = f"logs/tiny/hand-made/{BROKEN_EDIT}.log"
    assert f"edit: {CELL}{log}: please report it; mend the cause, or take" in run.text
    assert "editing.methods" in run.text
    assert not (copy.out / f"{BROKEN_EDIT}.parquet").exists()
    assert kept.exists(), "--keep-going makes what else there is"
    logged = (copy.folder / log).read_text()
    assert logged.count("return [][len(requests)]") == 1, "the traceback, once"
    assert len(re.findall(r"WARNING fact \w+: failed: unforeseen IndexError: list", logged)) == 6
    # two settings of two facts
    assert "sweep: tuning Broken for error_injection, all 2 settings: none of 4 edits" in run.text
    without = {**settings, "editing": {**settings["editing"], "methods": ["FT-1"]}}
    led_out = copy.run("editing", **without)
    assert led_out.status == 0, led_out.text


def test_a_sharded_cell_fails_when_its_shards_are_merged(broken):
    copy, settings = broken
    shards = ["--set-scatter", "editing=2"]
    run = copy.run(str(OUT / f"{BROKEN_EDIT}.parquet"), *shards, **settings)
    assert run.status != 0
    said = f"merge_edit: {CELL}the shards' logs: please report it; mend the cause, delete"
    assert said in run.text
    parts = [OUT / f"{BROKEN_EDIT}.shard-{i}-of-2.parquet" for i in (1, 2)]
    assert f"delete {parts[0]}, {parts[1]}" in run.text
    assert all((copy.folder / part).exists() for part in parts)


def test_a_study_that_erases_nothing_says_so(study, tmp_path):
    copy = study.copied(tmp_path / "work")
    editing = {"problems": ["fact_erasure"], "methods": ["FT-1"], "layers": LAYERS[:1]}
    run = copy.run("editing", editing=editing, facts={"min_p_erase": 1})
    assert run.status != 0
    assert "scores: none of the study's 6 edits can be scored (6 x not edited: p(o_true) = " in (
        run.text
    )
    assert "lower facts.min_p_erase" in run.text
    table = tables.read(copy.out / "editing/FT-1/fact_erasure/layer-0.parquet", "editing")
    assert table["status"].str.startswith("not edited: ").all(), "a cell that failed has no table"


# ---- each script, by itself ----------------------------------------------------------------------


def a_job(folder: Path, rule: str, given: Any = None, **wildcards: str) -> SimpleNamespace:
    params = {"model": "m", "dataset": "d", "aggregate": "mean", "fingerprint": "1"}
    return handed(folder, rule, given, params, wildcards=wildcards)


@pytest.fixture
def stored(tmp_path):
    """Writes a study of two facts and an edit's table with these statuses."""

    def store(*statuses: str) -> InputFiles:
        study = [{"case_id": str(i), "is_correct": True} for i in range(len(statuses))]
        tables.write(tmp_path / "study.parquet", study, "facts")
        grid = {"method": "FT-1", "problem": "fact_erasure", "layer": 0}
        rows = [{**grid, "case_id": str(i), "status": s} for i, s in enumerate(statuses)]
        tables.write(tmp_path / "edits.parquet", rows, "editing")
        edits = [tmp_path / "edits.parquet"]
        return input_files(study=tmp_path / "study.parquet", edits=edits, peaks=[], again=[])

    return store


@pytest.mark.parametrize(
    ("statuses", "words"),
    {
        (FAILED, FAILED): r"\(2 x failed: a singular matrix\); the logs of the edits say",
        (FAILED, NOT_EDITED): r"\(1 x failed: a sing.*1 x not edited: .*lower facts\.min_p_erase",
        (UNFIT, UNFIT): r"2 x not edited: ROME writes.*embedding\); choose other methods or layers",
    }.items(),
)
def test_scores_of_a_study_without_an_edit_are_an_error(stored, tmp_path, statuses, words):
    given = a_job(tmp_path, "scores", stored(*statuses))
    with pytest.raises(SystemExit, match=f"scores: none of the study's 2 edits.*{words}"):
        scores.main(given)
    assert not (tmp_path / "out.parquet").exists()


TRIED = ["ok", FAILED, NOT_EDITED]


@pytest.mark.parametrize("statuses", [[], TRIED[:1], TRIED[:2], TRIED, TRIED[2:], TRIED[::2]])
def test_a_cell_with_an_edit_or_with_nothing_to_do_is_no_failure(statuses):
    outcomes.refuse_all_failed(statuses, "ROME, layer 3", "edited", "leave it out")


def test_a_failed_cell_says_how_many_and_the_commonest_reasons():
    statuses = [FAILED, NOT_EDITED, "failed: a row of 7 tokens", "failed: a row of 8 tokens"]
    with pytest.raises(ValueError, match="none of 3") as caught:
        outcomes.refuse_all_failed(statuses, "ROME, layer 3", "edited", "leave it out")
    assert str(caught.value) == (
        "ROME, layer 3: none of 3 facts could be edited "
        "(2 x a row of 7 or 8 tokens; 1 x a singular matrix); leave it out"
    )


@pytest.mark.parametrize("stage", ["trace", "localize", "baseline", "edit"])
@pytest.mark.parametrize("shard", [{}, {"scatteritem": "1-of-2"}], ids=["whole", "a shard"])
def test_a_stage_whose_facts_all_fail_is_an_error_unless_others_may_not(tmp_path, stage, shard):
    given = a_job(tmp_path, stage, kind="mlp", window="3", **shard)
    rows = [{"case_id": str(i), "status": FAILED} for i in range(2)]
    checked = jobs.whole_cell(given, rows, logging.getLogger("test"), stage)
    if shard:
        assert list(checked) == rows
        return
    with pytest.raises(ValueError, match=r"^module mlp, window 3: none of 2 facts could be "):
        list(checked)


@pytest.mark.parametrize(
    ("stage", "schema"),
    [("trace", "tracing"), ("localize", "localizing"), ("baseline", "baseline")],
)
def test_shards_of_which_one_has_a_fact_are_merged(tmp_path, stage, schema):
    paths = [tmp_path / f"part-{i}.parquet" for i in range(2)]
    for status, other in (("ok", False), (FAILED, True)):
        for i, path in enumerate(paths):
            row = {"case_id": str(i), "status": status if i else FAILED}
            tables.write(path, [row], schema, {"fingerprint": "1"})
        tables.write(tmp_path / "study.parquet", [{"case_id": "0"}, {"case_id": "1"}], "facts")
        read = input_files(study=tmp_path / "study.parquet", shards=paths)
        given = a_job(tmp_path, f"merge_{stage}", read, problem="fact_forcing")
        if other:
            with pytest.raises(SystemExit, match=r"none of 2 facts .*, delete .*part-0"):
                merge.main(given)
        else:
            merge.main(given)
            assert len(tables.read(tmp_path / "out.parquet", schema)) == 2


# ---- what an edit's error becomes ----------------------------------------------------------------


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LoceditError("a row of 9 tokens"), "failed: a row of 9 tokens"),
        (ValueError("a row of 9 tokens"), "failed: unforeseen ValueError: a row of 9 tokens"),
        (RuntimeError("two\nlines"), "failed: unforeseen RuntimeError: two lines"),
        (IndexError("out of range"), "failed: unforeseen IndexError: out of range"),
        (KeyError("layer"), "failed: unforeseen KeyError: 'layer'"),
        (ZeroDivisionError(), "failed: unforeseen ZeroDivisionError"),
        (TypeError("no"), "failed: unforeseen TypeError: no"),
    ],
)
def test_an_error_becomes_a_status_that_says_what_it_was(error, status):
    assert outcomes.failure(raised(error)) == status


@pytest.mark.parametrize(
    "error", [OSError("no such file"), MemoryError(), RuntimeError("CUDA out of memory")]
)
def test_the_machines_errors_are_no_facts(error):
    with pytest.raises(type(error)):
        outcomes.failure(raised(error))


def test_a_cell_that_a_bug_befell_says_so_and_where_its_traceback_is():
    """Shapes that do not fit come from torch as a RuntimeError: no data's fault."""
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    statuses = [FAILED, outcomes.failure(caught.value)]
    with pytest.raises(LoceditError) as refused:
        outcomes.refuse_all_failed(statuses, "ROME", "edited", "leave it out", log="edit.log")
    said = str(refused.value)
    assert "1 x unforeseen RuntimeError: mat1 and mat2 shapes cannot be multiplied" in said
    assert "is a bug, of a plug-in or of this project, whose traceback is in edit.log" in said
    assert said.endswith("please report it; leave it out")


def test_a_traceback_is_logged_once_for_all_facts(caplog, monkeypatch):
    monkeypatch.setattr(outcomes, "_TOLD", set())
    for index in range(3):
        outcomes.failure(raised(IndexError(str(index))))
    (record,) = caplog.records
    assert record.getMessage() == "the first fact to fail so: unforeseen IndexError: 0"
    assert record.exc_info


# ---- tuning --------------------------------------------------------------------------------------


def tuning_facts(tmp_path, p_true: float) -> SimpleNamespace:
    rows = [
        {"case_id": str(i), "is_correct": i < 3, "p_true": p_true if i < 3 else None}
        for i in range(4)
    ]
    tables.write(tmp_path / "facts.parquet", rows, "facts")
    tables.write(tmp_path / "study.parquet", rows[:1], "facts")
    paths = input_files(facts=tmp_path / "facts.parquet", study=tmp_path / "study.parquet")
    params = {"min_p_erase": 0.02, "seed": 0, "settings": {"facts": 8}}
    return handed(tmp_path, "sweep", paths, params)


def test_tuning_takes_known_facts_outside_the_study(tmp_path):
    given = tuning_facts(tmp_path, 0.5)
    for problem in PROBLEMS:
        chosen = sweep.outside_study(given, given.params, problem)
        assert {row["case_id"] for row in chosen} == {"1", "2"}


def test_the_facts_of_a_tuning_are_the_last_that_a_larger_study_takes(tmp_path):
    given = tuning_facts(tmp_path, 0.5)
    given.params.settings["facts"] = 1
    (chosen,) = sweep.outside_study(given, given.params, "error_injection")
    assert chosen["case_id"] == study_order(["1", "2"], 0)[-1]


def test_tuning_of_erasure_says_that_nothing_known_is_likely_enough(tmp_path):
    given = tuning_facts(tmp_path, 0.01)
    with pytest.raises(ValueError, match=r"no known fact outside the study .* >= 0\.02"):
        sweep.outside_study(given, given.params, "fact_erasure")
    assert len(sweep.outside_study(given, given.params, "fact_forcing")) == 2


def test_a_sweep_that_chose_nothing_says_why(tmp_path):
    rows = [{"method": "FT-1", "problem": "fact_forcing", "chosen": False, "n_facts": 2}]
    given = handed(tmp_path, "sweep_table", input_files("FT-1/fact_forcing.parquet"))
    with pytest.raises(ValueError, match=r"no setting of FT-1/fact_forcing\.parquet can"):
        sweep_table.chosen(pd.DataFrame(rows), given)


def test_chosen_settings_form_a_set_with_the_aims_name_that_says_where_it_was_missed(tmp_path):
    chosen = {"method": "ROME", "n_facts": 2, "chosen": True}
    hit = {"problem": "error_injection", "admissible": True, "rewrite": 0.6, "values": '{"lr": 1}'}
    missed = {"problem": "fact_erasure", "admissible": False, "rewrite": 0.8, "values": '{"lr": 2}'}
    settings = {"aim": "unsaturated", "rewrite": [0.5, 0.7], "layer": 5}
    settings["problems"] = ["error_injection", "fact_erasure"]
    params = {"settings": settings, "dataset": "bundled"}
    given = handed(tmp_path, "sweep_table", None, params)
    tuned = sweep_table.chosen(pd.DataFrame([{**chosen, **hit}, {**chosen, **missed}]), given)
    assert list(tuned) == ["unsaturated"]
    wanted = {"ROME": {"all": {"lr": 1}, "fact_erasure": {"lr": 2}}}
    assert tuned["unsaturated"]["hyperparameters"] == wanted
    origin = tuned["unsaturated"]["origin"]
    assert "with mean rewrite from 0.5 to 0.7; where no setting lies there, the nearest: " in origin
    assert origin.endswith("ROME fact_erasure 0.80")
    neat = sweep_table.chosen(pd.DataFrame([{**chosen, **hit}]), given)["unsaturated"]["origin"]
    assert neat.endswith("from 0.5 to 0.7")
