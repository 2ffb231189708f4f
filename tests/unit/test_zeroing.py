"""Representation zeroing against its textbook form, and the effects derived from it."""

import numpy as np
import oracle
import pandas as pd
import pytest
import test_engine as engine
import tiny

from locedit.facts.record import Fact
from locedit.localizers import zeroing
from locedit.model.language_model import LanguageModel
from locedit.store import schemas
from workflow_scripts.effects import joined


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


def test_a_fact_that_cannot_be_zeroed_is_a_row_with_the_reason():
    lm = LanguageModel(*tiny.pair())
    fact = Fact(
        case_id="7",
        relation_id="",
        subject="Rome",
        template="The city of {} is",
        target_true="old",
        target_new="new",
    )
    rows = zeroing.zero_rows(lm, fact, module="mlp", window=1)
    assert [row["layer"] for row in rows] == list(range(5))
    assert set(rows[0]) == set(schemas.SCHEMAS["zeroing"].names)
    without = Fact(**{**vars(fact), "template": "The city is"})
    bad = zeroing.zero_rows(lm, without, module="mlp", window=1)
    assert len(bad) == 1
    assert bad[0]["status"].startswith("failed: ")


def test_the_effect_is_the_share_of_the_clean_probability_that_is_lost():
    cells = pd.DataFrame(
        {
            "case_id": ["a", "a", "b", "c"],
            "layer": [0, 1, 0, None],
            "p_clean": [0.5, 0.5, 0.0, None],
            "p_zeroed": [0.1, 0.6, 0.2, None],
        }
    )
    got = zeroing.effects(cells)
    assert list(got["case_id"]) == ["a", "a", "b"], "the failed fact is left out"
    np.testing.assert_allclose(got["zeroed"], [0.8, -0.2, np.nan])


def test_localizers_are_joined_by_fact_module_window_and_layer():
    keys = {"case_id": "a", "module": "mlp", "window": 3}
    traced = pd.DataFrame([{**keys, "layer": la, "p_clean": 0.5, "x": la} for la in (0, 1)])
    zeroed = pd.DataFrame([{**keys, "layer": la, "p_clean": 0.5, "zeroed": la} for la in (1, 2)])
    table = joined([traced, zeroed]).sort_values("layer")
    assert list(table["layer"]) == [0, 1, 2]
    np.testing.assert_allclose(table["x"], [0, 1, np.nan])
    np.testing.assert_allclose(table["zeroed"], [np.nan, 1, 2])
    assert (table["p_clean"] == 0.5).all()
    assert joined([zeroed]) is zeroed
    with pytest.raises(ValueError, match="no fact could be traced"):
        joined([])
