"""README and site: short, every link leads somewhere, what is quoted and described is true."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import bench_gpu
import cells
import pyarrow as pa
import pytest
import yaml

from locedit.api import look, one_fact
from locedit.cli import parsing
from locedit.store import schemas, tables

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "_ext"))

import generated  # noqa: E402

BUILT = ("_build", "_generated")  # by `make docs`
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / name / "README.md" for name in ("results", "data")),
    *(p for p in sorted(DOCS.rglob("*.md")) if not set(BUILT) & set(p.relative_to(DOCS).parts)),
]


def name_of(path):
    return str(path.relative_to(ROOT))


def prose(path):
    """A page without its blocks and spans of code."""
    text = re.sub(
        r"^( *)(```+|~~~+).*?^\1\2", "", path.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    return re.sub(r"`[^`\n]+`", "", text)


def anchors(path):
    """Of each heading of a page, the anchor that GitHub and the site give it."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(path):
    return re.findall(r"\]\(([^)\s]+)\)", prose(path))


def dead(path):
    """The links of a page that lead to no file, or to no heading of a page."""
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        if DOCS / "_generated" in target.parents:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def test_the_readme_is_short_and_shows_the_answer_first():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:20])


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_somewhere(path):
    assert list(dead(path)) == []


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`, three\n[a](#one-two-three) [b](#none) [c](page.md) [d](gone.md)\n"
    )
    assert list(dead(page)) == ["#none", "gone.md"]


def test_the_pages_commands_are_understood():
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"^python -m locedit (.+)$", text, re.MULTILINE)
    read = [type(parsing.read(shlex.split(command))) for command in found]
    assert len(read) > 5
    assert set(read) == set(parsing.COMMANDS.values())


def test_every_make_target_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    named = set()
    for path in [*PAGES, *workflows]:
        named |= set(re.findall(r"(?:`|^|run: )make ([a-z-]+)", path.read_text(), re.MULTILINE))
    assert named >= {"reproduce", "test", "check", "docs"}
    assert named <= targets


def test_the_hooks_run_what_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for hook in hooks:
        tool = hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude")
        assert f"$(RUN) {tool}" in lint


def test_the_sites_packages_are_pinned_and_say_why():
    lines = (DOCS / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in requirements if not re.fullmatch(r"\S+==\S+  # .+", line)] == []


# ---- reference -----------------------------------------------------------------------------------


def test_every_key_of_the_configuration_is_described():
    page = generated.configuration_page()
    for section, keys in yaml.safe_load((ROOT / "config.yaml").read_text()).items():
        assert f"`{section}`" in page
        _, _, below = page.partition(f"## `{section}`")
        for key in keys if below else ():
            assert f"\n| `{key}` | " in below.partition("\n## ")[0]
    line = r"| `study` | `24` | whole number from 1 or `null` | known facts traced and edited, "
    assert line in page


def test_every_column_is_described_and_of_that_type():
    page = generated.tables_page()
    for schema in schemas.SCHEMAS.values():
        assert [n for n in schema.names if f"`{n}`" not in page] == []
    after = (
        "`rewrite_target_after`, `rewrite_other_after` | real | log p before and after the edit |"
    )
    assert after in page


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (pa.field("margin", pa.float64()), "scores does not describe 'margin'"),
        (pa.field("essence", pa.string()), "scores.essence is text, not 'real'"),
        (None, r"scores has no columns \['`essence`'\]"),
    ],
    ids=["a column without a row", "another type", "a row without a column"],
)
def test_a_table_out_of_step_is_an_error(field, said, monkeypatch):
    schema = schemas.SCHEMAS["scores"]
    fields = [f for f in schema if f.name != "essence"] + ([field] if field else [])
    if field and field.name != "essence":
        fields.append(schema.field("essence"))
    monkeypatch.setitem(schemas.SCHEMAS, "scores", pa.schema(fields))
    with pytest.raises(generated.OutOfStep, match=said):
        generated.tables_page()


def test_the_command_lines_page_has_every_command():
    page = generated.commands_page()
    for name, command in parsing.program().commands.items():
        section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert f"$ locedit {name} [OPTIONS]" in section
        for param in command.params:
            assert f"\n* `{param.opts[0] if param.opts[0][0] == '-' else param.metavar}" in section
            assert f": {param.help}" in section  # type: ignore[attr-defined]  # typer's own


def test_the_api_page_names_what_there_is():
    page = generated.api_page()
    assert ".. autofunction:: locedit.trace\n" in page
    assert ".. autoclass:: locedit.methods.Method\n" in page
    assert ".. autodata:: locedit.methods.problems.PROBLEMS\n" in page


# ---- code on pages -------------------------------------------------------------------------------


def block(path):
    """A page's first block of Python."""
    return re.search(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_score_pages_code_gives_a_number_a_fact(tmp_path):
    rows = [
        {"case_id": "a", "rewrite_target_after": -1.0, "rewrite_other_after": -3.5, "status": "ok"},
        {"case_id": "b", "status": "failed: no reason"},
    ]
    tables.write(tmp_path / "layer-4.parquet", rows, "editing")
    names: dict[str, Any] = {}
    exec(block(DOCS / "how-to" / "score.md"), names)
    assert names["margin"](tmp_path / "layer-4.parquet").to_dict() == {"a": 2.5}


@pytest.fixture
def seen(smollm2_lm, monkeypatch):
    """What the pages' programs load, without a second copy of the model."""
    named = look.look("smollm2-135m-instruct")

    def load(name):
        assert name == named.name
        one_fact._LOADED[smollm2_lm] = named
        return smollm2_lm

    monkeypatch.setattr(one_fact, "load", load)


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_what_its_text_says(seen, tmp_path):
    program = DOCS / "tutorial" / "one_fact.py"
    said, names = cells.run(program, tmp_path)
    text = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
    quoted = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    parts = cells.cells(program.read_text(encoding="utf-8"))
    assert quoted == [part.strip() + "\n" for part in parts.values()]
    number = re.compile(r"\d+(?:\.\d+)?")
    printed = "".join(re.findall(r"```text\n(.*?)```", text, re.DOTALL))
    found = "".join(said.values())
    assert number.sub("#", printed) == number.sub("#", found)
    shown, exact = ([float(n) for n in number.findall(one)] for one in (printed, found))
    assert shown == pytest.approx(exact, abs=0.02)  # machines round differently
    assert names["effect"].argmax() < 3  # "at the first layers"
    assert names["effect"].max() > 0.9
    assert min(score.rewrite for score in names["scores"].values()) > 0.95  # "at every layer"
    kept = {layer: score.neighbourhood for layer, score in names["scores"].items()}
    assert kept[26] > kept[2]  # "does not follow the trace"
    assert (tmp_path / "one_fact.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_readmes_python_runs(seen, capsys):
    names: dict[str, Any] = {}
    exec(block(ROOT / "README.md"), names)
    assert names["found"].p_clean == pytest.approx(0.644, abs=0.001)
    assert capsys.readouterr().out.startswith("0.644")


# ---- what a card measured ------------------------------------------------------------------------


def line(name: str, **values) -> dict:
    fields = ("rate", "published", "ratio", "share_of_peak", "peak_memory_gb", "skipped", "failed")
    about = {"model": "gptj-6b", "dtype": "float32", "name": name, "unit": "edits"}
    return about | dict.fromkeys(fields) | values


def test_the_cost_page_says_derived_until_a_card_has_measured(tmp_path):
    file = tmp_path / "gpu.json"
    assert "Derived, not measured" in generated.measured_page(file)
    numbers = {"published": 0.25, "ratio": 6.0, "share_of_peak": 0.41, "peak_memory_gb": 66.2}
    found = {
        "device": "NVIDIA Card",
        "torch": "2.11.0",
        "transformers": "5.17.0",
        "tiny": False,
        "passed": True,
        "peak_tflops": {"float32": 51.2, "bfloat16": 790.0},
        "measurements": [
            line("edit.ROME", rate=1.5, **numbers),
            line("spectrum", rate=0.02),
            line("edit.FT-5", skipped="out of memory: 90 GB | more"),
            line("tracing", skipped=bench_gpu.NO_TIME.format(5, 1)),
            line("edit.KN", skipped=bench_gpu.TIME_UP),
        ],
    }
    file.write_text(json.dumps(found))
    page = generated.measured_page(file)
    assert "Derived, not" not in page
    assert "one NVIDIA Card (torch 2.11.0, transformers 5.17.0): 51 in float32 and 790 in" in page
    assert "The numbers agree with" in page
    assert "| gptj-6b | float32 | edit.ROME | 1.5 edits | 0.25 | 6.0 | 41% | 66 GB |" in page
    assert "| gptj-6b | float32 | spectrum | 0.02 edits |  |  |  |  |" in page
    assert r"| edit.FT-5 | out of memory: 90 GB \| more |" in page
    untimed = "gptj-6b float32 tracing, gptj-6b float32 edit.KN."
    assert f"Not measured, because its time was up: {untimed}" in page
    file.write_text(json.dumps({**found, "passed": False}))
    assert "do **not** all agree" in generated.measured_page(file)
    file.write_text(json.dumps({**found, "tiny": True}))
    with pytest.raises(generated.OutOfStep, match="of tiny shapes"):
        generated.measured_page(file)


def test_the_cost_page_shows_it():
    page = (DOCS / "explanation" / "cost.md").read_text(encoding="utf-8")
    assert "```{include} ../_generated/measured.md\n```" in page
    assert generated.PAGES["measured"] is generated.measured_page
    assert ("Derived, not measured" in generated.measured_page()) != generated.MEASURED.exists()
