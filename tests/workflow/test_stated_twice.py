"""What is stated in two places is compared where both are at hand, and the remedy leads out."""

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import yaml
from conftest import ROOT
from handed import handed, input_files
from tiny_study import OUT, snakemake

from locedit.api import inputs
from locedit.api.look import look
from locedit.engine import key_statistics, loading
from locedit.stated import StatedError, check_facts, check_stated
from locedit.store import assets, hashing, tables
from locedit.workflow import config as configuration
from locedit.workflow import job, origins
from locedit.workflow import model_file as model_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    pair = tiny.pair("llama", layers=4, dtype=torch.float32)
    return tiny.save(pair, tmp_path_factory.mktemp("stated") / "model")


def model_file(base: Path, path: object, n_layers: int, name: str = "mine") -> Path:
    settings = {"label": "M", "n_layers": n_layers, "noise": "3sd", "path": str(path)}
    (base / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    return base / f"{name}.yaml"


def test_a_place_that_does_not_tell_is_compared_with_nothing():
    how = {"where": "a", "source": "b", "remedy": "c"}
    for stated, found in ((None, 1), (1, None), (1, 1), (None, None)):
        check_stated("x", stated, found, **how)
    with pytest.raises(StatedError, match=r"^a: x is 0, and that of b is 1; c$"):
        check_stated("x", 0, 1, **how)


# ---- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [3, 6])
def test_a_models_file_is_compared_with_its_folder(folder, tmp_path, stated):
    file = model_file(tmp_path, folder, stated)
    with pytest.raises(configuration.ConfigError) as caught:
        model_files.load_model(str(file), ROOT)
    said = str(caught.value)
    assert said.startswith(f"{file}: n_layers is {stated}, and that of {folder / 'config.json'} is")
    number = int(re.search(r"write n_layers: (\d+) there", said)[1])
    _, settings = model_files.load_model(str(model_file(tmp_path, folder, number)), ROOT)
    assert settings["n_layers"] == 4


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_familys_number_of_layers_is_found(family, tmp_path):
    """Families call it by names of their own, and one with vision keeps it apart."""
    tiny.model(family, 40, layers=3).config.save_pretrained(tmp_path)
    with pytest.raises(configuration.ConfigError, match=r"n_layers is 2, .*json is 3; write"):
        model_files.load_model(str(model_file(tmp_path, tmp_path, 2)), ROOT)


def fetched(base: Path, folder: Path, stated: int) -> tuple[Path, dict]:
    """A model's file that names a GGUF file, and its settings."""
    (base / "a.gguf").write_bytes(b"GGUF")
    file = model_file(base, "a.gguf", stated)
    return file, model_files.load_model(str(file), ROOT)[1]


def test_a_model_is_compared_as_soon_as_it_is_fetched(folder, tmp_path):
    file, _ = fetched(tmp_path, folder, 6)
    asked = SimpleNamespace(config={"model": str(file)})
    with pytest.raises(configuration.ConfigError, match=r"n_layers is 6, .* is 4; write n_layers"):
        job.check_fetched(asked, folder)
    fetched(tmp_path, folder, 4)
    job.check_fetched(asked, folder)


def test_a_model_that_was_fetched_before_is_compared_when_the_rules_are_read(folder, tmp_path):
    file, settings = fetched(tmp_path, folder, 6)
    (tmp_path / "work").mkdir()
    unpacked = assets.model_folder("mine", settings, tmp_path / "cache")
    unpacked.mkdir(parents=True)
    (unpacked / "config.json").write_bytes((folder / "config.json").read_bytes())
    study = {"model": str(file), "environment": {"LOCEDIT_CACHE": str(tmp_path / "cache")}}
    study |= {"editing": {"layers": [0]}, "tuning": {"layer": 0}}
    run = snakemake(tmp_path / "work", study, "--dry-run")
    assert run.status != 0
    assert f"{file}: n_layers is 6, and that of {unpacked / 'config.json'} is 4; write" in run.text
    assert "Traceback" not in run.text
    fetched(tmp_path, folder, 4)
    run = snakemake(tmp_path / "work", study, "--dry-run")
    assert run.status == 0, run.text


def test_the_command_line_compares_too(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "check_stated_layers", lambda *_: None)
    with pytest.raises(StatedError, match="the file of mine: n_layers is 6, and that of"):
        _ = look(str(model_file(tmp_path, folder, 6))).lm
    assert look(str(model_file(tmp_path, folder, 4))).lm.n_layers == 4


# ---- a job's inputs ------------------------------------------------------------------------------

FACT = {
    "case_id": "1",
    "relation_id": "r",
    "subject": "France",
    "template": "The capital of {} is",
    "prompt": "The capital of France is",
    "target_true": "Paris",
    "target_new": "Rome",
    "paraphrases": [],
    "neighbourhood": [],
    "generation_prompts": [],
    "status": "kept",
    "reason": "",
    "is_correct": True,
}


def write_inputs(base: Path, model: str, data: str = "d") -> dict[str, Path]:
    """What a job reads beside the weights, as the workflow's scripts write it."""
    made = {"hashes": {"model": model, "data": data}}
    files = {"study": base / "study.parquet", "noise": base / "noise.json"}
    tables.write(files["study"], [FACT], "facts", made)
    files["noise"].write_text(json.dumps({"sigma": 0.1, **made}))
    files["statistics"] = base / "key_statistics.safetensors"
    moments = {layer: torch.eye(64) for layer in range(4)}
    key_statistics.write_moments(files["statistics"], moments, tokens="9", model=model)
    return files


def a_job(base: Path, folder: Path, files: dict[str, Path], stated: int = 4) -> SimpleNamespace:
    found = {name: path for name, path in files.items() if path.exists()}
    config = {
        "model": str(model_file(base, folder, stated)),
        "plugins": [],
        "dtype": "auto",
        "statistics": {"ridge": 0},
    }
    given = input_files(**found, model=folder / "config.json")
    return handed(base, "edit", given, config=config, threads=torch.get_num_threads())


@pytest.fixture
def no_loading(monkeypatch):
    """Inputs are compared before minutes go into the weights."""
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("was loaded"))


def test_a_job_takes_inputs_of_its_own_model(folder, tmp_path):
    files = write_inputs(tmp_path, hashing.weights(folder))
    assert job.load_model(a_job(tmp_path, folder, files)).n_layers == 4


def test_a_job_compares_the_models_layers_too(folder, tmp_path):
    files = write_inputs(tmp_path, hashing.weights(folder))
    with pytest.raises(StatedError, match=r"mine\.yaml: n_layers is 6, and that of .* is 4; write"):
        job.load_model(a_job(tmp_path, folder, files, stated=6))


@pytest.mark.parametrize("name", ["study", "noise", "statistics"])
def test_an_input_of_another_model_is_named_before_anything_is_loaded(
    folder, tmp_path, no_loading, name
):
    files = write_inputs(tmp_path, hashing.weights(folder))
    (tmp_path / "other").mkdir()
    other = write_inputs(tmp_path / "other", "another")
    said = f"^{re.escape(str(other[name]))}: the model is 'another', and .* delete it and run again"
    with pytest.raises(StatedError, match=said):
        job.load_model(a_job(tmp_path, folder, {**files, name: other[name]}))


@pytest.mark.parametrize("name", ["study", "noise"])
def test_an_input_of_other_data_is_named(folder, tmp_path, no_loading, name):
    files = write_inputs(tmp_path, hashing.weights(folder))
    (tmp_path / "other").mkdir()
    other = write_inputs(tmp_path / "other", hashing.weights(folder), data="e")
    with pytest.raises(StatedError, match=r"the data's hash is '[de]', and that of .* is '[de]'"):
        job.load_model(a_job(tmp_path, folder, {**files, name: other[name]}))


def test_records_and_damaged_inputs_are_left_to_whoever_reads_them(folder, tmp_path):
    files = write_inputs(tmp_path, hashing.weights(folder))
    (tmp_path / "other").mkdir()
    records = write_inputs(tmp_path / "other", "another")["study"]  # of a study, as a data set
    for path in files.values():
        path.write_bytes(b"damaged")
    asked = a_job(tmp_path, folder, {**files, "records": records})
    origins.check(origins.of_job(asked), folder)


def test_a_table_of_other_facts_is_named():
    check_facts(["1", "2"], ["2", "1", "3"], "baseline.parquet", "study.parquet")
    said = r"^essence\.parquet has no row of facts of study\.parquet \(2\): .* delete it and run"
    with pytest.raises(StatedError, match=said):
        check_facts(["1", "2"], ["1"], "essence.parquet", "study.parquet")


def test_a_study_with_anothers_noise_or_statistics_stops_and_goes_on_when_told(study, tmp_path):
    """The files that jobs write do state their model, and deleting what is named leads out."""
    copy = study.copied(tmp_path / "work")
    target = copy.out / "editing" / "ROME" / "error_injection" / "layer-2.parquet"
    expected = tables.read(target, "editing")
    noise, moments = copy.out / "noise.json", copy.out.parent / "key_statistics.safetensors"
    model = hashing.weights(Path(copy.settings["model"]).parent / "model")
    assert origins.stated(noise)["model"] == origins.stated(moments)["model"] == model
    target.unlink()
    said = json.loads(noise.read_text())
    noise.write_text(json.dumps({**said, "hashes": {**said["hashes"], "model": "another"}}))
    wanted = str(OUT / "editing" / "ROME" / "error_injection" / "layer-2.parquet")
    run = copy.run(wanted)
    assert run.status != 0
    assert f"{OUT / 'noise.json'}: the model is 'another', and that of the model at" in run.text
    noise.unlink()
    run = copy.run(wanted)
    assert run.status == 0, run.text
    assert tables.read(target, "editing").equals(expected)


# ---- key statistics ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        ({5: 64}, "the number of layers is 6, and that of the model is 4"),
        ({0: 64, 2: 48}, "d_ff of layer 2 is 48, and that of the model is 64"),
    ],
)
def test_key_statistics_of_another_size_are_named(folder, tmp_path, moments, said):
    path = tmp_path / "key_statistics.safetensors"
    key_statistics.write_moments(path, {layer: torch.eye(size) for layer, size in moments.items()})
    lm = loading.load(folder, device="cpu")
    with pytest.raises(StatedError, match=f"^{re.escape(str(path))}: {said}; delete it and run"):
        key_statistics.check_size(path, lm)
    key_statistics.write_moments(path, {layer: torch.eye(64) for layer in range(4)})
    key_statistics.check_size(path, lm)


def test_key_moments_of_another_width_are_no_facts_fault():
    with pytest.raises(OSError, match="layer 1 is 4 wide, and the model's d_ff is 5"):
        key_statistics.KeyMoments(lambda _: torch.eye(4)).solve(1, torch.ones(1, 5))


@pytest.mark.parametrize("name", ["key_statistics.safetensors", "contexts.parquet"])
def test_the_command_line_takes_no_study_of_another_model(folder, tmp_path, capsys, name):
    seen = look(str(model_file(tmp_path, folder, 4)))
    study = tmp_path / "results" / "mine"

    def write_study(**models_of: str) -> None:
        study.mkdir(parents=True, exist_ok=True)
        rows = [{"method": "rome", "set": 0, "template": "{}"}]
        of = {file: models_of.get(file, seen.weights) for file in ("contexts", "key_statistics")}
        tables.write(
            study / "contexts.parquet", rows, "contexts", {"hashes": {"model": of["contexts"]}}
        )
        key_statistics.write_moments(
            study / "key_statistics.safetensors",
            {layer: torch.eye(64) for layer in range(4)},
            model=of["key_statistics"],
        )

    def shared():
        return inputs.shared_inputs(seen, "ROME", [2], tmp_path / "results", None)

    write_study(**{name.partition(".")[0]: "another"})
    with pytest.raises(StatedError, match=rf"{name}: the model is 'another', .*with --results$"):
        shared()
    write_study()
    assert shared().moments is not None


def teardown_module() -> None:
    logging.captureWarnings(False)
