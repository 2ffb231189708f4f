"""Files of records: JSON, JSON Lines, CSV and Parquet as lists of plain records.

The suffix says which; anything else is read as JSON. Errors say what a file looks like instead.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locedit.errors import LoceditError
from locedit.messages import one_line, shown


class DataError(LoceditError):
    """A data file that cannot be read as what it is said to be."""


class _NotAsNamed(DataError):
    """A file that is not what its suffix says."""


@dataclass(frozen=True, kw_only=True)
class Asker:
    """What a file's form, columns and path are called where it is asked for, in remedies.

    format: how a form is chosen, with {} for it. columns, by_columns: what names the columns, and
    how they are named there. path: what to check of a file that is not there. damaged: what else
    helps where a file is not what its suffix says.
    """

    format: str
    columns: str
    by_columns: str
    path: str
    damaged: str = ""


CONFIGURATION = Asker(
    format="set `dataset.format: {}`",
    columns="`dataset.columns`",
    by_columns="in `dataset.columns`",
    path="check `path` of the data set",
    damaged="; a file that a run fetched or built is made anew if you delete it",
)
COMMAND = Asker(
    format="give `--format {}`",
    columns="`--column`",
    by_columns="by `--column FIELD=COLUMN`",
    path="check its name",
)
CALL = Asker(
    format='give `format="{}"`',
    columns="`columns`",
    by_columns="in `columns`",
    path="check its name",
)


def read_file(path: Path, what: str, asker: Asker = CONFIGURATION) -> tuple[list[Any], bool]:
    """The records of a file, and whether it is a table, whose cells are texts, numbers or lists.

    what: what is expected of it, for messages; asker: whose words their remedies have. Raises
    DataError for a file that is missing, or not what its suffix says.
    """
    reader, is_table = READERS.get(path.suffix.lower(), (_json, False))
    try:
        return reader(path, what), is_table
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such data file; {asker.path}") from error
    except _NotAsNamed as error:
        raise DataError(f"{error}{asker.damaged}") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; give the path of a file of {what}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error


def _known(value: Any) -> Any:
    """A record's value, with None for what is no number (NaN), as tables write what is missing."""
    match value:
        case dict():
            return {key: _known(inner) for key, inner in value.items()}
        case list():
            return [_known(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _constant(name: str) -> float | None:
    """What Python writes as JSON although it is none: NaN, Infinity or -Infinity."""
    return _known(float(name))


# Besides bad syntax: numbers of thousands of digits, lists nested thousands deep
_NO_JSON = (ValueError, RecursionError)


def _json(path: Path, what: str) -> list[Any]:
    text = _text(path, "JSON", what)
    try:
        records = json.loads(text, parse_constant=_constant)
    except _NO_JSON as error:
        raise _no("JSON", path, what, error) from error
    if not isinstance(records, list):
        raise DataError(
            f"{path} holds a JSON {type(records).__name__}; expected a list of {what}"
            f"{_inner(records)}"
        )
    return records


def _inner(value: Any) -> str:
    """What to do with an object: where in it the records may be; "" for another value."""
    if not isinstance(value, dict):
        return ""
    lists = [key for key, inner in value.items() if isinstance(inner, list) and _objects(inner)]
    if len(lists) == 1:
        return f"; save the list under {shown(lists[0])} alone"
    if lists:
        return f"; save one of its lists alone, such as the one under {shown(lists[0])}"
    return "; if it is one record, put [ and ] around it, else write its records as one list"


def _objects(values: list[Any]) -> bool:
    return any(isinstance(value, dict) for value in values)


def _json_lines(path: Path, what: str) -> list[Any]:
    records = []
    # at line feeds alone: a text may hold other characters that Python takes for line breaks
    for number, line in enumerate(_text(path, "JSON Lines", what).split("\n"), start=1):
        try:
            records += [json.loads(line, parse_constant=_constant)] if line.strip() else []
        except _NO_JSON as error:
            raise _no("JSON Lines", path, what, f"line {number}: {error}") from error
    if len(records) == 1 and isinstance(records[0], list):
        raise _no("JSON Lines", path, what, "its only line is a list")
    return records


def _csv(path: Path, what: str) -> list[Any]:
    text = _text(path, "CSV", what)
    if _is_json(text):
        raise _no("CSV", path, what, "it is JSON")
    top = _TOP.match(text)
    text, before = text[top.end() :], text[: top.end()].count("\n")  # lines
    separator = top["separator"] or _separator(text, "\t" if path.suffix.lower() == ".tsv" else ",")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, **_CELLS)
    try:
        _check_header(path, text, separator)
        rows.fieldnames = header = [column.strip() for column in rows.fieldnames or []]
        records = list(rows)
    except csv.Error as error:
        raise _no("CSV", path, what, f"line {before + rows.line_num}: {error}") from error
    if len(header) == 1 and len(re.findall(r"[|:/^~]", header[0])) > 1:
        raise DataError(
            f"{path} has one column, {shown(header[0])}; separate the names of its header, and the "
            "cells, by commas"
        )
    if twice := [column for column in header if column and header.count(column) > 1]:
        raise DataError(f"{path} has more than one column {shown(twice[0])}; rename the others")
    for number, record in enumerate(records, start=before + 2):
        if None in record:
            raise DataError(
                f"{path}, row {number}: more cells than the header has; put a text that holds "
                f"{separator!r} in double quotes"
            )
    return records


def _check_header(path: Path, text: str, separator: str) -> None:
    """Raise DataError for a table that begins with a comment, or has lines within quotes."""
    comments, rest = _COMMENTS.fullmatch(text).groups()
    widths = _widths(rest, _separator(rest, separator)) if comments else []
    if widths and widths[:1] != _widths(comments, separator)[:1]:  # else it is a header: #id, ...
        raise DataError(
            f"{path} begins with a comment, {shown(comments.splitlines()[0])}; delete what stands "
            "before the line with the names of the columns"
        )
    header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [""])
    if len(header) == 1 and any(len(header[0].split(one)) > 1 for one in _SEPARATORS):
        raise DataError(
            f"{path} has its header in double quotes as a whole, {shown(header[0])}, which makes "
            "it one cell; take the quotes from around each such line, and write doubled quotes "
            "inside it as single ones"
        )


# Empty lines, and the one in which Excel is told the separator, in front of a table's header
_TOP: Any = re.compile(
    r"(?:[\s,;]*[\r\n])?(?:\"?sep=(?P<separator>[^\"\r\n])\"?[,;\t]*[\r\n][\s,;]*(?<=[\r\n]))?",
    re.IGNORECASE,
)
_COMMENTS: Any = re.compile(r"((?:#[^\n]*\n)*)(.*)", re.DOTALL)
_SEPARATORS = (",", ";", "\t")
_CELLS: dict[str, Any] = {"strict": True, "skipinitialspace": True}  # a blank may follow a comma


def _separator(text: str, usual: str) -> str:
    """What stands between a table's cells: the usual one, unless only another fits all rows.

    Spreadsheets write semicolons where the decimal mark is a comma.
    """
    widths = {usual: _widths(text, usual)}
    widths |= {other: _widths(text, other) for other in _SEPARATORS if other != usual}
    splits = [one for one, found in widths.items() if found and found[0] > 1]
    even = [one for one in splits if len(set(widths[one])) == 1]
    return [*even, *(one for one in splits if one == usual), *splits, usual][0]


def _widths(text: str, separator: str) -> list[int]:
    """How many cells the header and each row have; none where it is no table of such cells."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, **_CELLS)
        return [len(row) for row in rows if row]
    except csv.Error:
        return []


def _is_json(text: str) -> bool:
    """Whether a text, or its first line, is a list or an object in JSON."""
    start = text.lstrip()[:1]
    for part in (text, text.lstrip().split("\n", 1)[0]) if start in ("[", "{") else ():
        try:
            return isinstance(json.loads(part), list | dict)
        except _NO_JSON:
            continue
    return False


def _parquet(path: Path, what: str) -> list[Any]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        return _known(parquet.read_table(path).to_pylist())
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # the last two from values that Python cannot hold: no UTF-8, dates of the year 10000
        raise _no("Parquet", path, what, error) from error


READERS: dict[str, tuple[Callable[[Path, str], list[Any]], bool]] = {
    ".json": (_json, False),
    ".jsonl": (_json_lines, False),
    ".ndjson": (_json_lines, False),
    ".csv": (_csv, True),
    ".tsv": (_csv, True),
    ".parquet": (_parquet, True),
}


def _text(path: Path, kind: str, what: str) -> str:
    """A file's text; a byte order mark, as spreadsheets write it, is no part of it."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(tuple(_MAGIC)):
            raise _no(kind, path, what, "it is no text") from error
        raise DataError(
            f"{path} is not UTF-8 text (byte {data[error.start]:#x} at position {error.start}); "
            "save it as UTF-8"
        ) from error


def _no(kind: str, path: Path, what: str, why: object) -> _NotAsNamed:
    guess = looks_like(path.read_bytes()[: 1 << 16])
    hint = f"; it looks like {guess}" if guess and not guess.startswith(f"{kind}:") else ""
    return _NotAsNamed(f"{path} is not {kind} ({one_line(why)}); expected a list of {what}{hint}")


_MAGIC = {
    b"PAR1": "Parquet: name it *.parquet",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"PK\x03\x04": "a zip archive, or a spreadsheet: unpack it, or save it as CSV",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


def looks_like(data: bytes) -> str:
    """What a file that begins so probably is, and what to do with it; "" if that is unclear."""
    for magic, guess in _MAGIC.items():
        if data.startswith(magic):
            return guess
    lines = [line for line in data.decode("utf-8-sig", "ignore").splitlines() if line.strip()][:2]
    starts = [line.lstrip()[:1] for line in lines]
    if starts[:1] == ["<"]:
        return "a web page: the download went wrong"
    if starts == ["{", "{"] and lines[0].rstrip().endswith("}"):
        return "JSON Lines: name it *.jsonl"
    if starts[:1] in (["["], ["{"]):
        return "JSON: name it *.json"
    if len(lines) == 2 and any(lines[0].count(s) == lines[1].count(s) > 0 for s in _SEPARATORS):
        return "CSV: name it *.csv"
    return ""
