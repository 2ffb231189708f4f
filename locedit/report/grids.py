"""Tables as pages to read: a few small grids, what they show in words, the rest behind a click.

A layout says which columns of a table become which grids. The rows of the analysis's own tracing
come first; those of other windows, effects or facts follow folded up. An empty cell bears the
number of the reason that its row gives.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

WORDS: dict[str, dict[Any, str]] = {
    "module": {"mlp": "MLP outputs", "attn": "attention outputs", "hidden": "hidden states"},
    "tracing": {
        "fraction_max": "fraction restored at the best token",
        "fraction_last": "fraction restored at the last subject token",
        "effect_max": "probability restored at the best token",
        "effect_last": "probability restored at the last subject token",
    },
    "subset": {"all": "all facts", "concentrated": "facts with concentrated tracing"},
    "strategy": {
        "tracing_peak": "Tracing peak",
        "best_fixed": "Best fixed layer",
        "random": "Random layer",
        "oracle": "Best layer of each fact",
    },
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number of a cell: a column of the table, with the ends of its interval if it has one."""

    header: str
    value: str
    ends: tuple[str, str] | None = None
    kind: str = "number"  # number | p | count | text | flag
    optional: bool = False  # left out of a grid where no row has it


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
    """What a page shows of the own tracing at once and folded up, and of each other tracing."""

    first: tuple[Grid, ...]
    more: tuple[Grid, ...] = ()
    others: tuple[Grid, ...] = ()
    keys: tuple[str, ...] = ("module", "window", "tracing")


# ---- words and numbers ---------------------------------------------------------------------------


def words(column: str, value: Any) -> str:
    """A key's value as it is read."""
    if pd.isna(value):
        return "not traced" if column == "module" else DASH
    if value in WORDS.get(column, {}):
        return WORDS[column][value]
    if column == "window":
        return f"windows of {value} layer{'' if value == 1 else 's'}"
    if column == "layer":
        return f"layer {value}"
    if column == "score":
        return f"{str(value).replace('_', ' ').capitalize()} score"
    if column == "problem":
        return str(value).replace("_", " ").capitalize()
    return str(value)


def sentence(text: str) -> str:
    """The text with a capital."""
    return text[:1].upper() + text[1:]


def number(value: float, kind: str = "number") -> str:
    """Three digits behind the point, fewer before them; p below .001 as such."""
    if kind == "text":
        return str(value)
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


def ordered(values: pd.Series, orders: Mapping[str, Sequence[Any]]) -> list[Any]:
    """A column's distinct values: known ones in their order, then the others, numbers sorted."""
    order = orders.get(str(values.name)) or list(WORDS.get(str(values.name), ()))
    present = list(values.drop_duplicates())
    if pd.api.types.is_numeric_dtype(values):
        present.sort()
    return [v for v in order if v in present] + [v for v in present if v not in order]


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


def cell(row: Mapping[str, Any], column: Column, notes: Notes) -> dict[str, Any]:
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
    return {"text": number(value, column.kind), "note": note, "interval": interval}


def grid(rows: pd.DataFrame, form: Grid, orders: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """One grid: headers, lines with their heads (text, number of lines it spans), notes."""
    notes = Notes()
    columns = [c for c in form.columns if not c.optional or rows[c.value].notna().any()]
    groups = ordered(rows[form.across].dropna(), orders) if form.across else []
    names = [*form.index, *([form.across] if form.across else [])]
    found = dict(zip(_keys(rows, names), rows.to_dict("records"), strict=True))
    lines = []
    for key in _in_order(rows, form.index, orders):
        cells = []
        for group in groups or [None]:
            at = (*key, group) if form.across else key
            # a row of no group (edits of unknown layers, say) stands for all of them
            record = found.get(at) or found.get((*key, None))
            cells += [cell(record, c, notes) if record else EMPTY for c in columns]
        lines.append({"key": key, "cells": cells})
    heads = [words(form.across, group) for group in groups] if form.across else []
    single = bool(heads) and len(columns) == 1  # its header would stand under every group
    return {
        "heads": [name.capitalize() for name in form.index],
        "groups": [] if single else heads,
        "columns": heads if single else [column.header for column in columns],
        "lines": _with_spans(lines, form.index),
        "notes": notes.texts,
    }


def _keys(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Each row's values of these columns, None for a missing one."""
    values = rows[list(names)].itertuples(index=False, name=None)
    return [tuple(None if pd.isna(value) else value for value in row) for row in values]


def _in_order(
    rows: pd.DataFrame, names: Sequence[str], orders: Mapping[str, Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """The distinct keys, each column's values in their order, missing ones last."""
    places = [{v: i for i, v in enumerate(ordered(rows[name].dropna(), orders))} for name in names]
    return sorted(
        set(_keys(rows, names)),
        key=lambda key: [p.get(v, len(p)) for p, v in zip(places, key, strict=True)],
    )


def _with_spans(lines: list[dict[str, Any]], index: Sequence[str]) -> list[dict[str, Any]]:
    """Each line's heads, those that repeat the line above left out and counted where they begin."""
    open_heads: list[tuple[tuple, list]] = [((), []) for _ in index]
    for line in lines:
        line["heads"] = []
        for depth, name in enumerate(index):
            path = line["key"][: depth + 1]
            if open_heads[depth][0] == path:
                open_heads[depth][1][1] += 1
                continue
            head = [words(name, path[-1]), 1]
            open_heads[depth] = (path, head)
            line["heads"].append(head)
    return lines


def grids(
    rows: pd.DataFrame, forms: Sequence[Grid], orders: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """All grids of these rows, with their titles."""
    for form in forms:
        chosen = rows
        for column, values in form.only.items():
            chosen = chosen[chosen[column].isin(values)]
        if form.by is None:
            if len(chosen):
                yield {"title": form.title, **grid(chosen, form, orders)}
            continue
        for value in ordered(chosen[form.by], orders):
            title = sentence(": ".join(t for t in (form.title, words(form.by, value)) if t))
            yield {"title": title, **grid(chosen[chosen[form.by] == value], form, orders)}


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


def page(
    table: pd.DataFrame,
    layout: Layout,
    template: str,
    *,
    title: str,
    of: Sequence[str],
    text: Sequence[Markup],
    own: Mapping[str, Any],
    orders: Mapping[str, Sequence[Any]],
) -> str:
    """A standalone HTML page of a table.

    `of`: whose it is (model, data set); `text`: the caption's paragraphs; `own`: the values of
    `layout.keys` that come first; `orders`: of problems, methods, scores.
    """
    same = pd.Series(True, index=table.index)
    for key in layout.keys:
        same &= table[key] == own[key]
    first, rest = table[same], table[~same]
    folded = []
    if len(first) and layout.more:
        folded.append({"title": "In detail", "grids": list(grids(first, layout.more, orders))})
    if len(rest):
        for values, rows in rest.groupby(list(layout.keys), sort=False, dropna=False):
            shown = list(grids(rows, layout.others or layout.first, orders))
            name = ", ".join(words(k, v) for k, v in zip(layout.keys, values, strict=True))
            folded.append({"title": sentence(name), "grids": shown})
    traced = [words(key, own[key]) for key in layout.keys if key != "subset"]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        title=title,
        of=[part for part in (*of, counted(first), *traced) if part],
        text=text,
        grids=list(grids(first, layout.first, orders)),
        folded=folded,
        empty=len(table) == 0,
    )
