"""The ROME suite's layout: read back as the suite reads it, and compared with the tables.

`as_the_suite` follows Meng et al.'s `experiments/summarize.py` step by step on the written files,
and shares no code with what wrote them.
"""

import collections
import json
import math

import numpy as np
import pandas as pd
import pytest
import tiny
from handed import handed, input_files, output_files
from tiny_study import record

from locedit.cli.main import main
from locedit.exchange import easyedit_results, rome_layout
from locedit.methods.problems import PROBLEMS
from locedit.store import tables
from workflow_scripts import rome_layout as script

METHODS = ["ROME", "FT-1"]
PROBLEM_NAMES = ["error_injection", "fact_erasure", "tracing_reversal"]
LAYERS = [0, 3]
N_LAYERS = 4
KINDS = ("rewrite", "paraphrase", "neighbourhood")
WORDS = ["Paris", "the river Seine", "Rome", "an old city of the country"]


def fact_rows():
    rows = []
    for index in range(4):
        values = record(f"fact-{index}", "France", "The capital of {} is", WORDS[0], WORDS[index])
        values["target_new"] = WORDS[1 + index % 3]
        values["neighbourhood"].append("The old city of the king is")
        rows.append({**values, "prompt": "", "status": "kept", "reason": "", "is_correct": True})
    return rows


def edit_row(fact, method, problem, layer, draw):
    """An edit with drawn measurements; the third fact has no neighbours, the last one failed."""
    grid = {"case_id": fact["case_id"], "method": method, "problem": problem, "layer": layer}
    if fact["case_id"] == "fact-3":
        return grid | {"status": "failed: of itself"}
    aims = PROBLEMS[problem]
    of = {"true": fact["target_true"], "false": fact["target_new"], "noise": "a new war"}
    row = grid | {"layers": [layer], "target": of[aims.target], "other": of[aims.other]}
    counts = {"rewrite": 1, "paraphrase": 2, "neighbourhood": 3 * (fact["case_id"] != "fact-2")}
    for kind in KINDS:
        for which in ("target_before", "target_after", "other_before", "other_after"):
            values = np.log(draw.uniform(0.01, 0.99, counts[kind])).tolist()
            row[f"{kind}_{which}"] = values[0] if kind == "rewrite" else values
    for when in ("before", "after"):
        row[f"perplexity_{when}"] = draw.uniform(5, 20, 2).tolist()
        words = draw.choice(["the", "king", "was", "here"], 12)
        row[f"generations_{when}"] = [" ".join(words)]
    return row | {"update_norm": 1.0, "steps": 9, "status": "ok"}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """What the rule's script writes of a drawn study: the folder, and the editing rows by run."""
    base = tmp_path_factory.mktemp("study")
    tiny.save(tiny.pair("llama"), base / "model")
    facts = fact_rows()
    tables.write(base / "study.parquet", facts, "facts")
    draw, edits, paths = np.random.default_rng(0), {}, []
    for method in METHODS:
        for problem in PROBLEM_NAMES:
            for layer in LAYERS:
                rows = [edit_row(fact, method, problem, layer, draw) for fact in facts]
                paths.append(str(base / f"{method}-{problem}-{layer}.parquet"))
                tables.write(paths[-1], rows, "editing", {"fingerprint": "a hash"})
                edits[method, rome_layout.run_name(problem, layer, N_LAYERS)] = rows
    script.main(fake_snakemake(base, paths))
    return base, edits


def fake_snakemake(base, paths):
    hyper = {f"{m} {p}": {"lr": 0.25} for m in METHODS for p in PROBLEM_NAMES}
    settings = {"methods": METHODS, "preset": "paper", "hyperparameters": hyper, "model": "Tiny"}
    params = {**settings, "n_layers": N_LAYERS, "dataset": "drawn", "seed": 0}
    written = output_files(
        runs=[base / "rome" / method for method in METHODS],
        parquet=base / "rome/summary.parquet",
        csv=base / "rome/summary.csv",
    )
    model = base / "model/config.json"
    given = input_files(study=base / "study.parquet", edits=list(paths), model=model)
    return handed(base, "rome_layout", given, params, output=written)


def as_the_suite(run_dir):
    """The figures of a run folder as `experiments/summarize.py` makes them, not rounded."""
    sums = collections.defaultdict(list)
    files = sorted(
        run_dir.glob("case_*.json"), key=lambda path: int(str(path).split("_")[-1].split(".")[0])
    )
    for file in files:
        data = json.loads(file.read_text())
        sums["time"].append(data["time"])
        for prefix in ("pre", "post"):
            for key in ("rewrite_prompts_probs", "paraphrase_prompts_probs"):
                if key not in data[prefix]:
                    continue
                name = f"{prefix}_{key.split('_')[0]}"
                probs = data[prefix][key]
                sums[f"{name}_success"].append(
                    np.mean([x["target_true"] > x["target_new"] for x in probs])
                )
                sums[f"{name}_diff"].append(
                    np.mean([np.exp(-x["target_new"]) - np.exp(-x["target_true"]) for x in probs])
                )
            if "neighborhood_prompts_probs" in data[prefix]:
                probs = data[prefix]["neighborhood_prompts_probs"]
                sums[f"{prefix}_neighborhood_success"].append(
                    np.mean([x["target_true"] < x["target_new"] for x in probs])
                )
                sums[f"{prefix}_neighborhood_diff"].append(
                    np.mean([np.exp(-x["target_true"]) - np.exp(-x["target_new"]) for x in probs])
                )
            for key in ("ngram_entropy", "reference_score", "essence_score"):
                if key in data[prefix]:
                    sums[f"{prefix}_{key}"].append(data[prefix][key])
    figures = {}
    for name, values in sums.items():
        scale = 1 if "essence_score" in name or name == "time" else 100
        figures[name] = (scale * np.mean(values), scale * np.std(values))
    for prefix in ("pre", "post"):
        three = [figures[f"{prefix}_{k}_success"][0] for k in ("rewrite", "paraphrase")]
        three.append(figures[f"{prefix}_neighborhood_success"][0])
        # scipy.stats.hmean: nought where one of them is
        score = 0.0 if 0 in three else 3 / sum(1 / value for value in three)
        figures[f"{prefix}_score"] = (score, np.nan)
    return figures, len(files)


def test_each_run_has_its_parameters_and_a_file_for_each_edited_fact(laid_out):
    base, edits = laid_out
    for (method, run), rows in edits.items():
        folder = base / "rome" / method / run
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["case_0.json", "case_1.json", "case_2.json", "params.json"]
        params = json.loads((folder / "params.json").read_text())
        assert (params["alg_name"], params["problem"]) == (method, rows[0]["problem"])
        assert params["layers"] == [params["layer"]] == [rows[0]["layer"]]
        assert params["hyperparameters"]["lr"] == 0.25
        assert params["left_out"] == {"fact-3": "failed: of itself"}
        assert (params["num_cases"], params["fingerprint"]) == (3, "a hash")


def test_a_case_holds_mean_negative_log_probabilities_of_a_targets_tokens(laid_out):
    base, edits = laid_out
    tokenizer = tiny.tokenizer()
    for (method, run), rows in edits.items():
        for index, row in enumerate(rows[:3]):
            case = json.loads((base / "rome" / method / run / f"case_{index}.json").read_text())
            assert (case["case_id"], case["fact"]) == (index, row["case_id"])
            names = {"target_new": "target", "target_true": "other"}
            if row["problem"] == "fact_erasure":  # the object that should win is the false one
                names = {"target_new": "other", "target_true": "target"}
            for theirs, ours in names.items():
                assert case["requested_rewrite"][theirs]["str"] == row[ours]
                size = len(tokenizer(" " + row[ours])["input_ids"])
                for stage, when in (("pre", "before"), ("post", "after")):
                    probs = case[stage].get("neighborhood_prompts_probs", [])
                    expected = row[f"neighbourhood_{ours}_{when}"]
                    assert np.allclose([-p[theirs] * size for p in probs], expected)
                    (prompt,) = case[stage]["rewrite_prompts_probs"]
                    assert math.isclose(-prompt[theirs] * size, row[f"rewrite_{ours}_{when}"])
                    assert case[stage]["text"] == row[f"generations_{when}"]
    sizes = {len(tokenizer(" " + word)["input_ids"]) for word in WORDS}
    assert len(sizes) > 1  # else a forgotten division could pass


def test_the_requested_rewrite_is_a_record_of_the_suites_data_set(laid_out):
    base, _ = laid_out
    case = json.loads((base / "rome/ROME/run_000/case_1.json").read_text())
    assert case["requested_rewrite"] == {
        "prompt": "The capital of {} is",
        "relation_id": "The capital of _ is",
        "subject": "France",
        "target_new": {"str": "Rome"},
        "target_true": {"str": "Paris"},
    }
    assert math.isnan(case["time"])


def test_the_summary_equals_what_the_suite_reads_from_the_files(laid_out):
    base, edits = laid_out
    summary = tables.read(base / "rome/summary.parquet", "rome_summary")
    assert len(summary) == len(edits)
    for row in summary.to_dict("records"):
        figures, cases = as_the_suite(base / "rome" / row["method"] / row["run"])
        assert row["num_cases"] == cases
        assert math.isnan(figures.pop("time")[0])
        for name, (mean, deviation) in figures.items():
            assert math.isclose(row[name], mean, abs_tol=1e-9), name
            if not name.endswith("_score") or "essence" in name:
                assert math.isclose(row[f"{name}_std"], deviation, abs_tol=1e-9), name
    assert summary["post_score"].between(0, 100).all()
    assert summary["post_score"].nunique() > 3
    written = pd.read_csv(base / "rome/summary.csv")
    assert list(written.columns) == list(summary.columns)
    assert np.allclose(written["post_score"], summary["post_score"], atol=0.005)


def test_a_run_without_cases_keeps_its_row():
    assert rome_layout.summarise([]) == {"num_cases": 0}


def test_runs_keep_their_names_when_the_study_grows():
    every = [rome_layout.run_name(p, layer, 28) for p in PROBLEMS for layer in range(28)]
    assert len(set(every)) == len(every)
    assert rome_layout.run_name("error_injection", 5, 28) == "run_005"
    assert rome_layout.run_name("tracing_reversal", 0, 28) == "run_028"


@pytest.mark.parametrize(
    ("case_ids", "numbers"),
    [
        (["17", "4"], [17, 4]),
        (["a-1", "4"], [0, 1]),
        (["1", "01"], [0, 1]),
        (["²", "1"], [0, 1]),
    ],
    ids=["CounterFact's numbers", "names", "numbers that collide", "a digit that is no number"],
)
def test_facts_are_numbered_for_readers_that_want_numbers(case_ids, numbers):
    assert list(rome_layout.case_numbers(case_ids).values()) == numbers


@pytest.mark.parametrize(("values", "mean"), [([50, 100, 25], 300 / 7), ([0, 100, 100], 0.0)])
def test_the_harmonic_mean(values, mean):
    assert math.isclose(rome_layout.harmonic_mean(values), mean)


# ---- EasyEdit's list -----------------------------------------------------------------------------


def test_easyedits_list_has_the_runs_successes_and_perplexities(laid_out, tmp_path, capsys):
    """Counted from the run's own cases, as their suite's summary counts them."""
    base, edits = laid_out
    run = base / "rome" / "ROME" / rome_layout.run_name("fact_erasure", 3, N_LAYERS)
    arguments = ["export", "results", "--run", str(run), "--out", str(tmp_path / "results.json")]
    assert main(arguments) == 0, capsys.readouterr().err
    listed = json.loads((tmp_path / "results.json").read_text())
    rows = [row for row in edits["ROME", run.name] if row["status"] == "ok"]
    assert len(listed) == len(rows) == 3
    for entry, row in zip(listed, rows, strict=True):
        assert set(entry) == {"pre", "case_id", "requested_rewrite", "post"}
        asked = entry["requested_rewrite"]
        assert asked["prompt"] == "The capital of France is"
        assert (asked["target_new"], asked["ground_truth"]) == (row["other"], row["target"])
        case = json.loads((run / f"case_{entry['case_id']}.json").read_text())
        for stage in ("pre", "post"):
            got, theirs = entry[stage], case[stage]
            (pair,) = theirs["rewrite_prompts_probs"]
            assert got["rewrite_acc"] == [float(pair["target_new"] < pair["target_true"])]
            assert got["rewrite_ppl"] == pytest.approx([math.exp(pair["target_new"])])
            assert len(got["rephrase_acc"]) == 2
            near = got["locality"].get("neighborhood_acc", [])
            pairs = theirs.get("neighborhood_prompts_probs", [])
            assert near == [float(p["target_new"] >= p["target_true"]) for p in pairs]
            assert got["portability"] == {}
            assert got["fluency"]["ngram_entropy"] == theirs["ngram_entropy"]
    assert [len(e["post"]["locality"]) for e in listed] == [1, 1, 0]  # the third has no neighbours


def as_easyedit_sums_up(listed, stage):
    """Means as EasyEdit's `summary_metrics` takes them, of keys where it looks for them.

    Of localities those that end in "acc", directly in an entry's `locality`; of what no prompt
    asked, the key is missing.
    """
    found = {}
    for key in ("rewrite_acc", "rephrase_acc", "rewrite_ppl"):
        if key in listed[0][stage]:
            found[key] = np.mean([entry[stage][key] for entry in listed])
    for part in ("locality", "portability"):
        for key in {k for entry in listed for k in entry[stage][part] if k.endswith("acc")}:
            of = [entry[stage][part][key] for entry in listed if key in entry[stage][part]]
            found[key] = np.mean([np.mean(values) for values in of])
    return found


def test_easyedits_own_summary_finds_all_scores(laid_out):
    base, _ = laid_out
    cases = easyedit_results.read_run(
        base / "rome" / "ROME" / rome_layout.run_name("fact_erasure", 3, N_LAYERS)
    )
    found = as_easyedit_sums_up([easyedit_results.entry(case) for case in cases], "post")
    of_suite = rome_layout.summarise(cases)
    assert found["rewrite_acc"] == pytest.approx(of_suite["post_rewrite_success"] / 100)
    assert found["rephrase_acc"] == pytest.approx(of_suite["post_paraphrase_success"] / 100)
    near = of_suite["post_neighborhood_success"] / 100
    assert found["neighborhood_acc"] == pytest.approx(near)
    for case in cases:
        del case["post"]["paraphrase_prompts_probs"]
    found = as_easyedit_sums_up([easyedit_results.entry(case) for case in cases], "post")
    assert "rephrase_acc" not in found


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has no case_I.json; `snakemake rome_layout` writes folders of them"),
        ({"case_0.json": "{"}, "case_0.json cannot be read as JSON"),
        ({"case_0.json": "[1]"}, "case_0.json is no case of the ROME suite's layout"),
        ({"case_0.json": '{"case_id": 0}'}, "is no case of the ROME suite's layout"),
    ],
)
def test_a_folder_that_is_no_run_is_named(files, sentence, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    out = tmp_path / "results.json"
    assert main(["export", "results", "--run", str(tmp_path), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not out.exists()
