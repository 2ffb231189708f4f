"""Plain-text paragraphs of Wikipedia articles: the text behind the edits' key statistics.

The source is a MediaWiki XML export, compressed with bzip2. What a reader of the article would
not read as sentences (tables, references, infoboxes, galleries, short list items) is left out,
and a list item that is long enough to be prose is a paragraph of its own. A paragraph
with something in its middle that plain text cannot hold, such as a formula, is left out whole:
a sentence with a hole in it is no sample of English.
"""

from __future__ import annotations

import bz2
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.wikicode import Wikicode

from locedit.errors import LoceditError

MIN_CHARACTERS = 100

# Marks left in rendered text, from Unicode's private use area: neither occurs in an article.
_HOLE = "\ue000"  # content that plain text cannot hold: its paragraph is left out
_LIST_ITEM = "\ue001"  # opens a list item: a paragraph of its own

_SKIPPED_SECTIONS = frozenset(
    "bibliography|citations|cited sources|external links|footnotes|further reading|gallery|"
    "literature cited|notes|notes and references|references|references and notes|"
    "references and sources|see also|sources|works cited".split("|")
)
_SKIPPED_TAGS = frozenset("gallery imagemap ol ref references table timeline ul".split())
_HOLE_TAGS = frozenset("ce chem code math poem pre s score source sup syntaxhighlight".split())
_HOLE_TEMPLATES = frozenset(
    "chem e format_price frac hms math music nuclide2 quote railgauge sfrac su val".split()
)
_FIXED_TEMPLATES = {
    "'": "'",
    "' \"": "' \"",
    "'s": "'s",
    "mdash": "—",
    "mdashb": "—",
    "nbsp": " ",
    "ndash": "–",
    "snd": " – ",
    "spaced ndash": " – ",
    "spaces": " ",
    "thinsp": " ",
}
_FIRST_ARGUMENT = frozenset(
    "abbr angbr big nihongo nobr nobold nowrap sc small smaller smallcaps vanchor vr".split()
)
_LAST_ARGUMENT = frozenset("lang rtl-lang script transl".split())
_UNITS = {
    "C": "°C",
    "F": "°F",
    "acre": "acres",
    "km2": "km²",
    "m2": "m²",
    "sqmi": "square miles",
}
_RANGES = {
    "-": "–",
    "and": " and ",
    "by": " by ",
    "or": " or ",
    "to": " to ",
    "x": " × ",
}

_SILENT_LINK = re.compile(r":?(?:file|image|category|media|[a-z]{2,3}(?:-[a-z]+)*):", re.IGNORECASE)
_MARKUP = re.compile(
    r"\[\[|\]\]|[{}|]|<[/!a-z]|&[a-z#]\w*;|__[A-Z]+__|https?://|==|''",
    re.IGNORECASE,
)
_BOLD_OR_ITALIC = re.compile(r"'{2,5}")
_EMPTY_BRACKETS = re.compile(r"\(\s*(?:(?:or|and)\s+)?[\s,;:–-]*\)|\[\s*\]")
_AFTER_BRACKET = re.compile(r"([(\[])[\s,;:]+")
_DOUBLED_MARK = re.compile(r"[;,]\s*(?=[;,)]|\.(?!\.))")
_BEFORE_MARK = re.compile(r"\s+(?=[,;:)\]!?]|\.(?!\d|\.))")
_SENTENCE_END = re.compile(r"[.!?:][\"'”’)\]]*$")
_MIN_LETTERS = 0.75  # of all that is no space: fewer make a row of figures


class CorpusError(LoceditError):
    """A dump that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """One paragraph; `index` counts from 0 within its article."""

    title: str
    index: int
    text: str


def paragraphs(dump: Path, *, min_characters: int = MIN_CHARACTERS) -> Iterator[Paragraph]:
    """The paragraphs of at least `min_characters` of a dump's articles, in the dump's order."""
    for title, wikitext in _articles(dump):
        texts = (text for text in plain_paragraphs(wikitext) if len(text) >= min_characters)
        for index, text in enumerate(texts):
            yield Paragraph(title=title, index=index, text=text)


def plain_paragraphs(wikitext: str) -> Iterator[str]:
    """An article's readable paragraphs, in order, whatever their length."""
    for block in re.split(r"\n[ \t]*\n", _render_article(wikitext)):
        for lines in _runs_of_prose(block.split("\n")):
            text = _tidy(" ".join(lines))
            if _reads_as_prose(text):
                yield text


def _articles(dump: Path) -> Iterator[tuple[str, str]]:
    """(title, wiki-text) of every page that is an article and no redirect."""
    try:
        with bz2.open(dump, "rb") as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag.rpartition("}")[2] != "page":
                    continue
                wikitext = element.findtext(".//{*}text") or ""
                article = element.findtext("{*}ns", "0") == "0"
                redirect = element.find("{*}redirect") is not None
                if article and not redirect and not wikitext.lower().startswith("#redirect"):
                    yield element.findtext("{*}title") or "", wikitext
                element.clear()
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise CorpusError(
            f"{dump} cannot be read as a MediaWiki XML export compressed with bzip2 ({error}); "
            "delete it and fetch it again."
        ) from error


def _render_article(wikitext: str) -> str:
    """Text with one blank line between paragraphs, without the sections that hold no prose."""
    parts: list[str] = []
    skipping = False
    for node in mwparserfromhell.parse(wikitext, skip_style_tags=True).nodes:
        if isinstance(node, nodes.Heading):
            # A skipped section ends with the next of the article's own (second-level) headings.
            if not skipping or node.level <= 2:
                name = node.title.strip_code().strip().lower()
                skipping = name in _SKIPPED_SECTIONS
            parts.append("\n\n")
        elif not skipping:
            parts.append(_render(node))
    return "".join(parts)


def _render_code(code: Wikicode | None) -> str:
    return "" if code is None else "".join(_render(node) for node in code.nodes)


def _render(node: nodes.Node) -> str:
    if isinstance(node, nodes.Text):
        return str(node.value)
    if isinstance(node, nodes.HTMLEntity):
        return str(node.normalize())
    if isinstance(node, nodes.Wikilink):
        return _render_link(node)
    if isinstance(node, nodes.ExternalLink):
        return _render_code(node.title) if node.brackets else ""
    if isinstance(node, nodes.Template):
        return _render_template(node)
    if isinstance(node, nodes.Tag):
        return _render_tag(node)
    return ""  # comments, headings inside something else, template arguments


def _render_link(link: nodes.Wikilink) -> str:
    title = str(link.title).strip()
    if _SILENT_LINK.match(title):
        return ""
    return _render_code(link.title if link.text is None else link.text).lstrip(":")


def _render_tag(tag: nodes.Tag) -> str:
    name = str(tag.tag).strip().lower()
    if tag.wiki_markup is not None and name in {"li", "dd", "dt"}:
        # A term and its definition on one line (`; term : definition`) make no sentence.
        return _LIST_ITEM + _HOLE if name == "dt" else _LIST_ITEM
    if name in _HOLE_TAGS:
        return _HOLE
    if name in _SKIPPED_TAGS:
        return ""
    if name == "br":
        return " "
    contents = _render_code(tag.contents)
    return f"\n\n{contents}\n\n" if name in {"blockquote", "div", "center", "p"} else contents


def _render_template(template: nodes.Template) -> str:
    """The text of the few templates that carry words of a sentence; all others are silent."""
    name = str(template.name).strip().lower()
    if name in _FIXED_TEMPLATES:
        return _FIXED_TEMPLATES[name]
    if name.replace(" ", "_") in _HOLE_TEMPLATES:
        return _HOLE
    renderer = _RENDERERS.get(name)
    arguments = _positional(template)
    if renderer is not None:
        return renderer(template, arguments)
    if name in _FIRST_ARGUMENT or (name.startswith("lang-") and arguments):
        return arguments[0] if arguments else _HOLE
    if name in _LAST_ARGUMENT:
        return arguments[-1] if arguments else _HOLE
    return ""


def _positional(template: nodes.Template) -> list[str]:
    return [_render_code(p.value).strip() for p in template.params if not p.showkey]


def _convert(template: nodes.Template, arguments: list[str]) -> str:
    """`convert|5|to|6|km` -> `5 to 6 km`: the quantity as the author gave it."""
    match arguments:
        case [low, str(word), high, unit, *_] if word in _RANGES:
            return f"{low}{_RANGES[word]}{high} {_UNITS.get(unit, unit)}"
        case [value, unit, *_]:
            return f"{value} {_UNITS.get(unit, unit)}"
    return _HOLE


def _as_of(template: nodes.Template, arguments: list[str]) -> str:
    if not arguments:
        return _HOLE
    return f"{'as' if template.has('lc') else 'As'} of {arguments[0]}"


_RENDERERS: dict[str, Callable[[nodes.Template, list[str]], str]] = {
    "as of": _as_of,
    "convert": _convert,
    "cvt": _convert,
}


def _runs_of_prose(lines: list[str]) -> Iterator[list[str]]:
    """Neighbouring lines, which MediaWiki shows as one paragraph, and list items, each alone."""
    run: list[str] = []
    for line in lines:
        item = line.startswith(_LIST_ITEM)
        # MediaWiki shows a line that opens with a space as it is typed: a diagram or a formula.
        if item or re.match(r" +\S", line):
            if run:
                yield run
            run = []
            if item:
                yield [line.replace(_LIST_ITEM, "")]
        elif line.strip():
            run.append(line)
    if run:
        yield run


def _tidy(text: str) -> str:
    """Closes the gaps that left-out references, pronunciations and links leave behind."""
    text = _BOLD_OR_ITALIC.sub("", text.replace("\u200b", "").replace("\ufeff", ""))
    text = _EMPTY_BRACKETS.sub("", text)
    text = _AFTER_BRACKET.sub(r"\1", text)
    text = _DOUBLED_MARK.sub("", text)
    text = re.sub(r"\s+", " ", text)
    return _BEFORE_MARK.sub("", text).strip()


def _reads_as_prose(text: str) -> bool:
    if not text or text[0].islower() or not _SENTENCE_END.search(text):
        return False
    if _HOLE in text or _MARKUP.search(text):
        return False
    letters = sum(c.isalpha() for c in text)
    return letters >= _MIN_LETTERS * len(text.replace(" ", ""))
