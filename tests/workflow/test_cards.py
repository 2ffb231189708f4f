"""The pool of GPU cards: never two jobs on one, shown with cards that are only names."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from handed import CONFIG, handed, input_files
from tiny_study import OUT, ROOT, write_inputs

from locedit.workflow import gpus
from locedit.workflow.job import load_model

# Takes a card, tells it, holds it for a while, tells that it lets go.
HOLDER = """
import logging, os, sys, time
from locedit.workflow import gpus
gpus.take(1, logging.getLogger())
card = os.environ.get("CUDA_VISIBLE_DEVICES")
print(card, time.monotonic(), flush=True)
time.sleep(float(sys.argv[1]))
print(time.monotonic(), flush=True)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An environment with a folder of locks of its own, to which cards can be added."""
    for variable in ("CUDA_VISIBLE_DEVICES", "LOCEDIT_CARDS", "SLURM_JOB_ID"):
        monkeypatch.setenv(variable, "")  # so that what the tested code sets is undone, too
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(gpus, "_HELD", [])
    return monkeypatch


def holder(seconds: float, **more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(seconds)],
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen) -> tuple[str, float, float]:
    """A holder's card, and when it had it."""
    text, _ = process.communicate(timeout=60)
    card, start, end = text.split()
    return card, float(start), float(end)


def overlapping(spans: list[tuple[float, float]]) -> bool:
    spans = sorted(spans)
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_two_jobs_never_hold_one_card(machine):
    machine.setenv("LOCEDIT_CARDS", "0,1")
    held = [told(process) for process in [holder(0.5) for _ in range(5)]]
    assert {card for card, _, _ in held} == {"0", "1"}
    for card in "01":
        assert not overlapping([(start, end) for own, start, end in held if own == card])


def test_the_order_in_which_a_pool_is_named_does_not_matter(machine):
    processes = [holder(1, LOCEDIT_CARDS="0,1"), holder(1, LOCEDIT_CARDS="1,0")]
    assert {told(process)[0] for process in processes} == {"0", "1"}


def test_a_card_that_is_named_twice_serves_two_jobs(machine):
    machine.setenv("LOCEDIT_CARDS", "3,3")
    spans = [told(process)[1:] for process in [holder(4), holder(4)]]
    assert overlapping(spans)


def test_cards_of_two_allocations_are_different_ones(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "0")
    spans = [told(p)[1:] for p in [holder(4, SLURM_JOB_ID="7"), holder(4, SLURM_JOB_ID="8")]]
    assert overlapping(spans)


def test_the_card_of_a_killed_job_is_free(machine):
    machine.setenv("LOCEDIT_CARDS", "0")
    first = holder(600)
    assert first.stdout.readline().startswith("0 ")
    second = holder(0)
    time.sleep(1)
    assert second.poll() is None, "the second job did not wait"
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert told(second)[0] == "0"


def test_a_job_that_asks_for_no_card_sees_none(machine):
    machine.setenv("LOCEDIT_CARDS", "0,1")
    gpus.take(0, logging.getLogger())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_job_that_asks_for_no_card_loads_the_model_on_the_cpu(machine, tmp_path):
    """As the rule planted_weights, where Snakemake runs; LOCEDIT_DEVICE is for jobs with cards."""
    machine.setenv("LOCEDIT_DEVICE", "cuda")
    config = {**CONFIG, "model": write_inputs(tmp_path)["model"], "dtype": "auto"}
    given = input_files(model=tmp_path / "model" / "config.json")
    lm = load_model(handed(tmp_path, "planted_weights", given, config=config))
    assert lm.model.device.type == "cpu"


def test_a_machine_without_cards_is_left_alone(machine, tmp_path):
    machine.setenv("PATH", str(tmp_path))  # no nvidia-smi
    gpus.take(1, logging.getLogger())
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_the_drivers_cards_are_known_by_their_identity(machine, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-aa\necho GPU-bb\n")
    program.chmod(0o755)
    machine.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpus.pool() == ["GPU-aa", "GPU-bb"]


@pytest.mark.parametrize(("allowed", "pool"), [("1, 3", ["1", "3"]), ("", [])])
def test_what_the_environment_allows_is_the_pool(machine, allowed, pool):
    machine.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpus.pool() == pool


def test_jobs_of_one_run_take_turns_on_one_card(study, tmp_path, machine):
    """Two cores, so two jobs at once; one card, so one after the other."""
    machine.setenv("LOCEDIT_CARDS", "5")
    shared = study.copied(tmp_path / "shared")
    tables = [f"tracing/mlp/window-{window}.parquet" for window in (1, 3)]
    for table in tables:
        (shared.out / table).unlink()
    run = shared.run(*(str(OUT / table) for table in tables))
    assert run.status == 0, run.text
    logs = [shared.folder / "logs" / Path(*OUT.parts[1:]) / table for table in tables]
    spans = [held(log.with_suffix(".log").read_text(), card="5") for log in logs]
    assert not overlapping(spans)


def held(log: str, card: str) -> tuple[float, float]:
    """From a job's log: when it took the card, and when it was done."""
    times = [
        datetime.fromisoformat(re.search(rf"^(\S+ \S+) INFO {what}", log, re.MULTILINE)[1])
        for what in (f"GPU card {card}", "done in")
    ]
    return times[0].timestamp(), times[1].timestamp()
