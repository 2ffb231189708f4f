"""The whole workflow on a tiny model and a dozen facts: what it makes, and what a change reruns.

The workflow runs once, from a copy of its files and in a folder of its own; most tests ask
Snakemake what it would do next.
"""

import json
import os
import random
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_study import (
    LAYERS,
    METHODS,
    OUT,
    PROBLEMS,
    SCORES,
    SETTINGS,
    WINDOWS,
    copy_tree,
    merged,
)

from locedit.facts.record import EXCLUDED
from locedit.store import hashing, schemas, tables
from locedit.study.scores import REPEATED
from locedit.workflow import plugins
from scripts import publish

SCORE_FIGURES = {f"figure_{score}_by_layer" for score in (*SCORES, "success", "said")}
STATISTICS = {"out_of_fold", "choice", "within", "value", "arena"}
# Figures of edits and of tracing effects
BOTH_FIGURES = {
    "figure_r2_by_problem",
    *(f"figure_r2_{score}" for score in SCORES[1:]),
    "figure_r2_rewrite_window_1",
    "figure_r2_rewrite_unscaled",
    "figure_r2_rewrite_last_token",
    "figure_rewrite_vs_effect",
    *(f"figure_rewrite_vs_effect_{problem}" for problem in PROBLEMS),
    "figure_correlations_by_layer",
    *(f"figure_{name}" for name in STATISTICS),
}
RESTORED_FIGURES = {"figure_r2_rewrite_unscaled", "figure_r2_rewrite_last_token"}
ANSWERS = ["choice", "within", "value", "arena", "verdict"]
EDIT_TABLES = ["r2", "correlations", "success", "clusters", "out_of_fold", "reliability"]
EDIT_TABLES += ["said", *ANSWERS]
TRACED_TABLES = [name for name in EDIT_TABLES if name not in ("success", "said")]
TRACING_TABLES = ["power"]
EDIT_FIGURES = SCORE_FIGURES | BOTH_FIGURES
EFFECT_FIGURES = {
    f"figure_{n}" for n in ("tracing_effect_by_layer", "tracing_peaks", "reliability", "power")
}
TRACING_FIGURES = {*EFFECT_FIGURES, "figure_heatmap"}
# What comes after an edit
AFTER_EDITS = dict.fromkeys(
    ("scores", *(f"table_{name}" for name in EDIT_TABLES), *EDIT_FIGURES, "figure_reliability"), 1
)


# ---- what the run makes --------------------------------------------------------------------------


def table_paths() -> dict[str, list[str]]:
    """Schema: the tables that the study makes under it."""
    grid = [
        f"editing/{method}/{problem}/layer-{layer}"
        for method in METHODS
        for problem in PROBLEMS
        for layer in LAYERS
    ]
    return {
        "facts": ["facts", "study"],
        "essence": ["essence"],
        "held_out": ["../held_out"],
        "baseline": [f"baseline/{problem}" for problem in PROBLEMS],
        "tracing": [f"tracing/mlp/window-{window}" for window in WINDOWS],
        "localizing": [f"localizing/zeroing/mlp/window-{window}" for window in WINDOWS],
        "effects": ["effects"],
        "editing": grid,
        "scores": ["scores"],
        "sweep": [f"tuning/{method}/error_injection" for method in METHODS] + ["tuning/sweep"],
        "rome_summary": ["rome/summary"],
    }


TABLES = [(schema, name) for schema, names in table_paths().items() for name in names]


def test_each_job_runs_once(finished):
    _, run = finished
    grid = len(METHODS) * len(PROBLEMS) * len(LAYERS)
    many = {"edit": grid, "baseline": len(PROBLEMS), "sweep": len(METHODS)}
    many |= {"trace": len(WINDOWS), "localize": len(WINDOWS)}
    assert {name: n for name, n in run.jobs.items() if n != 1} == many
    assert set(run.jobs) >= TRACING_FIGURES | EDIT_FIGURES
    assert "corpus" not in run.jobs


@pytest.mark.parametrize(("schema", "name"), TABLES, ids=[name for _, name in TABLES])
def test_a_table_has_its_schemas_columns_and_no_empty_one(study, schema, name):
    table = tables.read(study.out / f"{name}.parquet", schema)
    assert list(table.columns) == schemas.SCHEMAS[schema].names
    assert len(table) > 0
    empty = [column for column in table if table[column].isna().all()]
    # zeroing draws nothing at random; no method here has a null space, or picks neurons; no edit is
    # made again
    without = {
        "localizing": ["value_half1", "value_half2"],
        "editing": ["null_space_rank", "neurons"],
        "scores": [f"{name}_again" for name in REPEATED],
    }
    assert empty == without.get(schema, [])


def test_a_table_says_how_it_was_made(study):
    made = tables.provenance(study.out / "editing/ROME/fact_erasure/layer-2.parquet")
    assert made["rule"] == "edit"
    assert made["wildcards"] == {"method": "ROME", "problem": "fact_erasure", "layer": "2"}
    assert made["fingerprint"]
    assert made["config"]["editing"]["layers"] == LAYERS
    assert "torch" in made["versions"]
    base, root = study.folder.parent, study.root
    files = (root / "workflow_scripts/edit.py", root / "locedit/methods/rome.py")
    without = ("locedit", "locedit.workflow.job", *plugins.REGISTRIES)
    code = [[hashing.code(file, root, without) for file in files], hashing.files([])]
    assert made["hashes"] == {
        "code": hashing.digest(hashing.digest(code)),
        "model": hashing.weights(base / "model"),
        "data": hashing.digest([OUT.name, [".json", hashing.content(base / "facts.json")]]),
    }


def test_facts_are_known_unknown_or_excluded_with_the_reason(study):
    table = tables.read(study.out / "facts.parquet", "facts").set_index("case_id")
    assert table["is_correct"].eq(True).sum() == 9
    assert not table.loc["unknown", "is_correct"]
    excluded = table[table["status"] == EXCLUDED]["reason"].to_dict()
    assert set(excluded) == {"empty", "lacks"}
    assert excluded["empty"] == "target_true is empty"
    assert "lacks the subject" in excluded["lacks"]
    chosen = tables.read(study.out / "study.parquet", "facts")
    assert len(chosen) == SETTINGS["facts"]["study"]
    assert chosen["is_correct"].all()


def test_tracing_covers_every_token_and_layer(study):
    for window in WINDOWS:
        cells = tables.read(study.out / f"tracing/mlp/window-{window}.parquet", "tracing")
        assert set(cells["status"]) == {"ok"}
        assert cells[["p_clean", "p_corrupted", "p_restored"]].stack().between(0, 1).all()
        for _, fact in cells.groupby("case_id"):
            assert len(fact) == 4 * fact["token"].nunique()
            assert fact["is_last_subject"].sum() == 4


def test_edits_are_measured_before_and_after(study):
    for name in table_paths()["editing"]:
        table = tables.read(study.out / f"{name}.parquet", "editing")
        assert set(table["status"]) == {"ok"}
        assert len(table) == SETTINGS["facts"]["study"]
        assert (table["update_norm"] >= 0).all()
        for column in schemas.SCHEMAS["editing"].names:
            if column.endswith(("target_before", "target_after", "other_before", "other_after")):
                values = np.concatenate([np.atleast_1d(v) for v in table[column]])
                assert len(values) > 0
                assert (values <= 0).all(), column


def test_edits_move_what_they_aim_at(study):
    scores = tables.read(study.out / "scores.parquet", "scores")
    assert len(scores) == len(table_paths()["editing"]) * SETTINGS["facts"]["study"]
    best = scores.groupby(["method", "problem"])["rewrite"].max()
    assert (best > 0.1).all(), best
    assert (scores[["paraphrase", "neighbourhood", "essence"]] <= 1 + 1e-9).all(axis=None)
    rewrite, other = scores["rewrite"], scores[["paraphrase", "neighbourhood"]].sum(axis=1)
    assert np.allclose(scores["overall"], (rewrite + other) / 3)


def test_the_r2_table_has_a_row_for_each_method_problem_score_and_window(study):
    table = pd.read_parquet(study.out / "analysis/r2.parquet")
    keys = ["localizer", "window", "effect", "method", "problem", "score", "subset"]
    assert len(table) == len(table.drop_duplicates(keys))
    assert len(table) == 10 * len(WINDOWS) * len(METHODS) * len(PROBLEMS) * len(SCORES)
    of = {name: set(rows["effect"]) for name, rows in table.groupby("localizer")}
    assert of == {"tracing": set(schemas.MEASURES), "zeroing": {"value"}}
    fitted = table[table["reason"] == ""]
    assert set(fitted["method"]) == set(METHODS)
    assert fitted[["r2_layer", "r2_tracing", "r2_both"]].stack().between(0, 1).all()
    assert (fitted["diff"] >= -1e-9).all()


@pytest.mark.parametrize("name", [*EDIT_TABLES, *TRACING_TABLES])
def test_an_analysis_is_a_table_a_text_and_a_page(study, name):
    table = pd.read_parquet(study.out / f"analysis/{name}.parquet")
    assert len(table) > 0
    assert (table["model"] == "Tiny Llama").all()
    numbers = table.select_dtypes("number").drop(columns="best_layer", errors="ignore")
    numbers = numbers[[c for c in numbers if not c.startswith("published")]]
    assert (table.loc[numbers.isna().any(axis=1), "reason"] != "").all()
    written = pd.read_csv(study.out / f"tables/{name}.csv")
    assert list(written.columns) == list(table.columns)
    assert len(written) == len(table)
    page = ElementTree.parse(study.out / f"tables/{name}.html").getroot()
    assert "Tiny Llama" in "".join(page.find("body").itertext())
    assert len(list(page.iter("tr"))) >= 1 + min(len(table), 2)  # the header's, and what it has


def test_every_figure_is_drawn_twice_and_says_whose_it_is(study):
    names = sorted(name.removeprefix("figure_") for name in TRACING_FIGURES | EDIT_FIGURES)
    folder = study.out / "figures"
    assert sorted(path.stem for path in folder.glob("*.svg")) == names
    for name in names:
        drawing = ElementTree.parse(folder / f"{name}.svg")
        text = " ".join("".join(drawing.getroot().itertext()).split())
        assert "Tiny Llama" in text, name
        words = json.loads((folder / f"{name}.json").read_text())
        assert set(words) == {"title", "caption", "alt"}, name
        assert words["title"].split()[0] in text, name
        assert "Tiny Llama; data set hand-made" in words["caption"], name
        image = (folder / f"{name}.png").read_bytes()
        assert image.startswith(b"\x89PNG")
        assert len(image) > 20_000, name


def test_the_heat_map_shows_every_module_of_one_fact(study):
    cells = pd.read_parquet(study.out / "analysis/heatmap_cells.parquet")
    assert set(cells["module"]) == {"mlp", "attn", "hidden"}  # the study traces one of them
    traced = tables.read(study.out / "tracing/mlp/window-3.parquet", "tracing")
    same = cells[cells["module"] == "mlp"].merge(traced, on=["case_id", "token", "layer"])
    assert len(same) == len(cells) / 3
    assert np.allclose(same["p_restored_x"], same["p_restored_y"], atol=1e-12)


def test_a_figure_depends_on_its_own_r_code_alone(study, tmp_path):
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    code = changed.root / "analysis" / "figures_choice.R"
    code.write_text(code.read_text() + "\nanother <- 1\n")
    assert set(changed.plan().jobs) == {"figure_choice", "figure_within", "figure_value"}


def test_tuning_uses_other_facts_and_chooses_one_setting_each(study):
    table = tables.read(study.out / "tuning/sweep.parquet", "sweep")
    assert table.groupby("method").size().to_dict() == {"FT-1": 2, "ROME": 1}
    assert table.groupby("method")["chosen"].sum().to_dict() == {"FT-1": 1, "ROME": 1}
    tuned = yaml.safe_load((study.out / "tuning/tuned.yaml").read_text())["tuned"]
    assert set(tuned) == {"unsaturated"} == set(table["aim"])
    found = tuned["unsaturated"]["hyperparameters"]
    assert set(found) == set(METHODS)
    rome = {"clamp": 1.0, "kl_factor": 0.5, "lr": 0.5, "fact_token": "subject_last"}
    assert found["ROME"] == {"all": rome}
    assert found["FT-1"]["all"]["enough"] == 0
    within = table["rewrite"].between(0.5, 0.7)
    assert within.tolist() == table["admissible"].tolist()
    assert (study.out / "tuning/sweep.svg").stat().st_size > 5_000


def test_the_rome_suites_layout_has_a_run_for_each_problem_and_layer(study):
    for method in METHODS:
        runs = sorted((study.out / "rome" / method).glob("run_*"))
        assert [run.name for run in runs] == ["run_000", "run_002", "run_008", "run_010"]
        assert {len(list(run.glob("case_*.json"))) for run in runs} == {SETTINGS["facts"]["study"]}


def test_a_published_study_has_all_its_scores_and_values(study, tmp_path):
    publish.main(str(study.out), str(tmp_path), "scores", "effects", "success")
    read = {path.stem: pd.read_csv(path, dtype={"case_id": str}) for path in tmp_path.iterdir()}
    scores = tables.read(study.out / "scores.parquet", "scores")
    assert set(scores) - set(read["scores"]) == {
        name for name in scores if scores[name].isna().all()
    }
    assert read["scores"]["rewrite"].tolist() == pytest.approx(scores["rewrite"], rel=1e-5)
    effects = tables.read(study.out / "effects.parquet", "effects").set_index(
        [*publish.PLACE, "layer"]
    )["value"]
    wide = read["effects"].set_index(publish.PLACE)
    assert wide.size == len(effects)
    for (*place, layer), value in effects.items():
        assert wide.loc[tuple(place), str(layer)] == pytest.approx(value, rel=1e-5, nan_ok=True)
    assert len(read["success"]) == len(tables.read(study.out / "analysis/success.parquet", None))


# ---- what a change reruns ------------------------------------------------------------------------


def test_a_second_run_does_nothing(study, tmp_path):
    run = study.copied(tmp_path / "again").run(environment={"PYTHONHASHSEED": "7"})
    assert run.status == 0
    assert run.nothing, run.text


@pytest.mark.parametrize("request_by", ["the whole study", "its path"])
def test_a_deleted_figure_is_rebuilt_by_its_own_job_alone(study, tmp_path, request_by):
    study = study.copied(tmp_path / "lacking")
    figure = study.out / "figures/rewrite_by_layer.svg"
    before = figure.read_bytes()
    figure.unlink()
    targets = [] if request_by == "the whole study" else [str(OUT / "figures/rewrite_by_layer.svg")]
    run = study.run(*targets)
    assert run.status == 0
    assert run.jobs == {"figure_rewrite_by_layer": 1}
    assert figure.read_bytes() == before


def test_new_file_times_as_in_a_fresh_clone_rerun_nothing(study, tmp_path):
    cloned = study.copied(tmp_path / "clone")
    paths = [path for path in cloned.folder.rglob("*") if path.is_file()]
    paths += [path for path in study.folder.parent.glob("*/*") if path.is_file()]
    draw = random.Random(0)
    for path in paths:
        os.utime(path, (draw.uniform(1e9, 1.7e9),) * 2)
    assert cloned.plan().nothing


def test_an_added_layer_runs_its_own_edits_alone(study, tmp_path):
    grown = study.copied(tmp_path / "grown")
    grown.plan()  # sets the times of a copy, once
    old = {path: path.stat().st_mtime_ns for path in (grown.out / "editing").rglob("*.parquet")}
    more = {"editing": {"layers": [*LAYERS, 1]}}
    new = {(method, problem, 1) for method in METHODS for problem in PROBLEMS}

    run = grown.run(str(OUT / "scores.parquet"), **more)
    assert run.status == 0, run.text
    assert run.edits == new
    assert run.jobs == {"edit": len(new), "scores": 1}
    assert {path: path.stat().st_mtime_ns for path in old} == old
    scores = tables.read(grown.out / "scores.parquet", "scores")
    assert set(scores["layer"]) == {*LAYERS, 1}


def test_edits_made_again_run_alone_and_tell_how_far_the_score_repeats(study, tmp_path):
    """The primary comparison's, of some facts, with other contexts; the edits themselves stay."""
    twice = study.copied(tmp_path / "twice")
    changes = {"editing": {"repeated": 5}}
    run = twice.run(str(OUT / "analysis" / "within.parquet"), **changes)
    assert run.status == 0, run.text
    assert run.edits == {("ROME", "error_injection", f"{layer}-again") for layer in LAYERS}
    new = {"contexts_again": 1, "edit": len(LAYERS), "scores": 1, "table_within": 1}
    assert run.jobs == new

    sets = [
        tables.context_sets(twice.out.parent / f"{name}.parquet", "rome")
        for name in ("contexts", "contexts_again")
    ]
    assert sets[0] != sets[1]
    scores = tables.read(twice.out / "scores.parquet", "scores")
    before = tables.read(study.out / "scores.parquet", "scores")
    again = [f"{name}_again" for name in REPEATED]
    pd.testing.assert_frame_equal(scores.drop(columns=again), before.drop(columns=again))
    repeated = scores[scores["paraphrase_log_odds_again"].notna()]
    assert set(zip(repeated["method"], repeated["problem"], strict=True)) == {
        ("ROME", "error_injection")
    }
    assert repeated.groupby("layer").size().to_dict() == dict.fromkeys(LAYERS, 5)
    assert (repeated["paraphrase_log_odds_again"] != repeated["paraphrase_log_odds"]).all()
    within = pd.read_parquet(twice.out / "analysis" / "within.parquet")
    of = within.query("problem == 'error_injection' and method == 'ROME'")
    assert set(of.loc[of["score"] == "paraphrase_log_odds", "repeated"]) == {5}


PEAKED = {"all": LAYERS, "error_injection": {"all": LAYERS, "ROME": [2, "peak"]}}


@pytest.fixture(scope="module")
def peaked(study, tmp_path_factory):
    """A copy in which ROME injects its errors also where each of the first four facts peaks."""
    copy = study.copied(tmp_path_factory.mktemp("peaked") / "work")
    changes = {"editing": {"layers": PEAKED, "facts": {"all": None, "error_injection": 4}}}
    run = copy.run("all", "report", **changes)
    assert run.status == 0, run.text
    return replace(copy, settings=merged(copy.settings, changes)), run


def test_each_fact_is_edited_at_its_own_peak_too(peaked):
    study, run = peaked
    assert {layer for _, _, layer in run.edits} == {0, 2, "peak"}
    assert ("ROME", "error_injection", 0) not in run.edits
    folder = study.out / "editing/ROME/error_injection"
    rows = tables.read(folder / "layer-peak.parquet", "editing")
    facts = tables.read(study.out / "study.parquet", "facts")["case_id"][:4]
    assert list(rows["case_id"]) == list(facts)
    effects = tables.read(study.out / "effects.parquet", "effects")
    effects = effects.query("localizer == 'tracing' and module == 'mlp' and window == 3")
    for case_id, layer in zip(rows["case_id"], rows["layer"], strict=True):
        own = effects[effects["case_id"] == case_id].sort_values("layer")
        assert layer == own.set_index("layer")["value"].idxmax()
    assert rows["layers"].map(list).tolist() == [[layer] for layer in rows["layer"]]
    assert rows["layer"].nunique() > 1, "otherwise nothing is shown"
    at_layer = tables.read(folder / "layer-2.parquet", "editing").set_index("case_id")
    shared = rows[rows["layer"] == 2].set_index("case_id")
    assert len(shared)
    same = [column for column in shared if column.startswith(("rewrite", "update_norm"))]
    assert np.allclose(shared[same], at_layer.loc[shared.index, same], atol=1e-4)


def test_edits_at_peaks_follow_the_shown_localizer_alone(peaked):
    study, _ = peaked
    another = study.plan(localizing={"localizers": ["tracing", "zeroing", "depth"]})
    assert not another.edits
    assert another.jobs["localize"] == 1
    measured = study.plan(analysis={"effect": "effect_max"})
    assert measured.edits == {("ROME", "error_injection", "peak")}
    assert measured.jobs["peaks"] == 1


def test_a_method_that_edits_more_facts_runs_alone(study, peaked):
    """The unedited model is measured for the whole study, whatever part of it is edited."""
    fewer, run = peaked
    assert "baseline" not in run.jobs
    name = "editing/ROME/error_injection/layer-2.parquet"
    of_all, of_four = (tables.read(one.out / name, "editing") for one in (study, fewer))
    assert of_four["case_id"].tolist() == of_all["case_id"][:4].tolist()
    numbers = list(of_four.select_dtypes("number"))
    assert np.allclose(of_four[numbers], of_all[numbers][:4], atol=1e-4, equal_nan=True)
    facts = {"all": None, "error_injection": {"all": 4, "ROME": 4, "MEMIT": None}}
    more = fewer.plan(editing={"methods": [*METHODS, "MEMIT"], "facts": facts})
    assert more.edits == EDITS_OF["MEMIT"]
    assert "baseline" not in more.jobs


def test_scores_tell_the_listed_layers_and_the_peaks(peaked):
    study, _ = peaked
    scores = tables.read(study.out / "scores.parquet", "scores")
    keys = ["case_id", "method", "problem", "layer"]
    assert not scores.duplicated(keys).any()
    pair = (scores["method"] == "ROME") & (scores["problem"] == "error_injection")
    peaks = tables.read(study.out / "editing/ROME/error_injection/layer-peak.parquet", "editing")
    peaks = peaks.set_index("case_id")["layer"]
    assert scores[pair & scores["at_peak"]].set_index("case_id")["layer"].to_dict() == (
        peaks.to_dict()
    )
    assert (scores["at_peak"] == (scores["layer"] == scores["case_id"].map(peaks))).all()
    assert set(scores.loc[pair & scores["listed"], "layer"]) == {2}
    assert scores.loc[~scores["listed"], "at_peak"].all()
    assert scores[~scores["listed"]].shape[0] == (peaks != 2).sum()
    counts = scores[scores["listed"]].groupby(["problem", "method", "layer"]).size()
    assert set(counts["error_injection"]) == {4}
    assert set(counts["fact_erasure"]) == {SETTINGS["facts"]["study"]}
    success = pd.read_parquet(study.out / "analysis/success.parquet")
    rome = success.query("method == 'ROME' and problem == 'error_injection'")
    assert rome[["layer", "n"]].to_numpy().tolist() == [[2, 4]]


def test_edits_at_peaks_depend_on_no_other_layer_and_no_shard(peaked, tmp_path):
    study, _ = peaked
    assert study.plan().nothing
    more = {**PEAKED["error_injection"], "ROME": [2, 1, "peak"]}
    planned = study.plan(editing={"layers": {"error_injection": more}})
    assert planned.edits == {("ROME", "error_injection", 1)}
    planned = study.plan(analysis={"window": 1})
    assert planned.edits == {("ROME", "error_injection", "peak")}
    sharded = study.copied(tmp_path / "sharded")
    path = OUT / "editing/ROME/error_injection/layer-peak.parquet"
    before = (sharded.folder / path).read_bytes()
    (sharded.folder / path).unlink()
    run = sharded.run(str(path), "--set-scatter", "editing=3")
    assert run.status == 0, run.text
    assert run.jobs == {"edit": 3, "merge_edit": 1}
    assert (sharded.folder / path).read_bytes() == before


def test_a_plugin_is_in_every_table(study, tmp_path):
    """The example, named in the configuration; then changed."""
    grown = study.copied(tmp_path / "grown")
    method = "FT-unconstrained"
    more = {
        "plugins": ["plugins/ft_unconstrained.py"],
        "editing": {
            "methods": [*METHODS, method],
            "hyperparameters": {method: {"all": {"lr": 0.01}}},
        },
    }
    run = grown.run("analysis", str(OUT / "figures/rewrite_by_layer.svg"), **more)
    assert run.status == 0, run.text
    assert run.edits == EDITS_OF[method]
    remade = ["scores", *(f"table_{name}" for name in EDIT_TABLES), "figure_rewrite_by_layer"]
    assert run.jobs == {"edit": len(run.edits), **dict.fromkeys(remade, 1), "analysis": 1}
    scores = tables.read(grown.out / "scores.parquet", "scores")
    assert set(scores["method"]) == {*METHODS, method}
    assert set(scores["status"]) == {"ok"}
    assert set(pd.read_csv(grown.out / "tables/r2.csv")["method"]) == {*METHODS, method}
    drawing = ElementTree.parse(grown.out / "figures/rewrite_by_layer.svg")
    assert method in {"".join(text.itertext()) for text in drawing.iter(SVG_TEXT)}

    changed = replace(grown, root=copy_tree(grown.root, tmp_path / "tree"))
    plugin = changed.root / "plugins" / "ft_unconstrained.py"
    plugin.write_text(plugin.read_text() + "\n# A remark.\n")
    assert not changed.plan("analysis", **more).edits
    plugin.write_text(plugin.read_text().replace("layer, unbounded", "layer + 0, unbounded"))
    assert changed.plan("analysis", **more).edits == EDITS_OF[method]


SVG_TEXT = "{http://www.w3.org/2000/svg}text"
EDITS_OF = {
    method: {(method, problem, layer) for problem in PROBLEMS for layer in LAYERS}
    for method in ("FT-1", "ROME", "MEMIT", "FT-unconstrained")
}
HOT = {"lr": 0.3}
CHANGES: dict[str, tuple[dict, set, dict[str, int]]] = {
    # the change, the edits that it reruns, and all other jobs that it reruns
    "an edit layer": (
        {"editing": {"layers": [*LAYERS, 1]}},
        {(method, problem, 1) for method in METHODS for problem in PROBLEMS},
        {**AFTER_EDITS, "table_power": 1, "figure_power": 1},  # told for these layers, too
    ),
    "a method": ({"editing": {"methods": [*METHODS, "MEMIT"]}}, EDITS_OF["MEMIT"], AFTER_EDITS),
    "a problem": (
        {"editing": {"problems": [*PROBLEMS, "fact_amplification"]}},
        {(method, "fact_amplification", layer) for method in METHODS for layer in LAYERS},
        {**AFTER_EDITS, "baseline": 1, "figure_rewrite_vs_effect_fact_amplification": 1},
    ),
    "a hyperparameter of ROME": (
        {"editing": {"hyperparameters": {"ROME": {"all": HOT}}}},
        EDITS_OF["ROME"],
        AFTER_EDITS,
    ),
    "a hyperparameter of ROME for one problem": (
        {"editing": {"hyperparameters": {"ROME": {"fact_erasure": HOT}}}},
        {("ROME", "fact_erasure", layer) for layer in LAYERS},
        AFTER_EDITS,
    ),
    "how well facts are known that are erased": (
        {"facts": {"min_p_erase": 0.06}},
        {(method, "fact_erasure", layer) for method in METHODS for layer in LAYERS},
        {**AFTER_EDITS, "baseline": 1},
    ),
    "the aggregation of scores": ({"scores": {"aggregate": "first"}}, set(), AFTER_EDITS),
    "a window": (
        {"localizing": {"windows": [*WINDOWS, 2]}},
        set(),
        dict.fromkeys(
            {
                "trace",
                "localize",
                "effects",
                "figure_r2_rewrite_window_2",
                *BOTH_FIGURES,
                *EFFECT_FIGURES,
            }
            | {f"table_{name}" for name in (*TRACED_TABLES, *TRACING_TABLES)},
            1,
        ),
    ),
    "the number of halvings": (
        {"analysis": {"splits": 3}},
        set(),
        dict.fromkeys(
            ("table_value", "table_arena", "table_verdict", "figure_value", "figure_arena"), 1
        ),
    ),
    "no restoration": (
        {"localizing": {"localizers": ["zeroing"]}, "analysis": {"localizer": "zeroing"}},
        set(),
        {"effects": 1}
        | {f"table_{name}": 1 for name in (*TRACED_TABLES, *TRACING_TABLES)}
        | dict.fromkeys((BOTH_FIGURES | EFFECT_FIGURES) - RESTORED_FIGURES, 1)
        # whose words name the localizer
        | {f"figure_{score}_by_layer": 1 for score in SCORES},
    ),
    "the target of tracing reversal, which is not studied": (
        {"quirks": {"reversal_prompt_in_target": True}},
        set(),
        {},
    ),
    "the heat map's fact": (
        {"analysis": {"heatmap": "0"}},
        set(),
        {"heatmap_cells": 1, "figure_heatmap": 1},
    ),
    "the layer of the one-layer scatter": (
        {"analysis": {"layer": 0}},
        set(),
        {"figure_rewrite_vs_effect": 1},
    ),
    "the usual layers": (
        {"analysis": {"usual_layers": {"ROME": [1]}}},
        set(),
        {"figure_tracing_peaks": 1},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(study, name):
    changes, edits, others = CHANGES[name]
    planned = study.plan(**changes)
    assert planned.edits == edits
    assert {rule: n for rule, n in planned.jobs.items() if rule != "edit"} == others


def test_a_run_without_its_primary_comparison_says_so_at_its_start(study, tmp_path):
    grown = study.copied(tmp_path / "grown")
    remark = "is not among the edits"
    target = str(OUT / "tables" / "verdict.csv")
    run = grown.run(target, analysis={"primary": {"problem": PROBLEMS[1]}})
    assert run.status == 0, run.text
    assert remark not in run.text
    run = grown.run(target, analysis={"primary": {"method": "MEMIT"}})
    assert run.status == 0, run.text
    assert run.text.count(remark) == 1


def test_tuning_says_at_its_start_which_methods_it_leaves_out(study, tmp_path):
    grown = study.copied(tmp_path / "grown")
    run = grown.run("tune", editing={"methods": ["FT-1", "EMMET"]}, tuning={"aim": "saturating"})
    assert run.status == 0, run.text
    said = "config: tuning.aims.saturating.grid: nothing to try for EMMET, left out of the tuning"
    assert run.text.count(said) == 1, run.text


# What a localizer's effects are in
AFTER_EFFECTS = {
    "effects",
    *(f"table_{name}" for name in (*TRACED_TABLES, *TRACING_TABLES)),
    *BOTH_FIGURES,
    *EFFECT_FIGURES,
}


def test_a_localizer_that_is_added_to_a_finished_study_runs_alone(study, tmp_path):
    """A plug-in's beside the others: its own job, then tables and figures; its code is its own."""
    plugin = tmp_path / "write_norm.py"
    shutil.copy(study.root / "plugins" / "write_norm.py", plugin)
    settings = {
        "plugins": [str(plugin)],
        "localizing": {"localizers": ["tracing", "zeroing", "write_norm"]},
    }
    grown = study.copied(tmp_path / "grown")
    assert grown.plan(**settings).jobs == {"localize": 1, **dict.fromkeys(AFTER_EFFECTS, 1)}
    target = str(OUT / "tables" / "r2.csv")
    run = grown.run(target, **settings)
    assert run.status == 0, run.text
    assert run.jobs == {"localize": 1, "effects": 1, "table_r2": 1}
    effects = tables.read(grown.out / "effects.parquet", "effects")
    new = effects[effects["localizer"] == "write_norm"]
    assert set(new["case_id"]) == set(effects["case_id"])
    assert (new["value"] > 0).all()
    assert set(new["window"]) == {1}
    old = effects[effects["localizer"] != "write_norm"].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, tables.read(study.out / "effects.parquet", "effects"))
    assert "write_norm" in set(pd.read_csv(grown.folder / target)["localizer"])
    assert grown.plan(target, **settings).nothing
    changed = plugin.read_text().replace("norms / torch", "2 * norms / torch")
    plugin.write_text(changed)
    assert grown.plan(target, **settings).jobs == {"localize": 1, "effects": 1, "table_r2": 1}


def test_a_localizer_without_any_value_is_named_in_the_analysis(study, tmp_path):
    """No fact of the tiny study has a partner to be swapped with."""
    grown = study.copied(tmp_path / "grown")
    settings = {"localizing": {"localizers": ["tracing", "zeroing", "swap_tracing"]}}
    names = ["arena", "r2"]
    run = grown.run(*(str(OUT / "tables" / f"{name}.csv") for name in names), **settings)
    assert run.status == 0, run.text
    effects = tables.read(grown.out / "effects.parquet", "effects")
    of_each = effects.groupby("localizer")
    assert of_each["value"].count()["swap_tracing"] == 0
    assert of_each["layer"].nunique().nunique() == 1
    for name in names:
        table = pd.read_csv(grown.out / "tables" / f"{name}.csv")
        empty = table[table["localizer"] == "swap_tracing"]
        assert len(empty)
        assert empty["reason"].str.len().gt(0).all()
        assert {"tracing", "zeroing"} <= set(table["localizer"])
    others = table[table["localizer"] != "swap_tracing"].reset_index(drop=True)
    before = pd.read_csv(study.out / "tables" / f"{name}.csv")
    pd.testing.assert_frame_equal(others, before, check_dtype=False)


def test_a_localizer_of_the_library_that_is_added_reruns_nothing(study, tmp_path):
    """Which there are is no part of a job's code: a file and an entry more, and all stays."""
    grown = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    listed = grown.root / "locedit" / "localizers" / "builtin.py"
    entry = """
BUILTIN += (Localizer(name="another", function="locedit.localizers.zeroing:localize"),)
"""
    listed.write_text(listed.read_text() + entry)
    assert grown.plan().nothing
    added = grown.plan(localizing={"localizers": ["tracing", "zeroing", "another"]})
    assert added.jobs == {"localize": 1, **dict.fromkeys(AFTER_EFFECTS, 1)}


def test_a_quirk_reruns_what_it_changes_and_nothing_else(study, tmp_path):
    """The target of a reversal is the baseline's; where to noise matters behind a context alone."""
    grown = study.copied(tmp_path / "grown")
    edits = [("ROME", "tracing_reversal"), ("ROME", "fact_forcing"), ("FT-1", "fact_forcing")]
    paths = [str(OUT / f"editing/{method}/{problem}/layer-0.parquet") for method, problem in edits]
    run = grown.run(*paths)
    assert run.status == 0, run.text
    assert grown.plan(*paths).nothing
    planned = grown.plan(*paths, quirks={"reversal_prompt_in_target": True})
    assert planned.jobs == {"baseline": 1, "edit": 1}
    assert planned.edits == {("ROME", "tracing_reversal", 0)}
    planned = grown.plan(*paths, quirks={"forcing_noise_position": True})
    assert planned.jobs == {"edit": 1}
    assert planned.edits == {("ROME", "fact_forcing", 0)}


def test_batch_sizes_and_what_only_tuning_reads_rerun_nothing(study):
    sizes = ["--default-resources", "batch_tokens=100", "batch_facts=3"]
    assert study.plan(*sizes, tuning={"facts": 1, "layer": 2}).nothing


def test_another_cache_folder_reruns_nothing(study, tmp_path):
    here = Path(study.settings["environment"]["LOCEDIT_CACHE"])
    there = shutil.copytree(here, tmp_path / "cache")
    assert study.plan(environment={"LOCEDIT_CACHE": str(there)}).nothing


def test_other_weights_of_the_same_size_rerun_what_reads_them(study, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    model = study.folder.parent / "model"
    shutil.copytree(model, base / "model")
    shutil.copy(study.settings["model"], base)
    changes = {"model": str(base / "tiny.yaml")}
    weights = base / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert study.plan(**changes).jobs["filter_facts"] == 1


def test_a_checkout_that_was_moved_reruns_nothing(study, tmp_path):
    assert replace(study, root=copy_tree(study.root, tmp_path / "moved")).plan().nothing


OWN_FILES = {
    "arena.R": {"table_arena"},
    "success.R": {"table_success"},
    "folds.R": {"table_out_of_fold"},
    "published.csv": {"table_r2"},
    "words/cluster_table.md": {"table_clusters"},
}


@pytest.mark.parametrize("file", OWN_FILES)
def test_a_tables_own_files_rerun_it_and_no_other_table(study, tmp_path, file):
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    path = changed.root / "analysis" / file
    path.write_text(path.read_text() + "\n")
    planned = {name for name in changed.plan().jobs if not name.startswith("figure_")}
    assert planned == OWN_FILES[file]


def test_a_label_reruns_every_table_and_figure_and_nothing_before_them(study, tmp_path):
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    path = changed.root / "analysis" / "labels.yaml"
    path.write_text(path.read_text().replace("Rewrite score", "Rewriting score"))
    planned = set(changed.plan().jobs)
    assert planned == {
        *(f"table_{name}" for name in (*EDIT_TABLES, *TRACING_TABLES)),
        *EDIT_FIGURES,
        *TRACING_FIGURES,
    }


def test_how_a_model_is_loaded_reruns_what_loads_it(study, tmp_path):
    """Jobs load through a module whose code counts for none of them."""
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    loading = changed.root / "locedit" / "engine" / "loading.py"
    loading.write_text(loading.read_text() + "\nCHANGED = True\n")
    planned = changed.plan().jobs
    assert {"filter_facts", "key_statistics", "trace", "localize", "edit"} <= planned.keys()


def test_a_renamed_data_file_reruns_nothing(study, tmp_path):
    """It is known by its content; its ending says how it is read."""
    path = study.folder.parent / "facts.json"
    renamed = tmp_path / "others.json"
    shutil.copy2(path, renamed)
    assert study.plan(dataset={"path": str(renamed)}).nothing


def test_a_comment_reruns_nothing_and_a_methods_code_only_its_edits(study, tmp_path):
    changed = replace(study, root=copy_tree(study.root, tmp_path / "tree"))
    rome = changed.root / "locedit" / "methods" / "rome.py"
    code = rome.read_text()
    for name in (
        "locedit/methods/rome.py",
        "locedit/localizers/restoration.py",
        "workflow_scripts/edit.py",
    ):
        path = changed.root / name
        path.write_text(path.read_text() + "\n\n# A remark.\n")
    rome.write_text(rome.read_text().replace('"""', '"""Once more: ', 1))
    assert rome.read_text() != code
    assert changed.plan().nothing

    rome.write_text(code + "\nCHANGED = True\n")
    planned = changed.plan()
    assert planned.edits == EDITS_OF["ROME"]
    assert {rule: n for rule, n in planned.jobs.items() if rule != "edit"} == AFTER_EDITS
