"""Corpus: wiki-text in, clean paragraphs of English out."""

import bz2
import re
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from locedit.facts.corpus import CorpusError, paragraphs, plain_paragraphs
from locedit.store import assets

LONG = "This sentence is repeated until the paragraph is long enough to be kept. " * 2


def write_dump(path: Path, *pages: str) -> Path:
    export = (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{"".join(pages)}</mediawiki>'
    )
    path.write_bytes(bz2.compress(export.encode()))
    return path


def page(title: str, wikitext: str, *, space: int = 0, redirect: str = "") -> str:
    return (
        f"<page><title>{title}</title><ns>{space}</ns>{redirect}"
        f"<revision><text>{escape(wikitext)}</text></revision></page>"
    )


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Paris''' is the ''capital'' of [[France]].", "Paris is the capital of France."),
        ("It lies on the [[Seine|river Seine]].", "It lies on the river Seine."),
        ("[[File:A.jpg|thumb|left|A [[tower]].]]The tower is high.", "The tower is high."),
        (
            'The city had walls by 1163.<ref name="a">{{cite book}}</ref>',
            "The city had walls by 1163.",
        ),
        ("A city ({{IPAc-en|p|æ}}; {{lang-fr|Ville}}) there.", "A city (Ville) there."),
        ("A city ({{IPAc-en|p|æ}}) there.", "A city there."),
        ("The river is {{convert|5|to|6|km|mi}} long.", "The river is 5 to 6 km long."),
        ("{{As of|2014|lc=y}}", None),
        ("The state of things {{as of|2014|lc=y}}.", "The state of things as of 2014."),
        ("Its word is {{lang|grc|ἀρχή}}&nbsp;&ndash; rule.", "Its word is ἀρχή – rule."),
        ("Water is written H<sub>2</sub>O.", "Water is written H2O."),
        ("Its mass is 10<sup>5</sup> kg.", None),
        ("The sum <math>x + y</math> is even.", None),
        ("See [http://example.org the page].", "See the page."),
        ("Nothing.<!-- to be written -->", "Nothing."),
        ("{| class='wikitable'\n| a table || of two cells.\n|}", None),
        ("no sentence at all", None),
        ("[[Category:Cities in France]]", None),
    ],
)
def test_wikitext_becomes_what_a_reader_sees(wikitext, text):
    assert list(plain_paragraphs(wikitext)) == ([] if text is None else [text])


def test_blank_lines_headings_and_list_items_part_paragraphs():
    wikitext = "One\nand one.\n\nTwo.\n== Heading ==\nThree.\n* Four.\n* Five.\nSix."
    assert list(plain_paragraphs(wikitext)) == [
        "One and one.",
        "Two.",
        "Three.",
        "Four.",
        "Five.",
        "Six.",
    ]


def test_sections_without_prose_are_left_out_with_all_below_them():
    wikitext = "One.\n== See also ==\nTwo.\n=== Books ===\nThree.\n== History ==\nFour."
    assert list(plain_paragraphs(wikitext)) == ["One.", "Four."]


def test_only_long_paragraphs_of_articles_are_kept_and_counted(tmp_path):
    dump = write_dump(
        tmp_path / "dump.xml.bz2",
        page("First", f"{LONG}\n\nShort.\n\n{LONG}"),
        page("Old name", "#REDIRECT [[First]]", redirect='<redirect title="First" />'),
        page("Template:Box", LONG, space=10),
        page("Second", LONG),
    )
    kept = [(p.title, p.index) for p in paragraphs(dump)]
    assert kept == [("First", 0), ("First", 1), ("Second", 0)]
    assert {p.text for p in paragraphs(dump)} == {LONG.strip()}


@pytest.mark.parametrize("content", [b"not compressed", bz2.compress(b"<mediawiki><page>")])
def test_a_dump_that_cannot_be_read_is_named(tmp_path, content):
    dump = tmp_path / "dump.xml.bz2"
    dump.write_bytes(content)
    with pytest.raises(CorpusError, match=r"dump\.xml\.bz2 cannot be read as a MediaWiki"):
        list(paragraphs(dump))


def test_a_truncated_dump_is_named(tmp_path):
    dump = write_dump(tmp_path / "dump.xml.bz2", page("First", LONG))
    dump.write_bytes(dump.read_bytes()[:-20])
    with pytest.raises(CorpusError, match="delete it and fetch it again"):
        list(paragraphs(dump))


@pytest.mark.slow
def test_the_real_dump_gives_clean_text_in_the_same_order_each_time():
    dump = assets.cached_path(assets.named("enwiki-shortened"), assets.cache_dir())
    if not dump.exists():
        pytest.skip("the dump is not in the cache; `make reproduce` puts it there")
    found = list(paragraphs(dump))
    assert found[:500] == list(islice(paragraphs(dump), 500))
    assert len({p.title for p in found}) >= 95
    assert sum(len(p.text) for p in found) > 2_400_000
    leftover = re.compile(r"\[\[|\]\]|[{}|]|<ref|</|&nbsp;|''|==|\( |\(\)| ,|  |\bthumb\|")
    assert [p for p in found if leftover.search(p.text)] == []
    assert min(len(p.text) for p in found) >= 100
