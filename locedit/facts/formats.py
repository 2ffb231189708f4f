"""Data sets: from a published file, or a table of one's own, to the plain values of facts.

A file's suffix says how it holds records (JSON, JSON Lines, CSV, Parquet); a *format* says which
keys a record has and what they mean. `locedit.facts.record` validates what is read here.

No heavy imports: Snakemake reads this each time it starts.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locedit import messages, seeds
from locedit.errors import LoceditError
from locedit.facts import wording
from locedit.facts.records import CONFIGURATION, Asker, DataError, read_file
from locedit.facts.unread import is_plain, unread
from locedit.messages import listed, name, nearest, shown, unknown
from locedit.text import subjects

Raw = Mapping[str, Any]
Values = dict[str, Any]

TEXTS = ("case_id", "relation_id", "subject", "template", "target_true", "target_new")
LISTS = ("paraphrases", "neighbourhood", "generation_prompts")
_TARGETS = ("target_true", "target_new")
_ABOUT_THE_SUBJECT = ("paraphrases", "generation_prompts")  # neighbours are of another one
SEPARATOR = "|"  # between the prompts in one cell of a table
_ENOUGH = 100  # records looked at to recognise a format


class RecordError(LoceditError):
    """What is wrong with one record, naming the field."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the records of one published form are read.

    read: a record to values of Fact's fields; a KeyError names the key that is missing. keys: what
    every record has, by which the form is recognised, with one of `either`. reads: our fields to
    the keys that hold them, inner keys behind a dot, the usual spelling first. leaves: keys of the
    published form that are not used here. filled: its prompt comes with the subject in it.
    draws_target: it has no false object, so one is drawn. numbered: its records are known by their
    place in the file.
    """

    read: Callable[[Raw], Values]
    keys: tuple[str, ...]
    either: tuple[str, ...] = ()
    reads: Mapping[str, tuple[str, ...]]
    leaves: tuple[str, ...] = ()
    filled: bool = False
    draws_target: bool = False
    numbered: bool = False

    @property
    def names(self) -> dict[str, str]:
        """What the form calls our fields, for messages."""
        keys = {ours: paths[0].removesuffix(".str") for ours, paths in self.reads.items()}
        return {ours: key.rpartition(".")[2] for ours, key in keys.items()}

    def fits(self, record: Raw) -> bool:
        """Whether a record has the form's keys."""
        some = not self.either or any(key in record for key in self.either)
        return some and all(key in record for key in self.keys)

    def expected(self) -> str:
        """Its keys in words."""
        either = f" and {' or '.join(self.either)}" if self.either else ""
        return ", ".join(self.keys) + either


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
    values = {key: record[key] for key in (*TEXTS, *LISTS) if key in record}
    if values.get("template") in (None, ""):
        if record.get("prompt") in (None, ""):
            raise RecordError("template, or prompt with the subject in it, is missing")
        values["template"] = with_hole(record["prompt"], record["subject"], "prompt")
        values["remarks"] = _place_remarks(record["prompt"], record["subject"])
    else:
        _check_prompt(values["template"], record.get("prompt"), record.get("subject"))
    return values


def _check_prompt(template: Any, prompt: Any, subject: Any) -> None:
    """Raise RecordError where a record's prompt, if it has one too, is not its template filled."""
    texts = all(isinstance(text, str) for text in (template, prompt, subject))
    if not texts or template.count(wording.HOLE) != 1 or not wording.bare(prompt)[0]:
        return  # nothing to compare with, or at fault itself
    subject = wording.bare(subject)[0]
    here, there = (wording.filled(wording.trimmed(t)[0], subject) for t in (template, prompt))
    if here != there:
        raise RecordError(
            f"template and prompt contradict each other, {shown(here)} and {shown(there)}; correct "
            "one or leave it out"
        )


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
        "paraphrases": _spelt(record, "rephrase_prompt", "rephrase"),
        "neighbourhood": _spelt(record, "locality_prompt", "locality"),
        "remarks": _place_remarks(record["prompt"], record["subject"]),
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
    prompts = {key: _as_list(record.get(key)) for key in ("src", "rephrase", "loc")}
    bare = {key: [wording.bare(text)[0] for text in prompts[key]] for key in prompts}
    return {
        "subject": record["subject"],
        "template": f"Question: {wording.bare(question)[0]} Answer:",
        "target_true": answers[0],
        "also_true": answers[1:],
        "paraphrases": [f"Question: {text} Answer:" for text in bare["rephrase"]],
        "neighbourhood": [f"{text.rstrip('?')}?" for text in bare["loc"]],
        "remarks": [
            *_place_remarks(record["src"], record["subject"]),
            *(f"{key}: {wording.LEFT_OUT}" for key in bare if bare[key] != prompts[key]),
        ],
    }


def _known_1000(record: Raw) -> Values:
    """ROME's known_1000.json (Meng et al. 2022, section 2): facts for tracing, one prompt each.

    `prompt` is the text that is completed; it may go on behind the filled `template`.
    """
    known = record.get("template") if isinstance(record.get("template"), str) else None
    return {
        "case_id": record.get("known_id"),
        "relation_id": record.get("relation_id") or record.get("template") or "",
        "subject": record["subject"],
        "template": with_hole(record["prompt"], record["subject"], "prompt", known),
        "target_true": record["attribute"],
        "remarks": _place_remarks(record["prompt"], record["subject"], known),
    }


def with_hole(prompt: Any, subject: Any, field_name: str, known: Any = None) -> str:
    """A filled prompt as a template: `{}` where `subjects.locate` finds the subject.

    known: a template that the prompt may begin with.
    """
    for key, value in ((field_name, prompt), ("subject", subject)):
        if not isinstance(value, str):
            raise RecordError(f"{key}: expected text, got {type(value).__name__}")
    subject, _ = wording.bare(subject)
    place = subjects.locate(prompt, subject, known) if subject else None
    if subject and place is None:
        if prompt.count(wording.HOLE) == 1:  # it is a template
            return prompt
        raise RecordError(_lacking(prompt, subject, field_name))
    start = len(prompt) if place is None else place.start
    return f"{prompt[:start]}{{}}{prompt[start + len(subject) :]}"


def _place_remarks(prompt: str, subject: str, known: str | None = None) -> list[str]:
    """What makes the subject's place in a filled prompt doubtful, if anything does."""
    doubt = subjects.remark(prompt, wording.bare(subject)[0], known)
    return [] if doubt is None else [doubt]


def _lacking(prompt: str, subject: str, field_name: str) -> str:
    """That the prompt has no such subject, or has it in another form, and in which."""
    if form := wording.differs_in(prompt, subject):
        return (
            f"{field_name}: the prompt has the subject {shown(subject)} in another form; the two "
            f"differ in {form}: write both alike"
        )
    return f"{field_name}: the prompt lacks the subject {shown(subject)}"


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


def _spelt(record: Raw, usual: str, also: str) -> list[str]:
    """The prompts under the usual key; if there are none, texts under another spelling of it."""
    prompts = _as_list(record.get(usual))
    return prompts or (_as_list(record.get(also)) if is_plain(record.get(also)) else [])


# ---- the tables ----------------------------------------------------------------------------------

_REWRITE = "requested_rewrite"

FORMATS: dict[str, Format] = {
    "native": Format(
        read=_native,
        keys=("subject", "target_true", "target_new"),
        either=("template", "prompt"),
        reads={key: (key,) for key in (*TEXTS, "prompt", *LISTS)},
    ),
    "counterfact": Format(
        read=_counterfact,
        keys=(_REWRITE,),
        reads={
            "case_id": ("case_id",),
            "relation_id": (f"{_REWRITE}.relation_id",),
            "subject": (f"{_REWRITE}.subject",),
            "template": (f"{_REWRITE}.prompt",),
            "target_true": (f"{_REWRITE}.target_true.str",),
            "target_new": (f"{_REWRITE}.target_new.str",),
            "paraphrases": ("paraphrase_prompts",),
            "neighbourhood": ("neighborhood_prompts",),
            "generation_prompts": ("generation_prompts",),
        },
        leaves=(
            "pararel_idx",
            "attribute_prompts",
            f"{_REWRITE}.target_true.id",
            f"{_REWRITE}.target_new.id",
        ),
    ),
    "easyedit": Format(
        read=_easyedit,
        keys=("prompt", "subject", "ground_truth", "target_new"),
        reads={
            "case_id": ("case_id",),
            "relation_id": ("relation_id",),
            "subject": ("subject",),
            "template": ("prompt",),
            "target_true": ("ground_truth",),
            "target_new": ("target_new",),
            "paraphrases": ("rephrase_prompt", "rephrase"),
            "neighbourhood": ("locality_prompt", "locality"),
        },
        leaves=(
            "locality_ground_truth",
            "portability",
            "portability_prompt",
            "portability_ground_truth",
        ),
        filled=True,
    ),
    "zsre": Format(
        read=_zsre,
        keys=("src", "subject", "answers"),
        reads={
            "subject": ("subject",),
            "template": ("src",),
            "target_true": ("answers",),
            "paraphrases": ("rephrase",),
            "neighbourhood": ("loc",),
        },
        leaves=("pred", "alt", "alternatives", "loc_ans", "cond", "portability"),
        filled=True,
        draws_target=True,
        numbered=True,
    ),
    "known_1000": Format(
        read=_known_1000,
        keys=("prompt", "subject", "attribute"),
        reads={
            "case_id": ("known_id",),
            "relation_id": ("relation_id", "template"),
            "subject": ("subject",),
            "template": ("prompt",),
            "target_true": ("attribute",),
        },
        leaves=("prediction",),
        filled=True,
        draws_target=True,
    ),
}

_ROME = "https://rome.baulab.info/data/dsets"
PLANTED = "planted"
KNOWN: dict[str, Known] = {
    "bundled": Known(format="native"),  # built from data/
    "counterfact": Known(format="counterfact", asset="counterfact"),
    "zsre": Known(format="zsre", url=f"{_ROME}/zsre_mend_eval.json"),
    "known_1000": Known(format="known_1000", url=f"{_ROME}/known_1000.json"),
    PLANTED: Known(format="native"),  # the facts that were trained into the model
}


# ---- a whole file --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a file says: a pair for each record, the values of a fact and what is wrong with it.

    Values has, beside a fact's fields, `remarks` on what was changed in them. unread: the file's
    keys that stand for nothing here, each perhaps with the one that may be meant. drawn: whether
    the false objects were drawn.
    """

    rows: list[tuple[Values, str]]
    names: Mapping[str, str]
    unread: list[str]
    drawn: bool


def read(
    path: Path,
    format: str,
    n: int | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    seed: int = 0,
    records: Sequence[Any] | None = None,
    asker: Asker = CONFIGURATION,
) -> Reading:
    """The first n records of a data file as values of facts, not yet validated.

    columns: our fields to the file's, of a table of one's own; a field that is not named there is
    the column that is called as it is, if there is one. separator: between the prompts in one cell.
    seed: of false objects that are drawn. records: what the file would hold, where there is none;
    `path` is its name in messages. asker: whose words their remedies have. Raises DataError for a
    file that cannot be read as what it is said to be.
    """
    form = _format(format)
    if n is not None and n < 1:
        raise DataError(f"n facts must be at least 1, got {n}")
    if not separator:
        raise DataError("the separator is empty; give what stands between the prompts in one cell")
    is_table = False
    if records is None:
        records, is_table = read_file(path, f"{format} records", asker)
    if columns:
        _check_columns(path, records, format, columns, asker)
    columns = _with_ours(records, columns) if columns else {}
    names = {**form.names, **{ours: name(column) for ours, column in columns.items()}}
    left = unread(records[:n], form.reads, form.leaves, columns)
    given = records
    if columns:
        records = _renamed(records, columns)
    if is_table:
        records = [_cells(record, separator) for record in records]
    _check_form(path, records, format, given, columns, asker)
    rows = [_row(form, names, record, index) for index, record in enumerate(records[:n])]
    if form.draws_target:
        others = [_row(form, names, record) for record in records[len(rows) :]]
        rows = list(_with_targets(rows, objects_by_relation(rows + others), seed))
    return Reading(rows=rows, names=names, unread=left, drawn=form.draws_target)


def _format(format: str) -> Format:
    if format in FORMATS:
        return FORMATS[format]
    raise DataError(unknown("data format", format, FORMATS))


def _row(form: Format, names: Mapping[str, str], record: Any, index: int = 0) -> tuple[Values, str]:
    """A record's values and what is wrong with it, "" if nothing is."""
    values, reason = dict[str, Any](), ""
    try:
        if not isinstance(record, Mapping):
            raise RecordError(f"expected a JSON object, got {type(record).__name__}")
        values = _as_it_stands(form, record)
        values = form.read(record)
        reason = messages.fault_of(values, (*TEXTS, *LISTS), names)
        values = _worded(values, names)
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


def _as_it_stands(form: Format, record: Raw) -> Values:
    """What tells a record from others, for the row of one that cannot be read."""
    found = {key: record[key] for key in ("case_id", "subject") if key in record}
    for ours in ("case_id", "subject", "template", "prompt"):
        for path in form.reads.get(ours, ())[:1]:
            value: Any = record
            for key in path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if isinstance(value, str | int | float):
                found["prompt" if form.filled and ours == "template" else ours] = value
    return found


def _worded(values: Values, names: Mapping[str, str]) -> Values:
    """The values as they are put to a model, with remarks on what that changed.

    Blanks at the ends of prompts, subjects and targets are left out; `{}` in prompts about the
    subject stands for it.
    """
    changed, remarks = dict(values), list(values.get("remarks", []))

    def take(field_name: str, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        if field_name in ("subject", *_TARGETS):
            text, said = wording.bare(text)
        else:
            text, said = wording.prompt(text, changed.get("subject"))
        remarks.extend(f"{names.get(field_name, field_name)}: {what}" for what in said)
        if field_name in _ABOUT_THE_SUBJECT and isinstance(changed.get("subject"), str):
            return wording.filled(text, changed["subject"])
        return text

    for field_name in ("subject", "template", *_TARGETS):
        if field_name in values:
            changed[field_name] = take(field_name, values[field_name])
    for field_name in LISTS:
        given = values.get(field_name)
        if given is None:  # null, in whatever kind of file: no prompts are given
            changed[field_name] = []
        elif isinstance(given, list):
            changed[field_name] = [take(field_name, text) for text in given]
    return {**changed, "remarks": list(dict.fromkeys(remarks))}


# ---- recognising a format ------------------------------------------------------------------------


def recognise(records: Sequence[Any]) -> list[str]:
    """The formats whose keys most of the first records have, the most particular one first."""
    seen = [record for record in records[:_ENOUGH] if isinstance(record, Mapping)]
    fitting = [
        format for format, form in FORMATS.items() if 2 * sum(map(form.fits, seen)) > len(seen)
    ]
    return sorted(fitting, key=lambda format: -len(FORMATS[format].keys))


def _check_form(
    path: Path,
    records: Sequence[Any],
    format: str,
    given: Sequence[Any],
    columns: Mapping[str, str],
    asker: Asker,
) -> None:
    """Raise DataError if no record has the format's keys, saying what the file looks like.

    given: the records before `columns` named theirs.
    """
    if not records:
        raise DataError(f"{path} holds no record; expected {format} records")
    form = FORMATS[format]
    if any(form.fits(record) for record in records if isinstance(record, Mapping)):
        return
    mappings = [record for record in given if isinstance(record, Mapping)]
    found = listed(mappings[0]) if mappings else type(given[0]).__name__
    raise DataError(
        f"{path} holds no {format} record (expected the keys {form.expected()}; found {found}); "
        f"{_remedy(given, mappings, format, columns, asker)}"
    )


def _remedy(
    given: Sequence[Any],
    mappings: Sequence[Raw],
    format: str,
    columns: Mapping[str, str],
    asker: Asker,
) -> str:
    """What to do with a file that has no record of the format; it leads out of the fault."""
    if others := recognise(given):
        without = f" and leave {asker.columns} out" if columns else ""
        return f"it looks like {others[0]}: {asker.format.format(others[0])}{without}"
    native, set_native = FORMATS["native"], f"{asker.format.format('native')} and "
    lacking = [key for key in native.keys if key not in columns]
    if not any(key in columns for key in native.either):
        lacking.append(" or ".join(native.either))
    if columns and lacking:
        return f"name {asker.by_columns} also which columns are {', '.join(lacking)}"
    first = mappings[0] if mappings else {}
    if format == "native" and all(key in first for key in native.keys):
        return (
            "give each record a `template`, with {} for the subject, or a `prompt` with the "
            f"subject in it, or name its column {asker.by_columns}"
        )
    plain = [key for key, value in first.items() if is_plain(value)]
    if first and not columns and (len(plain) == len(first) or len(plain) > len(native.keys)):
        own = "" if format == "native" else set_native
        return (
            f"{own}name its columns {asker.by_columns}, or choose another format "
            f"({', '.join(FORMATS)})"
        )
    return (
        f"write its facts as a list of objects with the keys {native.expected()}, and {set_native}"
        "give that file"
    )


# ---- tables of one's own -------------------------------------------------------------------------


def _with_ours(records: Sequence[Any], columns: Mapping[str, str]) -> dict[str, str]:
    """`columns`, and those of the table's that are called as our fields and not named there.

    Either of template and prompt, named, is the prompt: what the other one holds may be anything.
    """
    one = FORMATS["native"].either
    named = {*columns, *columns.values(), *(one if any(key in columns for key in one) else ())}
    rows = [record for record in records if isinstance(record, Mapping)]
    ours = [key for key in FORMATS["native"].reads if key not in named]
    found = [key for key in ours if any(key in row and is_plain(row[key]) for row in rows)]
    return {**columns, **{key: key for key in found}}


def _check_columns(
    path: Path, records: Sequence[Any], format: str, columns: Mapping[str, str], asker: Asker
) -> None:
    """Raise DataError for columns of another format, for no field of ours, or not in the file."""
    if format != "native":
        raise DataError(
            f"{asker.columns} names the columns of a table of your own, whose format is native, "
            f"not {format}; leave one of the two out"
        )
    found = {key for record in records if isinstance(record, Mapping) for key in record}
    for ours, column in columns.items():
        if ours not in FORMATS[format].reads:
            raise DataError(f"{asker.columns}: {unknown('field', ours, FORMATS[format].reads)}")
        if column not in found:
            near = nearest(column, map(str, found))
            raise DataError(
                f"{path} has no column {shown(column)}, which {asker.columns} names for {ours}"
                f"{near} (found: {listed(sorted(map(str, found)))})"
            )


def _renamed(records: Sequence[Any], columns: Mapping[str, str]) -> list[Any]:
    """The records under our names; what `columns` has not is left out."""
    return [
        {ours: record[column] for ours, column in columns.items() if column in record}
        if isinstance(record, Mapping)
        else record
        for record in records
    ]


def _cells(record: Any, separator: str) -> Any:
    """A table's row with the text of list fields split."""
    values = dict(record)
    for field_name in LISTS:
        cell = values.get(field_name)
        if isinstance(cell, str):
            blank = r"\s" if separator.isspace() else r"[^\S\n\r]"
            parts = re.split(f"{blank}*{re.escape(separator)}{blank}*", cell)
            values[field_name] = [part for part in parts if part.strip()]
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
