"""Imports between the rooms of the library run one way (docs: CONTRIBUTING.md has the map)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "locedit"

# A room may import rooms of earlier floors, and its own modules; those of one floor not each other.
FLOORS = (
    {"messages", "errors", "seeds", "settings", "shards", "windows"},
    {"machine", "outcomes", "registry", "stated", "text"},
    {"store", "model", "facts"},
    {"engine"},
    {"methods"},
    {"localizers"},  # edit_cost asks what an edit would take
    {"study"},
    {"exchange", "report", "workflow"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Modules of the library that a file imports, wherever in it, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "locedit":
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("locedit."))


FILES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_module_imports_only_rooms_below_its_own(path):
    own = room_of(path)
    above = [
        name
        for name in imported(path)
        if (room := name.split(".")[1]) != own and FLOOR[room] >= FLOOR[own]
    ]
    assert not above, f"{own} is on floor {FLOOR[own]}"


def test_every_room_has_its_floor():
    rooms = {room_of(path) for path in FILES}
    assert rooms == set(FLOOR)


def test_no_module_of_a_room_is_in_a_circle():
    waits = {
        _dotted(path): {_module(n) for n in imported(path)} - {_dotted(path)} for path in FILES
    }
    done: set[str] = set()
    while ready := {m for m, needs in waits.items() if m not in done and needs <= done}:
        done |= ready
    assert done == set(waits), f"in a circle, or behind one: {sorted(set(waits) - done)}"


def test_what_texts_import_of_the_library_is_there():
    """Programs within strings of tests, and code blocks of pages, of which no linter knows."""
    texts = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")]
    missing = [
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in texts
        for module, names in re.findall(
            r"from ((?:locedit|workflow_scripts)[\w.]*) import ((?:\w+, )*\w+)", path.read_text()
        )
        for name in names.split(", ")
        if not _has(module, name)
    ]
    assert not missing


def _has(module: str, name: str) -> bool:
    file = ROOT.joinpath(*module.split("."))
    if (file / f"{name}.py").is_file() or (file / name / "__init__.py").is_file():
        return True
    source = next((p for p in (file.with_suffix(".py"), file / "__init__.py") if p.is_file()), None)
    return source is not None and re.search(rf"\b{name}\b", source.read_text()) is not None


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _module(name: str) -> str:
    known = {_dotted(path) for path in FILES}
    return name if name in known else name.rpartition(".")[0]
