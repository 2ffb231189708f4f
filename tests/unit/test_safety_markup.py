"""No text of a fact becomes markup: pages, reports and figures show it as it is."""

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

from locedit.report import grids
from locedit.report.labels import Labels
from locedit.report.page import arranged, read_figure, render, shown_table
from workflow_scripts import figure

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "<script>alert(1)</script>"


def table_and_layout():
    import pandas as pd

    own = {"localizer": "tracing", "module": "mlp", "window": 5, "effect": "value"}
    row = {**own, "problem": SCRIPT}
    rows = [{**row, "method": SCRIPT, "score": SCRIPT, "r2": 0.5, "reason": ""}]
    rows.append({**rows[0], "method": "ROME", "r2": float("nan"), "reason": SCRIPT})
    layout = grids.Layout(first=(grids.Grid(columns=(grids.Column(header=SCRIPT, value="r2"),)),))
    about = grids.Described(
        title=SCRIPT,
        of=(SCRIPT, SCRIPT),
        text=grids.caption("{{ name }} ``{{ name }}``", name=SCRIPT),
        own=own,
        labels=Labels.read(ROOT / "analysis" / "labels.yaml"),
    )
    return pd.DataFrame(rows), layout, about


def test_a_tables_page_escapes_what_it_shows():
    page = grids.page(*table_and_layout())
    assert page.count("&lt;script&gt;") >= 8
    assert "<script" not in page.lower()


def test_the_report_escapes_what_it_shows_and_leaves_scripts_of_its_parts_out(tmp_path):
    table = shown_table(tmp_path, "t", *table_and_layout())
    (tmp_path / "f.svg").write_text(f'<svg viewBox="0 0 1 1">{SCRIPT}</svg>')
    (tmp_path / "f.json").write_text(
        json.dumps({"title": SCRIPT, "caption": SCRIPT, "alt": SCRIPT})
    )
    shown = read_figure(tmp_path, "f")
    page = render(
        design=SimpleNamespace(model=SCRIPT, dataset=SCRIPT),
        paragraph=[SCRIPT, SCRIPT],
        conclusion=1,
        sections=arranged([shown]),
        tables=[table],
        origins=[
            {"file": SCRIPT, "rule": SCRIPT, "hashes": [SCRIPT], "seeds": [SCRIPT], "rows": SCRIPT}
        ],
        versions={SCRIPT: SCRIPT},
        config=SCRIPT,
        folder=SCRIPT,
    )
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 10
    assert 'src="data:image/svg+xml;base64,' in page  # a drawing in an img runs nothing


def test_a_figure_escapes_tokens_and_is_whole_whatever_they_hold(tmp_path):
    import pandas as pd

    tokens = ["<script>", "&amp;", " a\nb", "\x01", "\x1b[31m", "עב", "\ufffd", "%s \\n", ""]
    cells = pd.DataFrame(
        {
            "case_id": SCRIPT,
            "module": "mlp",
            "window": 5,
            "token": range(len(tokens)),
            "token_text": tokens,
            "is_subject": True,
            "layer": 0,
            "p_clean": 0.9,
            "p_corrupted": 0.1,
            "p_restored": 0.5,
            "status": "ok",
        }
    )
    more = cells.assign(layer=1)
    names = {kind: tmp_path / f"heatmap.{kind}" for kind in ("svg", "png", "json")}
    sources = ["labels.yaml", "frames.R", "theme.R", "figures.R", "figures_heatmap.R"]
    arguments = {"study": SCRIPT}
    frames = {"cells": pd.concat([cells, more])}
    figure.draw(frames, sources, "heatmap", arguments, SimpleNamespace(**names))
    drawn = ElementTree.parse(names["svg"])
    assert not [node for node in drawn.iter() if node.tag.endswith("script")]
    texts = "".join(drawn.getroot().itertext())
    assert SCRIPT in texts
    assert "<script>*" in texts
