"""The engine against the reference implementation's numbers: every trace and every edit.

The tolerances are those that came with the numbers. Fact forcing is the exception: there the
reference draws fresh noise at each pass, so that only the direction of the change compares.
"""

import functools
import json

import numpy as np
import oracle
import pytest
import torch
from conftest import GOLDEN

from locedit import methods
from locedit.engine.key_statistics import KeyMoments, key_moments
from locedit.localizers import restoration
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study import measure as measuring
from locedit.study.measure import Probe

pytestmark = pytest.mark.slow

SETTINGS = {  # the reference's names of hyperparameters
    "v_lr": "lr",
    "v_num_grad_steps": "iterations",
    "norm_constraint": "eps",
    "num_steps": "steps",
}
LOGPROB_BEFORE, NORM = 1e-3, 0.01
LOGPROB_AFTER = {"ROME": 0.02, "FT-1": 0.02, "FT-5": 0.02, "MEMIT": 0.05}


def cases(part: str, *names: str) -> list:
    """Every entry of a part of the golden file, named by some of its fields."""
    file = GOLDEN / "public.json"
    if not file.exists():
        reason = f"the golden numbers are not at {file}"
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    entries = json.loads(file.read_text())[part]
    return [pytest.param(e, id="-".join(str(e[name]) for name in names)) for e in entries]


@pytest.fixture(scope="module")
def lm(smollm2_lm) -> LanguageModel:
    return smollm2_lm


@pytest.mark.parametrize("expected", cases("tracing", "fact", "kind", "window"))
def test_trace(lm, golden, expected):
    fact = golden["facts"][expected["fact"]]
    got = restoration.trace(
        lm,
        fact["prompt"].replace("{}", fact["subject"]),
        fact["subject"],
        fact["target_true"],
        module=expected["kind"],
        window=expected["window"],
        sigma=golden["noise_sd"],
    )
    assert list(got.subject_range) == expected["subject_range"]
    assert got.p_clean == pytest.approx(expected["clean_prob"], abs=1e-4)
    assert got.p_corrupted == pytest.approx(expected["corrupted_prob"], abs=1e-4)
    np.testing.assert_allclose(got.p_restored, expected["restored_prob"], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def measured(lm, golden):
    """(log p of the target, of the baseline), [prompts] each, of a golden edit's prompts."""

    def measure(expected: dict, updates=None) -> tuple[np.ndarray, np.ndarray]:
        first, *others = expected["prompts"]
        request = request_of(golden, expected)
        assert request.prompt == first
        probe = Probe(
            request=request, other=expected["baseline"], paraphrases=others, neighbourhood=[]
        )
        got = measuring.measure(lm, [probe], updates, sigma=golden["noise_sd"])[0]
        target, baseline = (
            np.array([a, *b]) for a, b in zip(got.rewrite, got.paraphrase, strict=True)
        )
        return target, baseline

    @functools.cache
    def before(fact: int, problem: str) -> tuple[np.ndarray, np.ndarray]:
        return measure(
            next(e for e in golden["edits"] if (e["fact"], e["problem"]) == (fact, problem))
        )

    return before, measure


def request_of(golden: dict, expected: dict) -> Request:
    fact = golden["facts"][expected["fact"]]
    return Request(
        case_id=str(expected["fact"]),
        template=fact["prompt"],
        subject=fact["subject"],
        target=expected["target"],
        problem=PROBLEMS[expected["problem"]],
    )


def edit(lm: LanguageModel, golden: dict, expected: dict, key_statistics: dict) -> methods.Edit:
    """The edit of a golden entry by the released preset, which must agree with what it states."""
    method = expected["method"]
    hyper = methods.METHODS[method].hyperparameters(expected["problem"], "released")
    for name, value in expected["hparam_overrides"].items():
        assert getattr(hyper, SETTINGS[name]) == value, name
    contexts = {"ROME": [golden["rome_contexts"]], "MEMIT": golden["memit_contexts"]}
    shared = SharedInputs(
        contexts=contexts.get(method, [["{}"]]),
        moments=KeyMoments(key_statistics.__getitem__),
        sigma=golden["noise_sd"],
    )
    request = request_of(golden, expected)
    return METHODS[method].edit(lm, [request], expected["layer"], hyper, shared)


@pytest.mark.parametrize("expected", cases("edits", "fact", "method", "layer", "problem"))
def test_edit(lm, golden, measured, request, expected):
    # Fine-tuning needs no key statistics, and their computation takes a minute.
    tuning = expected["method"].startswith("FT")
    key_statistics = {} if tuning else request.getfixturevalue("golden_statistics")
    made = edit(lm, golden, expected, key_statistics)
    assert list(made.updates) == expected["layers"]

    before, measure = measured
    start, end = before(expected["fact"], expected["problem"]), measure(expected, made.updates)
    if expected["problem"] == "fact_forcing":
        check_direction(expected, start[0], end[0])
        return
    tolerance = LOGPROB_AFTER[expected["method"]]
    for index, name in enumerate(["target", "baseline"]):
        close(start[index], expected[f"pre_logprob_{name}"], LOGPROB_BEFORE)
        close(end[index], expected[f"post_logprob_{name}"], tolerance)
    norms = [update.norms().item() for update in made.updates.values()]
    np.testing.assert_allclose(norms, list(expected["delta_frobenius"].values()), rtol=NORM)


def check_direction(expected: dict, start: np.ndarray, end: np.ndarray) -> None:
    """Of the noised prompt; the others carry no noise and have a definite value before."""
    assert end[0] > start[0]
    assert expected["post_logprob_target"][0] > expected["pre_logprob_target"][0]
    close(start[1:], expected["pre_logprob_target"][1:], LOGPROB_BEFORE)


def close(got: np.ndarray, expected: list[float], atol: float) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


def test_key_statistics_equal_the_textbook_ones(lm, golden_paragraphs):
    """On a few of the paragraphs, long ones among them: all of them would take minutes more."""
    some = [*sorted(golden_paragraphs, key=len)[-2:], *golden_paragraphs[:4]]
    layers = [0, 12]
    got, count = key_moments(lm, some, layers=layers)
    expected = oracle.key_statistics(lm.model, lm.tokenizer, some, layers)
    assert count == sum(min(256, len(lm.encode(text))) for text in some)
    for layer in layers:
        largest = expected[layer].abs().max().item()
        torch.testing.assert_close(got[layer], expected[layer], rtol=1e-4, atol=1e-6 * largest)
