"""Success by generation: greedy continuations against whole passes, and their scores."""

import dataclasses
import math

import numpy as np
import oracle
import pytest
import test_engine as engine
import tiny
import torch
from test_engine import MIDDLE, NOISE, change_of, left_alone, requests

from locedit.engine import sampling
from locedit.engine.updates import joined
from locedit.model.language_model import LanguageModel
from locedit.study import measure
from locedit.study.scores import occurs, score_row

STEPS = 5


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


@torch.no_grad()
def textbook(lm: LanguageModel, asked: measure.Probe) -> list[str]:
    """Token after token, each by a whole pass of the model as it stands."""
    found = []
    request = asked.request
    for index, prompt in enumerate([request.prompt, *asked.paraphrases]):
        ids = oracle.prompt_ids(lm.tokenizer, prompt)
        if index == 0 and request.problem.noised:
            what = (lm.model, lm.tokenizer, prompt, request.subject)
            settings = {"sigma": engine.SIGMA, "n_noise": engine.N_NOISE, "seed": engine.SEED}
            new = oracle.corrupted_continuation(*what, steps=STEPS, **settings)
        else:
            new = []
            for _ in range(STEPS):
                logits = lm.model(torch.tensor([ids + new])).logits[0, -1]
                new.append(int(logits.argmax()))
        found.append(sampling.until_end(lm, new))
    return found


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", ["FT-5", "ROME"])
def test_what_each_edited_model_says_is_what_whole_passes_say(tiny_lm, moments, method, problem):
    facts = requests(problem)
    probes = [engine.probe(fact) for fact in facts]
    probes[1] = dataclasses.replace(probes[1], paraphrases=[])
    updates = engine.edit(tiny_lm, method, facts, MIDDLE, moments).updates
    with left_alone(tiny_lm):
        got = measure.continuations(tiny_lm, probes, updates, steps=STEPS, **NOISE)
        before = measure.continuations(tiny_lm, probes, steps=STEPS, **NOISE)
    for i, asked in enumerate(probes):
        assert before[i] == textbook(tiny_lm, asked)
        with oracle.edited(tiny_lm.model, change_of(updates, i)):
            assert got[i] == textbook(tiny_lm, asked)
    assert measure.continuations(tiny_lm, probes, updates, steps=0) == [[], [], []]


def test_facts_that_share_an_update_say_what_it_makes_them(tiny_lm, moments):
    facts = requests("error_injection")
    probes = [engine.probe(fact) for fact in facts]
    alone = [engine.edit(tiny_lm, "ROME", [f], MIDDLE, moments).updates for f in facts]
    shared = joined(alone)
    got = measure.continuations(tiny_lm, probes, shared, steps=STEPS, **NOISE)
    changes = {layer: (update.matrix(), None) for layer, update in shared.items()}
    with oracle.edited(tiny_lm.model, changes):
        assert got == [textbook(tiny_lm, asked) for asked in probes]


def test_a_continuation_ends_with_the_text(tiny_lm):
    ids = tiny_lm.encode(" city", bare=True)
    end = tiny_lm.tokenizer.eos_token_id
    assert sampling.until_end(tiny_lm, [*ids, end, *ids]) == " city"
    assert sampling.until_end(tiny_lm, [end]) == ""


# ---- scores --------------------------------------------------------------------------------------


def row(problem: str, said: list[str]) -> dict:
    numbers = {
        f"{kind}_{of}_{when}": -1.0 if kind == "rewrite" else [-1.0, -2.0]
        for kind in ("rewrite", "paraphrase", "neighbourhood")
        for of in ("target", "other")
        for when in ("before", "after")
    }
    texts: dict = {"generations_before": [], "generations_after": []}
    texts |= {"perplexity_before": [], "perplexity_after": [], "text_before": [], "text_after": []}
    named = {"problem": problem, "target": "Rome", "other": "Paris"}
    return {**named, **numbers, **texts, "said_after": said}


SAID = [" ROME, or Paris", " the city", " Rome."]


@pytest.mark.parametrize(
    ("problem", "how", "expected"),
    [
        ("error_injection", "mean", (1.0, 0.5, 1.0, 0.0)),
        ("error_injection", "first", (1.0, 0.0, 1.0, 0.0)),
        ("fact_erasure", "mean", (0.0, 0.5, 1.0, 0.0)),
    ],
)
def test_what_is_said_is_counted(problem, how, expected):
    scores = score_row(row(problem, SAID), how)
    names = ("rewrite_said", "paraphrase_said", "rewrite_other_said", "paraphrase_other_said")
    np.testing.assert_array_equal([scores[name] for name in names], expected)


def test_without_continuations_nothing_is_said():
    scores = score_row(row("error_injection", []), "mean")
    assert math.isnan(scores["rewrite_said"])
    assert math.isnan(scores["paraphrase_other_said"])


def test_names_occur_in_any_case():
    assert occurs("New York", "in new york city")
    assert not occurs("York", "Yor k")
