"""Tables as pages to read: a few small grids, what they show in words, the rest behind a click.

A layout says which columns of a table become which grids, labels what their values are called. The
rows that the analysis shows come first; those of other localizers, windows, effects or facts
follow folded up. An empty cell bears the number of the reason that its row gives.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from locedit.report.labels import DASH, Labels

MINUS = "\N{MINUS SIGN}"

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a cell: a column of the table, with the ends of its interval if it has one."""

    header: str
    value: str
    ends: tuple[str, str] | None = None
    kind: str = "number"  # number | p | count | text | flag
    optional: bool = False  # left out of a grid where no row has it, or a table has no such column


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows by `index`; one grid for each value of `by`; the columns once for each of `across`.

    `only` leaves rows out whose column has none of the values.
    """

    index: tuple[str, ...] = ("problem", "method")
    columns: tuple[Column, ...]
    title: str = ""
    by: str | None = "score"
    across: str | None = None
    only: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a page shows of the own localizer at once and folded up, and of each other one."""

    first: tuple[Grid, ...]
    more: tuple[Grid, ...] = ()
    others: tuple[Grid, ...] = ()
    keys: tuple[str, ...] = ("localizer", "module", "window", "effect")


# ---- words and numbers ---------------------------------------------------------------------------


def sentence(text: str) -> str:
    """The text with a capital."""
    return text[:1].upper() + text[1:]


def number(value: float, kind: str = "number") -> str:
    """Three digits behind the point, fewer before them; p below .001 as such."""
    if kind == "flag":
        return "yes" if value else "no"
    if kind == "count":
        return f"{int(value):,}"
    if kind == "p":
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    size = abs(value)
    text = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.3g}"
    return MINUS + text[1:] if text.startswith("-") and float(text) != 0 else text.lstrip("-")


def caption(text: str, **names: Any) -> list[Markup]:
    """A caption's paragraphs: reStructuredText of plain words and ``literals``, filled in."""
    filled = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(**names)
    return [
        Markup(re.sub(r"``(.+?)``", r"<code>\1</code>", str(escape(" ".join(part.split())))))
        for part in re.split(r"\n\s*\n", filled.strip())
    ]


# ---- grids ---------------------------------------------------------------------------------------


class Notes:
    """The reasons of empty cells, numbered as they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def of(self, reason: Any) -> int | None:
        if pd.isna(reason) or not reason:
            return None
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1


EMPTY = {"text": "", "note": None, "interval": None}


def cell(row: Mapping[str, Any], column: Column, notes: Notes, labels: Labels) -> dict[str, Any]:
    """What stands in a cell: its text and interval, or a dash with the number of the reason."""
    value = row[column.value]
    if pd.isna(value):
        note = None if column.optional else notes.of(row.get("reason"))
        return {"text": "" if column.optional else DASH, "note": note, "interval": None}
    ends = [row[end] for end in column.ends or ()]
    interval = None
    if ends and not any(map(pd.isna, ends)):
        interval = f"[{number(ends[0])}, {number(ends[1])}]"
    note = notes.of(row.get("reason")) if ends and not interval else None
    text = labels.of(column.value, value) if column.kind == "text" else number(value, column.kind)
    return {"text": text, "note": note, "interval": interval}


def _has(rows: pd.DataFrame, column: str) -> bool:
    return column in rows and bool(rows[column].notna().any())


def grid(rows: pd.DataFrame, form: Grid, labels: Labels) -> dict[str, Any]:
    """One grid: headers, lines with their heads (text, number of lines it spans), notes."""
    notes = Notes()
    columns = [c for c in form.columns if not c.optional or _has(rows, c.value)]
    groups = labels.ordered(rows[form.across].dropna()) if form.across else []
    names = [*form.index, *([form.across] if form.across else [])]
    found = dict(zip(_keys(rows, names), rows.to_dict("records"), strict=True))
    lines = []
    for key in _in_order(rows, form.index, labels):
        cells = []
        for group in groups or [None]:
            at = (*key, group) if form.across else key
            # a row of no group (edits of unknown layers, say) stands for all of them
            record = found.get(at) or found.get((*key, None))
            cells += [cell(record, c, notes, labels) if record else EMPTY for c in columns]
        lines.append({"key": key, "cells": cells})
    heads = [labels.of(form.across, group) for group in groups] if form.across else []
    single = bool(heads) and len(columns) == 1  # its header would stand under every group
    localizer = next(iter(rows["localizer"]), None) if "localizer" in rows else None
    headers = heads if single else [labels.header(c.header, localizer) for c in columns]
    return {
        "heads": [name.capitalize() for name in form.index],
        "groups": [] if single else heads,
        "columns": headers,
        "lines": _with_spans(lines, form.index, labels),
        "notes": notes.texts,
    }


def _keys(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Each row's values of these columns, None for a missing one."""
    values = rows[list(names)].itertuples(index=False, name=None)
    return [tuple(None if pd.isna(value) else value for value in row) for row in values]


def _in_order(rows: pd.DataFrame, names: Sequence[str], labels: Labels) -> list[tuple[Any, ...]]:
    """The distinct keys, each column's values in their order, missing ones last."""
    places = [{v: i for i, v in enumerate(labels.ordered(rows[name].dropna()))} for name in names]
    return sorted(
        set(_keys(rows, names)),
        key=lambda key: [p.get(v, len(p)) for p, v in zip(places, key, strict=True)],
    )


def _with_spans(
    lines: list[dict[str, Any]], index: Sequence[str], labels: Labels
) -> list[dict[str, Any]]:
    """Each line's heads, those that repeat the line above left out and counted where they begin."""
    open_heads: list[tuple[tuple, list]] = [((), []) for _ in index]
    for line in lines:
        line["heads"] = []
        for depth, name in enumerate(index):
            path = line["key"][: depth + 1]
            if open_heads[depth][0] == path:
                open_heads[depth][1][1] += 1
                continue
            head = [labels.of(name, path[-1]), 1]
            open_heads[depth] = (path, head)
            line["heads"].append(head)
    return lines


def grids(rows: pd.DataFrame, forms: Sequence[Grid], labels: Labels) -> Iterator[dict[str, Any]]:
    """All grids of these rows, with their titles."""
    for form in forms:
        chosen = rows
        for column, values in form.only.items():
            chosen = chosen[chosen[column].isin(values)]
        if form.by is None:
            if len(chosen):
                yield {"title": form.title, **grid(chosen, form, labels)}
            continue
        for value in labels.ordered(chosen[form.by]):
            title = sentence(": ".join(t for t in (form.title, labels.of(form.by, value)) if t))
            yield {"title": title, **grid(chosen[chosen[form.by] == value], form, labels)}


# ---- pages ---------------------------------------------------------------------------------------


def counted(rows: pd.DataFrame) -> str:
    """How many facts and edits (or traced cells) each of the rows rests on."""
    parts = []
    names = {
        "n_facts": "facts",
        "n": "edits" if "method" in rows else "cells",
        "n_layers": "layers",
    }
    if "n_facts" not in rows:  # then a row is one layer, where a fact is edited once
        names = {"n": "facts at a layer"}
    for column, noun in names.items():
        if column in rows and rows[column].notna().any():
            low, high = int(rows[column].min()), int(rows[column].max())
            parts.append(f"{low:,} {noun}" if low == high else f"{low:,} to {high:,} {noun}")
    return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Described:
    """What is said about a table, and which of its rows come first.

    of: whose it is (model, data set); text: the caption's paragraphs; own: the values of a layout's
    `keys` that come first.
    """

    title: str
    of: Sequence[str]
    text: Sequence[Markup]
    own: Mapping[str, Any]
    labels: Labels


def described(params: Any, analysis: Path) -> Described:
    """That of a table by the params of its rule; `analysis`: the folder of labels and captions."""
    text = (analysis / "words" / params.caption).read_text(encoding="utf-8")
    labels = Labels.read(analysis / "labels.yaml", params.orders)
    return Described(
        title=labels.filled(params.title, params.own.get("localizer")),
        of=(params.model_label, params.dataset),
        text=caption(text, snakemake=SimpleNamespace(params=params)),
        own=params.own,
        labels=labels,
    )


def own_rows(table: pd.DataFrame, layout: Layout, own: Mapping[str, Any]) -> pd.Series:
    """Which rows have the values of `own` in the layout's keys, as a mask."""
    same = pd.Series(True, index=table.index)
    for key in layout.keys:
        same &= table[key] == own[key]
    return same


def first_grids(table: pd.DataFrame, layout: Layout, about: Described) -> list[dict[str, Any]]:
    """What a page shows at once: the grids of the own localizer."""
    own = table[own_rows(table, layout, about.own)]
    return list(grids(own, layout.first, about.labels))


def folded(table: pd.DataFrame, layout: Layout, about: Described) -> list[dict[str, Any]]:
    """What a page shows folded up: the own localizer in detail, then each other one."""
    same = own_rows(table, layout, about.own)
    first, rest = table[same], table[~same]
    parts = []
    if len(first) and layout.more:
        shown = list(grids(first, layout.more, about.labels))
        parts.append({"title": "In detail", "grids": shown})
    if len(rest):
        for values, rows in rest.groupby(list(layout.keys), sort=False, dropna=False):
            shown = list(grids(rows, layout.others or layout.first, about.labels))
            names = about.labels.place(dict(zip(layout.keys, values, strict=True)))
            parts.append({"title": sentence(", ".join(names)), "grids": shown})
    return parts


def page(table: pd.DataFrame, layout: Layout, about: Described) -> str:
    """A standalone HTML page of a table."""
    own = table[own_rows(table, layout, about.own)]
    keys = [key for key in layout.keys if key != "subset"]
    traced = about.labels.place({key: about.own[key] for key in keys})
    return template("table.html.jinja").render(
        title=about.title,
        of=[part for part in (*about.of, counted(own), *traced) if part],
        text=about.text,
        grids=first_grids(table, layout, about),
        folded=folded(table, layout, about),
        empty=len(table) == 0,
    )


def template(name: str) -> jinja2.Template:
    """One of the package's templates, which escape what they are given."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template(name)


def _unbroken(text: str) -> Markup:
    """Words such as FT-1 that no line may end within."""
    return Markup(re.sub(r"\w+-\d+\b", r'<span class="word">\g<0></span>', str(escape(text))))
