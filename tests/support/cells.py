"""A program of cells: parts that begin with `# %% NAME`, run one after the other."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any


def cells(source: str) -> dict[str, str]:
    """The parts of a program that begin with `# %% NAME`, by name."""
    parts = re.split(r"^# %% (\w+)\n", source, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run(program: Path, folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Run a program cell by cell in a folder; what each cell prints, and the names left behind."""
    said: dict[str, str] = {}
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for name, cell in cells(program.read_text(encoding="utf-8")).items():
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(cell, f"{program}: {name}", "exec"), names)
            said[name] = out.getvalue()
    return said, names
