"""Jobs start whatever the folders are called; one that did not start, or was ended, says so."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_study
from tiny_study import OUT, ROOT, Run

from locedit.store import tables
from locedit.workflow import failures, interpreter

STRANGE = """My $HOME & 'own' "Projects" (1)"""


@pytest.fixture
def strange(tmp_path) -> Path:
    folder = tmp_path / STRANGE
    folder.mkdir()
    return folder


def environment(folder: Path) -> Path:
    """The interpreter of an environment in that folder, with the packages of this one."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    packages = sysconfig.get_path("purelib")
    Path(own.strip(), "ours.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    return python


def run(python: Path | str, folder: Path, settings, *arguments: str, root: Path) -> Run:
    call = tiny_study._call(folder, settings, *arguments, root=root)
    call["args"][0] = str(python)
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    call["env"] |= {"HOME": str(home)}
    done = subprocess.run(**call, stdout=subprocess.PIPE, text=True, check=False)
    return Run(status=done.returncode, text=done.stdout)


def test_a_job_runs_whatever_its_folders_and_its_interpreters_are_called(strange):
    """The checkout, the environment, the working folder, the home, the inputs and the cache."""
    root, folder = tiny_study.copy_tree(ROOT, strange / "tree"), strange / "my work"
    folder.mkdir()
    settings = tiny_study.merged(tiny_study.SETTINGS, tiny_study.write_inputs(strange))
    made = OUT / "facts.parquet"
    done = run(environment(strange / ".venv"), folder, settings, str(made), root=root)
    assert done.status == 0, done.text
    facts = tables.read(folder / made, "facts")
    assert len(facts) == 12
    version = f"{sys.version_info.major}.{sys.version_info.minor}."
    assert tables.provenance(folder / made)["versions"]["python"].startswith(version)


def test_r_draws_and_counts_in_such_folders_as_elsewhere(study, strange):
    root = tiny_study.copy_tree(ROOT, strange / "tree")
    copy = replace(study.copied(strange / "my work"), root=root)
    made = [OUT / "analysis/reliability.parquet", OUT / "figures/success_by_layer.svg"]
    for path in made:
        (copy.folder / path).unlink()
    python = environment(strange / ".venv")
    done = run(python, copy.folder, copy.settings, *map(str, made), root=root)
    assert done.status == 0, done.text
    ours, theirs = (tables.read(base / made[0], None) for base in (copy.folder, study.folder))
    assert ours.equals(theirs)
    assert (copy.folder / made[1]).read_bytes() == (study.folder / made[1]).read_bytes()


def test_a_plain_path_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/env-1.0/bin/python3.11")
    monkeypatch.setenv("PATH", "/usr/bin")
    interpreter.call_by_name()
    assert (sys.executable, os.environ["PATH"]) == ("/opt/env-1.0/bin/python3.11", "/usr/bin")


@pytest.mark.parametrize("path", ["/a b:c/bin/python", "/a/bin/my python"])
def test_an_interpreter_that_cannot_be_called_is_refused_with_the_remedy(monkeypatch, path):
    monkeypatch.setattr(sys, "executable", path)
    with pytest.raises(OSError, match=f"^{path}: jobs cannot call .* make the environment in"):
        interpreter.call_by_name()


# ---- what is said of a job that left no word -----------------------------------------------------

SNAKEFILE = """
import sys
sys.path.insert(0, {root!r})
from locedit.workflow import failures

sys.executable = config.get("python", sys.executable)
ENDS = {ends!r}

onerror:
    for line in failures.summary(log, {{one: f"{{one}}.py" for one in ENDS}}):
        print("told", line)

rule all:
    input:
        expand("{{one}}.txt", one=ENDS)
"""
RULE = """
rule {name}:
    output: "{name}.txt"
    log: "{name}.log"
    script: "{name}.py"
"""
BODIES = {
    "one": "raise SystemExit(1)",
    "two": "raise SystemExit(2)",
    "seven": "raise SystemExit(7)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "killed_below": "raise SystemExit(137)",
    "crashed": "import os; os.kill(os.getpid(), 11)",
}
BELOW = "what its command printed is above, and the command in Snakemake's log"
KILLED = "killed before it could say why, as happens where memory runs out; run"


def ended(folder: Path, bodies: dict[str, str], *arguments: str) -> dict[str, str]:
    """What is told of jobs whose scripts are these, run by Snakemake side by side."""
    for name, body in bodies.items():
        (folder / f"{name}.py").write_text(body)
    rules = "".join(RULE.format(name=name) for name in bodies)
    (folder / "Snakefile").write_text(SNAKEFILE.format(root=str(ROOT), ends=list(bodies)) + rules)
    command = [sys.executable, "-m", "snakemake", "--cores", "6", "--keep-going", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    lines = [line.removeprefix("told ") for line in done.stdout.splitlines() if "told " in line]
    return dict(line.split(": ", 1) for line in lines)


def test_a_job_without_a_last_word_is_told_by_its_exit_status_alone(tmp_path):
    said = ended(tmp_path, BODIES)
    assert said.keys() == BODIES.keys()
    assert said["one"] == f"ended with exit status 1 before it could say why; {BELOW} [one.log]"
    assert said["two"].startswith("not started: Python did not take its command line")
    assert said["two"].endswith(f"(exit status 2); {BELOW} [two.log]")
    assert said["seven"].startswith("ended with exit status 7 before it could say why; ")
    assert said["killed"].startswith(KILLED)
    assert said["killed_below"].startswith(KILLED)
    assert said["crashed"].startswith("ended by the signal SIGSEGV before it could say why; run")
    assert {name for name, line in said.items() if "memory" in line} == {"killed", "killed_below"}


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        (None, 127, "its program, or a library that this needs, was not found"),
        (0o600, 126, "its program was found and may not be run"),
    ],
)
def test_a_job_whose_interpreter_cannot_run_was_not_started(tmp_path, mode, status, reason):
    """And what an earlier run of it left in its log is not its last word."""
    program = tmp_path / "python"
    if mode is not None:
        program.write_text("")
        program.chmod(mode)
    (tmp_path / "job.log").write_text(f"2026-01-01 ERROR {failures.FAILED}memory ran out\n")
    said = ended(tmp_path, {"job": "pass"}, "--config", f"python={program}")
    assert said == {"job": f"not started: {reason} (exit status {status}); {BELOW} [job.log]"}


SLURM = """\
[Thu Nov 26 22:17:54 2026]
Error in rule sweep:
    message: SLURM-job '7' failed, SLURM status is: '{state}'. Detailed failure reason unavailable \
(status command is not 'sacct').For further error details see the cluster/cloud log.
    jobid: 0
    output: sweep.parquet
    log: {log}, /study/logs/slurm/rule_sweep/7.log (check log file(s) for error details)
    external_jobid: 7
Logfile {log} not found.
"""


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("OUT_OF_MEMORY", "Slurm ended it: OUT_OF_MEMORY; run the same command again, if need be"),
        ("TIMEOUT", "ended before it could say why; Slurm's state of it is TIMEOUT; run the same"),
        ("FAILED", "ended before it could say why; Slurm's state of it is FAILED; run the same"),
    ],
)
def test_a_job_on_slurm_is_told_by_its_own_word_or_slurms_state(tmp_path, state, said):
    log, main = tmp_path / "sweep.log", tmp_path / "snakemake.log"
    main.write_text(SLURM.format(state=state, log=log))
    [line] = failures.summary([main], {"sweep": "sweep.py"})
    assert line.startswith(f"sweep: {said}")
    assert line.endswith(f" [{log}]")
    assert ("memory" in line) == (state == "OUT_OF_MEMORY")
    log.write_text(f"2026-11-26 22:17:54 ERROR {failures.FAILED}the table is damaged\n")
    assert failures.summary([main], {"sweep": "sweep.py"}) == [
        f"sweep: the table is damaged [{log}]"
    ]


GROUP = """\
[Thu Nov 26 22:17:54 2026]
    message: Error in group edits
    log: /study/logs/slurm/group_edits/7.log (check log file(s) for error details)
    jobs:
        rule edit:
            jobid: 1
            log: {a} (check log file(s) for error details)
    [Thu Nov 26 22:17:54 2026]
    Error in rule edit:
        message: None
        jobid: 1
        log: {a} (check log file(s) for error details)
    [Thu Nov 26 22:17:54 2026]
    Error in rule edit:
        message: None
        jobid: 2
        log: {b} (check log file(s) for error details)
"""


def test_of_a_submission_that_failed_those_jobs_are_told_that_say_why(tmp_path):
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    main = tmp_path / "snakemake.log"
    main.write_text(GROUP.format(a=logs[0], b=logs[1]))
    logs[0].write_text("2026-11-26 22:17:54 INFO done in 2 s\n")
    logs[1].write_text(f"2026-11-26 22:17:54 ERROR {failures.FAILED}the disk is full\n")
    assert failures.summary([main], {}) == [f"edit: the disk is full [{logs[1]}]"]
    logs[1].unlink()
    again = main.read_text().replace("/7.log", "/8.log")
    main.write_text(main.read_text() + again)
    [line] = failures.summary([main], {})
    assert line.startswith(
        "edits: ended before a job of it could say why; what its command printed"
    )
    assert line.endswith(" [/study/logs/slurm/group_edits/8.log]")


def test_jobs_of_several_scripts_that_end_together_keep_their_own_status(tmp_path):
    def command(script: str, end: str) -> str:
        return f"Command 'set -euo pipefail;  python /w/scripts/tmpab_12.{script}.py' {end}.\n"

    def error(rule: str) -> str:
        return f"Error in rule {rule}:\n    jobid: 1\n    log: {tmp_path}/{rule}.log\n"

    main = tmp_path / "snakemake.log"
    main.write_text(
        command("edit", "returned non-zero exit status 127")
        + command("trace", "died with <Signals.SIGKILL: 9>")
        + error("trace")
        + error("zero")
        + error("edit")
    )
    scripts = {name: f"{name}.py" for name in ("edit", "trace", "zero")}
    trace, zero, edit = failures.summary([main], scripts)
    assert "killed" in trace
    assert "how is not known" in zero
    assert "exit status 127" in edit


# ---- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".venv", "my own", "elsewhere"])
def test_make_finds_and_removes_its_environment_alone_in_such_folders(strange, tmp_path, name):
    folder = tmp_path / "else where" if name == "elsewhere" else strange / name
    beside = [tmp_path / "else", tmp_path / "My", strange / "my"]
    for path in (*beside, folder / "bin", strange / "scripts"):
        path.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", strange)
    for program, body in (
        (strange / "scripts" / "setup.sh", "#!/bin/sh\n"),
        (folder / "bin" / "snakemake", '#!/bin/sh\nprintf "%s" "$VIRTUAL_ENV|$*"\n'),
    ):
        program.write_text(body)
        program.chmod(0o755)
    given = {".venv": [], "my own": ["VENV=my own"], "elsewhere": [f"VENV={folder}"]}[name]
    make = ["make", "--silent", "CORES=1", *given]
    done = subprocess.run([*make, "report"], cwd=strange, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{folder}|--cores 1 report"), done.stderr
    subprocess.run([*make, "clean-env"], cwd=strange, check=True)
    assert not folder.exists()
    assert all(path.exists() for path in beside)
