"""No name or path leads out of the results."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny_study import record, snakemake

from locedit import methods
from locedit.exchange import rome_layout
from locedit.registry import RegistrationError
from locedit.store import files, tables
from locedit.workflow import config as configuration
from locedit.workflow import model_file as model_files

ROOT = Path(__file__).resolve().parents[2]
BAD_NAMES = [
    *("", ".", "..", "../up", "/abs", "a/b", "a\\b", "C:\\a", "-rf", " a", "a b", "a\n", "a\0"),
    *("{x}", "{", "a}b", "~", "~root", "$HOME", "`id`", "a;b", "*", "é", "x" * 101, "x" * 5000),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_a_name_that_could_leave_its_folder_names_none(name, tmp_path):
    with pytest.raises(configuration.ConfigError, match="it names a folder: use letters"):
        configuration.read({"dataset": {"name": name}})
    with pytest.raises(RegistrationError, match="its name becomes a folder's"):
        methods.register(replace(methods.METHODS["ROME"], name=name))
    with pytest.raises(configuration.ConfigError):  # there is none, or it may not be called so
        model_files.load_model(f"{name}.yaml", tmp_path)


@pytest.mark.parametrize("name", ["..", ".", "{x}", "a b", "-a", "a\n", "x" * 120])
def test_a_models_file_may_not_be_called_so(name, tmp_path):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"label": "M", "n_layers": 2, "noise": 1, "asset": "a"}))
    with pytest.raises(configuration.ConfigError, match="becomes a folder's: use letters"):
        model_files.load_model(str(path), tmp_path)


def test_a_path_with_a_brace_is_refused_before_snakemake_takes_it_for_a_wildcard(tmp_path):
    path = tmp_path / "{facts}.json"
    path.write_text("[]")
    config = configuration.read({"dataset": {"name": "mine", "path": str(path)}})
    with pytest.raises(configuration.ConfigError, match="holds a brace, which Snakemake takes"):
        configuration.check(config, 30)
    settings = {"environment": {"LOCEDIT_CACHE": str(tmp_path / "{cache}")}}
    (tmp_path / "work").mkdir()
    run = snakemake(tmp_path / "work", settings, "--dry-run")
    assert run.status != 0
    assert "LOCEDIT_CACHE: " in run.text
    assert "{cache}' holds a brace, which Snakemake takes for a wildcard" in run.text


CASE_IDS = ["../../out", "/etc/passwd", "a\0b", "C:\\x", "-rf", "{i}", "9" * 400, "", "\n", "7"]


@pytest.mark.parametrize("ids", [CASE_IDS, ["9" * 5000, "1"], ["1", "01"]], ids=["bad", "", "same"])
def test_a_case_file_is_named_by_a_number_whatever_the_case_is_called(ids, tmp_path):
    numbers = rome_layout.case_numbers(ids)
    assert sorted(numbers.values()) == list(range(len(ids)))
    cases = [{"case_id": numbers[case_id], "fact": case_id} for case_id in ids]
    rome_layout.write_run(tmp_path / "run", {}, cases)
    written = {path.name for path in tmp_path.rglob("*")}
    assert written == {"run", "params.json", *(f"case_{i}.json" for i in range(len(ids)))}


def test_a_study_with_a_name_that_climbs_writes_nothing(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "facts.json").write_text(json.dumps([record("1", "a", "{} is", "b", "c")]))
    before = set(tmp_path.rglob("*"))
    settings = {"dataset": {"name": "../../up", "path": str(tmp_path / "facts.json")}}
    run = snakemake(tmp_path / "work", settings, "facts")
    assert run.status != 0
    assert "config: dataset.name: it names a folder" in run.text
    assert "Traceback" not in run.text
    made = {path for path in tmp_path.rglob("*") if ".snakemake" not in path.parts} - before
    overlays = set(tmp_path.glob("*.yaml"))  # what the test itself tells Snakemake to read
    assert len(overlays) == 1
    assert made == overlays


def test_a_link_in_the_results_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    outside, inside = tmp_path / "precious", tmp_path / "results" / "facts.parquet"
    outside.write_text("as it was")
    inside.parent.mkdir()
    inside.symlink_to(outside)
    tables.write(inside, [{"case_id": "1"}], "facts")
    assert outside.read_text() == "as it was"
    assert not inside.is_symlink()
    folder = tmp_path / "results" / "rome"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    folder.symlink_to(tmp_path / "kept")
    with files.atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "kept" / "file").exists()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert not folder.is_symlink()
