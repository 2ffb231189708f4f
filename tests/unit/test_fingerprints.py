"""Fingerprints: what changes a content hash, and what does not."""

import ast
from pathlib import Path

import pytest

from locedit.store import hashing

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = '''"""What this does."""

import os
from lib import used
from lib.part import value


def main(n):
    """Do it."""
    return used.add(n, value)  # the sum


class Thing:
    """A thing."""
'''


@pytest.fixture
def project(tmp_path):
    """A script that imports two modules, one of which imports a third; a fourth is not used."""
    files = {
        "script.py": SCRIPT,
        "lib/__init__.py": "",
        "lib/used.py": "from lib.deep import one\n\ndef add(a, b):\n    return a + b * one\n",
        "lib/deep.py": "one = 1\n",
        "lib/part/__init__.py": "value = 3\n",
        "lib/unused.py": "nothing = 0\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def code():
    """fingerprints.code without its memory of files already read."""

    def fresh(root, without=()):
        hashing.code.cache_clear()
        return hashing.code(root / "script.py", root, without)

    yield fresh
    hashing.code.cache_clear()


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SAME = {
    "a comment": ("# the sum", "# their sum"),
    "a module's docstring": ('"""What this does."""', '"""What this does, at length."""'),
    "a function's docstring": ('"""Do it."""', '"""Do it now."""'),
    "no docstring any more": ('    """Do it."""\n', ""),
    "a class's docstring": ('"""A thing."""', '"""A very good thing."""'),
    "layout": ("used.add(n, value)", "used.add(\n        n,\n        value,\n    )"),
    "quotes and blank lines": ("\n\n\ndef main", "\n\n\n\n\ndef main"),
}
OTHER = {
    "an operator": ("lib/used.py", "a + b", "a - b"),
    "a constant": ("script.py", "(n, value)", "(n, 2)"),
    "a module imported by an imported one": ("lib/deep.py", "one = 1", "one = 2"),
    "a package": ("lib/part/__init__.py", "value = 3", "value = 4"),
    "a text that is no docstring": ("script.py", "return used", 'print("x")\n    return used'),
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_not_run_does_not_count(project, code, name):
    before = code(project)
    rewrite(project / "script.py", *SAME[name])
    assert code(project) == before


@pytest.mark.parametrize("name", OTHER)
def test_what_runs_counts(project, code, name):
    before = code(project)
    path, *change = OTHER[name]
    rewrite(project / path, *change)
    assert code(project) != before


def test_a_module_that_is_not_imported_does_not_count(project, code):
    before = code(project)
    rewrite(project / "lib" / "unused.py", "0", "1")
    assert code(project) == before


def test_an_import_within_a_function_counts(project, code):
    rewrite(project / "script.py", "    return", "    from lib import unused\n    return")
    before = code(project)
    rewrite(project / "lib" / "unused.py", "0", "1")
    assert code(project) != before


@pytest.mark.parametrize(
    "block",
    [
        "try:\n    {}\nexcept OSError:\n    pass",
        "try:\n    pass\nexcept OSError:\n    {}",
        "try:\n    pass\nexcept OSError:\n    pass\nelse:\n    {}",
        "try:\n    pass\nfinally:\n    {}",
        "if os.name:\n    pass\nelif os.sep:\n    {}",
        "for _ in ():\n    pass\nelse:\n    {}",
        "with open(os.devnull):\n    {}",
        "match os.name:\n    case 'posix':\n        {}",
        "class Other:\n    async def of(self):\n        {}",
    ],
)
def test_an_import_within_any_block_counts(project, code, block):
    script = project / "script.py"
    script.write_text(f"{script.read_text()}\n\n{block.format('from lib import unused')}\n")
    before = code(project)
    rewrite(project / "lib" / "unused.py", "0", "1")
    assert code(project) != before


def test_a_module_left_out_does_not_count_nor_what_only_it_imports(project, code):
    without = ("lib.used",)
    before = code(project, without)
    rewrite(project / "lib" / "used.py", "a + b", "a - b")
    rewrite(project / "lib" / "deep.py", "one = 1", "one = 2")
    assert code(project, without) == before
    rewrite(project / "lib" / "part" / "__init__.py", "3", "4")
    assert code(project, without) != before


def test_modules_that_import_each_other_are_read_once(project, code):
    rewrite(project / "lib" / "deep.py", "one = 1", "from lib import used\none = 1")
    assert code(project)


def test_the_project_may_lie_anywhere(project, code, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    before = code(project)
    project.rename(moved)
    assert code(moved) == before


def test_the_projects_own_imports_can_be_followed():
    """Relative and starred imports would be missed."""
    bad = []
    for path in [*ROOT.glob("locedit/**/*.py"), *ROOT.glob("workflow_scripts/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                starred = any(alias.name == "*" for alias in node.names)
                if node.level or starred:
                    bad.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bad == []


def test_a_digest_tells_values_apart_and_not_the_order_of_keys():
    assert hashing.digest({"a": 1, "b": [2]}) == hashing.digest({"b": [2], "a": 1})
    values = [None, 0, 0.5, "0", "", [], [1, 2], [2, 1], {"a": 1}, {"a": "1"}, {"a": {"b": 1}}]
    assert len({hashing.digest(value) for value in values}) == len(values)


def test_files_are_told_apart_by_content_and_name_and_not_by_time_or_order(tmp_path):
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("1")
    b.write_text("2")
    before = hashing.files([a, b])
    assert hashing.files([b, a]) == before
    a.write_text("1")
    assert hashing.files([a, b]) == before
    a.write_text("3")
    assert hashing.files([a, b]) != before
    a.write_text("2")
    b.write_text("1")
    assert hashing.files([a, b]) != before


def test_files_of_one_name_are_told_apart_by_where_they_lie_below_their_folder(tmp_path):
    for place in ("here", "there"):
        for folder, text in (("a", "1"), ("b", "2")):
            path = tmp_path / place / folder / "impl.py"
            path.parent.mkdir(parents=True)
            path.write_text(text)
    before = hashing.files((tmp_path / "here").rglob("*.py"))
    assert hashing.files((tmp_path / "there").rglob("*.py")) == before
    (tmp_path / "here" / "a" / "impl.py").write_text("3")
    assert hashing.files((tmp_path / "here").rglob("*.py")) != before
    assert hashing.files([]) == hashing.digest({})


def test_a_large_file_is_known_by_its_size_and_by_pieces_of_it(tmp_path):
    path = tmp_path / "weights"
    content = bytes(range(256)) * 100
    path.write_bytes(content)
    before = hashing.sampled(path, blocks=4, block=10)
    assert hashing.sampled(path, blocks=4, block=10) == before
    changed = {before}
    for other in (content[:-1] + b"x", b"x" + content[1:], content + b"x"):
        path.write_bytes(other)
        changed.add(hashing.sampled(path, blocks=4, block=10))
    assert len(changed) == 4


def test_a_file_smaller_than_a_piece_is_read_whole(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"ab")
    before = hashing.sampled(path)
    path.write_bytes(b"ac")
    assert hashing.sampled(path) != before
