"""The reference pages that follow from the code: configuration, tables, command line.

Each function returns Markdown and raises `OutOfStep` where descriptions and code disagree, so that
neither the site nor a test passes over it. Nothing here needs Sphinx.
"""

import importlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic.fields import FieldInfo
from typer import Context
from typer.cli import get_docs_for_click

from locedit.cli import parsing
from locedit.store import schemas
from locedit.workflow.sections import MOVED, Config
from locedit.workflow.validation import Section

ROOT = Path(__file__).resolve().parents[2]


class OutOfStep(ValueError):
    """A description without what it describes, or the other way round."""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(*header: str) -> list[str]:
    return [_row(*header), "|" + "---|" * len(header)]


# ---- configuration -------------------------------------------------------------------------------


def configuration_page() -> str:
    """Every key of a study with its default, the values that it takes and what it means."""
    schema = Config.model_json_schema()
    top, sections = ["## The study", "", *_table("key", "default", "values", "meaning")], []
    for name, field in Config.model_fields.items():
        if not isinstance(field.default, Section):
            top.append(_key_row(name, field, schema["properties"][name], schema))
            continue
        kind = type(field.default)
        keys = schema["$defs"][kind.__name__]["properties"]
        sections += ["", f"## `{name}`", ""]
        sections += [_sentence(field.description), ""] if field.description else []
        sections += _table("key", "default", "values", "meaning")
        sections += [
            _key_row(key, one, keys[key], schema) for key, one in kind.model_fields.items()
        ]
    moved = [_row(f"`{key}`", instead) for key, instead in MOVED.items()]
    gone = ["", "## Settings of the machine", "", *_table("key it once was", "now"), *moved]
    return "\n".join((*top, *sections, *gone, ""))


def _key_row(key: str, field: FieldInfo, node: Mapping, schema: Mapping) -> str:
    said = (field.description or "").replace("<", "\\<")
    default = field.default.model_dump() if isinstance(field.default, Section) else field.default
    shown = yaml.safe_dump(default, default_flow_style=True, width=10_000, sort_keys=False)
    shown = shown.removesuffix("\n").removesuffix("\n...")
    return _row(f"`{key}`", f"`{shown}`", _values(node, schema), said)


def _sentence(said: str) -> str:
    return said[:1].upper() + said[1:] + "."


def _values(node: Mapping, schema: Mapping) -> str:
    """What a key may hold, in words."""
    if "$ref" in node:
        return _values(schema["$defs"][node["$ref"].rpartition("/")[2]], schema)
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        return " or ".join(_values(one, schema) for one in node["anyOf"])
    kind = node["type"]
    if kind in ("integer", "number"):
        word = "whole number" if kind == "integer" else "number"
        return f"{word}{_limits(node)}"
    if kind == "array":
        return f"list of: {_values(node['items'], schema)}"
    if kind == "object":
        return "a mapping: method, then setting" if node.get("$comment") else "a mapping"
    return {"string": "text", "boolean": "`true`, `false`", "null": "`null`"}[kind]


def _limits(node: Mapping) -> str:
    parts = []
    if "exclusiveMinimum" in node:
        parts.append(f" above {node['exclusiveMinimum']:g}")
    if "minimum" in node:
        parts.append(f" from {node['minimum']:g}")
    if node.get("maximum", 2**31) < 2**31 - 1:  # larger ones are the tables' and numpy's
        parts.append(f" to {node['maximum']:g}")
    return ",".join(parts)


# ---- tables --------------------------------------------------------------------------------------

# A heading of results/README.md -> the schema of the table that stands below it
SCHEMA_OF = {
    "### `facts.parquet`, `study.parquet`": "facts",
    "### `tracing/MODULE/window-W.parquet`": "tracing",
    "### `localizing/LOCALIZER/MODULE/window-W.parquet`": "localizing",
    "### `effects.parquet`": "effects",
    "### `peaks.parquet`": "peaks",
    "### `planted/planting.parquet`": "planting",
    "### `contexts.parquet`": "contexts",
    "### `held_out.parquet`": "held_out",
    "### `essence.parquet`": "essence",
    "### `baseline/PROBLEM.parquet`": "baseline",
    "### `editing/METHOD/PROBLEM/layer-LAYER.parquet`": "editing",
    "### `scores.parquet`": "scores",
    "### `tuning/METHOD/PROBLEM.parquet`, `tuning/sweep.parquet`, `tuning/sweep.csv`": "sweep",
    "### `layers.parquet`, `layers.csv`": "recommended",
    "### `trials/METHOD/POOL-setting-S-layer-L-from-N.parquet`": "trials",
    "### `rome/summary.parquet`, `rome/summary.csv`": "rome_summary",
    "## The cache": "corpus",
}

WORDS = {
    pa.string(): "text",
    pa.float64(): "real",
    pa.int32(): "integer",
    pa.bool_(): "flag",
    pa.list_(pa.string()): "[text]",
    pa.list_(pa.float64()): "[real]",
    pa.list_(pa.int32()): "[integer]",
    pa.map_(pa.string(), pa.float64()): "{text: real}",
}


def tables_page() -> str:
    """results/README.md, its tables checked against the code's schemas and every column named."""
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    out: list[str] = []
    seen: set[str] = set()
    rows: list[str] = []
    name: str | None = None
    for line in [*text.splitlines(), "#"]:
        if line.startswith("|") and name:
            rows.append(line)
            continue
        if name and rows:  # the first table below a heading is the schema's
            out += _schema_rows(name, rows)
            seen.add(name)
            name, rows = None, []
        if line.startswith("#"):
            name = SCHEMA_OF.get(line)
        out.append(line)
    if missing := set(schemas.SCHEMAS) - seen:
        raise OutOfStep(f"results/README.md has no table of {sorted(missing)}")
    return "\n".join(out[1:-1]) + "\n"  # the page has a title of its own


def _schema_rows(name: str, rows: list[str]) -> list[str]:
    header, described = _cells(rows[0]), [_cells(row) for row in rows[2:]]
    patterns = [(row, index) for index, row in enumerate(described)]
    columns: dict[int, list[str]] = {}
    for field in schemas.SCHEMAS[name]:
        fits = (
            i for exact in (True, False) for row, i in patterns if _fits(field.name, row, exact)
        )
        index = next(fits, None)
        if index is None:
            raise OutOfStep(f"results/README.md: {name} does not describe {field.name!r}")
        word, kind = WORDS[field.type], described[index][1]
        if word not in kind.split(", "):
            raise OutOfStep(f"results/README.md: {name}.{field.name} is {word}, not {kind!r}")
        columns.setdefault(index, []).append(f"`{field.name}`")
    out = _table(*header)
    for index, named in sorted(columns.items()):
        *more, meaning = described[index][1:]
        meaning = re.sub(r"; so also `\w+\.\.\.`", "", meaning)  # they are named now
        out.append(_row(", ".join(named), *more, meaning))
    if unused := [row[0] for i, row in enumerate(described) if i not in columns]:
        raise OutOfStep(f"results/README.md: {name} has no columns {unused}")
    return out


def _cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def _fits(column: str, row: list[str], exact: bool) -> bool:
    names = list(_names(row))
    if exact:
        return column in names
    return any(re.fullmatch(re.escape(n).replace(r"\.\.\.", ".+"), column) for n in names)


def _names(row: list[str]) -> Iterator[str]:
    """The columns that a row describes: by name, by a suffix (`..._after`) of the one before it.

    A name with dots that begins with no dots, or that stands alone, is a pattern.
    """
    before = ""
    for name in re.findall(r"`([\w.]+)`", row[0]):
        if name.startswith("...") and before:
            name = before.rpartition(name[3:4])[0] + name[3:]
        yield name
        before = name
    yield from re.findall(r"`(\w+\.\.\.)`", row[-1])


# ---- command line --------------------------------------------------------------------------------


def commands_page() -> str:
    """What `locedit --help` says, and of each command its arguments, from the typer commands."""
    pages = [parsing.HELP, f"```sh\n{parsing.EXAMPLES}```", parsing.NOTES]
    program = parsing.program()
    for name, one in program.commands.items():
        context: Any = Context(one, **program.context_settings)
        page = get_docs_for_click(
            obj=one, ctx=context, indent=1, name=name, call_prefix="locedit", title=f"`{name}`"
        )
        pages.append(page.rstrip())
    return "\n\n".join(pages) + "\n"


# ---- Python --------------------------------------------------------------------------------------

# The modules that a program of one's own may use, and what of each: the one list of them.
API = {
    "locedit": (
        "load",
        "trace",
        "edit",
        "FactEdit",
        "measure",
        "Scores",
        "recommend",
        "Advice",
        "apply",
        "Edited",
    ),
    "locedit.model.language_model": ("LanguageModel",),
    "locedit.localizers.restoration": ("Trace", "effects"),
    "locedit.localizers.zeroing": ("zero", "Zeroed"),
    "locedit.localizers": (
        "LOCALIZERS",
        "Localizer",
        "Place",
        "SharedInputs",
        "Localization",
        "Unavailable",
        "register",
    ),
    "locedit.windows": ("window_layers",),
    "locedit.methods.problems": ("PROBLEMS", "Problem", "Request"),
    "locedit.methods": ("METHODS", "Method", "SharedInputs", "Edit", "register"),
    "locedit.settings": ("Count", "Positive", "NotNegative"),
    "locedit.engine.updates": ("LowRank", "Dense", "applied", "total_norms"),
    "locedit.study.measure": ("Probe", "Measurement", "measure"),
    "locedit.study.advice": ("certainty",),
    "locedit.exchange.edited_weights": ("Delta", "changed", "write", "read"),
    "locedit.exchange.model_card": ("Line",),
    "locedit.study.scores": ("rewrite_score", "neighbourhood_score", "essence_score"),
    "locedit.model.architectures": ("Architecture", "register"),
    "locedit.store.tables": ("read", "write", "provenance"),
}


def api_page() -> str:
    """A section a module, its objects by Sphinx's autodoc."""
    lines = []
    for module, names in API.items():
        lines += [
            f"## `{module}`",
            "",
            "```{eval-rst}",
            f".. automodule:: {module}",
            "   :no-index:",
        ]
        for name in names:
            value = getattr(importlib.import_module(module), name)
            kind = "class" if isinstance(value, type) else "data"
            kind = "function" if inspect.isroutine(value) else kind
            lines += ["", f".. auto{kind}:: {module}.{name}"]
            lines += ["   :members:"] if kind == "class" else ["   :no-value:"] * (kind == "data")
        lines += ["```", ""]
    return "\n".join(lines)


# ---- the card's benchmark ------------------------------------------------------------------------

MEASURED = ROOT / "benchmarks" / "gpu.json"
OUT_OF_TIME = ("no time left", "the time was up")  # as benchmarks/bench_gpu.py has it


def measured_page(path: Path = MEASURED) -> str:
    """What `make bench-gpu` found where its file is committed; else that nothing was measured."""
    if not path.exists():
        return "**Derived, not measured**: no card has run `make bench-gpu` yet.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["tiny"]:
        raise OutOfStep(f"{path} is of tiny shapes; commit what `make bench-gpu` wrote")
    peaks = " and ".join(f"{value:.0f} in {name}" for name, value in found["peak_tflops"].items())
    numbers = "agree" if found["passed"] else "do **not** all agree"
    lines = [
        f"**Measured** by `make bench-gpu` on one {found['device']} (torch {found['torch']}, "
        f"transformers {found['transformers']}): {peaks} TFLOP/s in a large product. The numbers "
        f"{numbers} with the textbook's within the CPU's tolerances. Rates a second, on randomly "
        "initialised models:",
        "",
        *_table("model", "dtype", "measurement", "rate", "published", "ratio", "of peak", "memory"),
    ]
    untimed = []
    for one in found["measurements"]:
        head = (one["model"], one["dtype"], one["name"])
        if (one["skipped"] or "").startswith(OUT_OF_TIME):
            untimed.append(" ".join(head))
            continue
        if reason := one["skipped"] or one["failed"]:
            lines.append(_row(*head, reason, "", "", "", ""))
            continue
        lines.append(
            _row(
                *head,
                f"{one['rate']:.3g} {one['unit']}",
                _number(one["published"], ".3g"),
                _number(one["ratio"], ".1f"),
                _number(one["share_of_peak"], ".0%"),
                _number(one["peak_memory_gb"], ".0f", " GB"),
            )
        )
    if untimed:
        lines += ["", f"Not measured, because its time was up: {', '.join(untimed)}."]
    return "\n".join((*lines, "", ""))


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else format(value, form) + unit


PAGES = {
    "api": api_page,
    "configuration": configuration_page,
    "tables": tables_page,
    "commands": commands_page,
    "measured": measured_page,
}
