"""The editors beside the paper's: what is theirs alone; test_engine.py has the rest.

Thresholds of AlphaEdit's null space and of KN's neurons, statistics that are singular, and how the
methods stand to each other, on tiny models in float64.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import oracle
import oracle_editors
import pytest
import test_engine as engine
import tiny
import torch
from test_engine import MIDDLE, change_of, check_changes, context_sets, edit, requests, textbook

from locedit.engine import neurons
from locedit.engine.key_statistics import KeyMoments
from locedit.engine.updates import LowRank, total_norms
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, Place
from locedit.localizers.base import SharedInputs as LocalizerInputs
from locedit.methods import METHODS, SharedInputs, alphaedit, kn
from locedit.methods.builtin import AlphaEditHyperparameters, NeuronHyperparameters
from locedit.methods.problems import PROBLEMS
from locedit.model.language_model import LanguageModel
from locedit.study.edit import Cell, Measuring, Subject, baseline, edit_cell
from locedit.windows import EMBEDDING

LAYERS = (1, 2, 3)  # of MIDDLE's window


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, LAYERS)


def singular(moments: dict[int, torch.Tensor], dead: int = 8) -> dict[int, torch.Tensor]:
    """The moments with units that were never active."""
    alive = torch.ones(len(moments[MIDDLE]), dtype=torch.float64)
    alive[:dead] = 0
    return {layer: c * alive[:, None] * alive for layer, c in moments.items()}


# ---- the null space ------------------------------------------------------------------------------

THRESHOLDS = [("relative", 1.5), ("absolute", 0.4), ("energy", 0.1)]


@pytest.mark.parametrize(("kind", "threshold"), THRESHOLDS)
@pytest.mark.parametrize("statistics", ["regular", "singular"])
def test_each_kind_of_threshold_equals_the_textbook_one(
    tiny_lm, moments, kind, threshold, statistics
):
    found = singular(moments) if statistics == "singular" else moments
    settings: dict[str, Any] = {"threshold": threshold, "threshold_kind": kind}
    fact = requests("error_injection")[1]
    got = edit(tiny_lm, "AlphaEdit", [fact], MIDDLE, found, **settings)
    expected = textbook(tiny_lm, "AlphaEdit", fact, MIDDLE, found, **settings)
    check_changes(change_of(got.updates, 0), expected.changes)
    projections = [
        oracle_editors.null_space_projection(found[layer], threshold, kind) for layer in LAYERS
    ]
    ranks = [round(float(p.trace())) for p in projections]
    assert got.null_space_rank == ranks
    assert all(0 < rank < tiny_lm.inner_size for rank in ranks)
    for layer, p in zip(LAYERS, projections, strict=True):
        right = got.updates[layer].right
        torch.testing.assert_close(right @ p, right)  # nothing is written outside of it


def diagonal(*values: float) -> KeyMoments:
    moment = torch.diag(torch.tensor(values, dtype=torch.float64))
    return KeyMoments(lambda _layer: moment)


def rank_of(moments: KeyMoments, threshold: float, kind: Any) -> int:
    hyper = AlphaEditHyperparameters(threshold=threshold, threshold_kind=kind)
    return alphaedit.null_space(moments, 7, 4, hyper).shape[1]


def test_ranks_by_hand():
    c = diagonal(12.0, 0.0, 1.0, 3.0)  # their median is 2, their sum 16
    assert rank_of(c, 1.0, "relative") == 2
    assert rank_of(c, 0.4, "relative") == 1
    assert rank_of(c, 3.5, "absolute") == 3
    assert rank_of(c, 0.06, "energy") == 1
    assert rank_of(c, 0.0625, "energy") == 2, "at most so large a share"
    assert rank_of(c, 0.25, "energy") == 3


@pytest.mark.parametrize(
    ("values", "threshold", "kind", "said"),
    [
        (
            (4.0, 2.0, 1.0, 1.0),
            0.1,
            "relative",
            "AlphaEdit: the null space of layer 7's key moment is empty, 0 of its 4 dimensions "
            "(singular values 1 to 4, median 1.5), at the relative threshold of 0.1; "
            "raise it, or choose another threshold_kind",
        ),
        (
            (4.0, 2.0, 1.0, 1.0),
            9.0,
            "absolute",
            "AlphaEdit: the null space of layer 7's key moment is all there is, 4 of its 4 "
            "dimensions (singular values 1 to 4, median 1.5), at the absolute threshold of 9; "
            "lower it, or choose another threshold_kind",
        ),
        (
            (0.0, 0.0, 4.0, 0.0),
            1.0,
            "relative",
            "AlphaEdit: the null space of layer 7's key moment is empty, 0 of its 4 dimensions "
            "(singular values 0 to 4, median 0), at the relative threshold of 1; "
            "no multiple of the median is above 0: choose another threshold_kind",
        ),
        (
            (4.0, float("nan"), 1.0, 1.0),
            9.0,
            "absolute",
            "the key moment of layer 7: not all of it is finite; set dtype to float32 and collect "
            "it again",
        ),
    ],
)
def test_a_null_space_that_is_none_is_said_to_be(values, threshold, kind, said):
    with pytest.raises(LoceditError, match=f"^{re.escape(said)}$"):
        rank_of(diagonal(*values), threshold, kind)


def test_moments_of_another_model_are_no_facts_fault():
    with pytest.raises(OSError, match="is 3 wide, and the model's d_ff is 4"):
        rank_of(diagonal(1.0, 2.0, 3.0), 1.0, "relative")


def test_a_ridge_leaves_the_null_space_alone(tiny_lm, moments):
    plain, ridged = (KeyMoments(moments.__getitem__, ridge=r) for r in (0.0, 10.0))
    width = tiny_lm.inner_size
    for a, b in zip(plain.spectrum(1, width), ridged.spectrum(1, width), strict=True):
        assert torch.equal(a, b)


# ---- the table's rows ----------------------------------------------------------------------------


def fact_of(case_id: str, subject: str, true: str = "Rome", new: str = "Paris") -> Fact:
    return Fact(
        case_id=case_id,
        relation_id="",
        subject=subject,
        template="The capital city of {} is",
        target_true=true,
        target_new=new,
    )


CAPITALS = (fact_of("0", "Madrid"), fact_of("1", "France"))


def rows_of(
    lm, method: str, moments: KeyMoments, facts: Sequence[Fact] = CAPITALS, **settings: Any
) -> list[dict[str, Any]]:
    how = Measuring(sigma=engine.SIGMA, n_noise=2)
    before = baseline(lm, PROBLEMS["error_injection"], facts, [1.0] * len(facts), how, 0.1)
    subjects = [
        Subject(fact=fact, before=row, texts=[], perplexity=[])
        for fact, row in zip(facts, before, strict=True)
    ]
    overlay = {"all": engine.STEPS[method] | settings}
    hyper = METHODS[method].hyperparameters("error_injection", "paper", overlay)
    cell = Cell(method=method, problem="error_injection", layer=MIDDLE, hyper=hyper)
    shared = SharedInputs(contexts=context_sets(method), moments=moments)
    return list(edit_cell(lm, cell, [subjects], shared, how))


def test_the_rank_is_in_the_row(tiny_lm, moments):
    for row in rows_of(tiny_lm, "AlphaEdit", KeyMoments(moments.__getitem__)):
        assert row["status"] == "ok"
        assert row["layers"] == list(LAYERS)
        assert len(row["null_space_rank"]) == len(LAYERS)
    for row in rows_of(tiny_lm, "EMMET", KeyMoments(moments.__getitem__)):
        assert row["status"] == "ok"
        assert "null_space_rank" not in row  # the table has nothing there


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("AlphaEdit", {"threshold": 1e-9}, "is empty, 0 of its 64 dimensions"),
        ("AlphaEdit", {"threshold": 1e9}, "is all there is, 64 of its 64 dimensions"),
        ("EMMET", {}, "the key moment of layer 1 is not positive definite"),
    ],
)
def test_statistics_that_a_method_cannot_use_are_a_sentence_in_the_row(
    tiny_lm, moments, method, settings, said
):
    found = moments if settings else singular(moments)
    for row in rows_of(tiny_lm, method, KeyMoments(found.__getitem__), **settings):
        assert row["status"].startswith("failed: ")
        assert said in row["status"]


# ---- how the methods stand to each other ---------------------------------------------------------


def test_memits_weight_is_a_ridge_of_emmets(tiny_lm, moments):
    """(lambda C + k k^T)^-1 k = C^-1 k / (k^T C^-1 k + lambda)."""
    facts = requests("error_injection")
    memit = edit(tiny_lm, "MEMIT", facts, MIDDLE, moments, moment_weight=3.0)
    emmet = edit(tiny_lm, "EMMET", facts, MIDDLE, moments, ridge=3.0)
    for i in range(len(facts)):
        check_changes(change_of(emmet.updates, i), change_of(memit.updates, i))


def test_without_a_ridge_emmet_answers_its_key_with_the_value(tiny_lm, moments):
    fact = requests("error_injection")[:1]
    settings: dict[str, Any] = {"ridge": 0.0, "window": 1}
    shared = SharedInputs(moments=KeyMoments(moments.__getitem__))  # the bare prompt alone
    overlay = {"all": engine.STEPS["EMMET"] | settings}
    hyper = METHODS["EMMET"].hyperparameters("error_injection", "paper", overlay)
    update = METHODS["EMMET"].edit(tiny_lm, fact, MIDDLE, hyper, shared).updates[MIDDLE]
    rows, _ = oracle.context_rows(
        *(tiny_lm.model, tiny_lm.tokenizer, fact[0].template, fact[0].subject, fact[0].target),
        ["{}"],
        sigma=None,
        seed=0,
    )
    down = oracle.parts(tiny_lm.model).down_projection(MIDDLE)
    keys, _ = oracle.at_last_subject_token(tiny_lm.model, rows, down)
    assert float(keys[0] @ update.right[0]) == pytest.approx(1.0, rel=1e-9)


def test_r_rome_is_rome_where_the_bare_prompt_is_the_only_context(tiny_lm, moments):
    fact = requests("error_injection")[:1]
    bare = SharedInputs(moments=KeyMoments(moments.__getitem__))
    sampled = dataclasses.replace(bare, contexts=[engine.CONTEXTS])
    hyper = METHODS["ROME"].hyperparameters(
        "error_injection", "paper", {"all": engine.STEPS["ROME"]}
    )

    def changes(method: str, shared: SharedInputs) -> oracle.Changes:
        return change_of(METHODS[method].edit(tiny_lm, fact, MIDDLE, hyper, shared).updates, 0)

    check_changes(changes("r-ROME", bare), changes("ROME", bare))
    with pytest.raises(AssertionError):
        check_changes(changes("r-ROME", sampled), changes("ROME", sampled))


# ---- FT-M ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("problem", "enough"), [("error_injection", 0.2), ("fact_erasure", 0.01)])
def test_ft_m_leaves_a_fact_alone_once_its_loss_is_small(tiny_lm, moments, problem, enough):
    settings: dict[str, Any] = {"lr": 3e-3, "steps": 150, "enough": enough}
    facts = requests(problem, engine.known_facts(tiny_lm))
    got = edit(tiny_lm, "FT-M", facts, MIDDLE, moments, **settings)
    assert len(set(got.steps)) > 1, "the facts should be done at different steps"
    for i, fact in enumerate(facts):
        expected = textbook(tiny_lm, "FT-M", fact, MIDDLE, moments, **settings)
        assert got.steps[i] == expected.steps < 150
        assert got.losses[i][1] < enough
        check_changes(change_of(got.updates, i), expected.changes)


def test_ft_m_leaves_biases_alone_and_makes_the_text_end(tiny_lm, moments):
    (fact,) = requests("error_injection")[:1]
    got = edit(tiny_lm, "FT-M", [fact], MIDDLE, moments, lr=3e-3, steps=150)
    assert list(got.updates) == [MIDDLE]
    assert got.updates[MIDDLE].biases is None
    ids = tiny_lm.encode(fact.prompt) + tiny_lm.encode_target(fact.target, fact.prompt)

    @torch.no_grad()
    def p_of_the_end() -> float:
        p = tiny_lm.model(torch.tensor([ids])).logits[0, -1].softmax(0)
        return float(p[tiny_lm.tokenizer.eos_token_id])

    before = p_of_the_end()
    with oracle.edited(tiny_lm.model, change_of(got.updates, 0)):
        assert before < 0.1 < 0.5 < p_of_the_end()


def test_ft_m_wants_a_token_that_ends_a_text():
    lm = LanguageModel(*tiny.pair())
    lm.tokenizer.eos_token = None
    said = "FT-M: the model's tokenizer names no end-of-text token (eos_token)"
    with pytest.raises(LoceditError, match=f"^{re.escape(said)}"):
        edit(lm, "FT-M", requests("error_injection")[:1], MIDDLE, {})
    erased = requests("fact_erasure", engine.known_facts(lm))[:1]
    assert edit(lm, "FT-M", erased, MIDDLE, {}).steps[0] > 0, "there it trains none"


# ---- KN ------------------------------------------------------------------------------------------

NO_MOMENTS = KeyMoments({}.__getitem__)


def test_neurons_by_hand():
    attributions = torch.tensor([0.1, -5.0, 0.5, 0.2, 1.0])

    def kept(share: float) -> list[int]:
        chosen = kn.choose(attributions, share, MIDDLE)
        assert not isinstance(chosen, str)
        return chosen.nonzero()[:, 0].tolist()

    assert kept(0.2) == [2, 4], "more than the share, not as much"
    assert kept(0.19) == [2, 3, 4]
    assert kept(0.0) == [0, 2, 3, 4]
    assert kept(0.9) == [4]


@pytest.mark.parametrize(
    ("attributions", "said"),
    [
        ([-1.0, -0.5, 0.0], "no neuron of layer 2 speaks for o_true"),
        ([-1.0, -2.0, -9.0], "no neuron of layer 2 speaks for o_true"),
        ([0.9, 1.0, 0.8], "a share of 0.2 keeps all 3 neurons of layer 2; raise it"),
    ],
)
def test_none_or_every_neuron_is_said_in_the_facts_row(tiny_lm, monkeypatch, attributions, said):
    assert kn.choose(torch.tensor(attributions), 0.2, MIDDLE) == said
    real = kn._attributions

    def of_one(lm, request, *more):
        found = torch.tensor(attributions)
        return (found, found) if request.case_id == "1" else real(lm, request, *more)

    alone = rows_of(tiny_lm, "KN", NO_MOMENTS, CAPITALS[:1])[0]
    monkeypatch.setattr(kn, "_attributions", of_one)
    good, bad = sorted(rows_of(tiny_lm, "KN", NO_MOMENTS), key=lambda row: row["case_id"])
    assert bad["status"] == f"not edited: {said}"
    assert "neurons" not in bad
    assert good["status"] == "ok"
    assert good["rewrite_target_after"] == pytest.approx(alone["rewrite_target_after"], rel=1e-9)


def test_attributions_that_are_not_finite_fail():
    said = "KN: the attributions of layer 2's neurons are not finite"
    with pytest.raises(LoceditError, match=f"^{re.escape(said)}$"):
        kn.choose(torch.tensor([1.0, float("nan")]), 0.2, MIDDLE)


def test_the_number_of_neurons_is_in_the_row_and_no_loss(tiny_lm):
    counts: dict[str, list[int]] = {}
    for share in (0.0, 0.2, 0.9):
        for row in rows_of(tiny_lm, "KN", NO_MOMENTS, share=share):
            assert (row["status"], row["steps"], row["layers"]) == ("ok", 0, [MIDDLE])
            assert not {"loss_first", "loss_last"} & set(row)
            counts.setdefault(row["case_id"], []).append(row["neurons"])
    for few in counts.values():
        assert tiny_lm.inner_size > few[0] > few[1] > few[2] >= 1


def test_objects_that_begin_alike_cannot_be_told_apart(tiny_lm):
    """Here the blank is a token by itself before "Rome" and "Italy"."""
    alike = fact_of("2", "Spain", true="Italy", new="Rome")
    rows = rows_of(tiny_lm, "KN", NO_MOMENTS, [*CAPITALS, alike])
    said = (
        "not edited: o_true and the target begin with one token, and KN writes first tokens alone"
    )
    assert {row["case_id"]: row["status"] for row in rows} == {"0": "ok", "1": "ok", "2": said}
    (erased,) = requests("fact_erasure", [(alike.template, alike.subject, "Italy")])
    assert not edit(tiny_lm, "KN", [erased], MIDDLE, {}).not_edited


def test_a_request_without_the_true_object_is_a_sentence(tiny_lm):
    (fact,) = requests("error_injection")[:1]
    with pytest.raises(LoceditError, match="KN writes over the true object, and none is given"):
        edit(tiny_lm, "KN", [dataclasses.replace(fact, true=None)], MIDDLE, {})


def test_attributions_add_up_to_what_the_localizer_says(tiny_lm):
    (fact,) = CAPITALS[:1]
    localizer = LOCALIZERS["neurons"]
    asked = (tiny_lm, [fact], Place(module="mlp"), localizer.settings(), LocalizerInputs())
    (found,) = localizer.localize(*asked)
    (request,) = requests("error_injection", [(fact.template, fact.subject, "Paris")])
    true = tiny_lm.encode_target(fact.target_true, fact.prompt)
    for layer, value in enumerate(found.values):
        settings = (layer, NeuronHyperparameters(), SharedInputs())
        attributions, _ = kn._attributions(tiny_lm, request, true, *settings)
        assert float(attributions.sum()) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
def test_kn_does_not_depend_on_how_many_steps_memory_holds(tiny_lm, monkeypatch, problem):
    fact = requests(problem)[1]
    whole = edit(tiny_lm, "KN", [fact], MIDDLE, {}, steps=5)
    for budget in (1, 20):
        monkeypatch.setattr(neurons, "token_budget", lambda _lm, *, layers, n=budget: n)
        got = edit(tiny_lm, "KN", [fact], MIDDLE, {}, steps=5)
        check_changes(change_of(got.updates, 0), change_of(whole.updates, 0), rtol=1e-9)


def test_what_kn_writes_is_what_the_last_layer_then_says(tiny_lm):
    """Where the change goes straight to the head, with nothing subtracted and with something."""
    fact = requests("error_injection")[0]
    old, new = (tiny_lm.encode_target(text, fact.prompt)[0] for text in (fact.true, fact.target))

    def log_odds(**settings: float) -> torch.Tensor:
        """log p of both objects' first tokens, without an edit and with one."""
        got = edit(tiny_lm, "KN", [fact], tiny_lm.n_layers - 1, {}, **settings)
        both: list[oracle.Changes] = [{}, change_of(got.updates, 0)]
        found = []
        for changes in both:
            with oracle.edited(tiny_lm.model, changes), torch.no_grad():
                ids = torch.tensor([tiny_lm.encode(fact.prompt)])
                found.append(tiny_lm.model(ids).logits[0, -1].log_softmax(0)[[old, new]])
        return found[1] - found[0]

    added = log_odds(subtract=0.0, add=8.0)
    taken = log_odds(subtract=8.0, add=0.0)
    assert added[1] > 0 > taken[0]


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_presets_are_those_of_the_editors_page(problem, preset):
    """The sources', for every problem."""
    value = {
        "window": 5,
        "lr": 0.5,
        "iterations": 25,
        "clamp": 0.75,
        "kl_factor": 0.0625,
        "decay": 0.5,
        "fact_token": "subject_last",
    }
    expected = {
        "FT-M": {"lr": 5e-4, "steps": 25, "enough": 1e-2}
        | {"embedding_lr": 1e-3, "embedding_steps": 100},
        "EMMET": value | {"ridge": 0.1},
        "AlphaEdit": value | {"l2": 10.0, "threshold": 1.0, "threshold_kind": "relative"},
        "r-ROME": vars(METHODS["ROME"].hyperparameters(problem, preset)),
        "KN": {"share": 0.2, "steps": 20, "subtract": 1.0, "add": 8.0},
    }
    for method, settings in expected.items():
        assert vars(METHODS[method].hyperparameters(problem, preset)) == settings


# ---- half precision ------------------------------------------------------------------------------


OPTIMISED = [name for name in METHODS if name != "KN"]
HALVED = [(name, MIDDLE) for name in OPTIMISED]
HALVED += [(name, EMBEDDING) for name in OPTIMISED if METHODS[name].embedding]


@pytest.mark.parametrize(("method", "layer"), HALVED)
def test_an_edit_in_float16_is_that_in_float32_rounded(method, layer):
    """Adam's eps, and squares of small gradients, are 0 in float16."""
    pair = tiny.pair("llama", dtype=torch.float32)
    moments = oracle.key_statistics(pair.model, pair.tokenizer, tiny.SENTENCES, LAYERS)
    norms, losses = [], []
    for dtype in (torch.float32, torch.float16):
        lm = LanguageModel(pair.model.to(dtype), pair.tokenizer)
        got = edit(lm, method, requests("error_injection")[1:2], layer, moments)
        assert {one.dtype for part in got.updates.values() for one in tensors(part)} == {dtype}
        norms.append(total_norms(got.updates)[0])
        losses.append(got.losses[0])
    assert norms[1] == pytest.approx(norms[0], rel=0.03)  # hidden states have three digits
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert norms[0] > 0


def tensors(update: Any) -> list[torch.Tensor]:
    if isinstance(update, LowRank):
        return [update.left, update.right]
    return [*update.weights, *(update.biases or [])]


def test_an_update_of_many_facts_by_ft_m_in_float16_is_that_in_float32_rounded():
    pair, norms = tiny.pair("llama", dtype=torch.float32), []
    for dtype in (torch.float32, torch.float16):
        lm = LanguageModel(pair.model.to(dtype), pair.tokenizer)
        shared = SharedInputs(jointly=2, **engine.NOISE)
        hyper = METHODS["FT-M"].hyperparameters("error_injection", "paper", {"all": {"steps": 5}})
        got = METHODS["FT-M"].edit(lm, requests("error_injection"), MIDDLE, hyper, shared)
        norms.append(total_norms(got.updates)[0])
    assert norms[1] == pytest.approx(norms[0], rel=0.01)
