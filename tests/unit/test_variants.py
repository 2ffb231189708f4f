"""The quirks of the released code and the methods of plugins/, against their textbook forms."""

import math
from dataclasses import replace
from pathlib import Path

import oracle
import oracle_variants
import pytest
import test_engine as engine
import torch
from conftest import plugins_forgotten

from locedit.engine import sampling
from locedit.facts.record import Fact
from locedit.methods import METHODS, SharedInputs, problems
from locedit.methods.problems import Request
from locedit.workflow import plugins

ROOT = Path(__file__).resolve().parents[2]
FACT = engine.FACTS[1]


@pytest.fixture
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, engine.tiny.SENTENCES, [1, 2, 3])


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The methods of plugins/, known while these tests run."""
    with plugins_forgotten():
        plugins.load(["plugins/ft_unconstrained.py"], [ROOT])
        yield


def request_of(problem: str, *quirks: str) -> Request:
    template, subject, target = FACT
    return Request(
        case_id="0",
        template=template,
        subject=subject,
        target=target,
        problem=problems.named(problem, quirks),
    )


# ---- quirks --------------------------------------------------------------------------------------


def test_a_quirk_changes_its_own_problem_alone():
    for name, quirk in problems.QUIRKS.items():
        for problem in problems.PROBLEMS:
            got = problems.named(problem, [name])
            changed = {f for f, v in vars(got).items() if v != vars(problems.PROBLEMS[problem])[f]}
            assert changed == ({quirk.field} if problem == quirk.problem else set())
    assert problems.named("fact_forcing") == problems.PROBLEMS["fact_forcing"]


@pytest.mark.parametrize("method", ["ROME", "MEMIT"])
def test_noise_at_the_bare_prompts_positions(tiny_lm, moments, method, monkeypatch):
    fact = request_of("fact_forcing", "forcing_noise_position")
    got = engine.edit(tiny_lm, method, [fact], engine.MIDDLE, moments)
    usual = engine.edit(tiny_lm, method, [request_of("fact_forcing")], engine.MIDDLE, moments)
    change = engine.change_of(got.updates, 0)
    with pytest.raises(AssertionError):
        engine.check_changes(change, engine.change_of(usual.updates, 0))
    monkeypatch.setattr(oracle, "context_rows", oracle_variants.context_rows_at_bare_positions)
    expected = engine.textbook(tiny_lm, method, fact, engine.MIDDLE, moments)
    engine.check_changes(change, expected.changes)
    assert got.losses[0][0] == pytest.approx(expected.losses[0], rel=1e-9)


def rows_at_the_last_token(*arguments, **keywords):
    """The textbook's rows, written at the prompt's last token; noise stays in its place."""
    rows, kl_row = WHOLE_ROWS(*arguments, **keywords)
    moved = [replace(row, noise_from=row.begin, end=row.predicted_from + 1) for row in rows]
    return moved, replace(kl_row, noise_from=kl_row.begin, end=len(kl_row.ids))


WHOLE_ROWS = oracle.context_rows


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", engine.WITH_A_VECTOR)
def test_key_and_value_at_the_prompts_last_token(tiny_lm, moments, method, problem, monkeypatch):
    fact = replace(request_of(problem), true=engine.TRUE[1])
    assert fact.prompt[-len(fact.subject) :] != fact.subject
    got = engine.edit(tiny_lm, method, [fact], engine.MIDDLE, moments, fact_token="last")
    change = engine.change_of(got.updates, 0)
    usual = engine.edit(tiny_lm, method, [fact], engine.MIDDLE, moments)
    with pytest.raises(AssertionError):
        engine.check_changes(change, engine.change_of(usual.updates, 0))
    monkeypatch.setattr(oracle, "context_rows", rows_at_the_last_token)
    expected = engine.textbook(tiny_lm, method, fact, engine.MIDDLE, moments)
    engine.check_changes(change, expected.changes)
    assert got.losses[0][0] == pytest.approx(expected.losses[0], rel=1e-9)


PROMPTS = {
    "a short prompt": ("Madrid is", "Madrid"),
    "a prompt of more than 12 tokens": (
        "It was reported on Monday that the mother tongue of the king of Madrid is",
        "Madrid",
    ),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_the_prompt_in_the_target_of_tracing_reversal(tiny_lm, case):
    prompt, subject = PROMPTS[case]
    (got,) = sampling.corrupted_texts(tiny_lm, [prompt], [subject], **engine.NOISE)
    what = (tiny_lm.model, tiny_lm.tokenizer, prompt, subject)
    assert got == oracle_variants.reversal_target(*what, **engine.NOISE)
    assert got.startswith(prompt)
    assert (got == prompt) == (len(tiny_lm.encode(prompt)) >= 12)


def test_the_quirk_reaches_the_baselines_target(tiny_lm):
    from locedit.study.edit import Measuring, baseline

    prompt, subject = PROMPTS["a short prompt"]
    fact = Fact(
        case_id="0",
        relation_id="",
        subject=subject,
        template=prompt.replace(subject, "{}"),
        target_true="Rome",
        target_new="Paris",
    )
    how = Measuring(sigma=engine.SIGMA, n_noise=3, noise_seed=engine.SEED)
    rows = [
        row
        for on in ((), ["reversal_prompt_in_target"])
        for row in baseline(
            tiny_lm, problems.named("tracing_reversal", on), [fact], [1.0], how, 0.0
        )
    ]
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert len(rows[0]["target"].split()) == 1
    what = (tiny_lm.model, tiny_lm.tokenizer, prompt, subject)
    assert rows[1]["target"] == oracle_variants.reversal_target(*what, **engine.NOISE)


# ---- the methods of plugins/ ---------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
def test_unconstrained_fine_tuning_equals_the_textbook_one(tiny_lm, problem):
    method = METHODS["FT-unconstrained"]
    hyper = method.hyperparameters(problem, "paper", {"all": {"lr": 0.01, "window": 3}})
    assert hyper.steps == (50 if problem == "fact_forcing" else 25)
    hyper = type(hyper)(**{**vars(hyper), "steps": 4})
    shared = SharedInputs(**engine.NOISE)
    got = method.edit(tiny_lm, [request_of(problem)], engine.MIDDLE, hyper, shared)
    expected = oracle.ft_edit(
        *(tiny_lm.model, tiny_lm.tokenizer, *FACT, problem, engine.MIDDLE),
        window=3,
        epsilon=math.inf,
        learning_rate=0.01,
        iterations=4,
        **engine.NOISE,
    )
    engine.check_changes(engine.change_of(got.updates, 0), expected.changes)
    assert got.updates[engine.MIDDLE].weights[0].abs().max() > 0.01
