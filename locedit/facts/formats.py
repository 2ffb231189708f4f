"""Data sets: from a published file, or a table of one's own, to the plain values of facts.

A file's suffix says how it holds records (JSON, JSON Lines, CSV, Parquet); a *format* says which
keys a record has and what they mean. `locedit.facts.record` validates what is read here.

No heavy imports: Snakemake reads this each time it starts.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locedit import messages, seeds
from locedit.facts.records import DataError, read_file
from locedit.messages import listed, name, nearest, shown

Raw = Mapping[str, Any]
Values = dict[str, Any]

TEXTS = ("case_id", "relation_id", "subject", "template", "target_true", "target_new")
LISTS = ("paraphrases", "neighbourhood", "generation_prompts")
SEPARATOR = "|"  # between the prompts in one cell of a table
_ENOUGH = 100  # records looked at to recognise a format


class RecordError(ValueError):
    """What is wrong with one record, naming the field."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the records of one published form are read.

    read: a record to values of Fact's fields; a KeyError names the key that is missing. keys: what
    every record has, by which the form is recognised. names: what the form calls our fields, for
    messages. draws_target: it has no false object, so one is drawn. numbered: its records are
    known by their place in the file.
    """

    read: Callable[[Raw], Values]
    keys: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    draws_target: bool = False
    numbered: bool = False


@dataclass(frozen=True, kw_only=True)
class Known:
    """A data set that goes by its name: its format, and where it is from.

    asset: its name in locedit.store.pins; url: where to fetch a file of which no checksum is
    pinned.
    """

    format: str
    asset: str | None = None
    url: str | None = None


# ---- readers of one record -----------------------------------------------------------------------


def _native(record: Raw) -> Values:
    """The bundled facts' form; `prompt`, filled, may stand in for `template`."""
    values = dict(record)
    if values.get("template") is None and "prompt" in values:
        values["template"] = with_hole(values["prompt"], values["subject"], "prompt")
    return values


def _counterfact(record: Raw) -> Values:
    """ROME's CounterFact record (Meng et al. 2022, appendix D)."""
    rewrite = _object(record, "requested_rewrite")
    return {
        "case_id": record["case_id"],
        "relation_id": rewrite.get("relation_id", ""),
        "subject": rewrite["subject"],
        "template": rewrite["prompt"],
        "target_true": _object(rewrite, "target_true")["str"],
        "target_new": _object(rewrite, "target_new")["str"],
        "paraphrases": record.get("paraphrase_prompts", []),
        "neighbourhood": record.get("neighborhood_prompts", []),
        "generation_prompts": record.get("generation_prompts", []),
    }


def _easyedit(record: Raw) -> Values:
    """EasyEdit's flat record (Wang et al. 2023, arXiv 2308.07269); its prompts are filled."""
    return {
        "case_id": record.get("case_id"),
        "relation_id": record.get("relation_id", ""),
        "subject": record["subject"],
        "template": with_hole(record["prompt"], record["subject"], "prompt"),
        "target_true": record["ground_truth"],
        "target_new": record["target_new"],
        "paraphrases": _as_list(record.get("rephrase_prompt")),
        "neighbourhood": _as_list(record.get("locality_prompt")),
    }


def _zsre(record: Raw) -> Values:
    """A question of MEND's zsRE evaluation set (Levy et al. 2017; Mitchell et al. 2022).

    As the paper's released code has it: "Question: ... Answer:", the first answer true, the
    unrelated question the only neighbour.
    """
    answers = record["answers"]
    if not isinstance(answers, list) or not answers:
        raise RecordError("answers: expected a list of at least one answer")
    question = with_hole(record["src"], record["subject"], "src")
    rephrased, unrelated = record.get("rephrase"), record.get("loc")
    return {
        "subject": record["subject"],
        "template": f"Question: {question} Answer:",
        "target_true": answers[0],
        "also_true": answers[1:],
        "paraphrases": [f"Question: {text} Answer:" for text in _as_list(rephrased)],
        "neighbourhood": [f"{text.rstrip('?')}?" for text in _as_list(unrelated)],
    }


def _known_1000(record: Raw) -> Values:
    """ROME's known_1000.json (Meng et al. 2022, section 2): facts for tracing, one prompt each.

    `prompt` is the text that is completed; it may go on behind the filled `template`.
    """
    return {
        "case_id": record.get("known_id"),
        "relation_id": record.get("relation_id") or record.get("template") or "",
        "subject": record["subject"],
        "template": with_hole(record["prompt"], record["subject"], "prompt").strip(),
        "target_true": record["attribute"],
    }


def with_hole(prompt: Any, subject: Any, field_name: str) -> str:
    """A filled prompt as a template: the subject's last occurrence becomes `{}`."""
    for key, value in ((field_name, prompt), ("subject", subject)):
        if not isinstance(value, str):
            raise RecordError(f"{key}: expected text, got {type(value).__name__}")
    before, found, after = prompt.rpartition(subject) if subject else (prompt, "", "")
    if subject and not found:
        raise RecordError(f"{field_name}: the prompt lacks the subject {shown(subject)}")
    return f"{before}{{}}{after}"


def _object(record: Raw, key: str) -> Raw:
    if not isinstance(record[key], Mapping):
        raise RecordError(f"{key}: expected a JSON object, got {type(record[key]).__name__}")
    return record[key]


def _as_list(value: Any) -> list[str]:
    """One prompt, a list of them or none, as a list."""
    prompts = value if isinstance(value, list) else [] if value in (None, "") else [value]
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise RecordError(f"a prompt: expected text, got {type(prompt).__name__}")
    return prompts


# ---- the tables ----------------------------------------------------------------------------------

FORMATS: dict[str, Format] = {
    "native": Format(read=_native, keys=("subject", "target_true", "target_new")),
    "counterfact": Format(read=_counterfact, keys=("requested_rewrite",)),
    "easyedit": Format(
        read=_easyedit,
        keys=("prompt", "subject", "ground_truth", "target_new"),
        names={"template": "prompt", "target_true": "ground_truth"},
    ),
    "zsre": Format(
        read=_zsre,
        keys=("src", "subject", "answers"),
        names={"template": "src", "target_true": "answers"},
        draws_target=True,
        numbered=True,
    ),
    "known_1000": Format(
        read=_known_1000,
        keys=("prompt", "subject", "attribute"),
        names={"template": "prompt", "target_true": "attribute"},
        draws_target=True,
    ),
}

_ROME = "https://rome.baulab.info/data/dsets"
KNOWN: dict[str, Known] = {
    "bundled": Known(format="native"),  # built from data/
    "counterfact": Known(format="counterfact", asset="counterfact"),
    "zsre": Known(format="zsre", url=f"{_ROME}/zsre_mend_eval.json"),
    "known_1000": Known(format="known_1000", url=f"{_ROME}/known_1000.json"),
}


# ---- a whole file --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file says: a pair for each record, the values of a fact and what is wrong with it."""

    rows: list[tuple[Values, str]]
    names: Mapping[str, str]


def read(
    path: Path,
    format: str,
    n: int | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    seed: int = 0,
) -> Reading:
    """The first n records of a data file as values of facts, not yet validated.

    columns: our fields to the file's, of a table of one's own. separator: between the prompts in
    one cell. seed: of false objects that are drawn. Raises DataError for a file that cannot be
    read as what it is said to be.
    """
    form, columns = _format(format), columns or {}
    names = {**form.names, **{ours: name(column) for ours, column in columns.items()}}
    if n is not None and n < 1:
        raise DataError(f"n facts must be at least 1, got {n}")
    records, is_table = read_file(path, f"{format} records")
    if columns:
        records = _renamed(path, records, columns)
    if is_table:
        records = [_cells(record, separator) for record in records]
    _check_form(path, records, format)
    rows = [_row(form, names, record, index) for index, record in enumerate(records[:n])]
    if form.draws_target:
        others = [_row(form, names, record) for record in records[len(rows) :]]
        rows = list(_with_targets(rows, objects_by_relation(rows + others), seed))
    return Reading(rows=rows, names=names)


def _format(format: str) -> Format:
    if format in FORMATS:
        return FORMATS[format]
    near = nearest(format, FORMATS)
    raise DataError(f"unknown data format {format!r} (known: {', '.join(FORMATS)}){near}")


def _row(form: Format, names: Mapping[str, str], record: Any, index: int = 0) -> tuple[Values, str]:
    """A record's values and what is wrong with it, "" if nothing is."""
    values, reason = dict[str, Any](), ""
    try:
        if not isinstance(record, Mapping):
            raise RecordError(f"expected a JSON object, got {type(record).__name__}")
        values = {key: record[key] for key in ("case_id", "subject") if key in record}
        values = form.read(record)
        reason = messages.fault_of(values, (*TEXTS, *LISTS), names)
    except RecordError as error:
        reason = str(error)
    except KeyError as error:
        reason = f"{error.args[0]} is missing"
    case_id = values.get("case_id")
    if not isinstance(case_id, str | int | float):  # a table cannot be keyed by it
        if case_id is not None and not reason:
            reason = f"case_id: expected text or a number, got {type(case_id).__name__}"
        values["case_id"] = case_id = ""
    if case_id == "":
        values["case_id"] = str(index) if form.numbered else f"record-{index}"
    return {key: messages.mended(value) for key, value in values.items()}, reason


# ---- recognising a format ------------------------------------------------------------------------


def recognise(records: Sequence[Any]) -> list[str]:
    """The formats whose keys most of the first records have, the most particular one first."""
    seen = [set(record) for record in records[:_ENOUGH] if isinstance(record, Mapping)]
    fitting = [
        format
        for format, form in FORMATS.items()
        if 2 * sum(keys.issuperset(form.keys) for keys in seen) > len(seen)
    ]
    return sorted(fitting, key=lambda format: -len(FORMATS[format].keys))


def _check_form(path: Path, records: Sequence[Any], format: str) -> None:
    """Raise DataError if no record has the format's keys, saying what the file looks like."""
    if not records:
        raise DataError(f"{path} holds no record; expected {format} records")
    keys = FORMATS[format].keys
    mappings = [record for record in records if isinstance(record, Mapping)]
    if any(all(key in record for key in keys) for record in mappings):
        return
    found = listed(mappings[0]) if mappings else type(records[0]).__name__
    others = recognise(records)
    remedy = (
        f"it looks like {others[0]}: set `dataset.format: {others[0]}`"
        if others
        else "name its columns in `dataset.columns`, or choose another format "
        f"({', '.join(FORMATS)})"
    )
    raise DataError(
        f"{path} holds no {format} record (expected the keys {', '.join(keys)}; found {found}); "
        f"{remedy}"
    )


# ---- tables of one's own -------------------------------------------------------------------------


def _renamed(path: Path, records: Sequence[Any], columns: Mapping[str, str]) -> list[Any]:
    """The records under our names; what `columns` does not name is left out."""
    found = {key for record in records if isinstance(record, Mapping) for key in record}
    for ours, column in columns.items():
        if column not in found:
            near = nearest(column, map(str, found))
            raise DataError(
                f"{path} has no column {shown(column)}, which `dataset.columns` names for {ours}"
                f"{near} (found: {listed(sorted(map(str, found)))})"
            )
    return [
        {ours: record[column] for ours, column in columns.items() if column in record}
        if isinstance(record, Mapping)
        else record
        for record in records
    ]


def _cells(record: Any, separator: str) -> Any:
    """A table's row with the text of list fields split, and empty cells of them left out."""
    values = dict(record)
    for field_name in LISTS:
        cell = values.get(field_name)
        if cell is None:
            values.pop(field_name, None)
        elif isinstance(cell, str):
            parts = (part.strip() for part in cell.split(separator))
            values[field_name] = [part for part in parts if part]
    return values


# ---- false objects -------------------------------------------------------------------------------


def objects_by_relation(rows: Sequence[tuple[Values, str]]) -> dict[str, list[str]]:
    """The true objects of each relation, in alphabetical order, each once."""
    objects: dict[str, set[str]] = defaultdict(set)
    for values, reason in rows:
        true = values.get("target_true")
        if not reason and isinstance(true, str) and true.strip():
            objects[_relation(values)].add(true.strip())
    return {relation: sorted(found) for relation, found in objects.items()}


def _with_targets(
    rows: Sequence[tuple[Values, str]], objects: Mapping[str, list[str]], seed: int
) -> Iterator[tuple[Values, str]]:
    for values, reason in rows:
        true = values.get("target_true")
        if not reason and isinstance(true, str) and true.strip():
            values = {**values, "target_new": draw_target(values, objects[_relation(values)], seed)}
            if values["target_new"] is None:
                reason = "no false object: its relation has no other object"
        elif not reason:
            values = {**values, "target_new": ""}  # its true object is at fault
        yield values, reason


def draw_target(values: Values, objects: Sequence[str], seed: int) -> str | None:
    """A false object for a record: another object of its relation, all of them equally likely.

    The draw is seeded by the record's own text, and so depends neither on its place in the file
    nor on how many records are read. Objects that hold, or are held in, a true object or the
    prompt are no candidates: a substring match could not tell them apart.
    """
    prompt = values["template"].replace("{}", values["subject"])
    also = [text for text in values.get("also_true", []) if isinstance(text, str)]
    true = [values["target_true"].strip(), prompt, *also]

    def usable(candidate: str) -> bool:
        return not any(overlap(candidate, text) for text in true)

    parts = (_relation(values), values["subject"], prompt, true[0])
    draw = random.Random(seeds.derive(seed, "target_new", *parts))
    for _ in range(32):  # mostly the first one serves; a scan of all objects takes long
        candidate = draw.choice(objects)
        if usable(candidate):
            return candidate
    rest = [*filter(usable, objects)]
    return draw.choice(rest) if rest else None


def overlap(one: str, other: str) -> bool:
    """Whether one text holds the other, letter case aside."""
    one, other = one.lower(), other.lower()
    return one in other or other in one


def _relation(values: Raw) -> str:
    return str(values.get("relation_id") or "")
