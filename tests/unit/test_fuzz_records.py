"""Whatever comes in as records, tables or bytes: a row with a status or one sentence, never a
traceback, and no row vanishes.
"""

import csv
import functools
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import GOOD, JSON, PROMPT, TEXT, cases, damaged, one_sentence
from hypothesis import assume, given
from hypothesis import strategies as st

from locedit.facts.record import EXCLUDED, KEPT, exclusions, read_records
from locedit.facts.records import DataError
from locedit.store import tables

pytestmark = pytest.mark.slow  # hundreds of made-up inputs

OTHER = {  # of the same relation, so that there is a false object to draw
    "zsre": {"subject": "Italy", "src": "What is the capital of Italy?", "answers": ["Rome"]},
    "known_1000": {
        "known_id": 2,
        "subject": "Italy",
        "prompt": "The capital of Italy is",
        "attribute": "Rome",
        "relation_id": "capital",
    },
}


@st.composite
def mutated(draw, value, depth=3):
    """A value as it is, or with keys left out, added, of another type or of another text."""
    kind = draw(st.integers(0, 24))
    if kind == 0:
        return draw(JSON)
    if isinstance(value, Mapping) and depth:
        keys = [key for key in value if draw(st.integers(0, 24))]
        changed = {key: draw(mutated(value[key], depth - 1)) for key in keys}
        return changed | (draw(st.dictionaries(TEXT, JSON, max_size=2)) if kind == 1 else {})
    if isinstance(value, list) and depth:
        items = [draw(mutated(item, depth - 1)) for item in value]
        return items * draw(st.integers(0, 2)) if kind < 4 else items
    if isinstance(value, str):
        return draw(st.one_of(PROMPT, TEXT)) if kind < 9 else value
    return value


@st.composite
def record_lists(draw, format):
    """A few records of a form, most of them damaged, one or two perhaps twice."""
    sound = [GOOD[format], *([OTHER[format]] if format in OTHER else [])]
    records = [*sound] if draw(st.booleans()) else []
    records += draw(st.lists(mutated(GOOD[format]), max_size=4))
    return records + draw(st.lists(st.sampled_from(records or [None]), max_size=2))


def reads(path: Path, format: str, count: int | None, **how) -> list[dict] | None:
    """The rows of a file, None where it is refused; that they are what they should be."""
    try:
        rows = read_records(path, format, **how)
    except DataError as error:
        one_sentence(str(error), str(path))
        return None
    assert count is None or len(rows) == count, "no row vanishes"
    kept = [row for row in rows if row["status"] == KEPT]
    assert len({row["case_id"] for row in kept}) == len(kept)
    for row in rows:
        assert row["status"] in (KEPT, EXCLUDED)
        assert (row["reason"] == "") == (row["status"] == KEPT)
        assert len(row["reason"]) < 500
        assert "\n" not in row["reason"]
    for row in kept:
        assert row["subject"] in row["prompt"]
        assert row["target_true"] != row["target_new"]
        assert row["target_true"].strip() == row["target_true"] != ""
    again = read_records(path, format, **how)
    assert rows == again, "the same file gives the same rows"
    stored = path.parent / "facts.parquet"
    tables.write(stored, rows, "facts")
    back = tables.read(stored, "facts")
    assert list(back["case_id"]) == [row["case_id"] for row in rows]
    assert list(back["prompt"]) == [row["prompt"] for row in rows]
    one_sentence(exclusions(rows) or "none")
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("format", GOOD)
@cases(60)
@given(data=st.data())
def test_records_of_every_format_become_rows(folder, format, data):
    records = data.draw(record_lists(format))
    lines = data.draw(st.booleans())
    path = folder / ("records.jsonl" if lines else "records.json")
    if lines:
        escaped = data.draw(st.booleans())
        text = "".join(json.dumps(one, ensure_ascii=escaped) + "\n" for one in records)
        path.write_text(text, encoding="utf-8", errors="replace", newline="")
    else:
        path.write_text(json.dumps(records), encoding="utf-8")
    rows = reads(path, format, len(records))
    if any(one == GOOD[format] for one in records) and rows is not None:
        first = next(i for i, one in enumerate(records) if one == GOOD[format])
        before = {row["case_id"] for row in rows[:first] if row["status"] == KEPT}
        drawn = rows[first]["reason"].startswith("no false object")  # all others are bad
        assert rows[first]["status"] == KEPT or rows[first]["case_id"] in before or drawn


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@cases(50)
@given(data=st.data())
def test_tables_of_ones_own_become_rows(folder, suffix, data):
    texts = st.one_of(st.none(), PROMPT, st.sampled_from(["Paris", "Rome", "a|b||c"]))
    columns = data.draw(
        st.lists(
            st.one_of(st.sampled_from([*GOOD["native"]]), TEXT.map(_encodable)),
            unique=True,
            max_size=9,
        )
    )
    rows = data.draw(st.lists(st.tuples(*(texts for _ in columns)), max_size=4))
    path = folder / f"table.{suffix}"
    if suffix == "parquet":
        assume(columns)
        cells = {c: [_encodable(row[i]) for row in rows] for i, c in enumerate(columns)}
        typed = {c: pa.array(values, pa.string()) for c, values in cells.items()}
        if data.draw(st.booleans()):
            other = st.sampled_from([pa.int64(), pa.list_(pa.string()), pa.date32(), pa.binary()])
            typed[columns[0]] = pa.nulls(len(rows), data.draw(other))
        pq.write_table(pa.table(typed), path)
    else:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter="\t" if suffix == "tsv" else ",")
        writer.writerows([[_encodable(c) for c in row] for row in [columns, *rows]])
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    mapping = data.draw(
        st.dictionaries(st.sampled_from([*GOOD["native"]]), st.sampled_from(columns or [""]))
    )
    separator = data.draw(st.sampled_from(["|", "||", "a", "\n"]))
    reads(path, "native", None, columns=mapping, separator=separator)


def _encodable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


DEEP = ["[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 5000, "[" + "9" * 5000 + "]", "[1e999]"]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "parquet", "txt"])
@cases(40)
@given(data=st.data())
def test_any_bytes_are_refused_or_read(folder, suffix, data):
    content = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.sampled_from(DEEP).map(str.encode),
            JSON.map(json.dumps).map(str.encode),
            damaged(_parquet_bytes()),
        )
    )
    path = folder / f"bytes.{suffix}"
    path.write_bytes(content)
    reads(path, data.draw(st.sampled_from([*GOOD])), None)


@functools.cache
def _parquet_bytes() -> bytes:
    stream = io.BytesIO()
    native = {k: [v] for k, v in GOOD["native"].items()}
    pq.write_table(pa.table(native), stream)
    return stream.getvalue()


@cases(60)
@given(data=st.data())
def test_a_damaged_table_is_named(folder, data):
    path = folder / "damaged.parquet"
    path.write_bytes(data.draw(damaged(_stored_table(folder)) | st.binary(max_size=60)))
    for read in (
        lambda: tables.read(path, "facts"),
        lambda: tables.read(path, None, flat=True),
        lambda: tables.provenance(path),
    ):
        try:
            read()
        except tables.TableError as error:
            one_sentence(str(error), str(path))


@functools.cache
def _stored_table(folder: Path) -> bytes:
    rows = [{"case_id": "1", "subject": "France", "is_correct": True, "p_true": 0.5}]
    tables.write(
        folder / "whole.parquet", rows, "facts", {"rule": "filter_facts", "config": {"seed": 0}}
    )
    return (folder / "whole.parquet").read_bytes()
