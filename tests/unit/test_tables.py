"""Tables: whole or absent, as their schema says, and saying how they were made."""

import os
import re
import stat

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from locedit.store import files, schemas, tables
from locedit.store.tables import TableError

ROWS = [
    {"case_id": "1", "texts": ["a", "b"], "perplexity": [1.5, 2.5]},
    {"case_id": "2", "texts": [], "perplexity": []},
]
ADVICE = "; delete it and run again, so that it is made anew"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "essence.parquet"


def fails(call, *arguments):
    with pytest.raises(TableError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- writing -------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(path):
    tables.write(path, ROWS, "essence")
    table = tables.read(path, "essence")
    assert list(table.columns) == schemas.SCHEMAS["essence"].names
    rows = [
        {name: list(v) if isinstance(v, np.ndarray) else v for name, v in row.items()}
        for row in table.to_dict("records")
    ]
    assert rows == ROWS


def test_what_a_row_leaves_out_is_missing(path):
    tables.write(path, [{"case_id": "1", "status": "failed: no"}], "editing")
    table = tables.read(path, "editing")
    assert table.loc[0, "status"] == "failed: no"
    assert table.drop(columns=["case_id", "status"]).isna().all(axis=None)


def test_rows_are_taken_from_a_generator_a_chunk_at_a_time(path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK", 3)
    given: list = []
    written: list = []
    from_rows = tables._from_rows

    def noted(*arguments):
        written.append(len(given))
        return from_rows(*arguments)

    def rows():
        for index in range(8):
            given.append(index)
            yield {"case_id": str(index), "texts": [], "perplexity": None}

    monkeypatch.setattr(tables, "_from_rows", noted)
    tables.write(path, rows(), "essence", {"rule": "r"})
    assert written == [3, 6, 8], "how many rows had been asked for when each chunk was written"
    assert tables.read(path, "essence")["case_id"].tolist() == list("01234567")
    assert tables.provenance(path) == {"rule": "r"}


def test_a_generator_that_fails_leaves_the_old_table(path):
    def rows():
        yield ROWS[0]
        raise RuntimeError("the job failed")

    tables.write(path, ROWS, "essence")
    with pytest.raises(RuntimeError, match="the job failed"):
        tables.write(path, rows(), "essence")
    assert len(tables.read(path, "essence")) == len(ROWS)
    assert list(path.parent.iterdir()) == [path]


def test_a_table_without_rows_has_its_columns(path):
    tables.write(path, [], "scores")
    table = tables.read(path, "scores")
    assert (len(table), list(table.columns)) == (0, schemas.SCHEMAS["scores"].names)


def test_a_data_frame_is_written_under_a_schema_or_as_it_is(path):
    frame = pd.DataFrame({"method": ["rome"], "set": [0], "template": ["{}"]}, index=[9])
    tables.write(path, frame, "contexts")
    assert pq.read_schema(path).field("set").type == pa.int32()
    tables.write(path, frame.assign(more=0.5), None)
    assert list(tables.read(path, None).columns) == ["method", "set", "template", "more"]


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_every_schema_can_be_written_and_read(path, name):
    tables.write(path, [{}], name)
    assert pq.read_schema(path).names == schemas.SCHEMAS[name].names
    assert len(tables.read(path, name)) == 1


def test_a_column_that_the_schema_does_not_know_is_refused(path):
    text = fails(tables.write, path, [{"case_id": "1", "perplexty": [1.0]}], "essence")
    assert text == f"{path}: columns ['perplexty'] are not in the schema 'essence'"
    assert not path.exists()


def test_rows_need_a_schema(path):
    assert fails(tables.write, path, ROWS, None) == f"{path}: rows need a schema"


def test_values_of_another_type_are_refused_and_leave_nothing(path):
    path.parent.mkdir()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        tables.write(path, [{"case_id": "1", "perplexity": ["high"]}], "essence")
    assert list(path.parent.iterdir()) == []


# ---- all or nothing ------------------------------------------------------------------------------


def test_an_error_while_writing_leaves_nothing(path, monkeypatch):
    def breaks(_writer, _table):
        raise OSError("disk full")

    monkeypatch.setattr(tables.pq.ParquetWriter, "write_table", breaks)
    with pytest.raises(OSError, match="disk full"):
        tables.write(path, ROWS, "essence")
    assert list(path.parent.iterdir()) == []


def test_an_error_while_writing_leaves_the_older_table(path, monkeypatch):
    tables.write(path, ROWS, "essence")
    before = path.read_bytes()

    def breaks(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tables.pq.ParquetWriter, "write_table", breaks)
    with pytest.raises(KeyboardInterrupt):
        tables.write(path, ROWS[:1], "essence")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_nothing_has_the_tables_name_before_it_is_whole(path):
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_new_table_can_be_read_by_whoever_may_read_new_files(path):
    mask = os.umask(0o027)
    try:
        tables.write(path, ROWS, "essence")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


# ---- reading -------------------------------------------------------------------------------------


def test_a_missing_table_names_the_file(path):
    assert fails(tables.read, path, "essence") == (
        f"{path}: no such table; run the stage that makes it"
    )


@pytest.mark.parametrize("left", [0, 3, 100, -1], ids=["empty", "3 bytes", "100 bytes", "but one"])
def test_a_table_that_is_cut_off_names_the_file_and_what_to_do(path, left):
    tables.write(path, ROWS, "essence")
    path.write_bytes(path.read_bytes()[:left])
    text = fails(tables.read, path, "essence")
    assert re.fullmatch(rf"{re.escape(str(path))} is not a whole Parquet file \(.+\){ADVICE}", text)
    assert fails(lambda: tables.read(path, "essence", flat=True)).startswith(f"{path} is not a ")


def test_a_file_of_another_kind_names_the_file(path):
    path.parent.mkdir()
    path.write_text("case_id,texts\n1,a\n" * 10)
    assert fails(tables.read, path, "essence").startswith(f"{path} is not a whole Parquet file (")


def test_a_table_of_another_schema_names_what_it_lacks(path):
    tables.write(path, [{"case_id": "1"}], "essence")
    assert fails(tables.read, path, "contexts") == (
        f"{path} lacks the columns method, set, template{ADVICE}"
    )


def test_flat_leaves_list_columns_out(path):
    tables.write(path, ROWS, "essence")
    assert list(tables.read(path, None, flat=True).columns) == ["case_id"]


# ---- provenance ----------------------------------------------------------------------------------


def test_provenance_comes_back(path):
    made = {"rule": "essence", "config": {"tokens": 50, "model": "Größe"}, "seeds": [1, 2]}
    tables.write(path, ROWS, "essence", made)
    assert tables.provenance(path) == made


def test_provenance_of_a_data_frame_comes_back_and_pandas_own_stays(path):
    tables.write(path, pd.DataFrame({"n": [1]}), None, {"rule": "r"})
    assert tables.provenance(path) == {"rule": "r"}
    assert pd.read_parquet(path)["n"].tolist() == [1]


def test_a_table_without_provenance_says_nothing(path):
    path.parent.mkdir()
    pq.write_table(pa.table({"a": [1]}), path)
    assert tables.provenance(path) == {}
    tables.write(path, ROWS, "essence")
    assert tables.provenance(path) == {}
