"""The page of single facts: what it holds of each fact, and that a fact's text stays text."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from locedit.report import explorer, grids
from locedit.report.labels import Labels
from locedit.store import schemas

ROOT = Path(__file__).resolve().parents[2]
LABELS = Labels.read(ROOT / "analysis" / "labels.yaml")
SCRIPT = "</script><script>alert(1)</script><!--"
PLACE = ("tracing", "mlp", 1)
PAIR = ("ROME", "error_injection")


def fact(case: str, **changes: Any) -> dict[str, Any]:
    record = dict.fromkeys(schemas.SCHEMAS["facts"].names)
    return {
        **record,
        "case_id": case,
        "prompt": "P is",
        "target_true": "x",
        "p_true": 0.5,
    } | changes


def table(name: str, *rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=schemas.SCHEMAS[name].names)


def cell(case: str, token: int, layer: int, p: float, **changes: Any) -> dict[str, Any]:
    own = {"case_id": case, "token": token, "token_text": f"t{token}", "is_subject": token == 0}
    return {**own, "layer": layer, "p_restored": p, "p_clean": 0.9, "status": "ok"} | changes


def edit(case: str, layer: int | None, **changes: Any) -> dict[str, Any]:
    own = {"case_id": case, "method": PAIR[0], "problem": PAIR[1], "layer": layer, "together": 1}
    return {**own, "status": "ok", "at_peak": False, "listed": True, "target": "y"} | changes


def gathered(facts=(), cells=(), effects=(), scores=(), edits=(), places=(PLACE,), pairs=(PAIR,)):
    return explorer.collected(
        study=facts,
        effects=table("effects", *effects),
        places=dict.fromkeys(places, table("tracing", *cells)),
        scores=table("scores", *scores).astype({"rewrite": float, "paraphrase": float}),
        edits=[table("editing", *edits)],
        pairs=list(pairs),
        labels=LABELS,
    )


def test_a_heat_map_has_each_cell_at_its_token_and_layer():
    cells = [cell("a", t, layer, t + layer / 10) for layer in (2, 0) for t in (1, 0)]
    cells.append(cell("b", 0, 0, float("nan"), status="failed: no <subject>"))
    data = gathered([fact("a"), fact("b"), fact("c")], cells)
    a, b, c = (found["heat_maps"][0] for found in data["facts"])
    assert (a["tokens"], a["layers"]) == (["t0", "t1"], [0, 2])
    assert a["cells"] == [[0, 0.2], [1, 1.2]]
    assert b == {"reason": "failed: no <subject>"}
    assert c["reason"] == "the table has no row of this fact"


def test_a_value_that_is_missing_has_its_reason():
    at = dict(zip(("localizer", "module", "window"), PLACE, strict=True))
    effects = [{**at, "case_id": "a", "layer": 0, "value": 0.1234567}]
    effects += [{**at, "case_id": "b", "layer": 0, "value": float("nan")}]
    cells = [cell("a", 0, 0, 1), cell("b", 0, 0, 1), cell("c", 0, 0, 1, status="failed: why")]
    data = gathered([fact("a"), fact("b"), fact("c")], cells, effects)
    a, b, c = (found["values"][0] for found in data["facts"])
    assert a == {"layers": [0], "values": [0.12346]}
    assert b == {"reason": explorer.NO_NUMBER}
    assert c == {"reason": "failed: why"}


def test_an_edit_has_its_scores_texts_and_status_by_layer():
    scores = [edit("a", 4, rewrite=0.5), edit("a", 2, status="failed: no", at_peak=True)]
    scores.append(edit("b", None, status="not edited: no peak"))
    edits = [edit("a", 4, generations_before=["old"], generations_after=["new", "er"])]
    data = gathered([fact("a"), fact("b"), fact("c")], scores=scores, edits=edits)
    a, b, c = (found["edits"][0] for found in data["facts"])
    rewrite = [score["name"] for score in data["scores"]].index("rewrite")
    assert a["layers"] == [2, 4]
    assert a["peak"] == [True, False]
    assert a["status"] == ["failed: no", "ok"]
    assert [row[rewrite] for row in a["scores"]] == [None, 0.5]
    assert a["texts"] == {"before": ["old"], "after": [[], ["new", "er"]]}
    assert (b["layers"], b["status"]) == ([None], ["not edited: no peak"])
    assert "not edited in this way" in c["reason"]


def test_a_study_that_traced_and_edited_nothing_has_a_page():
    data = gathered([fact("a")], places=(), pairs=())
    assert data["heat_maps"] == data["places"] == data["pairs"] == []
    assert "Single facts" in explorer.page(explorer.fitted(data), "m", "d")


def test_the_texts_that_have_no_room_are_left_out_fact_by_fact(monkeypatch):
    cases = ["a", "b", "c"]
    data = gathered(
        [fact(case) for case in cases],
        scores=[edit(case, 1, rewrite=1.0) for case in cases],
        edits=[edit(case, 1, generations_after=["w " * 500]) for case in cases],
    )
    whole = len(explorer._json(data))
    monkeypatch.setattr(explorer, "BYTES_PER_FACT", 0)
    for room, kept in ((whole + 100, 3), (whole - 100, 2), (whole - 1100, 1), (0, 0)):
        monkeypatch.setattr(explorer, "BYTES", room)
        fitted = explorer.fitted(data)
        assert ["texts" in f["edits"][0] for f in fitted["facts"]] == [k < kept for k in range(3)]
        assert len(explorer._json(fitted)) <= room or not kept
        assert all(
            f["edits"][0]["scores"] == data["facts"][0]["edits"][0]["scores"]
            for f in fitted["facts"]
        )


def test_no_text_of_a_fact_becomes_markup_and_only_the_two_scripts_may_run():
    words = dict.fromkeys(("prompt", "subject", "target_true", "target_new", "remark"), SCRIPT)
    data = gathered(
        [fact(SCRIPT, **words)],
        [cell(SCRIPT, 0, 0, 1, token_text=SCRIPT, status="ok")],
        scores=[edit(SCRIPT, 1, target=SCRIPT, status=SCRIPT)],
        edits=[edit(SCRIPT, 1, generations_before=[SCRIPT], generations_after=[SCRIPT])],
    )
    page = explorer.page(data, SCRIPT, SCRIPT)
    assert "alert(1)</script>" not in page
    scripts = re.findall(r"(?s)<script([^>]*)>(.*?)</script>", page)
    assert [kind for kind, _ in scripts] == [' type="application/json" id="data"', "", ""]
    assert json.loads(scripts[0][1])["facts"][0]["prompt"] == SCRIPT
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    hashes = [hashlib.sha256(text.encode()).digest() for _, text in scripts[1:]]
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    assert f"default-src 'none'; script-src {allowed};" in policy
    assert "unsafe-eval" not in policy
    own = (grids.TEMPLATES / "facts.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", own)


def test_the_vega_files_are_those_of_the_pinned_package():
    text = (grids.TEMPLATES / "vega.js").read_text(encoding="utf-8")
    pinned = re.search(r"vl-convert-python==(\S+)", (ROOT / "requirements.txt").read_text())[1]
    assert f"of vl-convert-python {pinned};" in text[:400]
    assert "</script" not in text
    assert "<!--" not in text


@pytest.mark.parametrize(
    ("given", "shown"), [(0.123456789, 0.12346), (1.0, 1), (float("nan"), None), (None, None)]
)
def test_numbers_are_rounded_to_five_digits(given, shown):
    assert explorer.number(given) == shown
