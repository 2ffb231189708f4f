"""The report's page: figures and tables as the template takes them, and the zip that holds all.

The page holds its style and its figures in itself, so that it can be read straight from the zip or
be sent alone. The files beside it (figures, tables, configuration) are for use elsewhere.
"""

import base64
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
from markupsafe import Markup

from locedit.errors import LoceditError
from locedit.localizers import TRACING
from locedit.report import grids
from locedit.report.grids import Described, Layout
from locedit.report.labels import Labels
from locedit.store import files

FOLDER = "report"  # the one folder of the zip
LARGEST_SVG = 600_000  # bytes; a larger drawing is shown by its PNG
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the zip's time for every file: same content, same bytes


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure as the page shows it; without a `source` it says what is missing."""

    name: str
    title: str
    caption: str
    alt: str
    files: Mapping[str, Path]  # by kind: svg, png
    source: str = ""  # a data URI
    width: int = 0  # in CSS pixels
    height: int = 0
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as the page shows it: its caption, what its own page shows at once, the files."""

    name: str
    title: str
    text: Sequence[Markup]
    grids: Sequence[Mapping[str, Any]]
    missing: str  # why there is no grid
    files: Mapping[str, Path]  # by kind: html, csv


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question, and which figures answer it: names, or patterns, in the order shown."""

    id: str
    title: str
    intro: str
    patterns: Sequence[str]


_TRACING = (
    "spoils the subject's embeddings, restores clean activations at one token and a window of "
    "layers, and measures how much of the fact's probability returns."
)
SECTIONS = (
    Section(
        id="tracing",
        title="Where does tracing find facts?",
        intro=f"Causal tracing {_TRACING}",
        patterns=("tracing_peaks*", "tracing_effect*", "tracing_*", "heatmap*"),
    ),
    Section(
        id="editing",
        title="Where do edits work?",
        intro="Facts are edited by each method, always from the unedited model, at the same layers "
        "for all facts of a problem and method. Scores lie between 0 and 1; higher is better.",
        patterns=(
            "overall_by_layer",
            "rewrite_by_layer",
            "paraphrase_by_layer",
            "neighbourhood_by_layer",
            "essence_by_layer",
            "text_by_layer",
            "success*",
            "said*",
            "together*",
        ),
    ),
    Section(
        id="choosing",
        title="Does localization tell where to edit?",
        intro="If it does, a fact's edit works better at the layer where its own values peak than "
        "where another fact's do.",
        patterns=("choice*", "value*", "within*", "arena*", "hits*", "power*"),
    ),
    Section(
        id="informing",
        title="How much of the scores do layer and effect explain?",
        intro="The published analysis: regressions over all facts and layers, which facts that are "
        "easy everywhere take part in.",
        patterns=("r2_by_problem", "rewrite_vs_effect*", "correlations*", "r2_*"),
    ),
    Section(
        id="certainty",
        title="How sure are we?",
        intro="Edits of one fact are not independent, and few facts flatter every regression. "
        "These analyses know which rows share a fact.",
        patterns=("out_of_fold*", "reliability*"),
    ),
)
REMAINING = Section(id="more", title="Further figures", intro="", patterns=("*",))


# ---- figures -------------------------------------------------------------------------------------


def read_figure(folder: Path, name: str) -> Figure:
    """A figure's drawing and its words; whatever is missing is said in its place."""
    paths = {kind: folder / f"{name}.{kind}" for kind in ("svg", "png")}
    present = {kind: path for kind, path in paths.items() if path.is_file()}
    words = _read_words(folder / f"{name}.json")
    title = words.get("title") or name.replace("_", " ").capitalize()
    caption = words.get("caption") or f"This figure has no caption: {name}.json is missing."
    common: dict[str, Any] = {
        "name": name,
        "title": title,
        "caption": caption,
        "alt": words.get("alt") or title,
        "files": present,
    }
    if not present:
        return Figure(**common, missing=f"{name}.svg and {name}.png are missing.")
    return Figure(**common, **_embedded(present))


def _read_words(path: Path) -> dict[str, str]:
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LoceditError(f"{path} is not JSON ({error}); delete it to make it anew") from error
    if not isinstance(words, dict):
        raise LoceditError(f"{path}: expected an object with title, caption and alt; delete it")
    return words


def _embedded(present: Mapping[str, Path]) -> dict[str, Any]:
    """The drawing as a data URI with its size; the PNG where the SVG is huge, broken or absent."""
    size = _svg_size(present["svg"]) if "svg" in present else None
    small = size is not None and present["svg"].stat().st_size <= LARGEST_SVG
    if size is not None and (small or "png" not in present):
        path, kind = present["svg"], "image/svg+xml"
    elif "png" in present:
        path, kind = present["png"], "image/png"
    else:
        return {"missing": f"{present['svg'].name} is not a whole drawing."}
    width, height = size or (816, 576)
    data = base64.b64encode(path.read_bytes()).decode()
    return {"source": f"data:{kind};base64,{data}", "width": width, "height": height}


def _svg_size(path: Path) -> tuple[int, int] | None:
    """Width and height in CSS pixels, by the drawing's view box in points."""
    try:
        box = ElementTree.parse(path).getroot().get("viewBox", "").split()
        return round(float(box[2]) * 4 / 3), round(float(box[3]) * 4 / 3)
    except (ElementTree.ParseError, ValueError, IndexError):
        return None


def sections(localizer: str, labels: Labels) -> tuple[Section, ...]:
    """The questions of a study that shows this localizer; the heat map is of tracing whichever."""
    if localizer == TRACING:
        return SECTIONS
    named = grids.sentence(labels.of("localizer", localizer))
    first = replace(
        SECTIONS[0],
        title=labels.filled("Where does <localizer> find facts?", localizer),
        intro=f"{named} says of each fact and layer how much the fact is held there. The heat map "
        f"is of causal tracing, which {_TRACING}",
    )
    return (first, *SECTIONS[1:])


def arranged(
    figures: Iterable[Figure], questions: Iterable[Section] = SECTIONS
) -> list[tuple[Section, list[Figure]]]:
    """The sections with their figures, each figure once, where its name first fits."""
    left = {figure.name: figure for figure in figures}
    placed = []
    for section in (*questions, REMAINING):
        mine = []
        for pattern in section.patterns:
            names = [name for name in left if fnmatch(name, pattern)]
            mine += [left.pop(name) for name in names]
        if mine:
            placed.append((section, mine))
    return placed


# ---- tables --------------------------------------------------------------------------------------


def shown_table(
    folder: Path, name: str, rows: pd.DataFrame, layout: Layout, about: Described
) -> Table:
    """A table's caption and main part, laid out as on its own page, without what that folds.

    folder: of the table's page and CSV, which are linked where they exist.
    """
    paths = {kind: folder / f"{name}.{kind}" for kind in ("html", "csv")}
    parts = grids.first_grids(rows, layout, about)
    shown = "tracing" if about.own.get("localizer") == TRACING else "localizer"
    missing = "it has no rows" if rows.empty else f"it has no rows of this {shown}"
    return Table(
        name=name,
        title=about.title,
        text=about.text,
        grids=parts,
        missing="" if parts else missing,
        files={kind: path for kind, path in paths.items() if path.is_file()},
    )


# ---- the page and its zip ------------------------------------------------------------------------


def render(**context: Any) -> str:
    """index.html, of the template and the style sheet beside it."""
    style = (grids.TEMPLATES / "style.css").read_text(encoding="utf-8")
    return grids.template("index.html.jinja").render(style=style, **context)


def pack(target: Path, page: str, texts: Mapping[str, str], beside: Mapping[str, Path]) -> None:
    """Write the zip: the page, further texts, and copies of files, by their names in the folder."""
    contents = {"index.html": page.encode(), **{name: t.encode() for name, t in texts.items()}}
    contents |= {name: path.read_bytes() for name, path in beside.items()}
    with files.atomic(target) as part, zipfile.ZipFile(part, "w") as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(f"{FOLDER}/{name}", date_time=LONG_AGO)
            info.external_attr = 0o644 << 16
            kind = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compress_type=kind)
