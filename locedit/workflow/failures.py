"""What a run says that cannot start, and what it says of its failed jobs at its end."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

FAILED = "failed: "  # before the sentence, in the log of a job that could still say why

_ERROR = re.compile(
    r"^Error in rule (?P<rule>\w+):\n(?:    .*\n)*?    log: (?P<log>.*?)(?: \(check log.*)?$",
    re.MULTILINE,
)
_KILLED = (
    "killed before it could say why, as happens where memory runs out; run the same command again, "
    "if need be with fewer jobs at a time (--cores), or tracing.batch_tokens or "
    "editing.batch_facts lower"
)


def summary(logs: Iterable[str | Path]) -> list[str]:
    """A line for each failed job that Snakemake's own logs name, in their order."""
    text = "".join(Path(log).read_text(encoding="utf-8", errors="replace") for log in logs)
    jobs = {(job["rule"], Path(job["log"])): None for job in _ERROR.finditer(text)}
    return [f"{rule}: {_reason(log)} [{log}]" for rule, log in jobs]


def _reason(log: Path) -> str:
    """The job's own last word; a job that was killed has left none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _KILLED
    said = re.findall(rf" ERROR {FAILED}(.*)$", text, re.MULTILINE)
    return said[-1] if said else _KILLED


def check_writable(folder: Path) -> None:
    """Raises OSError where nothing can be written to a folder, or where it would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        raise OSError(
            f"{there} cannot be written: it is read-only; change that, or work in another folder "
            "(--directory)"
        )
