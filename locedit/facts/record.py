"""Facts: reading data sets, saying what is wrong with a record, and which facts a model knows.

METHODS section 1. A record that cannot be used becomes an excluded row with its reason.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locedit import seeds
from locedit.facts import formats
from locedit.facts.formats import LISTS, SEPARATOR
from locedit.facts.records import CONFIGURATION, Asker
from locedit.facts.wording import HOLE
from locedit.messages import commonest, listed, shown
from locedit.text import joining, subjects

KEPT, EXCLUDED = "kept", "excluded"
_TARGETS = ("target_true", "target_new")


@dataclass(frozen=True, kw_only=True)
class Fact:
    """(subject, relation, object) with its prompts; `template` holds one `{}` for the subject."""

    case_id: str
    relation_id: str
    subject: str
    template: str
    target_true: str
    target_new: str
    paraphrases: list[str] = field(default_factory=list)
    neighbourhood: list[str] = field(default_factory=list)
    generation_prompts: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        return self.template.replace("{}", self.subject)

    @property
    def subject_start(self) -> int:
        """Characters of the prompt before the subject."""
        return subjects.in_template(self.template, self.subject)


Raw = Mapping[str, Any]


def read_records(
    path: str | Path,
    format: str,
    n: int | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    seed: int = 0,
    records: Sequence[Any] | None = None,
    asker: Asker = CONFIGURATION,
    prompts: Collection[str] = LISTS,
    say: Callable[[str], None] = lambda _sentence: None,
) -> list[dict[str, Any]]:
    """Rows for the first n records of a data file, each kept or excluded with its reason.

    The arguments are those of `formats.read`, which raises DataError for a file that is not what
    it is said to be. say: is told which of the file's keys were not read, which of `prompts` no
    record has, that false objects were drawn, and what was changed in records.
    """
    laid_out: dict[str, Any] = {"columns": columns, "separator": separator, "records": records}
    reading = formats.read(Path(path), format, n, seed=seed, asker=asker, **laid_out)
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()  # ids of usable records
    for values, reason in reading.rows:
        reason = reason or _fault(values, reading.names)
        case_id = str(values["case_id"])
        if not reason and case_id in seen:
            reason = "its case_id occurs before in the file"
        seen |= {case_id} if not reason else set()
        remarks = [*values.get("remarks", []), *([] if reason else _alike(values, reading.names))]
        rows.append(_row(case_id, {**values, "remarks": remarks}, reason))
    for sentence in _notes(rows, reading, prompts):
        say(f"{path}: {sentence}")
    return rows


def exclusions(rows: Iterable[Raw]) -> str:
    """How many rows are excluded and the commonest reasons, in words; "" if none is."""
    reasons = _reasons(rows)
    return f"{len(reasons)} excluded: {commonest(reasons)}" if reasons else ""


def left_out(rows: Iterable[Raw], total: int) -> str:
    """How many of a file's records are excluded and the commonest reasons; "" if none is."""
    reasons = _reasons(rows)
    return f"{len(reasons)} of {total} records left out: {commonest(reasons)}" if reasons else ""


def _reasons(rows: Iterable[Raw]) -> list[str]:
    return [row["reason"] for row in rows if row["status"] == EXCLUDED]


_MEASURE = dict(zip(LISTS, ("paraphrase score", "neighbourhood score", "fluency"), strict=True))


def _notes(
    rows: Sequence[Raw], reading: formats.Reading, prompts: Collection[str]
) -> Iterator[str]:
    """What a reader of the results should know before there are any."""
    kept = [row for row in rows if row["status"] == KEPT]
    if reading.unread:
        yield f"not read: {listed(reading.unread)}"
    missing = [name for name in prompts if kept and not any(row[name] for row in kept)]
    if missing:
        names = " or ".join(reading.names.get(name, name) for name in missing)
        measures = [_MEASURE[name] for name in missing]
        measures += ["overall score"] if missing != ["generation_prompts"] else []
        yield f"no record has {names}; left empty: {', '.join(measures)}"
    if reading.drawn and kept:
        yield (
            f"{len(kept)} new objects were drawn from its other facts, as its form has none; to "
            "choose them, write native records, with target_true and target_new"
        )
    remarks = [row["remark"] for row in kept if row["remark"]]
    if remarks:
        yield f"{len(remarks)} of {len(kept)} records changed or odd: {commonest(remarks)}"


def _row(case_id: str, values: Raw, reason: str) -> dict[str, Any]:
    def text(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else ""

    def texts(name: str) -> list[str]:
        value = values.get(name)
        return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []

    relation = values.get("relation_id")
    fact = Fact(
        case_id=case_id,
        relation_id=str(relation) if isinstance(relation, str | int | float) else "",
        subject=text("subject"),
        template=text("template"),
        target_true=text("target_true").strip(),
        target_new=text("target_new").strip(),
        paraphrases=texts("paraphrases"),
        neighbourhood=texts("neighbourhood"),
        generation_prompts=texts("generation_prompts"),
    )
    prompts = [fact.prompt, *fact.paraphrases, *fact.neighbourhood]
    doubts = "" if reason else joining.doubts(prompts, (fact.target_true, fact.target_new))
    return {
        **vars(fact),
        "prompt": fact.prompt if fact.template else text("prompt"),
        "status": EXCLUDED if reason else KEPT,
        "reason": reason,
        "remark": one_remark(*values.get("remarks", []), doubts),
    }


def _alike(values: Raw, names: Mapping[str, str]) -> list[str]:
    """That the two objects are one but for the letters' case or blanks, where that is so."""
    true, new = (" ".join(values[name].split()).casefold() for name in _TARGETS)
    if true != new:
        return []
    true, new = (f"{names.get(name, name)} {shown(values[name])}" for name in _TARGETS)
    return [f"{new} is {true} but for case or blanks"]


def one_remark(*remarks: str | None) -> str | None:
    """What was changed in a fact's texts and what is odd about them; None if nothing."""
    return "; ".join(text for text in remarks if text) or None


def _fault(values: Raw, names: Mapping[str, str]) -> str:
    """Why a record cannot be used, naming the field as its file does; "" if it can."""
    relation = values.get("relation_id")
    if not isinstance(relation, str | int | float | None):
        name = names.get("relation_id", "relation_id")
        return f"{name}: expected text or a number, got {type(relation).__name__}"
    for field_name in ("subject", "template", *_TARGETS):
        value, name = values.get(field_name), names.get(field_name, field_name)
        if value is None:
            return f"{name} is missing"
        if not isinstance(value, str):
            return f"{name}: expected text, got {type(value).__name__}"
        if not value.strip():
            return f"{name} is empty"
    for field_name in LISTS:
        value, name = values.get(field_name, []), names.get(field_name, field_name)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            return f"{name}: expected a list of texts"
        if any(not v.strip() for v in value):
            return f"{name} holds an empty prompt"
        if field_name == "neighbourhood" and any(HOLE in v for v in value):
            return (
                f"{name} holds a prompt with {HOLE}: a neighbour is of another subject; write that "
                "in its place"
            )
    holes = values["template"].count("{}")
    if holes != 1:
        name = names.get("template", "template")
        if not holes and values["subject"] in values["template"]:
            return f"{name}: the subject itself is in the prompt; write {{}} in its place"
        return f"{name}: the prompt lacks the subject: expected one {{}}, found {holes}"
    if values["target_true"].strip() == values["target_new"].strip():
        true, new = (names.get(name, name) for name in _TARGETS)
        return f"{new} equals {true}"
    return ""


def from_row(row: Raw) -> Fact:
    """The Fact of a facts-table row."""
    values: dict[str, Any] = {
        name: list(row[name]) if name in LISTS else row[name] for name in Fact.__dataclass_fields__
    }
    return Fact(**values)


def known(rows: Iterable[Raw]) -> dict[str, Raw]:
    """Of a facts table's rows, those that the model knows, by case_id."""
    return {row["case_id"]: row for row in rows if row["is_correct"]}


def study_order(case_ids: Iterable[str], seed: int) -> list[str]:
    """Case ids in a seeded order of which every prefix is a sample: a larger study extends it."""
    return sorted(case_ids, key=lambda case_id: (seeds.derive(seed, "study", case_id), case_id))
