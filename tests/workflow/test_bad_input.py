"""Bad input: one clear sentence and a non-zero exit, or an excluded row with its reason."""

import copy
import json
import logging
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from handed import handed, input_files, output_files
from safetensors.torch import save_file
from tiny_study import OUT, merged, record, snakemake, write_inputs

from locedit.engine.key_statistics import moments_from_file
from locedit.facts.record import read_records
from locedit.model.language_model import LanguageModel
from locedit.store import assets, hashing, pins, tables
from locedit.workflow.job import read_sigma
from workflow_scripts import data_file as data_file_script
from workflow_scripts import facts as facts_script
from workflow_scripts import study as study_script

RECORD = record("1", "France", "The capital of {} is", "Paris", "Rome")


@pytest.fixture
def folder(tmp_path):
    """A working folder; beside it a model's configuration, its folder and a file of facts."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    model = {"label": "Tiny", "n_layers": 4, "noise": "3sd", "path": "model"}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(model))
    (tmp_path / "facts.json").write_text(json.dumps([RECORD]))
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def settings(folder):
    base = folder.parent
    return {
        "model": str(base / "tiny.yaml"),
        "dataset": {"name": "hand-made", "path": str(base / "facts.json")},
        "editing": {"layers": [0, 3]},
        "tuning": {"layer": 1},
        "environment": {"LOCEDIT_CACHE": str(base / "cache")},
    }


def files_below(folder):
    """Contents of all files, by path, what Snakemake keeps for itself left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".snakemake" not in path.parts and "logs" not in path.parts
    }


# ---- a faulty configuration: nothing runs --------------------------------------------------------

FAULTS = {
    "a setting of the machine": (
        {"sharding": {"editing": 2}},
        "config: sharding: this key has moved: give `--set-scatter tracing=4",
    ),
    "a device that is none": (
        {"environment": {"LOCEDIT_DEVICE": "metal"}},
        "LOCEDIT_DEVICE: unknown value 'metal' (known: auto, cpu, cuda)",
    ),
    "an unknown key": (
        {"editing": {"layer": [0]}},
        "config: editing: unknown key 'layer'; did you mean 'layers'?",
    ),
    "a misspelt method": (
        {"editing": {"methods": ["ROMA"]}},
        "config: editing.methods.0: unknown value 'ROMA'; did you mean 'ROME'?",
    ),
    "a layer beyond the model": (
        {"editing": {"layers": [0, 4]}},
        "config: editing.layers: layer 4 is beyond the model, whose 4 layers are numbered 0 to 3",
    ),
    "window 0": (
        {"localizing": {"windows": [0, 5]}},
        "config: localizing.windows.0: must be at least 1, got 0",
    ),
    "n = 0": ({"facts": {"n": 0}}, "config: facts.n: must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_configuration_stops_before_anything_runs(folder, settings, name):
    changes, sentence = FAULTS[name]
    stops(folder, merged(settings, changes), sentence)


def stops(folder, settings, sentence):
    run = snakemake(folder, settings, "--dry-run")
    assert run.status != 0
    assert sentence in run.text
    assert "Traceback" not in run.text
    assert files_below(folder) == {}


def test_a_missing_model_folder_is_named(folder, settings):
    (folder.parent / "model").rename(folder.parent / "elsewhere")
    stops(folder, settings, f"tiny.yaml: path: no model at {folder.parent / 'model'}: expected a")


def test_a_missing_model_configuration_is_named(folder, settings):
    settings["model"] = "smollm2-135m"
    sentence = "smollm2-135m.yaml; did you mean 'smollm2-135m-instruct'?"
    stops(folder, settings, sentence)


def test_a_missing_data_file_is_named(folder, settings):
    (folder.parent / "facts.json").unlink()
    sentence = f"config: dataset.path: no file {folder.parent / 'facts.json'}; give the path of a"
    stops(folder, settings, sentence)


@pytest.mark.parametrize("given", [{"facts": {"n": 0}}, {}], ids=["a key", "an option"])
def test_a_refusal_is_said_once_however_quiet_snakemake_is(folder, settings, given):
    scatter = () if given else ("--set-scatter", "sweeps=2")
    run = snakemake(folder, merged(settings, given), "--quiet", "all", *scatter)
    said = "config: facts.n: must be at least 1, got 0" if given else "--set-scatter sweeps=2: give"
    assert (run.status, run.text.count(said)) == (1, 1), run.text


NO_GRID = "config: tuning.aims.saturating.grid: nothing to try for KN; give values there"
TARGETS = {
    "editing/ROME/error_injektion/layer-0.parquet": "No rule to produce",
    "editing/ROME/error_injection/layer-4.parquet": "ROME, error_injection: layer 4 is beyond",
    "localizing/tracing/mlp/window-1.parquet": "No rule to produce",
    "tuning/KN/error_injection.parquet": NO_GRID,
    "tuning/tuned.yaml": NO_GRID,
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_no_job_could_make_is_refused(folder, settings, target):
    study = merged(settings, {"editing": {"methods": ["KN"]}, "tuning": {"aim": "saturating"}})
    run = snakemake(folder, study, str(OUT / target))
    assert run.status != 0
    assert TARGETS[target] in run.text
    assert "Traceback" not in run.text
    assert files_below(folder) == {}


def test_tuning_without_a_grid_is_refused_alone(folder, settings):
    study = merged(settings, {"editing": {"methods": ["KN"]}, "tuning": {"aim": "saturating"}})
    assert NO_GRID in snakemake(folder, study, "tune").text
    assert NO_GRID not in snakemake(folder, study, "facts").text


# ---- a file that is not what it should be: the job fails, all else stays as it was ---------------


def test_a_table_that_is_cut_off_is_named_and_nothing_else_is_touched(folder, settings):
    rows = [{**RECORD, "prompt": "", "status": "kept", "reason": "", "is_correct": True}]
    cut, other = folder / OUT / "facts.parquet", folder / OUT / "baseline" / "fact_erasure.parquet"
    for path in (cut, other):
        tables.write(path, rows, "facts")
    cut.write_bytes(cut.read_bytes()[:-100])
    before = files_below(folder)

    run = snakemake(folder, settings, str(OUT / "study.parquet"))
    assert run.status != 0
    assert f"study: {OUT / 'facts.parquet'} is not a whole Parquet file" in run.text
    assert "delete it and run again, so that it is made anew" in run.text
    assert "Traceback" not in "".join(re.findall(r"^study: .*$", run.text, re.MULTILINE))
    assert files_below(folder) == before


def test_a_failed_job_says_why_in_the_terminal_and_in_its_log(folder, settings):
    (folder.parent / "facts.json").write_text("{not JSON")
    run = snakemake(folder, settings, str(OUT / "facts.parquet"))
    assert run.status != 0
    sentence = "facts.json is not JSON"
    assert sentence in run.text
    assert sentence in (folder / "logs" / "tiny" / "hand-made" / "facts.log").read_text()
    assert files_below(folder) == {}


# ---- the same scripts, called directly -----------------------------------------------------------


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function that makes what Snakemake gives a script."""
    yield partial(handed, tmp_path)
    logging.captureWarnings(False)


def fails(main, snakemake):
    """The sentence with which a script ends; its exit status is 1 then."""
    with pytest.raises(SystemExit) as caught:
        main(snakemake)
    assert isinstance(caught.value.code, str)
    return caught.value.code


def read_facts(job, tmp_path, text):
    path = tmp_path / "facts.json"
    path.write_text(text)
    settings = {"facts.n": None, "facts.completion_tokens": 4}
    given = input_files(records=path)
    return job("filter_facts", given, {"settings": settings, "reading": {"format": "native"}})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[{"case_id": 1},', r"facts\.json is not JSON \(.*line 1.*\); expected a list of native"),
        ('{"facts": []}', r"facts\.json holds a JSON dict; expected a list of native records"),
        ("7", r"facts\.json holds a JSON int; expected a list of native records"),
        ("[]", r"facts\.json holds no record; expected native records"),
        (
            json.dumps([{**RECORD, "subject": ""}] * 3 + [{**RECORD, "target_new": 7}]),
            r"facts\.json: no record of 4 can be used \(4 excluded: 3 x subject is empty; "
            r"1 x target_new: expected text, got int\); check the file, or `dataset\.format`$",
        ),
    ],
    ids=["cut off", "an object", "a number", "no record", "no good record"],
)
def test_a_data_file_without_usable_records_ends_the_job(job, tmp_path, text, sentence):
    said = fails(facts_script.main, read_facts(job, tmp_path, text))
    assert re.search(rf"^filter_facts: .*{sentence}", said)
    assert not (tmp_path / "out.parquet").exists()


def test_a_study_without_a_known_fact_ends_the_job(job, tmp_path):
    row = {**RECORD, "status": "kept", "reason": "", "is_correct": False}
    tables.write(tmp_path / "facts.parquet", [row, {**row, "is_correct": None}], "facts")
    params = {"settings": {"known": "only", "size": None, "seed": 0}}
    said = fails(study_script.main, job("study", input_files(tmp_path / "facts.parquet"), params))
    assert "facts.parquet: the model knows none of the 2 facts" in said
    assert "give it more records or another model" in said
    assert not (tmp_path / "out.parquet").exists()

    bad = {**row, "status": "excluded", "reason": "subject is empty", "is_correct": None}
    tables.write(tmp_path / "facts.parquet", [row, bad, bad], "facts")
    said = fails(study_script.main, job("study", input_files(tmp_path / "facts.parquet"), params))
    assert "knows none of the 1 facts (2 excluded: 2 x subject is empty), so there is" in said


def test_facts_too_long_for_the_model_end_the_job_that_finds_them(job, tmp_path, monkeypatch):
    pair = tiny.pair("llama", layers=1)
    monkeypatch.setattr(facts_script, "load_model", lambda _: LanguageModel(*pair))
    long = {**RECORD, "paraphrases": ["the " * 300]}
    said = fails(facts_script.main, read_facts(job, tmp_path, json.dumps([long])))
    assert re.search(r"no record of 1 can be used \(1 excluded: 1 x a prompt of \d+ tokens", said)
    assert not (tmp_path / "out.parquet").exists()


def test_a_table_of_another_stage_is_named_with_what_it_lacks(job, tmp_path):
    tables.write(tmp_path / "facts.parquet", [{"case_id": "1"}], "essence")
    said = fails(study_script.main, job("study", input_files(tmp_path / "facts.parquet"), {}))
    assert "facts.parquet lacks the columns relation_id, subject, " in said


@pytest.mark.parametrize("text", ["", '{"sigma": 0.', "[1]", '{"sd": 1}', '{"sigma": null}'])
def test_a_damaged_noise_file_is_named_with_what_to_do(job, tmp_path, text):
    path = tmp_path / "noise.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"noise\.json: expected JSON with a number .*delete the"):
        read_sigma(job("trace", input_files(noise=path)))


def test_key_statistics_that_are_cut_off_are_named_with_what_to_do(tmp_path):
    path = tmp_path / "key_statistics.safetensors"
    save_file({"layer.0": torch.eye(3)}, path)
    moments_from_file(path, torch.device("cpu")).solve(0, torch.ones(1, 3))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(OSError, match=r"key_statistics\.safetensors: no readable key moments"):
        moments_from_file(path, torch.device("cpu"))
    path.unlink()
    with pytest.raises(OSError, match="delete the file so that it is made again"):
        moments_from_file(path, torch.device("cpu"))


# ---- bad records: excluded rows ------------------------------------------------------------------

BAD_RECORDS = {
    "a prompt without the subject": (
        {"template": "The capital is"},
        "template: the prompt lacks the subject: expected one {}, found 0",
    ),
    "a prompt with the subject twice": (
        {"template": "{} and {} are"},
        "template: the prompt lacks the subject: expected one {}, found 2",
    ),
    "an empty target": ({"target_true": ""}, "target_true is empty"),
    "a target of spaces": ({"target_new": "  "}, "target_new is empty"),
    "a target that is a number": ({"target_true": 7}, "target_true: expected text, got int"),
    "a target that is null": ({"target_new": None}, "target_new is missing"),
    "no subject": ({"subject": "\t"}, "subject is empty"),
    "equal targets": ({"target_new": " Paris"}, "target_new equals target_true"),
    "one paraphrase as a text": ({"paraphrases": "Who?"}, "paraphrases: expected a list of texts"),
    "a neighbour that is a number": (
        {"neighbourhood": ["Who?", 3]},
        "neighbourhood: expected a list of texts",
    ),
    "an empty generation prompt": (
        {"generation_prompts": [""]},
        "generation_prompts holds an empty prompt",
    ),
}


def read(tmp_path, *records):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(records))
    return read_records(path, "native")


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_becomes_an_excluded_row_and_its_neighbours_stay(tmp_path, name):
    changes, reason = BAD_RECORDS[name]
    bad = {**copy.deepcopy(RECORD), "case_id": "bad", **changes}
    rows = read(tmp_path, RECORD, bad, {**RECORD, "case_id": "2"})
    assert [row["case_id"] for row in rows] == ["1", "bad", "2"]
    assert [row["status"] for row in rows] == ["kept", "excluded", "kept"]
    assert [row["reason"] for row in rows] == ["", reason, ""]
    tables.write(tmp_path / "facts.parquet", rows, "facts")
    assert list(tables.read(tmp_path / "facts.parquet", "facts")["reason"]) == ["", reason, ""]


def test_of_records_with_the_same_case_id_the_first_stays(tmp_path):
    rows = read(tmp_path, RECORD, RECORD, {**RECORD, "case_id": 1})
    assert [row["status"] for row in rows] == ["kept", "excluded", "excluded"]
    assert rows[1]["reason"] == rows[2]["reason"] == "its case_id occurs before in the file"


@pytest.mark.parametrize("bad", [None, 3, "text", []], ids=["null", "number", "text", "list"])
def test_a_record_that_is_none_becomes_an_excluded_row(tmp_path, bad):
    rows = read(tmp_path, bad, RECORD)
    assert [row["status"] for row in rows] == ["excluded", "kept"]
    assert rows[0]["case_id"] == "record-0"
    assert rows[0]["reason"]


NASTY = {
    "half of a surrogate pair": ({"subject": "\ud800"}, "subject holds half of a surrogate pair"),
    "a NUL": ({"target_true": "a\0b"}, "target_true holds a NUL character"),
    "longer than the model reads": ({"target_new": "word " * 3000}, "more exceed the model's 256"),
    "a list for an id": ({"case_id": [[1]]}, "case_id: expected text or a number, got list"),
    "braces": ({"template": "{0} {} {subject} %s is"}, ""),
    "from right to left": ({"subject": "ירושלים", "template": "\u202e{} is\u2028 in"}, ""),
    "its own object": ({"subject": "Paris", "template": "Paris, {}, is"}, ""),
    "marks on nothing": ({"subject": "\u0301\u0301", "target_true": "e\u0301"}, ""),
}


def test_nasty_records_go_through_the_workflow_and_every_one_has_its_row(folder, settings):
    settings = merged(settings, write_inputs(folder.parent))
    path = Path(settings["dataset"]["path"])
    good = json.loads(path.read_text())[:2]
    bad = [{**RECORD, "case_id": name, **changes} for name, (changes, _) in NASTY.items()]
    path.write_text(json.dumps([good[0], *bad, good[1], None]))
    settings["facts"] = {"completion_tokens": 8}
    run = snakemake(folder, settings, str(OUT / "study.parquet"))
    assert run.status == 0, run.text
    rows = tables.read(folder / OUT / "facts.parquet", "facts").to_dict("records")
    assert len(rows) == len(bad) + 3
    for row, (_, reason) in zip(rows[1:-2], NASTY.values(), strict=True):
        assert row["status"] == ("excluded" if reason else "kept")
        assert reason in row["reason"]
    assert rows[0]["is_correct"] is rows[-2]["is_correct"] is True
    study = tables.read(folder / OUT / "study.parquet", "facts")
    assert {good[0]["case_id"], good[1]["case_id"]} <= set(study["case_id"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("[" * 100_000, "is not JSON (maximum"), ("[1" + "0" * 5000 + "]", "is not JSON (Exceeds")],
    ids=["nested deeply", "a long number"],
)
def test_a_data_file_that_python_cannot_hold_ends_the_job(job, tmp_path, text, sentence):
    said = fails(facts_script.main, read_facts(job, tmp_path, text))
    assert f"facts.json {sentence}" in said
    assert "\n" not in said


def test_a_configuration_that_holds_itself_stops_before_anything_runs(folder, settings):
    settings["contexts"] = {"rome": []}
    settings["contexts"]["rome"].append(settings["contexts"]["rome"])
    stops(folder, settings, "config: contexts.rome.0.0.0.0 stands for more than 100,000 values")


# ---- data sets that go by their names ------------------------------------------------------------


def test_a_data_set_without_a_pinned_checksum_says_where_it_is(folder, settings):
    settings["dataset"] = {"name": "zsre", "format": "zsre", "path": None}
    run = snakemake(folder, settings, "results/tiny/zsre/facts.parquet")
    assert run.status != 0
    assert "data_file: no checksum of the data set 'zsre' is pinned, so it is not down" in run.text
    assert "fetch https://rome.baulab.info/data/dsets/zsre_mend_eval.json and give" in run.text
    assert "filter_facts:" not in run.text


def test_without_a_network_counterfact_says_what_to_fetch_and_where_to_give_it(
    folder, settings, monkeypatch
):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nothing listens
    settings["dataset"] = {"name": "counterfact", "format": "counterfact", "path": None}
    run = snakemake(folder, settings, "results/tiny/counterfact/facts.parquet")
    assert run.status != 0
    said = re.search(r"^data_file: (.*)$", run.text, re.MULTILINE)[1]
    pinned = assets.named("counterfact")
    assert said.startswith(f"{pinned.url} could not be fetched (")
    assert said.endswith(
        f"fetch it elsewhere (SHA-256 {pinned.sha256}) and put it into a folder that the "
        "environment variable LOCEDIT_ASSETS names."
    )
    assert files_below(folder.parent / "cache") == {}


def test_another_file_given_for_counterfact_is_refused(folder, settings):
    other = brought(folder, settings, "counterfact.json", json.dumps([RECORD]))
    settings["dataset"] = {"name": "counterfact", "format": "counterfact", "path": None}
    run = snakemake(folder, settings, "results/tiny/counterfact/facts.parquet")
    assert run.status != 0
    assert f"data_file: {other} is not https://rome.baulab.info/data/dsets/counterfact" in run.text
    assert "expected 45,108,470 bytes" in run.text
    assert files_below(folder.parent / "cache") == {}


def brought(folder, settings, name, text):
    """A file in the folder that LOCEDIT_ASSETS names, in place of a download."""
    path = folder.parent / "brought" / name
    path.parent.mkdir()
    path.write_text(text)
    settings["environment"]["LOCEDIT_ASSETS"] = str(path.parent)
    return path


def test_a_file_given_in_its_place_is_copied_into_the_cache(job, tmp_path, monkeypatch):
    given = tmp_path / "given" / "counterfact.json"
    given.parent.mkdir()
    given.write_text(json.dumps([RECORD]))
    small = pins.Url(
        url="https://localhost/counterfact.json",
        sha256=hashing.content(given),
        size=given.stat().st_size,
    )
    monkeypatch.setitem(pins.ASSETS, "counterfact", small)
    params = {"name": "counterfact", "asset": "counterfact", "url": None}
    monkeypatch.setenv("LOCEDIT_ASSETS", str(given.parent))
    snakemake = job("data_file", None, params)
    snakemake.output = output_files(assets.cached_path(small, tmp_path / "cache"))
    data_file_script.main(snakemake)
    assert (tmp_path / "cache").is_dir()
    assert read_records(snakemake.output[0], "native")[0]["subject"] == "France"


# ---- assets --------------------------------------------------------------------------------------


def test_a_wrong_checksum_names_the_file_and_what_to_do(tmp_path):
    dump = tmp_path / "dump.bz2"
    dump.write_bytes(b"not what is pinned")
    pinned = replace(assets.named("enwiki-shortened"), size=dump.stat().st_size)
    sentence = r"dump\.bz2 is not .*enwiki.*: expected SHA-256 a53f.*, got .*; give the file that"
    with pytest.raises(pins.AssetError, match=sentence):
        assets.resolve(pinned, dump, cache=tmp_path / "cache")


def test_a_wrong_asset_ends_the_job_that_reads_it(folder, settings):
    name = assets.named("enwiki-shortened").name
    dump = brought(folder, settings, name, "not what is pinned")
    run = snakemake(folder, settings, "corpus")
    assert run.status != 0
    assert f"corpus: {dump} is not " in run.text
    assert "expected 1,695,871 bytes, got 18; give the file that is pinned" in run.text
    assert files_below(folder.parent / "cache") == {}
