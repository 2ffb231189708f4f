"""What is made before the pages are read: reference pages, the workflow's picture, the tutorial."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cells
import generated
import rulegraph
from matplotlib.figure import Figure
from sphinx.application import Sphinx

NOT_RUN = "(not run in this build)\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", make)
    app.connect("autodoc-process-docstring", as_prose)
    return {"parallel_read_safe": True}


def as_prose(_app: Sphinx, what: str, _name: str, _value: Any, _options: Any, lines: list) -> None:
    """Docstrings are prose: only backticks mean something. A plain value has its type's alone."""
    if what == "data":
        lines.clear()
    for index, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
        lines[index] = "`".join(parts)


def make(app: Sphinx) -> None:
    """Write docs/_generated, each file only where its content is new."""
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    root = Path(app.srcdir).parent
    for name, page in generated.PAGES.items():
        write(folder / f"{name}.md", page())
    write(folder / "rulegraph.svg", rulegraph.svg(rulegraph.graph(root), rulegraph.stages(root)))
    source = Path(app.srcdir) / "tutorial" / "one_fact.py"
    parts = cells.cells(source.read_text(encoding="utf-8"))
    for name, cell in parts.items():
        write(folder / f"{name}.py", cell.strip() + "\n")
    for name, said in (_not_run(parts, folder) if _skipped() else _run(source, folder)).items():
        write(folder / f"{name}.txt", said)


def _skipped() -> bool:
    return os.environ.get("LOCEDIT_DOCS_TUTORIAL") == "skip"


def _run(source: Path, folder: Path) -> dict[str, str]:
    said, _ = cells.run(source, folder)
    return said


def _not_run(parts: Iterable[str], folder: Path) -> dict[str, str]:
    """In place of what the tutorial shows, that it was not run."""
    figure = Figure(figsize=(4, 0.5))
    figure.text(0.1, 0.4, NOT_RUN.strip())
    figure.savefig(folder / "one_fact.png")
    return dict.fromkeys(parts, NOT_RUN)


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
