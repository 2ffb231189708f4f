"""`locedit recommend` on a tiny model: an answer that is kept, goes on, and fits a terminal."""

import csv
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from matplotlib.figure import Figure
from tiny_study import known_records

from locedit.api import inputs, recommending
from locedit.api.look import look
from locedit.cli import picture
from locedit.cli import recommend as command
from locedit.cli.main import main
from locedit.engine.key_statistics import write_moments
from locedit.store import tables
from locedit.study import recommending as study
from locedit.study.advice import Advice
from locedit.study.edit import Measuring

LAYERS, BEST = 4, 1


@pytest.fixture(scope="module")
def pair() -> tiny.Pair:
    return tiny.pair("llama", layers=LAYERS, dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory) -> Path:
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(scope="module")
def facts(pair, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "facts.json"
    path.write_text(json.dumps(known_records(pair, 8)))
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(folder, facts, capsys):
    """Run the command; (status, what it printed, its error)."""

    def command(*more: str) -> tuple[int, str, str]:
        status = main(["recommend", str(folder), "--facts", str(facts), "--out", "kept", *more])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


FT = ("--editors", "FT-1", "--budget", "60 edits")


@pytest.fixture
def only_one_writes(monkeypatch):
    """Edits of all layers but one are undone."""
    from locedit.methods import rome

    real = rome.edit

    def edit(lm, requests, layer, hyper, shared):
        found = real(lm, requests, layer, hyper, shared)
        if layer != BEST:
            for update in found.updates.values():
                for tensor in vars(update).values():
                    if isinstance(tensor, torch.Tensor):
                        tensor.zero_()
        return found

    monkeypatch.setattr("locedit.methods.rome.edit", edit)


def test_the_only_layer_that_writes_is_recommended_and_kept(run, only_one_writes, tmp_path):
    options = ("--editors", "rome", "--budget", "60 edits", "--tokens", "320")
    status, out, error = run(*options)
    assert status == 0, error
    assert f"ROME: edit layer {BEST} (number {BEST + 1} of {LAYERS})" in out
    assert max(map(len, out.splitlines())) <= 80
    rows = tables.records(tmp_path / "kept" / "layers.parquet", "recommended")
    (chosen,) = [row for row in rows if row["role"] == "chosen"]
    assert (chosen["layer"], chosen["n_held_out"]) == (BEST, 4)
    assert all(row["cost"] >= 0 for row in rows if row is not chosen)
    with (tmp_path / "kept" / "layers.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [one["layers"] for one in told] == [str(row["layer"]) for row in rows]
    assert [one["localizers"].split() for one in told] == [list(row["localizers"]) for row in rows]
    named = [name for row in rows for name in row["localizers"]]
    assert {"zeroing", "mean_ablation", "lens_rise"} <= set(named)
    kept = yaml.safe_load((tmp_path / "kept" / "recommended.yaml").read_text())
    own = kept["recommended"]["ROME"]["error_injection"]
    assert own["layer"] == BEST
    assert own["overall"] == pytest.approx(chosen["overall"], abs=5e-4)
    assert (tmp_path / "kept" / "scores_by_layer.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_same_again_makes_no_edit_and_says_the_same(run, monkeypatch):
    first = run(*FT)

    def no_more(*_):
        raise AssertionError("all of it was there")

    monkeypatch.setattr("locedit.study.recommending.edit_cell", no_more)
    assert run(*FT) == first


@pytest.mark.slow
def test_an_interrupted_search_goes_on(run, monkeypatch):
    whole = run("--editors", "FT-1", "--budget", "60 edits", "--out", "whole")
    real, calls = study.edit_cell, []

    def cut(*arguments):
        calls.append(arguments)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("locedit.study.recommending.edit_cell", cut)
    status, _, error = run(*FT)
    assert status == 130
    assert "the same command goes on from there" in error
    monkeypatch.setattr("locedit.study.recommending.edit_cell", real)
    status, out, _ = run(*FT)
    assert status == 0
    assert out.replace("kept/", "whole/") == whole[1]


def test_a_budget_that_allows_no_screen_says_so_and_what_would(run):
    status, _, error = run("--editors", "FT-1", "--budget", "2 edits")
    assert status == 1
    last = error.splitlines()[-1]
    assert "no editor has an answer: FT-1: the budget does not allow even the screen" in last
    assert "give about" in last


def test_the_budget_that_would_do_does_with_several_editors(run):
    several = ("--editors", "FT-1", "--editors", "FT-M")
    error = run(*several, "--budget", "2 edits")[2]
    enough = re.search(r"FT-1: .*?; give about (\d+) edits", error)
    assert enough is not None, error
    status, out, _ = run(*several, "--budget", f"{enough[1]} edits")
    assert status == 0
    assert "no answer" not in out


@pytest.mark.slow
def test_the_settings_that_a_model_file_keeps_are_read(run, folder, tmp_path):
    assert run(*FT)[0] == 0
    kept = yaml.safe_load((tmp_path / "kept" / "recommended.yaml").read_text())
    model = {"label": "T", "n_layers": LAYERS, "noise": "3sd", "path": str(folder)}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**model, **kept}))
    from locedit.workflow.model_file import load_model

    assert load_model(str(tmp_path / "tiny.yaml"), tmp_path)[1]["recommended"]


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--editors", "ROMA"], "--editors: unknown method 'ROMA'; did you mean 'ROME'?"),
        (["--facts", "none.json"], "none.json: no such data file"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, more, part):
    status, _, error = run(*more)
    assert status == 1
    assert part in error.splitlines()[-1]


@pytest.mark.parametrize("n_held_out", [0, 4])
def test_the_picture_has_the_choice_with_and_without_held_out_facts(n_held_out):
    row = {
        "layer": 1,
        "role": "chosen",
        "setting": "",
        "n_searched": 3,
        "searched": 0.25,
        "cost": 0,
    }
    row |= {"n_held_out": n_held_out, "overall": 0.75, "overall_low": 0.5, "overall_high": 0.875}
    one = Advice(method="ROME", problem="error_injection", n_layers=4, kinds=[], rows=[row])
    axes = Figure().add_subplot()
    picture._draw_layers(axes, one)
    shown = {(*line.get_xdata(), *line.get_ydata()) for line in axes.get_lines()}
    assert (2, 0.75 if n_held_out else 0.25) in shown


@pytest.mark.slow
def test_what_is_left_out_of_a_file_and_not_read_is_said(run, facts, tmp_path):
    records = json.loads(facts.read_text())
    odd = [{**record, "note": "x"} for record in records]
    (tmp_path / "odd.json").write_text(
        json.dumps([*odd, {**odd[0], "case_id": "e", "subject": ""}])
    )
    _, out, err = run(*FT, "--facts", "odd.json")
    assert "odd.json: not read: note\n" in out, err
    assert "no record has" not in out  # of generation prompts, which nothing here is measured by
    assert "odd.json: 1 of 9 records left out: 1 x subject is empty\n" in out


def test_another_question_in_the_same_folder_is_refused(run):
    assert run(*FT)[0] == 0
    status, _, error = run("--editors", "FT-1", "--budget", "60 edits", "--seed", "1")
    assert status == 1
    assert "kept holds a search with seed 0, and this one has 1" in error.splitlines()[-1]


def test_other_facts_in_the_same_file_and_other_text_are_another_question(run, facts, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(facts.read_text())
    cheap = ("--editors", "FT-1", "--budget", "2 edits", "--facts", str(own))
    assert "the budget does not allow even the screen" in run(*cheap)[2]
    assert (
        "kept holds a search with tokens None, and this one has 77"
        in run(*cheap, "--tokens", "77")[2]
    )
    records = json.loads(own.read_text())
    own.write_text(json.dumps([{**records[0], "target_new": "Rome"}, *records[1:]]))
    status, _, error = run(*cheap)
    assert status == 1
    assert "kept holds a search with a hash of the facts " in error.splitlines()[-1]
    question = tmp_path / "kept" / "question.json"
    told = json.loads(question.read_text())
    older = {key: value for key, value in told.items() if "hash" not in key}
    question.write_text(json.dumps(older))
    assert "the budget does not allow even the screen" in run(*cheap)[2]


def test_another_configuration_is_another_question(run, monkeypatch):
    cheap = ("--editors", "FT-1", "--budget", "2 edits")
    run(*cheap)
    monkeypatch.setattr("locedit.api.recommending.measuring", lambda _: Measuring(paraphrases=1))
    assert "a search with a hash of the configuration" in run(*cheap)[2].splitlines()[-1]


def test_another_dtype_is_another_question(run, monkeypatch):
    cheap = ("--editors", "FT-1", "--budget", "2 edits")
    run(*cheap)
    monkeypatch.setattr("locedit.api.recommending.pick_dtype", lambda _: torch.bfloat16)
    said = run(*cheap)[2].splitlines()[-1]
    assert "a search with dtype 'float32', and this one has 'bfloat16'" in said


def test_a_studys_contexts_and_key_statistics_are_told_from_others(folder, tmp_path):
    """A search that goes on after the study was run must not go on with these."""
    seen = replace(look(str(folder)), name="own", configured=True)
    study = tmp_path / "own"
    study.mkdir()

    def told(method: str, tokens: int | None = None) -> str:
        return json.dumps(inputs.sources(seen, [method], tmp_path, tokens), sort_keys=True)

    methods = ("FT-1", "ROME", "MEMIT")
    none = {method: told(method) for method in methods}
    assert len({*none.values(), told("ROME", 77)}) == 4
    write_moments(study / "key_statistics.safetensors", {0: torch.eye(3)}, tokens="9")
    first = {method: told(method) for method in methods}
    write_moments(study / "key_statistics.safetensors", {0: 2 * torch.eye(3)}, tokens="9")
    second = {method: told(method) for method in methods}
    assert none["FT-1"] == first["FT-1"] == second["FT-1"]
    assert len({none["ROME"], first["ROME"], second["ROME"]}) == 3
    assert told("ROME", 77) == json.dumps(inputs.sources(seen, ["ROME"], None, 77), sort_keys=True)
    sets = [{"method": "rome", "set": 0, "template": one} for one in ("{}", "So. {}")]
    tables.write(study / "contexts.parquet", sets, "contexts")
    assert told("ROME") != second["ROME"]
    assert told("FT-1") == none["FT-1"]


def test_each_localizers_layer_is_shown_and_one_without_edits_is_told():
    plain = {"setting": "", "n_held_out": 0, "n_searched": 1, "role": "other", "cost": math.nan}
    rows = [
        {**plain, "layer": layer, "searched": 0.9 - 0.05 * layer, "localizers": []}
        for layer in range(12)
    ]
    rows[11]["localizers"] = ["lens_rise"]
    one = Advice(method="ROME", problem="error_injection", n_layers=14, kinds=[], rows=rows)
    shown = [line for line in command._table(one, 80) if "lens_rise" in line]
    assert len(shown) == 1
    assert shown[0].split()[:2] == ["11", ".350"]
    assert study._not_followed({"lens_rise": 11, "direct": 13}, rows) == [
        "no edit was made where these localizers point: direct at layer 13"
    ]
    assert study._not_followed({"lens_rise": 11}, rows) == []


def test_a_budget_of_another_form_is_wrong_arguments(run):
    status, _, error = run("--budget", "soon")
    assert status == 2
    assert "argument --budget: expected a time or a number of edits" in error


def test_choices_are_the_grid_over_the_preset():
    from locedit.workflow.config import read

    grid, whole = recommending.choices(read({}), "ROME", "error_injection")
    assert [one["clamp"] for one in grid] == [one.clamp for one in whole] == [1.5, 0.8, 4.0]
    grid, whole = recommending.choices(read({}), "KN", "error_injection")
    assert grid == [{}]
    assert len(whole) == 1
