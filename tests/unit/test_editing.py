"""One cell's facts, measured and edited together: a bad one is lost alone, with its reason."""

import dataclasses

import numpy as np
import pytest
import torch

from locedit.engine import key_statistics
from locedit.facts.record import Fact
from locedit.localizers import restoration
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS
from locedit.study import edit
from locedit.study.edit import OK, Cell, Measuring, Subject, batches, edit_cell

HOW = Measuring(generation_tokens=3, greedy_tokens=3, sigma=0.5, n_noise=2)
LAYER = 1


def fact(case_id: str, subject: str, template: str = "The capital city of {} is") -> Fact:
    return Fact(
        case_id=case_id,
        relation_id="",
        subject=subject,
        template=template,
        target_true="Rome",
        target_new="Paris",
        paraphrases=[f"I said that {subject} is"],
        neighbourhood=["The river of France is"],
        generation_prompts=[f"{subject} is"],
    )


def too_long(lm) -> Fact:
    return fact("long", "Madrid", "The river " * (lm.context_length or 0) + "of {} is")


@pytest.fixture
def facts(tiny_lm) -> list[Fact]:
    return [
        fact("0", "Madrid"),
        too_long(tiny_lm),
        fact("1", "the old king", "I said that the mother tongue of {} is"),
    ]


def baseline(lm, facts: list[Fact], problem: str, p_true: float = 1.0) -> list[dict]:
    return edit.baseline(lm, PROBLEMS[problem], facts, [p_true] * len(facts), HOW, 0.1)


def check_close(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, str) or (
            isinstance(value, list) and value[:1] and isinstance(value[0], str)
        ):
            assert got[name] == value, name
        else:
            np.testing.assert_allclose(got[name], value, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_unedited_facts_are_measured_together_as_alone(tiny_lm, facts, problem):
    rows = baseline(tiny_lm, facts, problem)
    assert [row["case_id"] for row in rows] == ["0", "long", "1"]
    assert [row["status"] == OK for row in rows] == [True, False, True]
    assert "exceeds the model's" in rows[1]["status"]
    for row, one in zip(rows[::2], facts[::2], strict=True):
        check_close(row, *baseline(tiny_lm, [one], problem))
    together = baseline(tiny_lm, facts[::2], problem)  # nothing fails, and nothing is done twice
    for row, one in zip(rows[::2], together, strict=True):
        check_close(row, one)


def test_erasure_passes_over_what_is_hardly_known(tiny_lm, facts):
    rows = baseline(tiny_lm, facts, "fact_erasure", p_true=0.01)
    assert {row["status"] for row in rows} == {"not edited: p(o_true) = 0.01 < 0.1"}
    assert {row["status"] for row in baseline(tiny_lm, facts[:1], "fact_erasure", 0.1)} == {"ok"}
    assert {row["status"] for row in baseline(tiny_lm, [], "fact_erasure")} == set()


ROME = {"iterations": 3, "lr": 0.05}


def edits(lm, facts: list[Fact], together: int, method: str = "ROME", **settings) -> list[dict]:
    subjects = [
        Subject(fact=one, before=row, texts=[f"{one.subject} is a"], perplexity=[9.0])
        for one, row in zip(facts, baseline(lm, facts, "error_injection"), strict=True)
    ]
    overlay = {"all": settings or ROME}
    hyper = METHODS[method].hyperparameters("error_injection", "paper", overlay)
    cell = Cell(method=method, problem="error_injection", layer=LAYER, hyper=hyper)
    moment = torch.eye(lm.inner_size, dtype=torch.float64)
    shared = SharedInputs(
        contexts=[["{}", "I said. {}"]], moments=key_statistics.KeyMoments(lambda _layer: moment)
    )
    return list(edit_cell(lm, cell, batches(lm, subjects, together), shared, HOW))


@pytest.fixture
def replaced(monkeypatch):
    """ROME with another function."""

    def replace(function) -> None:
        method = dataclasses.replace(METHODS["ROME"], function=function)
        monkeypatch.setitem(METHODS, "ROME", method)

    return replace


def test_a_fact_whose_edit_fails_costs_no_other_its_row(tiny_lm, facts, replaced):
    """Those of its batch are edited again one by one, as they would have been."""
    good = facts[::2]
    expected = {row["case_id"]: row for row in edits(tiny_lm, good, together=1)}
    assert {row["status"] for row in expected.values()} == {OK}
    edit = METHODS["ROME"].edit

    def failing(lm, requests, *arguments):
        if any(request.case_id == "bad" for request in requests):
            raise RuntimeError("a singular matrix")
        return edit(lm, requests, *arguments)

    replaced(failing)
    rows = edits(tiny_lm, [good[0], fact("bad", "France"), facts[1], good[1]], together=4)
    found = {row["case_id"]: row for row in rows}
    assert found.keys() == {"0", "bad", "long", "1"}
    assert found["bad"]["status"] == "failed: unforeseen RuntimeError: a singular matrix"
    assert found["long"]["status"].startswith("failed: a row of")
    for case_id, row in expected.items():
        check_close(found[case_id], row)


def test_each_row_says_what_its_own_facts_edit_cost(tiny_lm, facts):
    """Steps and norm, of facts that are done at different steps and of one that is not edited."""
    settings = {"eps": 1.0, "lr": 0.01, "steps": 60}
    rows = edits(tiny_lm, facts, 4, "FT-5", **settings)
    costs = {row["case_id"]: (row.get("steps"), row.get("update_norm")) for row in rows}
    assert costs["long"] == (None, None)
    assert costs["0"][0] != costs["1"][0], "the facts should be done at different steps"
    for one in facts[::2]:
        (alone,) = edits(tiny_lm, [one], 1, "FT-5", **settings)
        steps, norm = costs[one.case_id]
        assert steps == alone["steps"] < 60
        assert norm == pytest.approx(alone["update_norm"], rel=1e-6)


def test_memory_that_is_too_small_for_a_batch_may_do_for_one_fact(tiny_lm, facts, replaced):
    edit = METHODS["ROME"].edit
    most = 1

    tried = []

    def hungry(lm, requests, *arguments):
        tried.append(len(requests))
        if len(requests) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return edit(lm, requests, *arguments)

    replaced(hungry)
    rows = edits(tiny_lm, facts[::2], together=2)
    assert [row["status"] for row in rows] == [OK] * 2
    assert tried == [2, 1, 1], "fewer facts at once are tried"
    most = 0
    tried.clear()
    with pytest.raises(RuntimeError, match="allocate memory"):  # the machine's fault, no fact's
        edits(tiny_lm, facts[::2], together=2)
    assert tried == [2, 1]


def test_a_prompt_that_is_too_long_is_traced_no_further_than_to_that_reason(tiny_lm):
    settings = {"module": "mlp", "window": 1, "sigma": 0.5, "n_noise": 2}
    (row,) = restoration.trace_rows(tiny_lm, too_long(tiny_lm), **settings)
    assert row["status"].startswith("failed: a row of")
