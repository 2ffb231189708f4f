"""Content hashes: what a result depends on, in one short string.

A rule's fingerprint covers its settings, the code that it runs and the fingerprints of the stages
before it. Snakemake compares it with the one that it stored, so a change of any of them reruns
what it must, and file times, comments and fresh clones rerun nothing.
"""

import ast
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """A hash of plain data (whatever JSON can hold), independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def code(script: Path, root: Path, without: tuple[str, ...] = ()) -> str:
    """A hash of a Python file and of every module of the project that it imports, in turn.

    Comments, docstrings and layout do not count. `without` names modules to leave out, with what
    only they import. The file itself may lie outside the project (`root`).
    """
    seen: dict[str, str] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        key = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
        if key in seen:
            continue
        seen[key], modules = _parsed(path.read_text(encoding="utf-8"))
        found = [_file(name, root) for name in modules if name not in without]
        waiting += [file for file in found if file is not None]
    return digest(seen)


@functools.cache  # most modules are behind most scripts
def _parsed(text: str) -> tuple[str, tuple[str, ...]]:
    """A hash of a Python file's code, and the names that it may import modules by."""
    tree = ast.parse(text)
    statements = [tree, *_statements(tree)]
    modules = tuple(dict.fromkeys(_imports(statements)))
    _remove_docstrings(statements)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), modules


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """What stands below a node, but for expressions, of which there are ten times as many."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for one in getattr(node, field, ()):
            yield one
            yield from _statements(one)


def _imports(statements: Iterable[ast.AST]) -> Iterator[str]:
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


def _remove_docstrings(statements: Iterable[ast.AST]) -> None:
    for node in statements:
        if isinstance(node, _DOCUMENTED) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def files(paths: Iterable[Path]) -> str:
    """A hash of the files' contents, and of where each lies below the folder that holds them all.

    Where that folder lies does not count.
    """
    found = sorted(paths)
    base = Path(os.path.commonpath([p.parent for p in found])) if found else Path()
    return digest({p.relative_to(base).as_posix(): content(p) for p in found})


def content(path: Path) -> str:
    """SHA-256 of a file's bytes, whatever it is called."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sampled(path: Path, *, blocks: int = 64, block: int = 1 << 16) -> str:
    """A hash of a large file's size and of `blocks` evenly spaced pieces, its ends among them.

    Weights that were trained on, or replaced, differ in every piece; reading all of them at each
    start would cost minutes for a large model.
    """
    size = path.stat().st_size
    seen = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for index in range(blocks):
            stream.seek(max(0, size - block) * index // (blocks - 1))
            seen.update(stream.read(block))
    return seen.hexdigest()[:16]


def weights(folder: Path) -> str:
    """A hash of a model's folder: its configuration and tokenizer whole, its weights sampled."""
    texts = [p for p in (folder / "config.json", folder / "tokenizer.json") if p.is_file()]
    return digest([files(texts), [sampled(path) for path in sorted(folder.glob("*.safetensors"))]])
