"""Representation zeroing against its textbook form, and what it says of a layer."""

import numpy as np
import oracle
import pytest
import test_engine as engine

from locedit.localizers import zeroing
from locedit.model.language_model import LanguageModel


@pytest.mark.parametrize("module", ["mlp", "attn", "hidden"])
@pytest.mark.parametrize("window", [1, 3, 10])
def test_zeroing_equals_the_textbook_one(tiny_lm, module, window):
    fact = engine.TRACED["subject in the middle"]
    check(tiny_lm, fact, module, window)


@pytest.mark.parametrize("case", engine.TRACED)
def test_zeroing_wherever_the_subject_stands(tiny_lm, case):
    check(tiny_lm, engine.TRACED[case], "mlp", 2)


def check(lm: LanguageModel, fact: tuple[str, str, str], module: str, window: int) -> None:
    with engine.left_alone(lm):
        got = zeroing.zero(lm, *fact, module=module, window=window)
    prompt, _, target = fact
    expected = oracle.zeroing_effect(lm.model, lm.tokenizer, *fact, window=window, module=module)
    p_clean = np.exp(oracle.target_logprob(lm.model, lm.tokenizer, prompt, target))
    assert got.p_clean == pytest.approx(p_clean, rel=1e-9)
    np.testing.assert_allclose(1 - got.p_zeroed / got.p_clean, expected, rtol=1e-6, atol=1e-9)
    assert np.abs(expected).max() > 1e-3, "zeroing changes nothing in this case"


def test_zeroing_does_not_depend_on_its_batches(tiny_lm):
    fact = engine.TRACED["subject in the middle"]
    whole = zeroing.zero(tiny_lm, *fact, module="mlp", window=3).p_zeroed
    for batch_tokens in (1, 20):
        got = zeroing.zero(tiny_lm, *fact, module="mlp", window=3, batch_tokens=batch_tokens)
        np.testing.assert_allclose(got.p_zeroed, whole, rtol=1e-10)


def test_the_value_is_the_share_of_the_clean_probability_that_is_lost():
    p_zeroed = np.array([0.1, 0.6, 0.5])
    found = zeroing.Zeroed(p_clean=0.5, p_zeroed=p_zeroed, passes=1)
    np.testing.assert_allclose(found.lost, [0.8, -0.2, 0])
    none = zeroing.Zeroed(p_clean=0.0, p_zeroed=p_zeroed, passes=1)
    assert np.isnan(none.lost).all()


def test_the_passes_are_those_that_are_run(tiny_lm):
    prompt, subject, target = engine.TRACED["subject in the middle"]
    got = zeroing.zero(tiny_lm, prompt, subject, target, module="mlp", window=1)
    length = len(tiny_lm.encode(prompt)) + len(tiny_lm.encode_target(target, prompt)) - 1
    b, _ = tiny_lm.subject_range(prompt, subject, None)
    layers = sum(tiny_lm.n_layers - layer for layer in range(tiny_lm.n_layers))
    run = layers / tiny_lm.n_layers * (length - b) / length
    assert got.passes == pytest.approx(1 + run)  # and the clean one
