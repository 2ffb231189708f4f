"""Tables as pages: what stands where, numbers as they are read, reasons of empty cells."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from locedit.report import grids, layouts
from locedit.report.grids import Column, Described, Grid, Layout
from locedit.report.labels import Labels
from locedit.report.page import SECTIONS, sections

ROOT = Path(__file__).resolve().parents[2]
LABELS = Labels.read(ROOT / "analysis" / "labels.yaml")
ORDERS = {"problem": ["fact_forcing", "error_injection"], "method": ["ROME", "MEMIT"]}
OWN = {"localizer": "tracing", "module": "mlp", "window": 5, "effect": "value"}
LAYOUT = Layout(
    first=(
        Grid(columns=(Column(header="R2", value="r2"), Column(header="p", value="p", kind="p"))),
    ),
    others=(Grid(columns=(Column(header="R2", value="r2"),), by=None, across="score"),),
)


def example() -> pd.DataFrame:
    """Two problems, methods, scores and windows; the one number that is missing says why."""
    keys = pd.MultiIndex.from_product(
        [[1, 5], ["error_injection", "fact_forcing"], ["MEMIT", "ROME"], ["essence", "rewrite"]],
        names=["window", "problem", "method", "score"],
    ).to_frame(index=False)
    table = keys.assign(
        **{k: v for k, v in OWN.items() if k != "window"}, n_facts=8, n=24, r2=0.25, p=0.0004
    )
    table["reason"] = ""
    at = (table["window"] == 5) & (table["method"] == "MEMIT") & (table["score"] == "rewrite")
    table.loc[at, ["r2", "p"]] = float("nan")
    table.loc[at, "reason"] = "score has no variance <here>"
    return table


def show(
    table: pd.DataFrame, layout: Layout = LAYOUT, orders=ORDERS, own=OWN
) -> ElementTree.Element:
    about = Described(
        title="A table",
        of=("tiny model", "facts & more"),
        text=grids.caption("What ``n`` of {{ name }} is:\n<all>.", name="A & B"),
        own={**own, "subset": "all"},
        labels=replace(LABELS, orders={"score": ["rewrite", "essence"], **orders}),
    )
    html = grids.page(table, layout, about)
    assert html.startswith("<!DOCTYPE html>")
    return ElementTree.fromstring(html)


def text(element) -> str:
    return " ".join("".join(element.itertext()).split())


def lines(table) -> list[list[str]]:
    return [[text(cell) for cell in row] for row in table.iter("tr")]


def test_a_page_stands_alone_and_says_whose_it_is_and_what_to_see():
    page = show(example())
    assert text(page.find("head/title")) == "A table: tiny model"
    assert page.find("head/meta[@charset='utf-8']") is not None
    assert [e.get("src") or e.get("href") for e in page.iter() if e.tag in ("link", "img")] == []
    of = text(page.find("body/p[@class='of']"))
    assert of.startswith("tiny model · facts & more · 8 facts, 24 edits · Causal tracing · MLP")
    assert "windows of 5 layers" in of
    caption = page.find("body/div[@class='text']/p")
    assert text(caption) == "What n of A & B is: <all>."
    assert caption.find("code").text == "n"


def test_the_own_tracing_comes_first_a_grid_for_each_score_in_the_orders_given():
    page = show(example())
    assert [text(h) for h in page.findall("body/h2")] == ["Rewrite score", "Essence score"]
    first = page.find("body/div[@class='wide']/table")
    assert lines(first) == [
        ["Problem", "Method", "R2", "p"],
        ["Fact forcing", "ROME", "0.250", "<0.001"],
        ["MEMIT", "–1", "–1"],
        ["Error injection", "ROME", "0.250", "<0.001"],
        ["MEMIT", "–1", "–1"],
    ]
    assert next(th.get("rowspan") for th in first.iter("th") if th.get("scope") == "row") == "2"
    assert text(page.find("body/ol/li")) == "score has no variance <here>"


def test_other_tracings_are_folded_up_side_by_side():
    page = show(example())
    (folded,) = page.findall("body/details")
    name = "Causal tracing, MLP outputs, windows of 1 layer, fraction restored at the best token"
    assert text(folded.find("summary")) == name
    assert lines(folded.find(".//table"))[:2] == [
        ["Problem", "Method", "Rewrite score", "Essence score"],
        ["Fact forcing", "ROME", "0.250", "0.250"],
    ]
    two = Grid(columns=LAYOUT.first[0].columns, by=None, across="score")
    table = show(example(), Layout(first=(two,))).find("body/div/table")
    assert lines(table)[:3] == [
        ["Problem", "Method", "Rewrite score", "Essence score"],
        ["R2", "p", "R2", "p"],
        ["Fact forcing", "ROME", "0.250", "<0.001", "0.250", "<0.001"],
    ]


def test_a_table_without_rows_or_without_the_own_tracing_says_so():
    assert "the table is empty" in text(show(example().iloc[:0]))
    page = show(example().query("window == 1"))
    assert "Nothing to show for this localizer" in text(page)
    assert len(page.findall("body/details")) == 1


def test_a_group_of_unknown_tracing_is_shown():
    table = example().query("window == 1").assign(localizer=None, module=None, window=pd.NA)
    assert "Not traced" in text(show(table).find("body/details/summary"))


def test_a_row_of_no_layer_says_why_under_every_layer():
    table = pd.DataFrame(
        {
            "problem": "fact_forcing",
            "method": ["ROME", "ROME", "MEMIT"],
            "layer": pd.array([9, 2, None], dtype="Int64"),
            "r": [0.5, 0.25, float("nan")],
            "reason": ["", "", "no edits"],
        }
    )
    form = Grid(columns=(Column(header="r", value="r"),), by=None, across="layer")
    page = show(table, Layout(first=(form,), keys=()))
    assert lines(page.find("body/div/table"))[0] == ["Problem", "Method", "layer 2", "layer 9"]
    assert lines(page.find("body/div/table"))[1:] == [
        ["Fact forcing", "ROME", "0.250", "0.500"],
        ["MEMIT", "–1", "–1"],
    ]
    detailed = Grid(index=("method", "layer"), columns=form.columns, by=None)
    page = show(table, Layout(first=(detailed,), keys=()))
    assert lines(page.find("body/div/table"))[1:] == [
        ["ROME", "layer 2", "0.250"],
        ["layer 9", "0.500"],
        ["MEMIT", "–", "–1"],
    ]


NUMBERS = {
    "three digits": (0.12345, "number", "0.123"),
    "minus": (-0.5, "number", "−0.500"),
    "no negative zero": (-0.0001, "number", "0.000"),
    "tens": (12.345, "number", "12.3"),
    "thousands": (-123456.0, "number", "−1.23e+05"),
    "a small p": (0.0002, "p", "<0.001"),
    "a p": (0.0416, "p", "0.042"),
    "a count": (5868.0, "count", "5,868"),
    "a flag": (True, "flag", "yes"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_written_as_they_are_read(name):
    value, kind, expected = NUMBERS[name]
    assert grids.number(value, kind) == expected


def test_an_interval_follows_its_number_and_its_lack_has_a_note():
    column = Column(header="r", value="r", ends=("low", "high"))
    notes = grids.Notes()
    row = {"r": 0.5, "low": -0.1, "high": 1.0, "reason": ""}
    assert grids.cell(row, column, notes, LABELS)["interval"] == "[−0.100, 1.000]"
    row = {"r": 0.5, "low": float("nan"), "high": float("nan"), "reason": "too few facts"}
    shown = {"text": "0.500", "note": 1, "interval": None}
    assert grids.cell(row, column, notes, LABELS) == shown
    assert notes.texts == ["too few facts"]


def test_a_text_is_shown_by_its_label_and_a_header_by_the_label_that_it_names():
    columns = (
        Column(header="Verdict", value="verdict", kind="text"),
        Column(header="by {predictors[tracing]}", value="r2"),
    )
    table = example().assign(verdict="larger")
    page = show(table, Layout(first=(Grid(columns=columns),)))
    assert lines(page.find("body/div/table"))[:2] == [
        ["Problem", "Method", "Verdict", "by Tracing"],
        ["Fact forcing", "ROME", "larger", "0.250"],
    ]


@pytest.mark.parametrize(
    ("localizer", "named"),
    [("tracing", "Tracing"), ("lens_rise", "Lens rise"), ("write_norm", "Write norm")],
)
def test_headers_titles_and_subsets_name_the_localizer_that_is_shown(localizer, named):
    columns = layouts.LAYOUTS["r2"].first[0].columns
    headers = [LABELS.header(column.header, localizer) for column in columns]
    assert headers[:4] == ["Layer", named, "Both", "Diff"]
    if localizer == "tracing":  # the paper's own
        assert headers[-4:] == [f"GPT-J: {name}" for name in headers[:4]]
    short = named[:1].lower() + named[1:]
    subset = LABELS.place({"localizer": localizer, "subset": "concentrated"})[-1]
    assert subset == f"facts with concentrated {short}"
    title = LABELS.filled("R² of edit layer and <localizer> effect", localizer)
    assert title == f"R² of edit layer and {short} effect"


def test_a_page_names_its_own_localizer():
    column = Column(header="by {predictors[tracing]}", value="r2")
    layout = Layout(first=(Grid(columns=(column,)),))
    own = {"localizer": "write_norm"}
    page = show(example().assign(**own), layout, own={**OWN, **own})
    assert lines(page.find("body/div/table"))[0] == ["Problem", "Method", "by Write norm"]


@pytest.mark.parametrize(
    ("localizer", "title", "intro"),
    [
        ("tracing", "Where does tracing find facts?", "Causal tracing spoils the subject's"),
        ("zeroing", "Where does zeroing find facts?", "Representation zeroing says of each fact"),
        ("write_norm", "Where does write norm find facts?", "Write norm says of each fact"),
    ],
)
def test_the_report_asks_of_the_localizer_that_it_shows(localizer, title, intro):
    first, *others = sections(localizer, LABELS)
    assert first.title == title
    assert first.intro.startswith(intro)
    assert first.intro.endswith("measures how much of the fact's probability returns.")
    assert others == [*SECTIONS[1:]]


def test_an_optional_column_is_shown_where_a_row_has_it():
    column = Column(header="Paper", value="published", optional=True)
    layout = Layout(first=(Grid(columns=(Column(header="R2", value="r2"), column)),))
    table = example()
    table["published"] = table["r2"].where(table["score"] == "rewrite") * 2
    rewrite, essence = (lines(t) for t in show(table, layout).findall("body/div/table"))
    assert rewrite[0] == ["Problem", "Method", "R2", "Paper"]
    assert rewrite[1:3] == [["Fact forcing", "ROME", "0.250", "0.500"], ["MEMIT", "–1", ""]]
    assert essence[0] == ["Problem", "Method", "R2"]


def test_a_captions_unknown_name_is_an_error():
    with pytest.raises(Exception, match="nosuch"):
        grids.caption("{{ nosuch }}")


def test_every_layout_has_its_caption():
    captions = list((ROOT / "analysis" / "words").glob("*_table.md"))
    assert len(captions) == len(layouts.LAYOUTS)


CAPTIONS = sorted((ROOT / "analysis" / "words").glob("*.md"))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_reads_the_same_in_markdown_and_for_snakemake(path):
    """Snakemake's report takes captions for reStructuredText, ours and an editor for Markdown.

    Both have paragraphs and ``literals`` in common, and nothing else is used.
    """
    words = path.read_text(encoding="utf-8")
    filled = re.sub(r"\{\{.*?\}\}", "x", words)
    plain = re.sub(r"``[^`]+``", "x", filled)
    assert re.findall(r"[\\`*_<>\[\]|#~]|^[ \-+=:.>\d]", plain, re.M) == []
    from docutils.core import publish_parts

    body = publish_parts(filled, writer_name="html", settings_overrides={"report_level": 1})["body"]
    tags = {"p", "tt"}
    assert set(re.findall(r"<(\w+)", body)) <= {*tags, "span"}
    assert "problematic" not in body
