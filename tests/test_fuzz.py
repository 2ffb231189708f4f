"""Whatever comes in as records, prompts, configurations, files and arguments: a row with a status
or one sentence, never a traceback, and no row vanishes.

Cases are drawn by Hypothesis from a fixed seed, so that two runs of the suite see the same ones.
LOCEDIT_FUZZ=100 draws a hundred times as many, and others each time.
"""

import copy
import csv
import functools
import io
import json
import os
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from locedit import config as configuration
from locedit import (
    editing,
    facts,
    methods,
    problems,
    statistics,
    tables,
    texts,
    tracing,
    zeroing,
)
from locedit.cli import inputs
from locedit.cli import main as command_line
from locedit.methods import SharedInputs
from locedit.models import LanguageModel
from locedit.records import DataError

ROOT = Path(__file__).resolve().parent.parent
TIMES = int(os.environ.get("LOCEDIT_FUZZ", "1"))


def cases(count: int) -> settings:
    """How many cases of a property are tried; none is too slow or too large to count."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def one_sentence(text: str, *names: str) -> None:
    """What a user is told: one line, not a page, that names what is at fault."""
    assert text.strip()
    assert "\n" not in text
    assert "\r" not in text
    assert len(text) < 2500
    assert "Traceback" not in text
    for name in names:
        assert name in text


# ---- texts ---------------------------------------------------------------------------------------

NASTY = [
    "",
    " ",
    "\n",
    "{}",
    "{",
    "}}",
    "{0}",
    "{subject}",
    "%s",
    "$x_$",
    "a\nb",
    "a\r\nb",
    "\u2028",
    "\x85",
    "\x0b",
    "\x1b[31m",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffy",
    "עברית",
    "\u202eabc",
    "e\u0301\u0301\u0301",
    "\u0301",
    "👩‍👩‍👧‍👦",
    "𝔘𝔫𝔦",
    "İ",
    "ß",
    "\u200b",
    "\ufeff",
    "東京",
    "</s>",
    "<s>",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "../../etc/passwd",
    "-1",
    "nan",
    "1e-4",
    "a" * 300,
    "Paris " * 400,
]
ANY_CHARACTER = st.characters(exclude_categories=())  # surrogates as well
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from(["France", "Paris", "Rome", "the king"]),
    st.text(ANY_CHARACTER, max_size=12),
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**30]),
    st.floats(),
    TEXT,
)
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
PROMPT = st.one_of(
    st.builds(lambda a, b: f"{a}{{}}{b}", TEXT, TEXT),
    st.sampled_from(["The capital city of {} is", "{} is", "Is {} or {} it", "France {} is", "{}"]),
    TEXT,
)

# ---- records -------------------------------------------------------------------------------------

GOOD = {
    "native": {
        "case_id": "1",
        "relation_id": "capital",
        "subject": "France",
        "template": "The capital of {} is",
        "target_true": "Paris",
        "target_new": "Rome",
        "paraphrases": ["France is governed from"],
        "neighbourhood": ["The Louvre is in"],
        "generation_prompts": ["France has"],
    },
    "counterfact": {
        "case_id": 1,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "capital",
            "target_new": {"str": "Rome"},
            "target_true": {"str": "Paris"},
            "subject": "France",
        },
        "paraphrase_prompts": ["France is governed from"],
        "neighborhood_prompts": ["The Louvre is in"],
        "generation_prompts": ["France has"],
    },
    "easyedit": {
        "case_id": 1,
        "subject": "France",
        "prompt": "The capital of France is",
        "ground_truth": "Paris",
        "target_new": "Rome",
        "rephrase_prompt": "France is governed from",
        "locality_prompt": "The Louvre is in",
    },
    "zsre": {
        "subject": "France",
        "src": "What is the capital of France?",
        "answers": ["Paris"],
        "rephrase": "From where is France governed?",
        "loc": "Where is the Louvre?",
    },
    "known_1000": {
        "known_id": 1,
        "subject": "France",
        "prompt": "The capital of France is",
        "attribute": "Paris",
        "relation_id": "capital",
    },
}
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
        rows = facts.read_records(path, format, **how)
    except DataError as error:
        one_sentence(str(error), str(path))
        return None
    assert count is None or len(rows) == count, "no row vanishes"
    kept = [row for row in rows if row["status"] == facts.KEPT]
    assert len({row["case_id"] for row in kept}) == len(kept)
    for row in rows:
        assert row["status"] in (facts.KEPT, facts.EXCLUDED)
        assert (row["reason"] == "") == (row["status"] == facts.KEPT)
        assert len(row["reason"]) < 500
        assert "\n" not in row["reason"]
    for row in kept:
        assert row["subject"] in row["prompt"]
        assert row["target_true"] != row["target_new"]
        assert row["target_true"].strip() == row["target_true"] != ""
    again = facts.read_records(path, format, **how)
    assert rows == again, "the same file gives the same rows"
    stored = path.parent / "facts.parquet"
    tables.write(stored, rows, "facts")
    back = tables.read(stored, "facts")
    assert list(back["case_id"]) == [row["case_id"] for row in rows]
    assert list(back["prompt"]) == [row["prompt"] for row in rows]
    one_sentence(facts.exclusions(rows) or "none")
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
        before = {row["case_id"] for row in rows[:first] if row["status"] == facts.KEPT}
        drawn = rows[first]["reason"].startswith("no false object")  # all others are bad
        assert rows[first]["status"] == facts.KEPT or rows[first]["case_id"] in before or drawn


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
            _damaged(_parquet_bytes()),
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


@st.composite
def _damaged(draw, content: bytes):
    """The bytes cut off, or with a few of them changed."""
    changed = bytearray(content)
    for at in draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        changed[at] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@cases(60)
@given(data=st.data())
def test_a_damaged_table_is_named(folder, data):
    path = folder / "damaged.parquet"
    path.write_bytes(data.draw(_damaged(_stored_table(folder)) | st.binary(max_size=60)))
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
    tables.write(folder / "whole.parquet", rows, "facts", {"rule": "know", "config": {"seed": 0}})
    return (folder / "whole.parquet").read_bytes()


# ---- through the model ---------------------------------------------------------------------------

FAMILIES = ["llama", "gpt2"]  # rotary and learned positions; the latter have an end
STEPS = {
    "FT-1": {"steps": 2},
    "FT-5": {"steps": 2},
    "ROME": {"iterations": 3},
    "MEMIT": {"iterations": 3},
}
SAID = st.one_of(  # what a record may hold, and now and then what it may not
    TEXT.map(texts.mended).map(lambda text: text if text.strip() else f"{text}it"),
    st.integers(100, 250).map(lambda count: "q" * count),  # about as long as the model reads
    TEXT,
)
FACT = st.fixed_dictionaries(
    {
        "case_id": st.sampled_from(["a", "b", "c", "d", 7]),
        "subject": SAID,
        "template": st.builds(
            lambda a, b: "{}".join(part.replace("{}", "{ }") for part in (a, b)), TEXT, SAID
        ),
        "target_true": SAID,
        "target_new": SAID,
        "paraphrases": st.lists(SAID, max_size=2),
        "neighbourhood": st.lists(SAID, max_size=2),
        "generation_prompts": st.lists(SAID, max_size=1),
    }
)
SOUND = [
    {**GOOD["native"], "case_id": "good"},
    {**GOOD["native"], "case_id": "other", "subject": "the city", "template": "In {} you can see"},
]


@functools.cache
def model(family: str) -> LanguageModel:
    return LanguageModel(*tiny.pair(family, layers=2))


@functools.cache
def shared_inputs(family: str, method: str) -> SharedInputs:
    moments, _ = statistics.key_moments(model(family), tiny.SENTENCES * 3)
    contexts = {
        "ROME": [["{}", "The {}. {}".replace("{}", "king", 1)]],
        "MEMIT": [["{}"], ["I. {}"]],
    }
    return SharedInputs(
        contexts=contexts.get(method, [["{}"]]),
        moments=statistics.KeyMoments(moments.__getitem__),
        sigma=0.5,
        n_noise=2,
    )


def asked(folder: Path, family: str, records: list) -> list[dict]:
    """The rows of these records after the model was asked."""
    path = folder / "asked.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    rows = facts.read_records(path, "native")
    facts.add_knowledge(model(family), rows, completion_tokens=4)
    return rows


HOW = editing.Measuring(generation_tokens=2, sigma=0.5, n_noise=2)


def subject(lm: LanguageModel, row: dict, problem: str) -> editing.Subject:
    fact = facts.from_row(row)
    before = editing.baseline(lm, problems.PROBLEMS[problem], fact, HOW, 0.0, row["p_true"])
    return editing.Subject(
        fact=fact, before=before, texts=[f"{fact.subject} is a"], perplexity=[9.0]
    )


def edits(family: str, rows: list[dict], method: str, problem: str) -> list[dict]:
    """The editing table's rows of facts that are kept."""
    lm = model(family)
    hyper = methods.METHODS[method].hyperparameters(problem, "paper", {"all": STEPS[method]})
    cell = editing.Cell(method=method, problem=problem, layer=0, hyper=hyper)
    kept = [subject(lm, row, problem) for row in rows if row["status"] == facts.KEPT]
    together = editing.batches(lm, kept, 3)
    return list(editing.edit_cell(lm, cell, together, shared_inputs(family, method), HOW))


@cases(50)
@given(records=st.lists(FACT, min_size=1, max_size=3), family=st.sampled_from(FAMILIES))
def test_every_fact_that_the_model_is_asked_gets_a_row(folder, records, family):
    rows = asked(folder, family, records)
    assert len(rows) == len(records)
    for row in rows:
        kept = row["status"] == facts.KEPT
        assert kept == (row["reason"] == "")
        assert not kept or (row["is_correct"] in (True, False) and 0 <= row["p_true"] <= 1)
    tables.write(folder / "asked.parquet", rows, "facts")


@cases(40)
@given(
    fact=FACT,
    family=st.sampled_from(FAMILIES),
    module=st.sampled_from(tracing.MODULES),
    window=st.integers(1, 4),
)
def test_every_fact_is_traced_or_says_why_not(folder, fact, family, module, window):
    for row in asked(folder, family, [fact]):
        if row["status"] != facts.KEPT:
            continue
        one, lm = facts.from_row(row), model(family)
        how = {"module": module, "window": window}
        cells = tracing.trace_rows(lm, one, sigma=0.5, n_noise=2, seed=1, **how)
        layers = zeroing.zero_rows(lm, one, **how)
        for made, schema in ((cells, "tracing"), (layers, "zeroing")):
            assert made
            assert {cell["case_id"] for cell in made} == {one.case_id}
            for status in {cell["status"] for cell in made}:
                one_sentence(status)
            tables.write(folder / "cells.parquet", made, schema)
        assert all(0 <= cell["p_restored"] <= 1 for cell in cells if cell["status"] == "ok")


@pytest.mark.parametrize("method", STEPS)
@cases(20)
@given(
    fact=FACT,
    family=st.sampled_from(FAMILIES),
    problem=st.sampled_from([*problems.PROBLEMS]),
)
def test_every_fact_is_edited_or_says_why_not_and_never_stops_another(
    folder, method, fact, family, problem
):
    rows = asked(folder, family, [SOUND[0], fact, SOUND[1]])
    alone = good_alone(folder, family, method, problem)
    made = edits(family, rows, method, problem)
    kept = [row["case_id"] for row in rows if row["status"] == facts.KEPT]
    assert sorted(row["case_id"] for row in made) == sorted(kept)
    for row in made:
        one_sentence(row["status"])
        assert row["status"] == "ok" or row["case_id"] not in ("good", "other")
    tables.write(folder / "edits.parquet", made, "editing")
    for row in rows:
        if row["case_id"] in alone["asked"] and row["status"] == facts.KEPT:
            known = alone["asked"][row["case_id"]]
            assert (row["is_correct"], row["completion"]) == (
                known["is_correct"],
                known["completion"],
            )
            assert row["p_true"] == pytest.approx(known["p_true"], rel=1e-9)
    for row in made:
        for column, value in alone["edited"].get(row["case_id"], {}).items():
            same = pytest.approx(value, rel=1e-6, abs=1e-9) if _numeric(value) else value
            assert row[column] == same, column


@functools.cache
def good_alone(folder: Path, family: str, method: str, problem: str) -> dict:
    rows = asked(folder, family, SOUND)
    return {
        "asked": {row["case_id"]: row for row in rows},
        "edited": {row["case_id"]: row for row in edits(family, rows, method, problem)},
    }


def _numeric(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(number, int | float) for number in numbers)


# ---- configurations ------------------------------------------------------------------------------

DEFAULT = configuration.load_yaml(ROOT / "config.yaml")
MODEL = {"label": "Tiny", "n_layers": 4, "noise": "3sd", "path": "weights"}
SCHEMA = configuration.with_methods(
    configuration.load_yaml(ROOT / "schemas" / "config.schema.yaml"), methods.schemas()
)
MODEL_SCHEMA = configuration.load_yaml(ROOT / "schemas" / "model.schema.yaml")
ODD = [float("nan"), float("inf"), -1, 0, 1e308, 2**31, 2**40, 2**64, 10**400, True, "1e-4", "3sd"]
ODD += [[], {}, [[]], [None], {1: 2, "a": 3}, "x" * 5000, "~nobody/x", "a\0b", "{x}", "../x", "a\n"]
KEY = st.one_of(st.sampled_from(["layer", "Layers", "n ", "modle", 1, None, True, ""]), TEXT)
VALUE = st.one_of(st.sampled_from(ODD), SCALAR, JSON, st.dictionaries(KEY, SCALAR, max_size=3))


@st.composite
def changed(draw, config: Mapping):
    """(a configuration with one to three keys of another value, new or gone; the keys)."""
    config, keys = copy.deepcopy(dict(config)), []
    for _ in range(draw(st.integers(1, 3))):
        section = config
        while (inner := [v for v in section.values() if isinstance(v, dict) and v]) and draw(
            st.booleans()
        ):
            section = draw(st.sampled_from(inner))
        key = draw(st.one_of(st.sampled_from([*section]), KEY) if section else KEY)
        keys.append(key)
        if draw(st.integers(0, 5)):
            section[key] = draw(VALUE)
        else:
            section.pop(key, None)
    return config, keys


def accepts(validate) -> bool:
    """Whether a configuration is accepted; if not, in one sentence."""
    try:
        validate()
    except configuration.ConfigError as error:
        one_sentence(str(error))
        return False
    return True


@cases(150)
@given(change=changed(DEFAULT))
def test_a_configuration_is_accepted_or_refused_in_one_sentence(change):
    config, _ = change
    if accepts(lambda: configuration.validate(config, SCHEMA, "config")):
        numbers = [value for value in _leaves(config) if isinstance(value, int | float)]
        assert all(-(2**63) < number < 2**63 and number == number for number in numbers)
        accepts(lambda: configuration.check(config, 30, assets=["enwiki-shortened"]))


@cases(40)
@given(key=st.sampled_from([*DEFAULT]), value=VALUE)
def test_the_sentence_names_the_key_that_is_at_fault(key, value):
    config, said = {**DEFAULT, key: value}, f"config: {key}"
    try:
        configuration.validate(config, SCHEMA, "config")
    except configuration.ConfigError as error:
        said = str(error)
    assert said.startswith(f"config: {key}")


def _leaves(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [leaf for one in inner for leaf in _leaves(one)] if inner else [value]


@cases(80)
@given(change=changed(MODEL), bare=st.booleans())
def test_a_models_file_is_accepted_or_refused_in_one_sentence(folder, change, bare):
    model, _ = change
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(model), encoding="utf-8", errors="replace")
    accepts(lambda: configuration.load_model(str(path), ROOT, MODEL_SCHEMA))
    if not bare:
        accepts(lambda: configuration.validate(model, MODEL_SCHEMA, "model"))


@cases(60)
@given(name=st.one_of(TEXT, st.sampled_from(["...yaml", "..yaml", "x" * 300, "~nobody/m.yaml"])))
def test_a_models_name_is_accepted_or_refused_in_one_sentence(name):
    accepts(lambda: configuration.load_model(name, ROOT, MODEL_SCHEMA))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
YAML_ODDITIES = [
    "1e-4",
    "010",
    "0o10",
    "0x" + "f" * 6000,
    "1_000",
    "1:30:00",
    "2001-01-01",
    "2001-13-45",
    ".nan",
    "-.inf",
    "~",
    "yes",
    "NO",
    "!!python/object/apply:os.system [true]",
    "!!binary x",
    "!!bool 7",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "&a [*a]",
    "*nowhere",
    "{? [a] : b}",
    "{1: 2, a: 3, ~: 4}",
    "<<: 3",
    '"\\ud800"',
    '"\\0"',
    "\t3",
    "|\n  text\n  more",
    "[" * 3000,
    "[" * 100 + "]" * 100,
    "'",
    "%",
    "@",
    "---",
    "a: b: c",
]


@cases(150)
@given(data=st.data())
def test_any_yaml_is_accepted_or_refused_in_one_sentence(folder, data):
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(lines) - 1))
        head = lines[at].partition(":")[0]
        odd = data.draw(st.one_of(st.sampled_from(YAML_ODDITIES), TEXT))
        kind = data.draw(st.integers(0, 3))
        lines[at] = [f"{head}: {odd}", odd, f"{lines[at]}\n{lines[at]}", f"\t{lines[at]}"][kind]
    content = "\n".join(lines).encode("utf-8", "replace")
    if data.draw(st.booleans()):
        content = data.draw(
            st.one_of(st.binary(max_size=40), _damaged(content), st.just(BOMB.encode()))
        )
    path = folder / "odd.yaml"
    path.write_bytes(content)
    try:
        config = configuration.load_yaml(path)
    except configuration.ConfigError as error:
        one_sentence(str(error), str(path))
        return
    if accepts(lambda: configuration.validate(config, SCHEMA, str(path))):
        accepts(lambda: configuration.check(config, 30))


# ---- the command line ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(folder) -> Path:
    return tiny.save(tiny.pair("llama", layers=2, dtype=torch.float32), folder / "weights")


ARGUMENT = st.one_of(TEXT, st.integers().map(str), st.floats().map(str), st.just("9" * 5000))
OPTIONS = {
    "trace": "--target --module --window --noise --n-noise --seed --out --model".split(),
    "edit": "--method --plugin --layer --paraphrase --neighbour --preset --untuned --tokens --top "
    "--results --model --to".split(),
    "provenance": ["--json"],
}
SMALL = {"trace": ["--noise", "0.5", "--n-noise", "2"], "edit": ["--to", "Rome", "--layer", "1"]}


@st.composite
def command_lines(draw, weights: Path):
    """A command that is nearly right, with some of its arguments odd, twice or left out."""
    command = draw(st.sampled_from([*OPTIONS]))
    if command == "provenance":
        files = [str(weights / "config.json"), str(weights), "none.parquet"]
        return [command, draw(st.one_of(st.sampled_from(files), TEXT)), *draw(_odd(command))]
    template = draw(st.one_of(st.sampled_from(["The capital of {} is", "{} is", "{}"]), PROMPT))
    subject = draw(st.one_of(st.just("France"), TEXT))
    line = [command, template, "--subject", subject, "--model", str(weights), *SMALL[command]]
    if command == "edit":
        line += ["--method", draw(st.sampled_from(["FT-1", "rome", "FT-5"]))]
        line += ["--neighbour", draw(st.one_of(st.just("Rome is in"), TEXT))]
    else:
        line += ["--target", draw(st.one_of(st.just("Paris"), TEXT))]
    return line + draw(_odd(command))


@st.composite
def _odd(draw, command: str):
    words: list[str] = []
    for _ in range(draw(st.integers(0, 2))):
        words.append(draw(st.sampled_from(OPTIONS[command])))
        words += [draw(ARGUMENT)] if draw(st.integers(0, 6)) else []
    return words


@cases(120)
@given(data=st.data())
def test_any_arguments_are_answered_or_refused_in_one_sentence(folder, weights, data):
    line = data.draw(command_lines(weights))
    # a number that would keep the machine busy is no fault
    numbers = [int(word) for word in line if word.isascii() and word.isdigit() and len(word) < 20]
    assume(max(numbers, default=0) < 200)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setenv("LOCEDIT_CACHE", str(folder / "cache"))
        patched.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
        patched.chdir(folder)
        try:
            status = command_line.main(line)
        except SystemExit as ended:
            status = ended.code
    if status != 0:
        assert status in (1, 2)
        assert err.getvalue().count("\n") == 1
        one_sentence(err.getvalue().removesuffix("\n"), "locedit")
    else:
        assert out.getvalue().strip()
