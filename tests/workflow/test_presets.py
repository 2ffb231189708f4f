"""Presets are whole studies: each is planned without a network, weights or data, job for job."""

import json
import math
import re
import subprocess
from collections import Counter

import pytest
import yaml
from tiny_study import ROOT, Run, merged, warm_environment, warm_python

from locedit.workflow.config import load_yaml
from locedit.workflow.pairs import listed, of_pair

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
DEFAULT = load_yaml(ROOT / "config.yaml")
# Snakemake in a process that can open no connection
OFFLINE = """
import socket, sys

def refuse(self, address):
    raise AssertionError(f"a connection to {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
from snakemake.cli import main

sys.exit(main(sys.argv[1:]))
"""


def plan(preset, folder, *more, profile="default"):
    """What `snakemake -n --configfile` says of a preset, with an empty cache."""
    command = [warm_python().executable, "-c", OFFLINE, "-n"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(preset), *map(str, more)]
    command += ["--workflow-profile", str(ROOT / "profiles" / profile)]
    environment = {**warm_environment(), "LOCEDIT_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return Run(status=done.returncode, text=done.stdout + done.stderr)


def expected(study):
    """Jobs of each rule up to the scores, counted from the configuration."""
    editing, tracing, name = study["editing"], study["localizing"], study["dataset"]["name"]
    model = load_yaml(ROOT / "models" / f"{study['model']}.yaml")
    once = ["filter_facts", "study", "noise", "effects", "essence", "scores"]
    if "planted" in model:
        once += ["plant", "planted_weights"]
        model = load_yaml(ROOT / "models" / f"{model['planted']['base']}.yaml")
    once += ["model_weights" if "asset" in model else "model_download"]
    made_here = {"bundled": ["build_dataset"], "planted": []}
    once += made_here.get(name, ["data_file"])
    if {"ROME", "MEMIT"} & set(editing["methods"]):
        once += ["corpus", "key_statistics", "contexts"]
    together = editing["together"]
    numbers = len(together) if isinstance(together, list) else 1
    layers = [
        of_pair(editing["layers"], problem, method)
        for problem in editing["problems"]
        for method in editing["methods"]
    ]
    grid = sum(len(listed(some)) * numbers + ("peak" in some) for some in layers)
    if editing["repeated"]:
        primary = study["analysis"]["primary"]
        grid += len(listed(of_pair(editing["layers"], primary["problem"], primary["method"])))
        once.append("contexts_again")
    return dict.fromkeys(once, 1) | {
        "trace": len(tracing["modules"]) * len(tracing["windows"]),
        "baseline": len(editing["problems"]),
        "edit": grid,
    }


@pytest.mark.parametrize("preset", PRESETS, ids=[path.stem for path in PRESETS])
def test_a_preset_is_planned_job_for_job_without_a_network(preset, tmp_path):
    study = merged(DEFAULT, load_yaml(preset))
    planned = plan(preset, tmp_path)
    assert planned.status == 0, planned.text
    jobs = expected(study)
    assert {name: n for name, n in planned.jobs.items() if name in jobs} == jobs


@pytest.mark.parametrize(("tracing", "editing"), [(1, 1), (4, 2)], ids=["whole", "sharded"])
def test_the_papers_preset_is_planned_for_a_cluster_in_few_submissions(tmp_path, tracing, editing):
    (tmp_path / "work").mkdir()
    shards = ["--set-scatter", f"tracing={tracing}", f"editing={editing}"]
    preset = ROOT / "presets" / "gptj-counterfact.yaml"
    planned = plan(preset, tmp_path / "work", *shards, profile="slurm")
    assert planned.status == 0, planned.text
    groups = Counter(re.findall(r"Group job (\w+)", planned.text))
    assert groups == {
        "facts": 1,
        "shared": math.ceil((1 + 1 + editing + 5 * editing) / 2),
        "tracing": math.ceil((4 * tracing + 1) / 2),  # and the heat map
        "edits": 180 * editing // 4,
        **({"merges": 1} if editing > 1 else {}),
        "effects": 1,
        "tables": 1,
    }
    alone = re.findall(r"^Job \d+: (.+)$", planned.text, re.MULTILINE)
    assert {text.split()[0] for text in alone} == {"Downloading", "Fetching", "Reading"}  # local


def test_what_is_fetched_is_fetched_where_snakemake_runs():
    text = (ROOT / "rules" / "assets.smk").read_text()
    rules, local = (re.findall(words, text) for words in (r"\brule \w+:", "localrule: True"))
    assert len(rules) == len(local) > 1


# What METHODS and the paper say of each, in numbers that a slip would change
GRIDS = {
    "gptj-counterfact": (9, 4, 2000),
    "gptj-counterfact-released": (9, 4, 2000),
    "gpt2xl-counterfact": (14, 1, 2000),
    "gptj-zsre": (8, 4, 2000),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_preset_of_the_paper_has_the_papers_settings(name):
    study = merged(DEFAULT, load_yaml(ROOT / "presets" / f"{name}.yaml"))
    layers, windows, n = GRIDS[name]
    assert len(study["editing"]["layers"]) == layers
    assert len(study["localizing"]["windows"]) == windows
    assert (study["facts"]["n"], study["facts"]["study"]) == (n, None)
    assert len(study["editing"]["methods"]) * len(study["editing"]["problems"]) == 20
    assert study["contexts"] == {"rome": [[5, 10], [10, 10]], "memit_tokens": 10}
    assert study["essence"] == {"texts": 5, "tokens": 100}
    assert study["editing"]["tuned"] == "none"
    released = name.endswith("released")
    assert study["editing"]["preset"] == ("released" if released else "paper")
    assert study["tracing"]["clean_reference"] == ("max" if released else "clean")
    assert study["scores"]["aggregate"] == ("first" if released else "mean")
    assert study["scores"]["paraphrases"] is study["scores"]["neighbours"] is None


def test_the_released_preset_says_all_that_the_papers_does():
    paper, released = (
        load_yaml(ROOT / "presets" / f"{name}.yaml")
        for name in ("gptj-counterfact", "gptj-counterfact-released")
    )
    released.pop("quirks", None)
    assert list(keys_of(released)) == list(keys_of(paper))


def keys_of(settings, prefix=""):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


# ---- the tables of one's own, through the workflow -----------------------------------------------


def test_a_table_of_ones_own_is_planned_and_a_column_of_another_kind_is_not(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "own.csv").write_text("entity,answer\nFrance,Paris\n")
    own = {"name": "own", "path": str(tmp_path / "own.csv"), "columns": {"subject": "entity"}}
    overlay = tmp_path / "own.yaml"
    overlay.write_text(yaml.safe_dump({"dataset": own}))
    planned = plan(overlay, tmp_path / "work")
    assert planned.status == 0, planned.text
    assert planned.jobs["filter_facts"] == 1
    assert planned.jobs.keys().isdisjoint({"build_dataset", "data_file"})

    overlay.write_text(json.dumps({"dataset": {**own, "columns": {"object": "answer"}}}))
    refused = plan(overlay, tmp_path / "work")
    assert refused.status != 0
    assert "config: dataset.columns: unknown key 'object'" in refused.text
