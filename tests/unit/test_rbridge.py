"""The bridge to R: what goes through comes back, errors keep R's words; tables and figures."""

import html
import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from handed import handed, input_files, output_files
from snakemake.iocontainers import InputFiles

from locedit.report import rbridge

pytestmark = pytest.mark.slow  # R's own starts and packages take most of it

ROOT = Path(__file__).resolve().parents[2]

if shutil.which("Rscript") is None:
    pytest.skip("R is not installed", allow_module_level=True)
pytest.importorskip("rpy2.rinterface", exc_type=ImportError)

FUNCTIONS = """
same <- function(frame) frame
classes <- function(frame) {
  data.frame(class = vapply(frame, function(v) class(v)[1], ""),
             missing = vapply(frame, function(v) sum(is.na(v)), 0L), row.names = NULL)
}
said <- function(...) {
  values <- list(...)
  data.frame(name = names(values), value = vapply(values, function(v) deparse(v), ""))
}
warns <- function() { warning("mind the gap"); message("just so"); NULL }
outer <- function(frame) inner(frame)
inner <- function(frame) stop("no column ", "rewrite")
needs_package <- function() library(notapackage)
number <- function() 1
"""


@pytest.fixture
def call(tmp_path):
    source = tmp_path / "functions.R"
    source.write_text(FUNCTIONS)

    def call_function(function, frames=None, **arguments):
        return rbridge.call(function, frames or {}, arguments, [source])

    return call_function


COLUMNS = {
    "text": (pd.Series(["Zürich", "", "東京"]), "character"),
    "text with a gap": (pd.Series(["a", pd.NA, "b"], dtype="str"), "character"),
    "text as objects": (pd.Series(["a", None, "b"], dtype=object), "character"),
    "text as nullable": (pd.Series(["a", None, "b"], dtype="string"), "character"),
    "categories": (pd.Series(pd.Categorical(["a", None, "b"])), "character"),
    "booleans": (pd.Series([True, False, True]), "logical"),
    "booleans with a gap": (pd.Series([True, None, False], dtype="boolean"), "logical"),
    "booleans as objects": (pd.Series([True, None, False], dtype=object), "logical"),
    "integers": (pd.Series([1, -(2**31) + 1, 2**31 - 1]), "integer"),
    "integers with a gap": (pd.Series([1, None, 3], dtype="Int64"), "integer"),
    "small integers": (pd.Series([1, 2, 3], dtype="uint8"), "integer"),
    "large integers": (pd.Series([1, 2, 2**40]), "numeric"),
    "doubles": (pd.Series([0.1, np.nan, -np.inf]), "numeric"),
    "doubles with a gap": (pd.Series([0.1, None, 2.0], dtype="Float64"), "numeric"),
    "floats": (pd.Series([0.5, 2.0, np.nan], dtype="float32"), "numeric"),
    "nothing": (pd.Series([None, None, None], dtype=object), "logical"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_arrives_with_its_class_and_comes_back_with_its_values(call, name):
    column, r_class = COLUMNS[name]
    seen = call("classes", {"frame": column.to_frame("x")})
    assert seen.to_dict("records") == [{"class": r_class, "missing": int(column.isna().sum())}]
    back = call("same", {"frame": column.to_frame("x")})["x"]
    assert back.isna().tolist() == column.isna().tolist()
    assert back.dropna().tolist() == column.dropna().tolist()


def test_a_frame_keeps_its_columns_in_order_and_its_types(call):
    frame = pd.DataFrame({"b": ["x", "y"], "a": [1, 2], "c c": [0.5, 1.5], "d": [True, False]})
    pd.testing.assert_frame_equal(call("same", {"frame": frame}), frame)


def test_an_empty_frame_keeps_its_columns(call):
    frame = pd.DataFrame({"text": ["x"], "n": [1], "p": [0.5], "yes": [True]}).iloc[:0]
    pd.testing.assert_frame_equal(call("same", {"frame": frame}), frame)


def test_arguments_become_r_values(call):
    said = call("said", a=None, b=True, c=[1, 2], d="s", e={"u": 1.5}, f=["p", "q"], g=[])
    expected = ["NULL", "TRUE", "1:2", '"s"', "list(u = 1.5)", 'c("p", "q")', "NULL"]
    assert said["value"].tolist() == expected


def test_a_column_of_lists_is_refused_by_name(call):
    with pytest.raises(TypeError, match=r"column frame\.layers holds list values"):
        call("same", {"frame": pd.DataFrame({"layers": [[1, 2], [3]]})})


def test_an_r_error_keeps_its_words_and_its_place(call):
    with pytest.raises(rbridge.RError, match=r"^outer: no column rewrite \(in inner\)$"):
        call("outer", {"frame": pd.DataFrame({"a": [1]})})


def test_a_missing_package_comes_with_the_remedy(call):
    with pytest.raises(rbridge.RUnavailable, match="apt-get install r-cran-notapackage"):
        call("needs_package")


def test_an_unknown_function_or_file_is_named(call, tmp_path):
    with pytest.raises(rbridge.RError, match=r"nosuch: no such R function in .*functions\.R"):
        call("nosuch")
    with pytest.raises(FileNotFoundError, match=r"absent\.R"):
        rbridge.call("same", {}, {}, [tmp_path / "absent.R"])


def test_a_value_that_is_no_frame_is_refused(call):
    with pytest.raises(
        TypeError, match=r"number\(\) returned numeric, expected a data frame or NULL"
    ):
        call("number")


def test_warnings_and_messages_go_to_the_log(call, caplog):
    with caplog.at_level(logging.INFO, logger="locedit.report.rbridge"):
        assert call("warns") is None
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "R, warns: mind the gap"),
        ("INFO", "R, warns: just so"),
    ]


def test_without_r_the_remedy_is_named(monkeypatch):
    monkeypatch.delenv("R_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(rbridge.RUnavailable, match="apt-get install r-base-core"):
        rbridge._find_r_home()


def test_a_wrong_r_home_is_named(monkeypatch):
    monkeypatch.setenv("R_HOME", "/no/such/place")
    with pytest.raises(rbridge.RUnavailable, match="R_HOME is /no/such/place"):
        rbridge._find_r_home()


# ---- the workflow's scripts ----------------------------------------------------------------------


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "workflow_scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = ("rewrite", "paraphrase", "neighbourhood")
EFFECTS = ("value", "effect_max", "effect_last", "fraction_last")


def study_tables(facts: int = 8) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and effects of some facts at 3 layers, where the layer explains most of the score."""
    rng = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product(
        [[f"c{i}" for i in range(facts)], [1, 3, 5]], names=["case_id", "layer"]
    ).to_frame(index=False)
    common = {"model": "tiny", "dataset": "facts"}
    scores = keys.assign(
        **common,
        method="ROME",
        problem="fact_forcing",
        relation_id="P" + keys["case_id"].str[1:],
        layers=[[1, 2]] * len(keys),
        is_correct=True,
        listed=True,
        rewrite=0.1 * keys["layer"] + rng.uniform(0, 0.1, len(keys)),
        status="ok",
    )
    others = [*KINDS[1:], "essence", "text", "overall", "overall_essence"]
    others += [f"{kind}_{what}" for kind in KINDS for what in ("success", "magnitude")]
    others += [f"{kind}_log_odds" for kind in KINDS]
    others += ["ngram_entropy_before", "ngram_entropy_after", "update_norm", "steps"]
    for column in others:
        scores[column] = rng.uniform(0, 1, len(keys))
    for half in ("rewrite_half1", "rewrite_half2"):
        scores[half] = scores["rewrite"] + rng.normal(0, 0.01, len(keys))
    effects = keys.assign(**common, localizer="tracing", module="mlp", window=5)
    for effect in EFFECTS:
        effects[effect] = rng.random(len(keys))
        for half in ("_half1", "_half2"):
            effects[effect + half] = effects[effect] + rng.normal(0, 0.1, len(keys))
    return scores, effects


def stored(folder: Path, scores: pd.DataFrame, effects: pd.DataFrame) -> InputFiles:
    paths = input_files(**{name: folder / f"{name}.parquet" for name in ("scores", "effects")})
    scores.to_parquet(paths.scores)
    effects.to_parquet(paths.effects)
    return paths


@pytest.fixture
def tables(tmp_path):
    """The paths of both tables; one score is missing."""
    scores, effects = study_tables()
    scores.loc[0, "rewrite"] = np.nan
    return stored(tmp_path, scores, effects)


SCORED = {"score_names": ["rewrite"], "methods": ["ROME", "MEMIT"]}
PERMUTED = {**SCORED, "permutations": 50, "seed": 0}
# name: (R function, its arguments, its inputs)
TABLES = {
    "r2": ("r2_table", {**SCORED, "subsets": ["all", "concentrated"]}, ("scores", "effects")),
    "correlations": ("correlation_table", SCORED, ("scores", "effects")),
    "success": ("success_table", {"methods": ["ROME", "MEMIT"]}, ("scores",)),
    "clusters": ("cluster_table", SCORED, ("scores", "effects")),
    "out_of_fold": ("out_of_fold_table", SCORED, ("scores", "effects")),
    "choice": ("choice_table", PERMUTED, ("scores", "effects")),
    "within": ("within_table", SCORED, ("scores", "effects")),
    "value": ("value_table", {**SCORED, "splits": 3, "seed": 0}, ("scores", "effects")),
    "arena": ("arena_table", PERMUTED, ("scores", "effects", "choice", "within", "value")),
    "power": ("power_table", {"effect": 0.3, "wanted": 0.8}, ("effects",)),
    "reliability": ("reliability_table", {"measures": list(EFFECTS)}, ("scores", "effects")),
}
SOURCES = ["labels.yaml", "frames.R", "groups.R", "regressions.R", "success.R", "clusters.R"]
SOURCES += ["folds.R", "reliability.R", "grids.R", "shuffles.R", "multiplicity.R"]
SOURCES += ["choice.R", "within.R", "value.R", "power.R", "arena.R"]


def made(name: str, paths: InputFiles, folder: Path, **changes) -> tuple[pd.DataFrame, str]:
    """A table by its script: what the Parquet file holds, and the page."""
    function, arguments, read = TABLES[name]
    output = output_files(
        **{kind: f"{folder}/{name}.{kind}" for kind in ("parquet", "csv", "html")}
    )
    params = {
        "name": name,
        "sources": SOURCES,
        "function": function,
        "arguments": arguments,
        "title": f"Table {name}",
        "model_label": "tiny model",
        "dataset": "facts",
        "own": {
            "localizer": "tracing",
            "module": "mlp",
            "window": 5,
            "effect": "value",
            "subset": "all",
        },
        "orders": {"score": ["rewrite"]},
        "caption": f"{function}.md",
    } | changes
    chosen = {key: paths[key] for key in read if key in paths.keys()}
    for other in read[len(chosen) :]:  # tables that this one joins
        made(other, paths, folder)
        chosen[other] = f"{folder}/{other}.parquet"
    script("table").main(
        handed(folder, f"table_{name}", input_files(**chosen), params, output=output)
    )
    table = pd.read_parquet(output.parquet)
    written = pd.read_csv(output.csv)
    assert list(written.columns) == list(table.columns)
    assert len(written) == len(table)
    return table, Path(output.html).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_written_with_its_reasons_and_as_a_page(tables, tmp_path, name):
    table, page = made(name, tables, tmp_path)
    assert list(table.columns[:2]) == ["model", "dataset"]
    assert table.columns[-1] == "reason"
    body = ElementTree.fromstring(page).find("body")
    assert "tiny model" in "".join(body.itertext())
    assert len(list(body.iter("tr"))) > 2
    assert "nan" not in "".join(body.itertext()).lower()
    if "method" not in table:
        assert (table["reason"] == "").all()
        return
    absent = table["method"] == "MEMIT"
    assert absent.any()
    assert (table.loc[absent, "reason"] == "no edits of the facts under study").all()
    assert "no edits of the facts under study" in page
    own = table[~absent]
    if "subset" in table:
        own = own[own["subset"] == "all"]
    if "strategy" in table:  # no fact's own choice differs from that for all
        own = own[own["strategy"] == "random"]
    if name == "arena":  # which has the reasons of the tables that it joins
        assert own["reason"].str.startswith("the same layers whichever fact is left out").all()
    else:
        assert (own["reason"] == "").all()


def test_what_edits_cost_is_in_the_table_within_of_its_methods_alone(tables, tmp_path):
    costs = {"ROME": ["update_norm", "steps"]}
    table, page = made("within", tables, tmp_path, arguments={**SCORED, "costs": costs})
    rows = {method: [*some["score"]] for method, some in table.groupby("method")}
    assert rows == {"MEMIT": ["rewrite"], "ROME": ["rewrite", "steps", "update_norm"]}
    assert table.query("method == 'ROME'")["r"].notna().all()
    assert "Optimiser steps" in page


def test_the_layer_explains_the_score_that_it_makes(tables, tmp_path):
    table = made("r2", tables, tmp_path)[0].query("subset == 'all'").set_index("method")
    assert table.loc["ROME", ["n", "n_dropped"]].tolist() == [23, 1]
    assert table.loc["ROME", "r2_layer"] > 0.9
    value = made("value", tables, tmp_path)[0].set_index(["method", "strategy"])
    assert value.loc[("ROME", "random"), "best_layer"] == 5
    assert value.loc[("ROME", "random"), "value"] < 0


def broken(name: str, scores: pd.DataFrame, effects: pd.DataFrame) -> pd.DataFrame | tuple:
    """The two tables with something wrong with them."""
    at = scores["layer"] == 3
    if name == "few facts":
        return scores[scores["case_id"] < "c3"], effects[effects["case_id"] < "c3"]
    if name == "a constant score":
        return scores.assign(rewrite=1.0), effects
    if name == "all failed at one layer":
        status = scores["status"].mask(at, "failed: diverged")
        return scores.assign(rewrite=scores["rewrite"].mask(at), status=status), effects
    if name == "all failed":
        return scores.assign(rewrite=np.nan, status="failed: diverged"), effects
    if name == "one layer":
        return scores[at], effects[effects["layer"] == 3]
    if name == "no edits":
        return scores[:0], effects
    assert name == "nothing"
    return scores[:0], effects[:0]


BROKEN = (
    "few facts",
    "a constant score",
    "all failed at one layer",
    "all failed",
    "one layer",
    "no edits",
    "nothing",
)


@pytest.mark.parametrize("case", BROKEN)
def test_every_table_is_written_from_what_is_there(tmp_path, case):
    paths = stored(tmp_path, *broken(case, *study_tables()))
    for name in TABLES:
        table, page = made(name, paths, tmp_path)
        assert ElementTree.fromstring(page).find("body") is not None
        if case == "nothing" or (case == "no edits" and name == "success"):
            assert len(table) == 0
            assert "the table is empty" in page
            continue
        optional = [c for c in table if c.startswith("published")] + ["best_layer"]
        numbers = table.select_dtypes("number").drop(columns=optional, errors="ignore")
        lacking = numbers.isna().any(axis=1)
        assert (table.loc[lacking, "reason"] != "").all(), name
        for reason in set(table.loc[lacking, "reason"]):
            assert html.escape(reason, quote=False).replace("'", "&#39;") in page, (name, reason)


def test_warnings_of_r_are_in_the_tables_log(tables, tmp_path):
    source = tmp_path / "warns.R"
    source.write_text(
        "f <- r2_table; r2_table <- function(...) { warning('mind the gap'); f(...) }\n"
    )
    logging.getLogger().handlers.clear()
    made("r2", tables, tmp_path, sources=[*SOURCES, str(source)])
    assert "WARNING R, r2_table: mind the gap" in (tmp_path / "log").read_text()


def draw(folder, given, name, file, function, **arguments):
    """A figure by the workflow's script: its files, named by kind."""
    output = output_files(**{kind: folder / f"{name}.{kind}" for kind in ("svg", "png", "json")})
    params = {
        "sources": ["labels.yaml", "frames.R", "theme.R", "figures.R", f"figures_{file}.R"],
        "function": function,
        "arguments": {"study": ["tiny model", "data set d"], **arguments},
    }
    script("figure").main(handed(folder, "figure", input_files(**given), params, output=output))
    return output


def test_a_figure_is_written_as_svg_and_png_with_its_words(tables, tmp_path):
    inputs = {"scores": tables.scores, "code": "analysis/figures.R"}
    output = draw(tmp_path, inputs, "x", "scores", "score_by_layer", score="rewrite")
    svg = Path(output.svg).read_text()
    assert "tiny model" in svg
    assert "Fact forcing" in svg
    assert Path(output.png).stat().st_size > 5000
    words = json.loads(Path(output.json).read_text())
    assert set(words) == {"title", "caption", "alt"}
    assert words["title"] == "Rewrite score by edit layer"
    assert "Tiny model; data set d; 8 facts." in words["caption"]
    assert "1 edit without a usable rewrite score left out." in words["caption"]
    assert words["alt"].endswith(".")
    assert not list(tmp_path.glob(".*"))


SCATTER = ("scatter", "rewrite_vs_effect_at_layer")
LACKING = {
    # the figure, what is wrong with the scores, and what the figure says
    "three facts": (
        SCATTER,
        lambda scores: scores[scores["case_id"].isin(["c0", "c1", "c2"])],
        "n = 3: too few",
    ),
    "a problem left out": (
        ("scores", "score_by_layer", {"problems": ["fact_forcing", "fact_erasure"]}),
        lambda scores: scores,
        "no edits",
    ),
    "a score without variance": (
        SCATTER,
        lambda scores: scores.assign(rewrite=0.5),
        "n = 8: constant",
    ),
    "failed edits at one layer": (
        ("scores", "score_by_layer"),
        lambda scores: scores.assign(status=np.where(scores["layer"] == 3, "failed: x", "ok")),
        "9 edits without a usable rewrite score left out",
    ),
    "not a number": (
        ("scores", "score_by_layer"),
        lambda scores: scores.assign(rewrite=np.nan),
        "Nothing to show: no usable rewrite score among 24 edits",
    ),
    "no fact known": (
        SCATTER,
        lambda scores: scores.assign(is_correct=False),
        "Nothing to show: no edit with both numbers",
    ),
    "no row": (
        ("scores", "score_by_layer"),
        lambda scores: scores[:0],
        "Nothing to show: no usable rewrite score among 0 edits",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_figure_of_broken_scores_is_drawn_and_says_what_it_lacks(tables, tmp_path, name):
    (file, function, *more), breaking, words = LACKING[name]
    breaking(pd.read_parquet(tables.scores)).to_parquet(tmp_path / "broken.parquet")
    inputs = {"scores": str(tmp_path / "broken.parquet")}
    if function == "rewrite_vs_effect_at_layer":
        inputs["effects"] = tables.effects
    output = draw(tmp_path, inputs, "x", file, function, **dict(*more))
    said = "".join(ElementTree.parse(output.svg).getroot().itertext())
    assert words in " ".join(said.split()) + json.loads(Path(output.json).read_text())["caption"]


def test_a_figure_that_fails_says_why_and_leaves_no_file(tables, tmp_path):
    with pytest.raises(SystemExit, match=r"figure: .*missing column fluency"):
        draw(tmp_path, {"scores": tables.scores}, "x", "scores", "score_by_layer", score="fluency")
    assert not list(tmp_path.glob("x.*"))


def test_starting_r_leaves_the_library_path_of_later_programs_alone():
    code = (
        "import os; from locedit.report import rbridge; "
        "before = os.environ.get('LD_LIBRARY_PATH'); "
        "rbridge._start_r(); assert os.environ.get('LD_LIBRARY_PATH') == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
