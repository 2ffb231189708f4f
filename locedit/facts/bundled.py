"""The bundled facts: records in the spirit of CounterFact, built by a rule from plain tables.

`relations.yaml` says which column of which table is a relation's object and how its prompts read;
`tables/*.csv` hold the facts; `README.md` beside them gives sources and licences. A record's
random choices are seeded by its own case_id, so they do not depend on other records' order.
"""

import csv
import hashlib
import json
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from locedit.errors import LoceditError
from locedit.facts.formats import overlap

MAX_NEIGHBOURS = 10
MIN_PROMPTS = 2
RELATION_KEYS = {"id", "description", "table", "template", "paraphrases", "generation"}
OPTIONAL_KEYS = {"subject", "object", "also_true"}


class BundledDataError(LoceditError):
    """A table or the list of relations is not as expected; the text names file and row."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """One relation: its prompts, and the columns of the table that holds its facts."""

    id: str
    description: str
    table: str
    template: str
    paraphrases: tuple[str, ...]
    generation: tuple[str, ...]
    subject: str = "subject"
    object: str = "object"
    also_true: str = "also_true"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fact of one relation, as its table states it."""

    relation: Relation
    subject: str
    object: str
    also_true: frozenset[str]

    @cached_property
    def case_id(self) -> str:
        """Relation and subject, e.g. `capital_of-france`: it stays when tables grow."""
        return f"{self.relation.id}-{slug(self.subject)}"

    @property
    def prompt(self) -> str:
        """The filled template."""
        return self.relation.template.format(self.subject)

    @property
    def true_objects(self) -> frozenset[str]:
        """The object and the further ones that are true."""
        return self.also_true | {self.object}


def build_records(data_dir: Path, seed: int = 0) -> list[dict[str, Any]]:
    """All usable records, in a seeded order that mixes the relations.

    The order follows a hash of seed and case_id, so the first n records are a random sample of
    the relations, and a new row moves no two others against each other.
    """
    rows = [row for row in read_rows(data_dir) if exclusion(row) is None]
    check_unique(rows, data_dir)
    by_relation: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_relation[row.relation.id].append(row)
    rows.sort(key=lambda row: hashlib.sha256(f"{seed}:{row.case_id}".encode()).hexdigest())
    return [make_record(row, by_relation[row.relation.id], seed) for row in rows]


def excluded_rows(data_dir: Path) -> list[tuple[str, str, str]]:
    """(case_id, object, reason) of each row that `build_records` leaves out."""
    reasons = ((row, exclusion(row)) for row in read_rows(data_dir))
    return [(row.case_id, row.object, reason) for row, reason in reasons if reason is not None]


def write_json(records: list[dict[str, Any]], path: Path) -> None:
    """Write records as one JSON list (UTF-8, one record a line)."""
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def make_record(row: Row, siblings: list[Row], seed: int) -> dict[str, Any]:
    """The record of one row; siblings are all usable rows of its relation."""
    rng = random.Random(f"{seed}:{row.case_id}")
    relation = row.relation
    target_new = choose_target_new(row, siblings, rng)
    return {
        "case_id": row.case_id,
        "relation_id": relation.id,
        "subject": row.subject,
        "template": relation.template,
        "target_true": row.object,
        "target_new": target_new,
        "paraphrases": [text.format(row.subject) for text in relation.paraphrases],
        "neighbourhood": [
            neighbour.prompt for neighbour in choose_neighbours(row, target_new, siblings, rng)
        ],
        "generation_prompts": [text.format(row.subject) for text in relation.generation],
    }


def choose_target_new(row: Row, siblings: list[Row], rng: random.Random) -> str:
    """Another object of the relation that is not true here.

    Objects that hold, or are held in, a true object or the prompt are no candidates: a
    substring match could not tell them apart (Guinea, Guinea-Bissau).
    """
    texts = [*row.true_objects, row.prompt]
    objects = sorted({sibling.object for sibling in siblings})
    candidates = [other for other in objects if not any(overlap(other, text) for text in texts)]
    if not candidates:
        raise BundledDataError(
            f"table {row.relation.table!r}, {row.subject!r}: no false object left in relation "
            f"{row.relation.id!r}; expected at least two distinct objects"
        )
    return rng.choice(candidates)


def choose_neighbours(
    row: Row, target_new: str, siblings: list[Row], rng: random.Random
) -> list[Row]:
    """Up to ten other subjects with the same object, of which target_new is false as well."""
    candidates = [
        sibling
        for sibling in sorted(siblings, key=lambda sibling: sibling.case_id)
        if sibling.object == row.object
        and target_new not in sibling.true_objects
        and not overlap(sibling.subject, row.subject)
    ]
    return rng.sample(candidates, min(MAX_NEIGHBOURS, len(candidates)))


def exclusion(row: Row) -> str | None:
    """Why a row makes no record: its prompts give the answer away. None if they do not."""
    target = row.object.lower()
    prompts = [
        text.format(row.subject) for text in (row.relation.template, *row.relation.paraphrases)
    ]
    if any(target in prompt.lower() for prompt in prompts):
        return "object in prompt"
    if re.sub(r"^the ", "", row.subject.lower()) in target:
        return "subject in object"
    return None


def slug(text: str) -> str:
    """Lower-case ASCII letters and digits joined by hyphens: `São Tomé` -> `sao-tome`."""
    letters = text.translate(str.maketrans("łøıæœ", "loiao"))
    plain = unicodedata.normalize("NFKD", letters).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def read_relations(data_dir: Path) -> list[Relation]:
    """The relations of `relations.yaml`, checked."""
    path = data_dir / "relations.yaml"
    if not path.is_file():
        raise BundledDataError(f"{path}: no such file; expected the list of relations")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or not isinstance(document.get("relations"), list):
        raise BundledDataError(f"{path}: expected one key, 'relations', with a list")
    relations = [
        parse_relation(entry, f"{path}, relation {number}")
        for number, entry in enumerate(document["relations"], start=1)
    ]
    repeated = first_repeated(relation.id for relation in relations)
    if repeated is not None:
        raise BundledDataError(f"{path}: relation {repeated!r} occurs twice; ids must be unique")
    return relations


def parse_relation(entry: Any, place: str) -> Relation:
    """One entry of `relations.yaml` as a Relation; errors begin with its place."""
    if not isinstance(entry, dict):
        raise BundledDataError(f"{place}: expected a mapping, found {entry!r}")
    place = f"{place} ({entry.get('id')!r})"
    missing = sorted(RELATION_KEYS - entry.keys())
    unknown = sorted(entry.keys() - RELATION_KEYS - OPTIONAL_KEYS)
    if missing or unknown:
        raise BundledDataError(f"{place}: missing keys {missing}, unknown keys {unknown}")
    for key in ("paraphrases", "generation"):
        if not isinstance(entry[key], list) or len(entry[key]) < MIN_PROMPTS:
            raise BundledDataError(f"{place}: expected at least {MIN_PROMPTS} {key} in a list")
    for text in (entry["template"], *entry["paraphrases"], *entry["generation"]):
        if not isinstance(text, str) or re.findall(r"[{}]", text) != ["{", "}"] or "{}" not in text:
            raise BundledDataError(f"{place}: expected exactly one {{}} in {text!r}")
        if text != text.strip():
            raise BundledDataError(f"{place}: expected no space at either end of {text!r}")
    lists = {key: tuple(entry[key]) for key in ("paraphrases", "generation")}
    return Relation(**(entry | lists))


def read_rows(data_dir: Path) -> list[Row]:
    """The rows of every relation, in file order; a row with an empty object states no fact."""
    return [row for relation in read_relations(data_dir) for row in read_table(data_dir, relation)]


def read_table(data_dir: Path, relation: Relation) -> list[Row]:
    """One relation's rows, checked: columns present, nothing padded, each subject once."""
    path = data_dir / "tables" / f"{relation.table}.csv"
    if not path.is_file():
        raise BundledDataError(f"{path}: no such file; expected the table of {relation.id!r}")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        columns = reader.fieldnames or []
        lines = list(reader)
    for column in (relation.subject, relation.object):
        if column not in columns:
            raise BundledDataError(f"{path}: no column {column!r}; found {list(columns)}")
    rows = []
    # The header is row 1, as a spreadsheet counts.
    for number, line in enumerate(lines, start=2):
        check_line(line, relation, f"{path}, row {number}")
        if line[relation.object]:
            rows.append(parse_row(line, relation))
    repeated = first_repeated(row.subject for row in rows)
    if repeated is not None:
        raise BundledDataError(
            f"{path}: subject {repeated!r} occurs twice; expected one row for it, "
            "its further true objects in also_true"
        )
    return rows


def check_line(line: dict[str, Any], relation: Relation, place: str) -> None:
    """Raise, naming the place, unless the line has every cell, unpadded, and a subject."""
    if None in line or None in line.values():
        raise BundledDataError(f"{place}: expected as many cells as the header has")
    for column, cell in line.items():
        if cell != cell.strip():
            raise BundledDataError(f"{place}, {column}: expected no space at the ends of {cell!r}")
    if not line[relation.subject]:
        raise BundledDataError(f"{place}, {relation.subject}: expected a subject, found nothing")


def parse_row(line: dict[str, str], relation: Relation) -> Row:
    """A checked line of a table as a Row."""
    also_true = line.get(relation.also_true, "")
    return Row(
        relation=relation,
        subject=line[relation.subject],
        object=line[relation.object],
        also_true=frozenset(also_true.split("; ")) - {""},
    )


def check_unique(rows: list[Row], data_dir: Path) -> None:
    """Raise if two subjects of a relation differ only in what a case_id leaves out."""
    repeated = first_repeated(row.case_id for row in rows)
    if repeated is not None:
        subjects = [row.subject for row in rows if row.case_id == repeated]
        raise BundledDataError(
            f"{data_dir}: case_id {repeated!r} stands for {subjects}; expected subjects that "
            "differ in their letters or digits"
        )


def first_repeated(values: Iterable[str]) -> str | None:
    """The first value that occurs a second time, or None."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
