"""The tiny study on a real Slurm through profiles/slurm, one job of it cancelled on the way."""

import os
import re
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import slurm_cluster
import yaml
from tiny_study import BATCHES, parted

TARGET = "analysis"  # every table of a study; figures take long and are not compared
WAIT = 1200  # seconds until a run that hangs is ended

without = slurm_cluster.missing()
pytestmark = pytest.mark.skipif(
    bool(without),
    reason=f"no Slurm here (missing: {', '.join(without)}); `scripts/setup.sh --tests` installs it",
)


class OnSlurm:
    """A run of Snakemake through profiles/slurm, watched from Slurm's side."""

    def __init__(self, study, folder, slurm):
        self.slurm, self.folder = slurm, folder
        self.states: dict[str, set[str]] = {}  # of each job, as they were seen
        self.asked: dict[str, dict[str, str]] = {}  # what Slurm knows of each job
        self.cards: list[list[str]] = []  # of the jobs that ran at one time
        self.cancelled: str | None = None
        overlay = folder.with_name(f"{folder.name}.yaml")
        settings, of_the_study = parted(study.settings)
        overlay.write_text(yaml.safe_dump(settings))
        folder.mkdir()
        profile = study.root / "profiles" / "slurm"
        command = [sys.executable, "-m", "snakemake", TARGET, "--workflow-profile", str(profile)]
        command += ["--snakefile", str(study.root / "Snakefile"), "--directory", str(folder)]
        command += ["--slurm-init-seconds-before-status-checks", "2"]  # nothing here takes long
        command += [*BATCHES, "--configfile", str(overlay)]
        environment = {**slurm.environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment |= {"PYTHONPATH": str(study.root), "NO_COLOR": "1", **of_the_study}
        self.output = folder.with_name(f"{folder.name}.log")
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=study.root,
                env=environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def text(self):
        return self.output.read_text()

    def watch(self, cancel):
        """Follow the jobs until the run ends; cancel the first that `cancel` says yes to."""
        deadline = time.monotonic() + WAIT
        try:
            while self.process.poll() is None and time.monotonic() < deadline:
                self.look(cancel)
                time.sleep(0.5)
            self.look(cancel)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return self

    def look(self, cancel):
        jobs = self.slurm.jobs()
        self.cards.append([job.get("GRES", "") for job in jobs if job["JobState"] == "RUNNING"])
        for job in jobs:
            self.states.setdefault(job["JobId"], set()).add(job["JobState"])
            self.asked[job["JobId"]] = job
            if self.cancelled is None and job["JobState"] == "RUNNING" and cancel(job):
                self.cancelled = job["JobId"]
                self.slurm.tell("scancel", self.cancelled)

    @property
    def submitted(self):
        """Of each job in Slurm that Snakemake says to have submitted, Snakemake's id and name."""
        words = r"^Job (\S+) has been submitted with SLURM jobid (\d+) \(log: \S+/slurm/([^/]+)/"
        found = re.findall(words, self.text, re.MULTILINE)
        return {slurm_id: (own_id, name) for own_id, slurm_id, name in found}


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    study, _ = finished
    folder = tmp_path_factory.mktemp("slurm") / "work"
    tracing_log = folder / "logs" / "tiny" / "hand-made" / "tracing"
    with slurm_cluster.cluster() as slurm:
        yield OnSlurm(study, folder, slurm).watch(
            lambda job: "tracing" in job["Comment"] and any(tracing_log.rglob("*.log"))
        )


def test_the_run_ends_well_although_a_job_was_cancelled(run):
    assert run.process.returncode == 0, run.text[-5000:]
    assert run.cancelled is not None
    assert f"JOB {run.cancelled} ON node CANCELLED" in run.text  # its log is shown


def test_every_submitted_job_was_seen_in_slurm_and_completed_but_the_cancelled_one(run):
    assert run.submitted.keys() == run.states.keys()
    ended = {job.id: job.state for job in run.slurm.completed()}
    assert ended == dict.fromkeys(run.submitted, "COMPLETED") | {run.cancelled: "CANCELLED"}
    assert [job for job, seen in run.states.items() if "RUNNING" not in seen] == []


def test_the_cancelled_jobs_come_again_with_twice_the_memory_and_time(run):
    tries = {
        own: [job for job, other in run.submitted.items() if other[0] == own]
        for own, _ in run.submitted.values()
    }
    again = [tried for tried in tries.values() if len(tried) > 1]
    assert [tried[0] for tried in again] == [run.cancelled]
    ended = {job.id: job for job in run.slurm.completed()}
    first, second = (ended[job] for job in again[0])
    assert (second.mem_mb, second.minutes) == (2 * first.mem_mb, 2 * first.minutes)


def test_many_jobs_share_a_submission(run):
    done = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", run.text, re.MULTILINE)
    assert len(done) > 2 * len(run.submitted)
    assert "analysis" in done  # a local rule, which is no job of Slurm's
    assert not any("analysis" in name for _, name in run.submitted.values())
    assert {job.cpus for job in run.slurm.completed()} == {1}


def test_jobs_with_the_model_have_a_card_to_themselves_and_the_others_none(run):
    for job, (_, name) in run.submitted.items():
        reads_no_model = name.startswith(("group_tables", "group_effects"))
        expected = None if reads_no_model else "gres:gpu:1"
        assert run.asked[job].get("TresPerJob") == expected, name
    assert {card for cards in run.cards for card in cards} >= {"gpu:1(IDX:0)", "gpu:1(IDX:1)"}
    for cards in run.cards:
        held = [card for card in cards if card.startswith("gpu:")]
        assert len(held) == len(set(held)), cards


def test_all_tables_equal_those_of_a_local_run(run, study):
    ours, theirs = (
        {path.relative_to(folder): pq.read_table(path) for path in folder.rglob("*.parquet")}
        for folder in (run.folder / "results", study.folder / "results")
    )
    untouched = {"rome", "tuning", "heatmap_cells.parquet"}
    assert ours.keys() == {path for path in theirs if untouched.isdisjoint(path.parts)}
    assert [str(path) for path in ours if not ours[path].equals(theirs[path])] == []


def test_a_cluster_leaves_nothing_behind():
    with slurm_cluster.cluster() as slurm:
        slurm.tell("sbatch", "--output=/dev/null", "--wrap", "sleep 600")
        slurm_cluster._wait(
            lambda: [job["JobState"] for job in slurm.jobs()] == ["RUNNING"], slurm.folder
        )
        conf = slurm.environment["SLURM_CONF"]
        assert len(slurm_cluster.left_over(conf)) > 3
    assert slurm_cluster.left_over(conf) == []
    assert not slurm.folder.exists()
