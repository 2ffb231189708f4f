"""Facts edited together: one update, against its textbook form, and what becomes of bad facts."""

import dataclasses

import oracle
import oracle_editors
import oracle_together
import pytest
import test_engine as engine
import tiny
import torch
from test_editing import HOW, baseline, check_close, fact
from test_engine import MIDDLE, change_of, check_changes, context_sets, left_alone, requests_for

from locedit.engine import key_statistics
from locedit.engine.updates import Dense, LowRank, applied, joined, writing
from locedit.errors import LoceditError
from locedit.methods import METHODS, SharedInputs, spreading, together
from locedit.model.language_model import LanguageModel
from locedit.study.edit import OK, Cell, Subject, edit_cell, groups

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

JOINT = [name for name, method in METHODS.items() if method.jointly]
IN_TURN = [name for name, method in METHODS.items() if not method.jointly]


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


def edited(lm, method, facts, moments, side_by_side=2, layer=MIDDLE, **settings):
    contexts = context_sets(method)
    shared = SharedInputs(
        contexts=contexts, moments=key_statistics.KeyMoments(moments.__getitem__), **engine.NOISE
    )
    overlay = {"all": engine.STEPS[method] | settings}
    hyper = METHODS[method].hyperparameters(facts[0].problem.name, "released", overlay)
    what = (lm, METHODS[method], facts, layer, hyper, shared)
    return together.edit(*what, side_by_side=side_by_side)


def textbook(lm, method, facts, moments) -> tuple[oracle.Changes, list[int]]:
    problem = facts[0].problem.name
    if method in IN_TURN:
        with torch.enable_grad():
            return oracle_together.in_turn(
                lm.model,
                facts,
                lambda one: engine.textbook(lm, method, one, MIDDLE, moments),
            )
    hyper = vars(
        METHODS[method].hyperparameters(problem, "released", {"all": engine.STEPS[method]})
    )
    what = (lm.model, lm.tokenizer, [(f.template, f.subject, f.target) for f in facts])
    if method == "FT-M":
        settings = {"learning_rate": hyper["lr"], "iterations": hyper["steps"]}
        settings |= {"enough": hyper["enough"], **engine.NOISE}
        changes, steps = oracle_together.ft_m(*what, problem, MIDDLE, **settings)
        return changes, [steps] * len(facts)
    if method == "AlphaEdit":
        how = (hyper["threshold"], hyper["threshold_kind"])
        spaces = {la: oracle_editors.null_space_projection(moments[la], *how) for la in moments}
        solve = oracle_together.alphaedit(spaces, hyper["l2"])
    elif method == "EMMET":
        solve = oracle_together.emmet(moments, hyper["ridge"])
    else:
        solve = oracle_together.memit(moments, hyper["moment_weight"])
    changes = oracle_together.spread(
        *(*what, problem, MIDDLE, solve),
        contexts=context_sets(method),
        window=hyper["window"],
        learning_rate=hyper["lr"],
        evaluations=hyper["iterations"],
        kl_factor=hyper["kl_factor"],
        weight_decay=hyper["decay"],
        clamp=hyper["clamp"],
        sigma=engine.SIGMA,
        seed=engine.SEED,
    )
    return changes, [hyper["iterations"] - 1] * len(facts)


@pytest.mark.parametrize("problem", ["error_injection", "fact_erasure", "fact_forcing"])
@pytest.mark.parametrize("method", METHODS)
def test_three_facts_together_equal_the_textbook_form(tiny_lm, moments, method, problem):
    facts = requests_for(tiny_lm, method, problem)
    expected, steps = textbook(tiny_lm, method, facts, moments)
    with left_alone(tiny_lm):
        got = edited(tiny_lm, method, facts, moments)
    assert not any(isinstance(one, str) for one in got.edits)
    matrices = {layer: update.matrix() for layer, update in got.updates.items()}
    biases = {
        la: up.biases[0] if isinstance(up, Dense) and up.biases is not None else None
        for la, up in got.updates.items()
    }
    check_changes({la: (matrices[la], biases[la]) for la in matrices}, expected)
    assert [edit.steps[place] for edit, place in got.edits] == steps


@pytest.mark.parametrize("method", ["MEMIT", "EMMET", "AlphaEdit", "ROME"])
def test_so_they_do_behind_a_norm(method):
    lm = LanguageModel(*tiny.pair("gemma3_text", adds_bos=True))
    moments = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(5))
    facts = requests_for(lm, method, "error_injection")
    expected, _ = textbook(lm, method, facts, moments)
    got = edited(lm, method, facts, moments)
    check_changes({la: (up.matrix(), None) for la, up in got.updates.items()}, expected)


@pytest.mark.parametrize("method", METHODS)
def test_one_fact_together_is_a_fact_alone(tiny_lm, moments, method):
    (one,) = requests_for(tiny_lm, method, "error_injection")[:1]
    alone = engine.edit(tiny_lm, method, [one], MIDDLE, moments)
    got = edited(tiny_lm, method, [one], moments)
    found = {
        la: (up.matrix(), up.biases[0] if isinstance(up, Dense) and up.biases else None)
        for la, up in got.updates.items()
    }
    check_changes(found, change_of(alone.updates, 0), rtol=1e-9)


@pytest.mark.parametrize("method", JOINT)
def test_how_many_run_side_by_side_changes_nothing(tiny_lm, moments, method):
    facts = requests_for(tiny_lm, method, "error_injection")
    whole = edited(tiny_lm, method, facts, moments, side_by_side=8).updates
    for size in (1, 2):
        parts = edited(tiny_lm, method, facts, moments, side_by_side=size).updates
        for layer, update in whole.items():
            torch.testing.assert_close(parts[layer].matrix(), update.matrix())


# ---- updates -------------------------------------------------------------------------------------


def test_what_is_written_is_what_is_felt_and_goes_again(tiny_lm):
    torch.manual_seed(0)
    d, inner = tiny_lm.hidden_size, tiny_lm.inner_size
    low = LowRank(left=torch.randn(1, d).double(), right=torch.randn(1, inner).double())
    wide = LowRank(left=torch.randn(1, d, 3).double(), right=torch.randn(1, inner, 3).double())
    dense = Dense(weights=[torch.randn(d, inner).double()])
    ids = torch.tensor([tiny_lm.encode(text)[:4] for text in tiny.SENTENCES[:3]])
    for several in ([{1: low}, {1: wide}], [{1: low}, {1: dense, 2: low}]):
        total = joined(several)
        for update in total.values():
            torch.testing.assert_close(update.norms()[0], update.matrix().norm())
        with left_alone(tiny_lm), torch.no_grad():
            with applied(tiny_lm, total, [2, 1]):  # one change, felt by the rows of two facts
                felt = tiny_lm.model(ids).logits
            with writing(tiny_lm) as write:
                for updates in several:
                    write(updates)
                torch.testing.assert_close(tiny_lm.model(ids).logits, felt)


def test_keys_that_depend_on_each_other_need_a_ridge():
    keys = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    with pytest.raises(LoceditError, match="keys of the 2 facts edited together depend on each"):
        spreading.joint_right_factor(keys, keys, 0.0)
    assert spreading.joint_right_factor(keys, keys, 0.1).isfinite().all()


# ---- groups --------------------------------------------------------------------------------------


def subjects(lm, facts) -> list[Subject]:
    return [
        Subject(fact=one, before=row, texts=[f"{one.subject} is a"], perplexity=[9.0])
        for one, row in zip(facts, baseline(lm, facts, "error_injection"), strict=True)
    ]


FACTS = [fact(str(i), name) for i, name in enumerate(("Madrid", "France", "the king", "Spain"))]


def rows_of(lm, moments, method, facts, n, **settings):
    overlay = {"all": engine.STEPS[method] | settings}
    hyper = METHODS[method].hyperparameters("error_injection", "paper", overlay)
    cell = Cell(method=method, problem="error_injection", layer=MIDDLE, hyper=hyper, together=n)
    shared = SharedInputs(
        contexts=context_sets(method), moments=key_statistics.KeyMoments(moments.__getitem__)
    )
    batches = groups(subjects(lm, facts), n)
    return list(edit_cell(lm, cell, batches, shared, HOW, side_by_side=2))


def test_groups_are_nested_and_a_rest_fills_none(tiny_lm):
    some = subjects(tiny_lm, FACTS[:3])
    many = [
        dataclasses.replace(one, fact=dataclasses.replace(one.fact, case_id=f"{i}-{j}"))
        for i in range(3)
        for j, one in enumerate(some)
    ]
    small, large = ([[s.fact.case_id for s in g] for g in groups(many, n)] for n in (2, 4))
    assert [a + b for a, b in zip(small[::2], small[1::2], strict=False)] == large[:2]
    (last,) = groups(many, 4)[2]
    assert last.before["status"] == "not edited: 1 facts are left, too few for a group of 4"


@pytest.mark.parametrize("method", ["MEMIT", "ROME"])
def test_each_fact_of_a_group_is_measured_under_the_shared_update(tiny_lm, moments, method):
    rows = rows_of(tiny_lm, moments, method, FACTS, 4)
    assert [row["status"] for row in rows] == [OK] * 4
    assert {row["together"] for row in rows} == {4}
    assert len({row["update_norm"] for row in rows}) == 1
    assert len({row["rewrite_target_after"] for row in rows}) == 4


@pytest.mark.parametrize("method", ["MEMIT", "ROME"])
def test_a_bad_fact_is_left_out_of_its_group(tiny_lm, moments, method, monkeypatch):
    expected = rows_of(tiny_lm, moments, method, [FACTS[0], *FACTS[2:]], 3)
    edit = METHODS[method].edit

    def failing(lm, requests, *arguments):
        if any(request.case_id == "1" for request in requests):
            raise RuntimeError("a singular matrix")
        return edit(lm, requests, *arguments)

    monkeypatch.setitem(METHODS, method, dataclasses.replace(METHODS[method], function=failing))
    rows = {row["case_id"]: row for row in rows_of(tiny_lm, moments, method, FACTS, 4)}
    said = "failed: unforeseen RuntimeError: a singular matrix; its group was edited without it"
    assert rows.pop("1")["status"] == said
    for row in expected:
        check_close(rows[row["case_id"]] | {"together": 3}, row)


def test_a_group_that_fails_as_a_whole_says_so_of_each(tiny_lm, moments):
    same = [fact("0", "Madrid"), fact("1", "Madrid")]
    rows = rows_of(tiny_lm, moments, "EMMET", same, 2, ridge=0.0)
    for row in rows:
        assert row["status"].startswith("failed: the keys of the 2 facts edited together depend")
