"""What a run says that cannot start, and what it says of its failed jobs at its end."""

import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

FAILED = "failed: "  # before the sentence, in the log of a job that could still say why

# What Snakemake's log says, in the order in which it does: how a command ended, then whose it was.
# What a submission of several jobs said is indented, job by job.
_EVENT = re.compile(
    r"^Command '.*?/tmp\w+\.(?P<script>\w+\.py)\b.*"
    r"(?:exit status (?P<status>\d+)|died with <Signals\.(?P<signal>\w+): \d+>)\.$"
    r"|^    message: Error in group (?P<group>.+)\n    log: (?P<submission>.*?)(?: \(check log.*)?$"
    r"|^(?P<indent> *)Error in rule (?P<rule>\w+):\n"
    r"(?P<told>(?:(?P=indent)    .*\n)*?)(?P=indent)    log: (?P<log>.*?)(?: \(check log.*)?$",
    re.MULTILINE,
)
_SLURM = re.compile(r"SLURM status is: '(\w+)'")
_AGAIN = "run the same command again"
SMALLER_BATCHES = (
    "smaller batches (--default-resources batch_tokens=1000 batch_facts=2; where a profile has "
    "default-resources, add both to these, which the option would replace)"
)
_KILLED = (
    f"killed before it could say why, as happens where memory runs out; {_AGAIN}, if need be with "
    f"fewer jobs at a time (--cores), or {SMALLER_BATCHES}"
)
_ABOVE = "what its command printed is above, and the command in Snakemake's log"
# Statuses of a shell, or of Python before it reads the script: no earlier word of the job's counts
_NOT_STARTED = {
    "2": "Python did not take its command line, or could not read the script",
    "126": "its program was found and may not be run",
    "127": "its program, or a library that this needs, was not found",
}


def summary(logs: Iterable[str | Path], scripts: Mapping[str, str]) -> list[str]:
    """A line for each failed job that Snakemake's own logs name, in their order.

    scripts: the name of each rule's script; how a command ended is told by script alone.
    """
    text = "".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    ends: dict[str, list[str]] = defaultdict(list)  # of commands whose job is not named yet
    jobs: dict[tuple[str, Path], str] = {}
    submissions: dict[str, tuple[str, set]] = {}  # of each log of Slurm's: its name, its jobs
    members: set[tuple[str, Path]] = set()
    for event in _EVENT.finditer(text):
        if event["script"]:
            ends[event["script"]].append(event["status"] or event["signal"])
        elif event["group"]:
            members = set()
            submissions[event["submission"]] = event["group"], members
        else:
            job = event["rule"], Path(event["log"].split(", ")[0])  # then Slurm's
            before = ends[scripts.get(event["rule"], "")]
            slurm = _SLURM.search(event["told"])
            if before:
                jobs[job] = before.pop(0)
            elif slurm:
                jobs[job] = slurm[1]
            elif not event["indent"] or _last_word(job[1]):  # not all of a submission's failed
                jobs.setdefault(job, "")
            if event["indent"]:
                members.add(job)
    # the last try of each
    tries = {frozenset(of): (group, log) for log, (group, of) in submissions.items()}
    unsaid = [last for of, last in tries.items() if of.isdisjoint(jobs)]
    return [
        *(f"{rule}: {_reason(log, end)} [{log}]" for (rule, log), end in jobs.items()),
        *(
            f"{group}: ended before a job of it could say why; {_ABOVE} [{log}]"
            for group, log in unsaid
        ),
    ]


def _last_word(log: Path) -> str | None:
    """What the job itself said of its end."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    said = re.findall(rf" ERROR {FAILED}(.*)$", text, re.MULTILINE)
    return said[-1] if said else None


def _reason(log: Path, end: str) -> str:
    """The job's own last word; without it, what is known of its end, and no more.

    end: a command's exit status, a signal's name, Slurm's state of a job, or nothing.
    """
    if end in _NOT_STARTED:
        return f"not started: {_NOT_STARTED[end]} (exit status {end}); {_ABOVE}"
    said = _last_word(log)
    if said:
        return said
    if end.isdigit() and int(end) > 128:  # as a shell tells a signal
        with suppress(ValueError):
            end = signal.Signals(int(end) - 128).name
    if end == "SIGKILL":
        return _KILLED
    if end == "OUT_OF_MEMORY":
        return f"Slurm ended it: {end}; {_AGAIN}, if need be with more memory (mem_mb)"
    unsaid = "before it could say why"
    if end.isdigit():
        return f"ended with exit status {end} {unsaid}; {_ABOVE}"
    if end.startswith("SIG"):
        return f"ended by the signal {end} {unsaid}; {_AGAIN}"
    if end:
        return f"ended {unsaid}; Slurm's state of it is {end}; {_AGAIN}"
    return f"ended {unsaid}, and how is not known; what Snakemake says of it is above"


def check_writable(folder: Path) -> None:
    """Raises OSError where nothing can be written to a folder, or where it would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise OSError(
            f"{there} cannot be written: it is read-only; change that, or work in another folder "
            "(--directory)"
        )
