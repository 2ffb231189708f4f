"""Whatever a fact says, the model that is asked, traced and edited with it gives a row with a value
or one sentence, and no other fact's row changes.
"""

import functools
import json
from pathlib import Path

import pytest
import tiny
from fuzzing import GOOD, TEXT, cases, one_sentence
from hypothesis import given
from hypothesis import strategies as st

from locedit import localizers, messages, methods
from locedit.engine import key_statistics
from locedit.facts.record import KEPT, from_row, read_records
from locedit.localizers import MODULES, NoSettings, Place, restoration
from locedit.methods import SharedInputs, problems
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study import localize
from locedit.study.edit import Cell, Measuring, Subject, baseline, batches, edit_cell
from locedit.study.knowledge import add_knowledge

pytestmark = pytest.mark.slow  # hundreds of made-up inputs

FAMILIES = ["llama", "gpt2"]  # rotary and learned positions; the latter have an end
STEPS = {
    "FT-1": {"steps": 2},
    "FT-5": {"steps": 2},
    "ROME": {"iterations": 3},
    "MEMIT": {"iterations": 3},
    "r-ROME": {"iterations": 3},
    "FT-M": {"steps": 2},
    "EMMET": {"iterations": 3},
    "AlphaEdit": {"iterations": 3},
    "KN": {"steps": 2},
}
SAID = st.one_of(  # what a record may hold, and now and then what it may not
    TEXT.map(messages.mended).map(lambda text: text if text.strip() else f"{text}it"),
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@functools.cache
def model(family: str) -> LanguageModel:
    return LanguageModel(*tiny.pair(family, layers=2))


@functools.cache
def shared_inputs(family: str, method: str) -> SharedInputs:
    moments, _ = key_statistics.key_moments(model(family), tiny.SENTENCES * 3)
    contexts = {
        "ROME": [["{}", "The {}. {}".replace("{}", "king", 1)]],
        "MEMIT": [["{}"], ["I. {}"]],
    }
    return SharedInputs(
        contexts=contexts.get(method, [["{}"]]),
        moments=key_statistics.KeyMoments(moments.__getitem__),
        sigma=0.5,
        n_noise=2,
    )


def asked(folder: Path, family: str, records: list) -> list[dict]:
    """The rows of these records after the model was asked."""
    path = folder / "asked.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    rows = read_records(path, "native")
    add_knowledge(model(family), rows, completion_tokens=4)
    return rows


HOW = Measuring(generation_tokens=2, sigma=0.5, n_noise=2)


def subject(lm: LanguageModel, row: dict, problem: str) -> Subject:
    fact = from_row(row)
    aim, p_true = problems.PROBLEMS[problem], [row["p_true"]]
    (before,) = baseline(lm, aim, [fact], p_true, HOW, 0.0)
    return Subject(fact=fact, before=before, texts=[f"{fact.subject} is a"], perplexity=[9.0])


def edits(family: str, rows: list[dict], method: str, problem: str) -> list[dict]:
    """The editing table's rows of facts that are kept."""
    lm = model(family)
    hyper = methods.METHODS[method].hyperparameters(problem, "paper", {"all": STEPS[method]})
    cell = Cell(method=method, problem=problem, layer=0, hyper=hyper)
    kept = [subject(lm, row, problem) for row in rows if row["status"] == KEPT]
    together = batches(lm, kept, 3)
    return list(edit_cell(lm, cell, together, shared_inputs(family, method), HOW))


@cases(50)
@given(records=st.lists(FACT, min_size=1, max_size=3), family=st.sampled_from(FAMILIES))
def test_every_fact_that_the_model_is_asked_gets_a_row(folder, records, family):
    rows = asked(folder, family, records)
    assert len(rows) == len(records)
    for row in rows:
        kept = row["status"] == KEPT
        assert kept == (row["reason"] == "")
        assert not kept or (row["is_correct"] in (True, False) and 0 <= row["p_true"] <= 1)
    tables.write(folder / "asked.parquet", rows, "facts")


@cases(40)
@given(
    fact=FACT,
    family=st.sampled_from(FAMILIES),
    module=st.sampled_from(MODULES),
    window=st.integers(1, 4),
)
def test_every_fact_is_traced_or_says_why_not(folder, fact, family, module, window):
    for row in asked(folder, family, [fact]):
        if row["status"] != KEPT:
            continue
        one, lm = from_row(row), model(family)
        how = {"module": module, "window": window}
        cells = restoration.trace_rows(lm, one, sigma=0.5, n_noise=2, seed=1, **how)
        cell = localize.Cell(localizer="zeroing", place=Place(**how), settings=NoSettings())
        layers = list(
            localize.localize_cell(lm, cell, [[one]], localizers.SharedInputs(study=[one]))
        )
        for made, schema in ((cells, "tracing"), (layers, "localizing")):
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
    kept = [row["case_id"] for row in rows if row["status"] == KEPT]
    assert sorted(row["case_id"] for row in made) == sorted(kept)
    for row in made:
        one_sentence(row["status"])
        assert row["status"] == "ok" or row["case_id"] not in ("good", "other")
    tables.write(folder / "edits.parquet", made, "editing")
    for row in rows:
        if row["case_id"] in alone["asked"] and row["status"] == KEPT:
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
