"""Runs that are killed, refused, out of disk or memory: what is said, and the same command again.

Every test works on a copy of the tiny study, or makes its own in the folder that it is given.
"""

import logging
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import torch
from tiny_study import OUT, Going, Run, Study

from locedit.engine import key_statistics
from locedit.errors import LoceditError
from locedit.localizers import NoSettings, Place, SharedInputs, restoration, zeroing
from locedit.store import files, tables
from locedit.study import localize
from locedit.workflow.job import running

LOG = logging.getLogger(__name__)
KILLS = 20
SEED = 20
# Jobs of every kind: facts and noise, both localizers, what edits share, an edit, R
TARGETS = [
    str(OUT / "analysis/reliability.parquet"),
    str(OUT / "editing/ROME/error_injection/layer-2.parquet"),
]
TRACED = OUT / "tracing/mlp/window-1.parquet"
TRACE_LOG = Path("logs/tiny/hand-made/tracing/mlp/window-1.log")


def litter(study: Study) -> list[Path]:
    """Temporaries, locks and marks of unfinished jobs; directories of results have one stamp."""
    found = [p for p in study.folder.rglob(".*") if ".snakemake" not in p.parts]
    found += list(Path(study.settings["environment"]["LOCEDIT_CACHE"]).rglob(".*"))
    marks = [p for name in ("incomplete", "locks") for p in snakemakes_own(study, name)]
    return [p for p in found if p.name != ".snakemake_timestamp"] + marks


def snakemakes_own(study: Study, name: str) -> list[Path]:
    return [p for p in (study.folder / ".snakemake" / name).rglob("*") if p.is_file()]


def tables_of(study: Study) -> dict[Path, pd.DataFrame]:
    paths = sorted(study.out.parent.rglob("*.parquet"))
    return {p.relative_to(study.folder): tables.read(p, None) for p in paths}


def same_tables(study: Study, undisturbed: Study) -> bool:
    """Every table that is there equals the undisturbed run's, number by number."""
    made = tables_of(study)
    for path, table in made.items():
        pd.testing.assert_frame_equal(table, tables.read(undisturbed.folder / path, None))
    return bool(made)


def until(condition: Callable[[], object], going: Going, seconds: float = 60) -> None:
    """Wait for it while the run goes on."""
    end = time.monotonic() + seconds
    while not condition() and going.process.poll() is None:
        assert time.monotonic() < end, going.output.read_text()
        time.sleep(0.02)


def summary(run: Run, rule: str) -> str:
    """What is said of a failed job at the end of its run."""
    _, _, end = run.text.rpartition("Exiting because a job execution failed")
    return next(line for line in end.splitlines() if line.startswith(rule)).removeprefix(
        f"{rule}: "
    )


def unlocked(study: Study) -> None:
    """What the README says to do after a kill."""
    if snakemakes_own(study, "locks"):
        run = study.run("--unlock")
        assert run.status == 0, run.text


# ---- kill -9 -------------------------------------------------------------------------------------


def kill(going: Going, victim: str, draw: random.Random) -> str:
    """Kill one job, Snakemake alone, or both, at a random moment; what was killed, if not late.

    Mostly while jobs run, sometimes while Snakemake starts.
    """
    if victim == "a job" or draw.random() < 0.75:
        until(lambda: going.jobs, going)
    time.sleep(draw.uniform(0, 6))
    jobs = going.jobs
    if going.process.poll() is not None or (victim == "a job" and not jobs):
        return ""
    if victim == "a job":
        job = draw.choice(jobs)
        with suppress(psutil.NoSuchProcess):
            victim = f"the job {job.cmdline()[1].rpartition('/')[2]}"
            job.kill()
    else:
        (os.killpg if victim == "all" else os.kill)(going.process.pid, signal.SIGKILL)
    return victim


def test_killed_again_and_again_a_study_ends_as_if_undisturbed(finished, tmp_path):
    study = replace(finished[0], folder=tmp_path / "work")
    study.folder.mkdir()
    draw, kills = random.Random(SEED), 0
    while kills < KILLS:
        unlocked(study)
        going = study.started(*TARGETS)
        killed = kill(going, draw.choice(["all", "Snakemake alone", "a job"]), draw)
        run = going.ended()
        kills += bool(killed)
        done = len(tables_of(study))
        LOG.info("%d: %s, status %d, %d tables", kills, killed or "too late", run.status, done)
        if run.status == 0:
            start_over_in_part(study, draw)
    unlocked(study)
    run = study.run(*TARGETS)
    assert run.status == 0, run.text
    assert same_tables(study, finished[0])
    assert litter(study) == []
    assert study.plan(*TARGETS).nothing


def start_over_in_part(study: Study, draw: random.Random) -> None:
    """Without the targets and some tables before them."""
    made = [str(path) for path in tables_of(study)]
    for path in {*TARGETS, *draw.sample(made, len(made) // 2)}:
        (study.folder / path).unlink()


@pytest.fixture
def tracing(study, tmp_path) -> Study:
    """A finished study without one traced window."""
    copy = study.copied(tmp_path / "work")
    (copy.folder / TRACED).unlink()
    return copy


def test_a_killed_job_is_named_with_its_log_and_what_to_do(tracing):
    going = tracing.started(str(TRACED))
    until(lambda: going.jobs, going)
    going.jobs[0].kill()
    run = going.ended()
    assert run.status != 0
    said = summary(run, "trace")
    assert said.startswith("killed before it could say why, as happens where memory runs out; run")
    assert said.endswith(f" [{TRACE_LOG}]")


def test_a_job_that_outlives_its_run_does_not_overwrite_the_next_runs_table(tracing):
    """Snakemake alone is killed, and started again at once with other settings."""
    going = tracing.started(str(TRACED))
    working = tracing.folder / TRACE_LOG.with_name(f".{TRACE_LOG.name}.lock")
    until(working.exists, going)
    orphan = going.jobs[0]
    orphan.suspend()
    going.process.kill()
    going.ended()
    unlocked(tracing)
    going = tracing.started(str(TRACED), tracing={"n_noise": 2})
    log = tracing.folder / TRACE_LOG
    until(
        lambda: log.exists() and "waiting for the process that holds it" in log.read_text(), going
    )
    assert not (tracing.folder / TRACED).exists()
    orphan.resume()
    run = going.ended()
    assert run.status == 0, run.text
    rows = tables.read(tracing.folder / TRACED, "tracing")["p_restored_rows"]
    assert {len(row) for row in rows} == {2}
    assert litter(tracing) == []


def test_a_run_in_a_folder_where_one_goes_on_is_refused_and_harms_nothing(tracing, study):
    first = tracing.started(str(TRACED))
    until(lambda: first.jobs, first)
    job = first.jobs[0]
    job.suspend()  # so that the first run still goes on, however long the second takes to start
    second = tracing.run(str(TRACED))
    job.resume()
    assert second.status != 0
    assert "no other Snakemake process is trying to create the same files" in second.text
    assert "It can be removed with the --unlock argument" in second.text
    assert "Traceback" not in second.text
    run = first.ended()
    assert run.status == 0, run.text
    assert same_tables(tracing, study)


# ---- the disk ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """Mounts a small file system of its own at a folder; gone after the test."""
    mounted = []

    def mount(folder: Path, *options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        if folder not in mounted:
            mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def small(tracing, disk, tmp_path) -> Path:
    """The study's results, some eight megabytes, on a disk of twice as many."""
    results = tracing.folder / "results"
    results.rename(tmp_path / "kept")
    results.mkdir()
    disk(results, "size=16m")
    return shutil.copytree(tmp_path / "kept", results, dirs_exist_ok=True)


def test_a_full_disk_is_named_with_the_file_and_earlier_results_stay(tracing, small, study):
    fill(small / "filler", 32)
    before = contents(small)
    run = tracing.run(str(TRACED))
    assert run.status != 0
    said = f"{TRACED} cannot be written: the disk is full; free some space and run again"
    assert summary(run, "trace") == f"{said} [{TRACE_LOG}]"
    assert contents(small) == before

    (small / "filler").unlink()
    run = tracing.run(str(TRACED))
    assert run.status == 0, run.text
    assert same_tables(tracing, study)


def test_a_read_only_results_folder_stops_the_run_before_it_starts(tracing, small, disk):
    disk(small, "remount", "ro")
    before = contents(small)
    run = tracing.run(str(TRACED))
    assert run.status != 0
    assert f"{OUT} cannot be written: it is read-only; change that, or work in" in run.text
    assert "Traceback" not in run.text
    assert contents(small) == before


def fill(path: Path, megabytes: int) -> None:
    """Until there is no room left."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        for _ in range(256 * megabytes):
            stream.write(bytes(4096))


def atomically(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def whole(path: Path) -> None:
        with files.atomic(path) as temporary:
            write(temporary)

    return whole


NOISE = np.random.RandomState(0).rand(1 << 15)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("page", NOISE.tobytes())


WRITERS: dict[str, Callable[[Path], object]] = {
    "scores.parquet": lambda path: tables.write(path, pd.DataFrame({"rewrite": NOISE}), None),
    "scores.csv": atomically(pd.DataFrame({"rewrite": NOISE}).to_csv),
    "noise.json": atomically(lambda path: path.write_text(str(NOISE.tolist()))),
    "key_statistics.safetensors": atomically(
        lambda path: key_statistics.write_moments(path, {0: torch.eye(256)})
    ),
    "report.zip": atomically(write_zip),
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_leaves_a_part_of_a_file_on_a_full_disk(disk, tmp_path, name):
    folder = tmp_path / "results"
    folder.mkdir()
    disk(folder, "size=64k")
    said = rf"^{folder / name} cannot be written: the disk is full; free some space and run again$"
    with pytest.raises(OSError, match=said):
        WRITERS[name](folder / name)
    assert list(folder.iterdir()) == []


# ---- memory --------------------------------------------------------------------------------------

EXHAUSTING: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.empty(1 << 50),
    "numpy": lambda: np.empty(1 << 57, dtype=np.int8),
    "pyarrow": lambda: pa.allocate_buffer(1 << 55),
    "Python": lambda: bytearray(1 << 60),
}


@pytest.fixture
def job(tmp_path) -> SimpleNamespace:
    return SimpleNamespace(rule="trace", log=[str(tmp_path / "trace.log")])


@pytest.mark.parametrize("library", EXHAUSTING)
def test_a_job_without_memory_says_so_and_which_settings_to_lower(job, library):
    with pytest.raises(SystemExit) as caught, running(job):
        EXHAUSTING[library]()
    said = str(caught.value.code)
    assert said.startswith("trace: memory ran out (")
    assert "run fewer jobs at once (--cores), or take smaller batches" in said
    assert "(--default-resources batch_tokens=1000 batch_facts=2; where a profile has" in said
    assert "which the option would replace): no result depends on them" in said
    assert "\n" not in said


def test_memory_that_runs_out_ends_the_job_and_is_no_fault_of_the_fact(monkeypatch):
    fact = SimpleNamespace(case_id="1", prompt="", subject="", subject_start=0, target_true="")
    cell = localize.Cell(
        localizer="zeroing", place=Place(module="mlp", window=1), settings=NoSettings()
    )
    shared = SharedInputs(study=[fact])
    model = torch.nn.Linear(2, 2)
    lm: Any = SimpleNamespace(
        model=model, n_layers=1, device=torch.device("cpu"), down_weight=lambda layer: model.weight
    )
    attempts = {
        (restoration, "trace"): lambda: restoration.trace_rows(None, fact),
        (zeroing, "zero"): lambda: list(localize.localize_cell(lm, cell, [[fact]], shared)),
    }
    for (module, name), attempt in attempts.items():
        monkeypatch.setattr(module, name, lambda *_, **__: torch.empty(1 << 50))
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            attempt()


def ask_to_end(table: Path) -> None:
    with files.atomic(table) as path:
        path.touch()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_a_job_that_is_asked_to_end_says_so_and_sweeps_up(job, tmp_path):
    with pytest.raises(SystemExit) as caught, running(job):
        ask_to_end(tmp_path / "table")
    assert caught.value.code == "trace: ended from outside (SIGTERM); run the same command again"
    assert [path.name for path in tmp_path.iterdir()] == ["trace.log"]


BUGS: dict[str, Callable[[], object]] = {
    "KeyError: 'layer'": lambda: {}["layer"],
    "RuntimeError: mat1 and mat2 shapes": lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    "ValueError: invalid literal": lambda: int("x"),
}


@pytest.mark.parametrize("said", BUGS)
def test_an_error_that_nobody_foresaw_is_a_bug_with_its_traceback_in_the_log(job, caplog, said):
    with pytest.raises(SystemExit) as caught, running(job):
        BUGS[said]()
    assert str(caught.value.code).startswith(f"trace: {said}")
    assert str(caught.value.code).endswith(
        f"; this was not foreseen, so it is a bug: please report it; {job.log[0]} has its traceback"
    )
    assert "Traceback" in caplog.text


def test_what_was_foreseen_is_its_sentence_alone(job):
    with pytest.raises(SystemExit) as caught, running(job):
        raise LoceditError("facts.json holds no record; give it one")
    assert caught.value.code == "trace: facts.json holds no record; give it one"
