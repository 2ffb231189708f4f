"""What is made before the pages are read: reference pages, and the workflow's picture."""

import re
from pathlib import Path
from typing import Any

import generated
import rulegraph
from sphinx.application import Sphinx


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


def write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
