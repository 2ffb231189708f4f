"""Every Parquet table: its schema, an atomic write with provenance, a checked read.

`results/README.md` documents the columns for people; this is what the code holds itself to.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from locedit.errors import LoceditError
from locedit.messages import one_line
from locedit.store.files import atomic
from locedit.store.schemas import SCHEMAS


class TableError(LoceditError):
    """A table that cannot be read or written; the message names the file and what to do."""


# Arrow's own errors, and Python's where values are no UTF-8 or no dates
_NO_PARQUET = (pa.ArrowException, OSError, ValueError, OverflowError, RecursionError)

_ADVICE = "delete it and run again, so that it is made anew"

CHUNK = 4096  # rows held in memory while a table is written


def write(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame,
    schema: str | None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write rows under the named schema (None: as the data frame has them), all or nothing.

    Rows may come one by one from a generator: a few thousand at a time are held, so that a long
    job's memory does not grow. `provenance` becomes the file's metadata, one JSON text under the
    key `provenance`.
    """
    arrow = SCHEMAS[schema] if schema else None
    if isinstance(rows, pd.DataFrame):
        table = pa.Table.from_pandas(rows, schema=arrow, preserve_index=False)
        arrow, parts = table.schema, iter([table])
    elif schema is None:
        raise TableError(f"{path}: rows need a schema")
    else:
        remaining = iter(rows)
        chunks = iter(lambda: list(islice(remaining, CHUNK)), [])
        parts = (_from_rows(path, chunk, schema) for chunk in chunks)
    assert arrow is not None
    _write(path, arrow, provenance or {}, parts)


def _write(
    path: str | Path, arrow: pa.Schema, provenance: Mapping[str, Any], parts: Iterable[pa.Table]
) -> None:
    made = json.dumps(provenance, sort_keys=True, default=str).encode()
    arrow = arrow.with_metadata({**(arrow.metadata or {}), b"provenance": made})
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, arrow, write_page_checksum=True) as writer,
    ):
        for part in parts:
            writer.write_table(part.replace_schema_metadata(arrow.metadata))


def _from_rows(path: str | Path, rows: Sequence[Mapping[str, Any]], name: str) -> pa.Table:
    schema = SCHEMAS[name]
    unknown = {key for row in rows for key in row} - set(schema.names)
    if unknown:
        raise TableError(f"{path}: columns {sorted(unknown)} are not in the schema {name!r}")
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def read(path: str | Path, schema: str | None, *, flat: bool = False) -> pd.DataFrame:
    """Read a table and check it against the named schema; `flat` leaves list columns out.

    Raises TableError where the file is missing, cut off, changed, or has other columns.
    """
    table = _read_arrow(path, schema, flat=flat)
    try:
        return table.to_pandas()
    except _NO_PARQUET as error:
        raise _not_whole(path, error) from error


def records(path: str | Path, schema: str | None) -> list[dict[str, Any]]:
    """A table's rows in plain values, to be carried on: None in every empty cell, lists as lists.

    A data frame's rows will not do, since text, lists and flags that are missing are NaN there. A
    number that was computed and is none stays NaN. Raises what `read` does.
    """
    return _read_arrow(path, schema).to_pylist()


def _not_whole(path: str | Path, error: Exception) -> TableError:
    return TableError(f"{path} is not a whole Parquet file ({one_line(error, 200)}); {_ADVICE}")


def _read_arrow(path: str | Path, schema: str | None, *, flat: bool = False) -> pa.Table:
    try:
        columns = None
        if flat:
            columns = [f.name for f in pq.read_schema(path) if not pa.types.is_nested(f.type)]
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
        table.validate(full=True)  # also what the texts are made of
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such table; run the stage that makes it") from error
    except _NO_PARQUET as error:
        raise _not_whole(path, error) from error
    if schema is not None:
        missing = [name for name in SCHEMAS[schema].names if name not in table.schema.names]
        if missing:
            raise TableError(f"{path} lacks the columns {', '.join(missing)}; {_ADVICE}")
    return table


def merge(path: str | Path, parts: Sequence[str | Path], order: Sequence[str]) -> None:
    """Write the table that the parts are of: their rows by case_id in the order given.

    Its provenance is the parts'. Raises TableError where they were not made alike, where a fact is
    missing, or where one is in two of them.
    """
    advice = f"delete {', '.join(map(str, parts))} and run again"
    tables = [_read_arrow(part, None) for part in parts]
    made = [provenance(part) for part in parts]
    if any(other.get("fingerprint") != made[0].get("fingerprint") for other in made):
        raise TableError(f"{path}: its parts were not made alike; {advice}")
    of = [case_id for table in tables for case_id in table["case_id"].unique().to_pylist()]
    if sorted(of) != sorted(order):
        raise TableError(
            f"{path}: expected the study's {len(order)} facts, each in one of its parts, and these "
            f"have {len(of)} or others; {advice}"
        )
    arrow = next(arrow for arrow in SCHEMAS.values() if arrow.equals(tables[0].schema))
    whole = pa.concat_tables(table.cast(arrow) for table in tables)
    position = {case_id: index for index, case_id in enumerate(order)}
    rows = np.argsort([position[c] for c in whole["case_id"].to_pylist()], kind="stable")
    # a chunk at a time, each in one piece, as `write` does it: the file is the same to the byte
    chunks = (rows[low : low + CHUNK] for low in range(0, len(rows), CHUNK))
    _write(path, arrow, made[0], (whole.take(chunk).combine_chunks() for chunk in chunks))


def provenance(path: str | Path) -> dict[str, Any]:
    """What a table's file says of how it was made; empty where it says nothing.

    Raises TableError where there is no such file, or no whole Parquet file.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
        made = json.loads(metadata.get(b"provenance", b"{}"))
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file") from error
    except _NO_PARQUET as error:
        raise TableError(f"{path} is not a whole Parquet file ({one_line(error, 200)})") from error
    return made if isinstance(made, dict) else {}


def context_sets(path: str | Path, kind: str) -> list[list[str]]:
    """The sets of context templates of a kind (`rome`, `memit`) in a contexts table."""
    table = read(path, "contexts")
    table = table[table["method"] == kind]
    return [list(group["template"]) for _, group in table.groupby("set")]
