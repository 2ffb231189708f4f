"""The report's page: figures and tables as the template takes them, and the zip that holds all.

The page holds its style and its figures in itself, so that it can be read straight from the zip or
be sent alone. The files beside it (figures, tables, configuration) are for use elsewhere.
"""

import base64
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup, escape

from locedit.errors import LoceditError
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
    """A table as the page shows it: the main part of its own page, and the files."""

    name: str
    title: Markup
    content: Markup
    missing: str  # why there is no content
    files: Mapping[str, Path]  # by kind: html, csv


@dataclass(frozen=True, kw_only=True)
class Section:
    """A question, and which figures answer it: names, or patterns, in the order shown."""

    id: str
    title: str
    intro: str
    patterns: Sequence[str]


SECTIONS = (
    Section(
        id="tracing",
        title="Where does tracing find facts?",
        intro="Causal tracing spoils the subject's embeddings, restores clean activations at one "
        "token and a window of layers, and measures how much of the fact's probability returns.",
        patterns=("tracing_peaks*", "tracing_effect*", "tracing_*", "heatmap*"),
    ),
    Section(
        id="editing",
        title="Where do edits work?",
        intro="Every fact is edited at every edit layer, by each method, each time from the "
        "unedited model. Scores lie between 0 and 1; higher is better.",
        patterns=(
            "overall_by_layer",
            "rewrite_by_layer",
            "paraphrase_by_layer",
            "neighbourhood_by_layer",
            "essence_by_layer",
            "success*",
        ),
    ),
    Section(
        id="informing",
        title="Does one inform the other?",
        intro="If tracing told where to edit, edits would work better at layers with a larger "
        "tracing effect, and the effect would explain scores beyond the edit layer itself.",
        patterns=("regret*", "r2_by_problem", "rewrite_vs_effect*", "correlations*", "r2_*"),
    ),
    Section(
        id="certainty",
        title="How sure are we?",
        intro="Edits of one fact are not independent, and few facts flatter every regression. "
        "These analyses know which rows share a fact.",
        patterns=("diff_*", "out_of_fold*", "mixed*", "reliability*"),
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


def arranged(figures: Iterable[Figure]) -> list[tuple[Section, list[Figure]]]:
    """The sections with their figures, each figure once, where its name first fits."""
    left = {figure.name: figure for figure in figures}
    placed = []
    for section in (*SECTIONS, REMAINING):
        mine = []
        for pattern in section.patterns:
            names = [name for name in left if fnmatch(name, pattern)]
            mine += [left.pop(name) for name in names]
        if mine:
            placed.append((section, mine))
    return placed


# ---- tables --------------------------------------------------------------------------------------


def read_table(folder: Path, name: str, n_rows: int) -> Table:
    """A table's words and its main part, from its own page, with the rest of that folded."""
    paths = {kind: folder / f"{name}.{kind}" for kind in ("html", "csv")}
    present = {kind: path for kind, path in paths.items() if path.is_file()}
    reader = TablePage()
    if "html" in present:
        reader.feed(present["html"].read_text(encoding="utf-8"))
    title = Markup("".join(reader.title).strip() or name.replace("_", " ").capitalize())
    content = Markup(reader.content()) if n_rows else Markup("")
    missing = "" if content else f"{name}.html is missing" if n_rows else "it has no rows"
    return Table(name=name, title=title, content=content, missing=missing, files=present)


class TablePage(HTMLParser):
    """The body of a table's page but for its heading, the line below that, and folded parts.

    What follows the second of its other headings, which go down two levels, is folded in turn; what
    scrolls can be reached by the keyboard.
    """

    LEFT_OUT = ("head", "style", "script", "title", "details", "h1")
    NO_END = ("meta", "link", "br", "hr", "img")
    AROUND = ("html", "body", *NO_END)

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self.title: list[str] = []
        self._parts = 0  # headings kept
        self._skipped: list[str] = []  # open elements, from the outermost that is left out

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class")
        if self._skipped or tag in self.LEFT_OUT or (tag, kind) == ("p", "of"):
            self._skipped += [tag] if tag not in self.NO_END else []
        elif tag == "h2":
            self.kept.append(self._opened() + "<h4>")
        elif kind == "wide":
            self.kept.append('<div class="wide" role="region" aria-label="Rows" tabindex="0">')
        elif tag not in self.AROUND:
            self.kept.append(self.get_starttag_text() or "")

    def _opened(self) -> str:
        """What stands before a heading: before the second, the fold of all but the first part."""
        self._parts += 1
        return "<details><summary>More of this table</summary>" if self._parts == 2 else ""

    def content(self) -> str:
        return "".join(self.kept).strip() + ("</details>" if self._parts > 1 else "")

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            self._skipped = self._skipped[:-1] if tag == self._skipped[-1] else self._skipped
        elif tag not in self.AROUND:
            self.kept.append("</h4>" if tag == "h2" else f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.kept.append(data)
        elif self._skipped[0] == "h1":
            self.title.append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")


# ---- the page and its zip ------------------------------------------------------------------------


def render(source: Path, **context: Any) -> str:
    """index.html, of the template and the style sheet in `source`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["unbroken"] = _unbroken
    style = (source / "style.css").read_text(encoding="utf-8")
    return environment.get_template("index.html.jinja").render(style=style, **context)


def _unbroken(text: str) -> Markup:
    """Words such as FT-1 that no line may end within."""
    return Markup(re.sub(r"\w+-\d+\b", r'<span class="word">\g<0></span>', str(escape(text))))


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
