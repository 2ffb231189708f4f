"""The page of single facts: what all tables know of each fact, in one page that needs no network.

The page holds its data, its style and its scripts in itself. A policy (CSP) lets it run these two
scripts, by their hashes, and ask for nothing; every text of a fact is shown as text.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from locedit import localizers, outcomes
from locedit.report import grids
from locedit.report.labels import Labels

DIGITS = 5  # significant, of every number on the page
BYTES = 15_000_000  # what the page's data may take ...
BYTES_PER_FACT = 75_000  # ... of a study of up to 200 facts; of a larger one, so much each
IN_RECORD = ("subject", "prompt", "target_true", "target_new", "p_true", "completion", "remark")
NOT_SCORED = ("layer", "together")  # numbers in a row of scores that are none


# ---- what is known of each fact ------------------------------------------------------------------


def number(value: Any) -> float | None:
    """A number as the page has it; None where there is none."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def traced(cells: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By fact, its heat map: p with each token (a row) and layer (a column) restored.

    cells: a table of causal tracing, of one module and window.
    """
    return {str(case): _heat_map(rows) for case, rows in cells.groupby("case_id", sort=False)}


def _heat_map(rows: pd.DataFrame) -> dict[str, Any]:
    first = rows.iloc[0]
    if first["status"] != outcomes.OK:
        return {"reason": first["status"]}
    tokens = rows.drop_duplicates("token").sort_values("token")
    positions, layers = tokens["token"].tolist(), sorted(set(rows["layer"].tolist()))
    places = zip(rows["token"].tolist(), rows["layer"].tolist(), strict=True)
    restored = dict(zip(places, rows["p_restored"].tolist(), strict=True))
    return {
        "p_clean": number(first["p_clean"]),
        "p_corrupted": number(first["p_corrupted"]),
        "layers": [int(layer) for layer in layers],  # reals where another fact has no row of cells
        "positions": [int(position) for position in positions],
        "tokens": list(tokens["token_text"]),
        "subject": [bool(flag) for flag in tokens["is_subject"]],
        "cells": [
            [number(restored.get((position, layer))) for layer in layers] for position in positions
        ],
    }


def localized(values: pd.DataFrame, told: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By fact, a localizer's value at each layer, or why it has none.

    values: its rows of `effects`, of one module and window; told: its own table, with the status.
    """
    found: dict[str, dict[str, Any]] = {}
    for case, rows in values.groupby("case_id", sort=False):
        by_layer = {int(k): number(v) for k, v in zip(rows["layer"], rows["value"], strict=True)}
        if any(value is not None for value in by_layer.values()):
            found[str(case)] = {"layers": list(by_layer), "values": list(by_layer.values())}
    for case, status in told.drop_duplicates("case_id")[["case_id", "status"]].to_numpy():
        if case not in found:
            found[case] = {"reason": NO_NUMBER if status == outcomes.OK else status}
    return found


def edited(
    rows: pd.DataFrame, texts: Mapping[tuple[str, int | None], Mapping[str, Any]], scores: list[str]
) -> dict[str, dict[str, Any]]:
    """By fact, what a pair of method and problem scores at each layer, and says of the fact.

    rows: of `scores`, of one pair; texts: of its edits' tables, by fact and layer.
    """
    found = {}
    for case, mine in rows.sort_values("layer").groupby("case_id", sort=False):
        layers = [None if pd.isna(layer) else int(layer) for layer in mine["layer"]]
        said = [texts.get((str(case), layer), {}) for layer in layers]
        before: list[str] = next((text["before"] for text in said if text.get("before")), [])
        found[str(case)] = {
            "layers": layers,
            "peak": [bool(flag) for flag in mine["at_peak"]],
            "target": next((text for text in mine["target"] if isinstance(text, str)), None),
            "status": list(mine["status"]),
            "scores": [[number(score) for score in row] for row in mine[scores].to_numpy()],
            "texts": {"before": before, "after": [text.get("after", []) for text in said]},
        }
    return found


def generated(edits: Iterable[pd.DataFrame]) -> dict[tuple[str, str], dict[Any, dict[str, Any]]]:
    """By method and problem, and then by fact and layer, the texts before and after the edit."""
    found: dict[tuple[str, str], dict[Any, dict[str, Any]]] = {}
    columns = ["case_id", "method", "problem", "layer", "generations_before", "generations_after"]
    for table in edits:
        for case, method, problem, layer, before, after in table[columns].to_numpy():
            place = (case, None if pd.isna(layer) else int(layer))
            texts = {"before": _texts(before), "after": _texts(after)}
            found.setdefault((method, problem), {}).setdefault(place, texts)
    return found


def _texts(cell: Any) -> list[str]:
    return [] if cell is None or isinstance(cell, float) else [str(text) for text in cell]


def scored(scores: pd.DataFrame) -> list[str]:
    """The columns of `scores` that are scores, of which the study has any number.

    Without halves and repeated measurements, which only tell how reliable a score is.
    """
    numeric = [name for name in scores.select_dtypes("number") if name not in NOT_SCORED]
    own = [name for name in numeric if "_half" not in name and not name.endswith("_again")]
    return [name for name in own if scores[name].notna().any()] or own


# ---- all of it -----------------------------------------------------------------------------------


def collected(
    study: Sequence[Mapping[str, Any]],
    effects: pd.DataFrame,
    places: Mapping[tuple[str, str, int], pd.DataFrame],
    scores: pd.DataFrame,
    edits: Iterable[pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
    labels: Labels,
) -> dict[str, Any]:
    """What the page shows, in plain values.

    study: its records; effects, scores: the tables of these names; places: every localizer's own
    tables, by localizer, module and window; edits: the tables of edits; pairs: of method and
    problem, in order.
    """
    columns, texts = scored(scores), generated(edits)
    heat_maps, values, outcome = [], [], []
    by_place = dict(iter(effects.groupby(["localizer", "module", "window"], sort=False)))
    for (localizer, module, window), told in places.items():
        mine = by_place.get((localizer, module, window), effects.head(0))
        values.append(localized(mine, told))
        if localizer == localizers.TRACING:
            heat_maps.append(({"module": module, "window": window}, traced(told)))
    for method, problem in pairs:
        mine = scores[(scores["method"] == method) & (scores["problem"] == problem)]
        outcome.append(edited(mine, texts.get((method, problem), {}), columns))
    return {
        "digits": DIGITS,
        "scores": [{"name": name, "label": _score_label(name, labels)} for name in columns],
        "heat_maps": [
            {
                "file": "{module}/window-{window}".format(**at),
                "label": ", ".join(labels.place(at)),
            }
            for at, _ in heat_maps
        ],
        "places": [_place(*place, labels) for place in places],
        "pairs": [
            {"method": labels.of("method", method), "problem": labels.of("problem", problem)}
            for method, problem in pairs
        ],
        "colours": {labels.of("method", method): _colour(method, labels) for method, _ in pairs},
        "facts": [
            {
                "id": record["case_id"],
                "relation": record["relation_id"],
                **{name: record[name] for name in IN_RECORD},
                "p_true": number(record["p_true"]),
                "heat_maps": [table.get(record["case_id"], ABSENT) for _, table in heat_maps],
                "values": [table.get(record["case_id"], ABSENT) for table in values],
                "edits": [table.get(record["case_id"], NOT_EDITED) for table in outcome],
            }
            for record in study
        ],
    }


NO_NUMBER = "the localizer gives no number for it at any layer"
ABSENT = {"reason": "the table has no row of this fact"}
NOT_EDITED = {"reason": "this fact was not edited in this way (editing.facts says how many are)"}


def _place(localizer: str, module: str, window: int, labels: Labels) -> dict[str, str]:
    at = labels.place({"module": module, "window": window})
    return {"localizer": labels.of("localizer", localizer), "at": ", ".join(at) or "no module"}


def _colour(method: str, labels: Labels) -> str | None:
    """As in the figures; None of what has none of its own."""
    colours: Mapping[str, Any] = labels.kinds["colours"]  # of names, unlike what else has labels
    return colours.get(labels.kinds["methods"].get(method, {}).get("colour", ""))


def _score_label(name: str, labels: Labels) -> str:
    entry = labels.kinds["scores"].get(name)
    return entry["label"] if entry else grids.sentence(name.replace("_", " "))


def fitted(data: dict[str, Any]) -> dict[str, Any]:
    """The same, without the generated texts of those facts, last in order, for which no room is."""
    room = max(BYTES, BYTES_PER_FACT * len(data["facts"]))
    texts = [[edit.get("texts") for edit in fact["edits"]] for fact in data["facts"]]
    bare = [
        {**fact, "edits": [_without_texts(edit) for edit in fact["edits"]]}
        for fact in data["facts"]
    ]
    room -= len(_json({**data, "facts": bare}))
    kept = 0
    for mine in texts:
        room -= len(_json(mine)) + 12 * len(mine)  # and the key, for each
        kept += room >= 0
    return {**data, "facts": data["facts"][:kept] + bare[kept:]}


def _without_texts(edit: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in edit.items() if name != "texts"}


# ---- the page ------------------------------------------------------------------------------------


def page(data: Mapping[str, Any], model: str, dataset: str) -> str:
    """facts.html, of the data, the template and the scripts beside it."""
    scripts = [_template_text(name) for name in ("vega.js", "facts.js")]
    return grids.template("facts.html.jinja").render(
        model=model,
        dataset=dataset,
        n_facts=len(data["facts"]),
        digits=DIGITS,
        style=Markup(_template_text("style.css") + _template_text("facts.css")),
        scripts=[Markup(f"\n{script}\n") for script in scripts],
        hashes=Markup(" ".join(f"'{_hash(f'{chr(10)}{script}{chr(10)}')}'" for script in scripts)),
        data=Markup(_json(data)),
    )


def _json(data: Any) -> str:
    """JSON that no parser of HTML sees a tag in, whatever texts it holds; in ASCII."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _template_text(name: str) -> str:
    return (grids.TEMPLATES / name).read_text(encoding="utf-8")
