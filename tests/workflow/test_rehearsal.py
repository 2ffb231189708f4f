"""The presets for CounterFact from the data file to the report, on a tiny model and fifty records.

Nothing of a preset is changed but its sizes (CUTS): the model and the data set are looked for under
the preset's own names, where the cache would have them, and found there in small. What only a whole
run of days could tell of these settings, this tells in minutes.
"""

import json
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import counterfact_rehearsal as small
import pandas as pd
import pytest
import samples
from test_presets import DEFAULT, expected
from tiny_study import ROOT, merged, snakemake, write_corpus

from locedit.methods.problems import PROBLEMS
from locedit.store import tables
from locedit.workflow.config import load_yaml

METHODS = ["FT-1", "FT-5", "ROME", "MEMIT"]
# How many steps a method takes; its other hyperparameters are the preset's.
SHORT = {
    "FT-1": {"all": {"steps": 3}, "fact_forcing": {"steps": 3}},
    "FT-5": {"all": {"steps": 3}, "fact_forcing": {"steps": 3}},
    "ROME": {"all": {"iterations": 3}, "fact_forcing": {"iterations": 3}},
    "MEMIT": {"all": {"iterations": 3}, "fact_forcing": {"iterations": 3}},
}
# Sizes alone, and of the edit layers two or one
CUTS: dict[str, Any] = {
    "tracing": {"n_noise": 2},
    "statistics": {"tokens": 3000},
    "contexts": {"rome": [[5, 1], [10, 1]]},
    "essence": {"texts": 2, "tokens": 12},
    "scores": {"neighbours": 3},
    "editing": {"hyperparameters": SHORT},
    "analysis": {"permutations": 30, "splits": 2},
}
# Of each preset: the family of its model, and the layers and problems that are left of its grid,
# the paper's at two layers with all that there are
PRESETS: dict[str, tuple[str, list[int], list[str]]] = {
    "gptj-counterfact": ("gptj", [0, 5], list(PROBLEMS)),
    "gptj-counterfact-released": ("gptj", [5], ["tracing_reversal", "fact_forcing"]),  # its quirks
    "gpt2xl-counterfact": ("gpt2", [17], ["error_injection", "fact_erasure"]),
    "smollm2-counterfact": ("llama", [7], ["fact_erasure", "fact_amplification"]),
}
KNOWN = sorted({*small.SURE, *small.FAINT})
FAINT = {str(case) for case in small.FAINT}


# ---- the records ---------------------------------------------------------------------------------


def layout(value: Any) -> Any:
    """Keys in their order and kinds of values; of a list, the kinds that it holds."""
    if isinstance(value, dict):
        return [(key, layout(one)) for key, one in value.items()]
    if isinstance(value, list):
        return sorted({str(layout(one)) for one in value})
    return type(value).__name__


def test_the_records_have_counterfacts_layout():
    records = json.loads(json.dumps(small.records()))
    assert {str(layout(record)) for record in records} == {str(layout(samples.COUNTERFACT))}
    assert [record["case_id"] for record in records] == list(range(50))
    for record in records:
        rewrite = record["requested_rewrite"]
        assert rewrite["prompt"].count("{}") == 1
        assert rewrite["target_true"] != rewrite["target_new"]
        assert len(record["paraphrase_prompts"]) == 2
        for kind in ("neighborhood", "attribute", "generation"):
            assert len(record[f"{kind}_prompts"]) == 10
        assert all(rewrite["subject"] in text for text in record["paraphrase_prompts"])
        assert not any(rewrite["subject"] in text for text in record["neighborhood_prompts"])


def test_the_model_is_asked_for_what_is_awkward():
    """Among the facts of the study are those that a made-up file would rather leave out."""
    study = [small.records()[case]["requested_rewrite"] for case in KNOWN]
    subjects = [rewrite["subject"] for rewrite in study]
    assert any(not subject.isascii() for subject in subjects)
    assert any(subject.count(" ") > 1 for subject in subjects)
    assert len(set(subjects)) < len(subjects)
    places = [rewrite["prompt"].find("{}") for rewrite in study]
    assert {0, *places} == set(places)
    assert any(places)
    assert any(" " in rewrite["target_true"]["str"] for rewrite in study)
    pairs = [(r["target_true"]["str"], r["target_new"]["str"]) for r in study]
    assert any(true[:4] == new[:4] for true, new in pairs)


# ---- the whole of a preset -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A preset's study after its run: its name, settings, results and what Snakemake said."""

    preset: str
    settings: dict[str, Any]
    out: Path
    jobs: dict[str, int]

    def table(self, name: str, schema: str | None = None) -> Any:
        return tables.read(self.out / f"{name}.parquet", schema)

    @property
    def editing(self) -> dict[str, Any]:
        return self.settings["editing"]


@pytest.fixture(scope="module", params=PRESETS)
def rehearsed(request, tmp_path_factory) -> Rehearsal:
    base = tmp_path_factory.mktemp(request.param)
    preset = load_yaml(ROOT / "presets" / f"{request.param}.yaml")
    family, layers, problems = PRESETS[request.param]
    cuts = merged(CUTS, {"editing": {"layers": layers, "problems": problems}})
    written = min(6, merged(DEFAULT, preset)["scores"]["generation_tokens"])
    cuts["scores"]["generation_tokens"] = written
    here = {"environment": {"LOCEDIT_CACHE": str(base / "cache")}}
    settings = merged(preset, cuts | here)
    small.fill_cache(preset, family, base / "cache")
    (base / "work").mkdir()
    write_corpus(base / "work", settings, ROOT, small.paragraphs())
    run = snakemake(base / "work", settings, "all", "report", "rome_layout")
    assert run.status == 0, run.text
    out = base / "work" / "results" / preset["model"] / "counterfact"
    return Rehearsal(
        preset=request.param, settings=merged(merged(DEFAULT, preset), cuts), out=out, jobs=run.jobs
    )


def test_every_stage_of_the_preset_has_run(rehearsed):
    fetched = {"model_weights", "model_download", "data_file", "corpus"}
    jobs = {name: n for name, n in expected(rehearsed.settings).items() if name not in fetched}
    assert {name: n for name, n in rehearsed.jobs.items() if name in jobs} == jobs
    assert rehearsed.jobs.keys().isdisjoint(fetched)
    assert {"report", "rome_layout", "heatmap_cells", "table_verdict"} <= rehearsed.jobs.keys()


def test_no_setting_of_the_preset_is_another_but_its_sizes(rehearsed):
    preset = merged(DEFAULT, load_yaml(ROOT / "presets" / f"{rehearsed.preset}.yaml"))
    uncut = {
        "tracing": {"n_noise": preset["tracing"]["n_noise"]},
        "statistics": preset["statistics"],
        "contexts": {"rome": preset["contexts"]["rome"]},
        "essence": preset["essence"],
        "editing": {key: preset["editing"][key] for key in ("layers", "problems")},
        "analysis": {key: preset["analysis"][key] for key in ("permutations", "splits")},
        "scores": {key: preset["scores"][key] for key in ("generation_tokens", "neighbours")},
    }
    back = merged(rehearsed.settings, uncut)
    back["editing"]["hyperparameters"] = preset["editing"]["hyperparameters"]
    assert back == preset
    assert set(rehearsed.editing["layers"]) <= set(preset["editing"]["layers"])
    assert set(rehearsed.editing["problems"]) <= set(preset["editing"]["problems"])
    assert rehearsed.editing["methods"] == METHODS


def test_the_model_knows_what_it_was_taught(rehearsed):
    asked = rehearsed.table("facts", "facts").set_index("case_id")
    assert len(asked) == 50
    assert set(asked["status"]) == {"kept"}
    known = asked[asked["is_correct"]]
    assert list(known.index) == [str(case) for case in KNOWN]
    assert set(known.index[known["p_true"] < 0.02]) == FAINT
    chosen = rehearsed.table("study", "facts")["case_id"]
    assert sorted(chosen, key=int) == list(known.index)


def test_a_fact_that_is_hardly_known_is_a_row_without_scores_in_erasure_alone(rehearsed):
    scores = rehearsed.table("scores", "scores")
    problems = rehearsed.editing["problems"]
    cells = len(METHODS) * len(rehearsed.editing["layers"])
    assert len(scores) == len(KNOWN) * cells * len(problems)
    left_out = (scores["problem"] == "fact_erasure") & scores["case_id"].isin(FAINT)
    assert left_out.sum() == len(FAINT) * cells * ("fact_erasure" in problems)
    said = scores[left_out]["status"]
    assert all(re.fullmatch(r"not edited: p\(o_true\) = \S+ < 0\.02", text) for text in said)
    assert scores[left_out][["rewrite", "overall", "target", "update_norm"]].isna().all(axis=None)
    done = scores[~left_out]
    assert set(done["status"]) == {"ok"}
    measured = ["rewrite", "paraphrase", "neighbourhood", "essence", "overall", "update_norm"]
    assert done[measured].map(math.isfinite).all(axis=None)
    assert set(done["target"].map(type)) == {str}


def test_the_analysis_counts_the_facts_that_were_edited(rehearsed):
    success = rehearsed.table("analysis/success").set_index("problem")
    for problem in rehearsed.editing["problems"]:
        left_out = len(FAINT) if problem == "fact_erasure" else 0
        cells = success.loc[[problem]]
        assert set(cells["n"]) == {len(KNOWN) - left_out}
        assert set(cells["n_not_edited"]) == {left_out}
        assert set(cells["n_failed"]) == {0}
        assert cells["rewrite"].between(0, 1).all()


def test_the_papers_values_stand_beside_all_that_it_reports(rehearsed):
    r2 = rehearsed.table("analysis/r2")
    published = pd.read_csv(ROOT / "analysis" / "published.csv")
    analysis = rehearsed.settings["analysis"]
    for table in (r2, published):
        table["own"] = (table["window"] == analysis["window"]) & (table["module"] == "mlp")
    same = published["own"] & published["problem"].isin(rehearsed.editing["problems"])
    assert r2[r2["own"]]["published_both"].notna().sum() == same.sum()


def test_each_edit_is_a_case_of_the_rome_suite(rehearsed):
    layers, problems = rehearsed.editing["layers"], rehearsed.editing["problems"]
    for method in METHODS:
        runs = (rehearsed.out / "rome" / method).glob("run_*")
        cases = {run: sorted(run.glob("case_*.json")) for run in runs}
        counts = [
            len(KNOWN) - len(FAINT) * (problem == "fact_erasure")
            for problem in problems
            for _ in layers
        ]
        assert sorted(map(len, cases.values())) == sorted(counts)
        for run in cases:
            case = json.loads((run / "case_24.json").read_text(encoding="utf-8"))
            assert case["requested_rewrite"]["subject"] == "東野市"


def test_the_report_shows_every_figure_and_table(rehearsed):
    with zipfile.ZipFile(rehearsed.out / "report.zip") as archive:
        inside = set(archive.namelist())
        page = archive.read("report/index.html").decode("utf-8")
    for kind, folder, suffix in (("figure", "figures", "svg"), ("table", "tables", "csv")):
        made = {name.partition("_")[2] for name in rehearsed.jobs if name.startswith(f"{kind}_")}
        assert made
        assert {f"report/{folder}/{name}.{suffix}" for name in made} <= inside
    figures = sum(name.startswith("figure_") for name in rehearsed.jobs)
    assert page.count('<img src="data:image/svg+xml') == figures
    assert f"knows {len(KNOWN)} of the 50 facts of the data set counterfact" in page
    assert not re.search(r"\bNaN\b|\bnan\b|>NA<", page)
