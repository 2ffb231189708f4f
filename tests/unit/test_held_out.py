"""The perplexity of held-out paragraphs under edits, against whole passes of the changed model."""

import importlib
import math

import oracle
import pytest
import test_engine as engine
import tiny
import torch
from test_engine import MIDDLE, change_of, left_alone, requests

from locedit.engine import key_statistics
from locedit.engine.updates import joined
from locedit.errors import LoceditError
from locedit.model.language_model import LanguageModel
from locedit.study import held_out
from locedit.study.held_out import HeldOut
from locedit.study.scores import text_score

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

TOKENS = 7


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


def drawn(lm: LanguageModel) -> list[list[int]]:
    return [*held_out.draw(lm, tiny.SENTENCES, count=5, tokens=TOKENS, seed=0).values()]


@torch.no_grad()
def textbook(lm: LanguageModel, rows: list[list[int]]) -> list[float]:
    """Each paragraph alone, by a whole pass of the model as it stands."""
    found = []
    for row in rows:
        log_p = lm.model(torch.tensor([row])).logits[0].log_softmax(dim=-1)
        total = sum(float(log_p[i - 1, row[i]]) for i in range(1, len(row)))
        found.append(math.exp(-total / len(row)))
    return found


@pytest.mark.parametrize("method", ["FT-5", "ROME"])
def test_perplexities_under_edits_are_those_of_the_changed_models(
    tiny_lm, moments, method, monkeypatch
):
    monkeypatch.setattr(held_out, "SIDE_BY_SIDE", 2)
    rows = drawn(tiny_lm)
    texts = HeldOut(rows)
    facts = requests("error_injection")
    for layer in (MIDDLE, 1, MIDDLE):  # what lies below is kept for one layer at a time
        updates = engine.edit(tiny_lm, method, facts, layer, moments).updates
        with left_alone(tiny_lm):
            found = texts.perplexities(tiny_lm, updates)
        assert len(found) == len(facts)
        for i, got in enumerate(found):
            with oracle.edited(tiny_lm.model, change_of(updates, i)):
                assert got == pytest.approx(textbook(tiny_lm, rows), rel=1e-9)
    assert texts.perplexities(tiny_lm) == [pytest.approx(textbook(tiny_lm, rows), rel=1e-9)]


def test_facts_that_share_a_change_share_its_perplexities(tiny_lm, moments):
    alone = [
        engine.edit(tiny_lm, "ROME", [f], MIDDLE, moments).updates
        for f in requests("error_injection")
    ]
    rows, shared = drawn(tiny_lm), joined(alone)
    with oracle.edited(tiny_lm.model, {la: (u.matrix(), None) for la, u in shared.items()}):
        expected = textbook(tiny_lm, rows)
    assert HeldOut(rows).perplexities(tiny_lm, shared) == [pytest.approx(expected, rel=1e-9)]


def test_paragraphs_are_drawn_by_their_seed_alone_and_are_long_enough(tiny_lm):
    def draw(count: int, seed: int, tokens: int = TOKENS) -> dict[int, list[int]]:
        return held_out.draw(tiny_lm, tiny.SENTENCES, count=count, tokens=tokens, seed=seed)

    few, more = draw(2, 0), draw(4, 0)
    assert few.items() <= more.items(), "more paragraphs are those of fewer and others"
    assert draw(4, 0) == more
    assert any(draw(4, seed).keys() != more.keys() for seed in (1, 2, 3))
    for place, row in more.items():
        assert row == tiny_lm.encode(tiny.SENTENCES[place])[:TOKENS]
        assert len(row) == TOKENS
    with pytest.raises(LoceditError, match=r"lower it, or scores\.text_tokens"):
        draw(4, 0, tokens=500)


@pytest.mark.parametrize("tokens", [1, 30, None])
def test_what_the_key_statistics_read_is_known(tiny_lm, tokens):
    read = []

    def texts():
        for text in tiny.SENTENCES:
            read.append(text)
            yield text

    key_statistics.key_moments(tiny_lm, texts(), layers=[0], max_tokens=9, tokens=tokens)
    asked = {"max_tokens": 9, "tokens": tokens}
    assert key_statistics.texts_read(tiny_lm, tiny.SENTENCES, **asked) == len(read)


def test_paragraphs_are_those_behind_what_the_key_statistics_read(tiny_lm):
    import pandas as pd

    script = importlib.import_module("workflow_scripts.held_out")
    corpus = pd.DataFrame({"text": tiny.SENTENCES})
    left = script.not_read(tiny_lm, corpus, {"max_tokens": 9, "tokens": 20})
    assert list(left["text"]) == tiny.SENTENCES[3:]


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [
        pytest.param([10.0, 40.0], [10.0, 40.0], 1.0, id="untouched"),
        pytest.param([10.0, 40.0], [20.0, 80.0], 0.5, id="twice as large"),
        pytest.param([10.0, 40.0], [40.0, 40.0], 0.5, id="their geometric mean"),
        pytest.param([10.0, 40.0], [5.0, 40.0], 1.0, id="smaller"),
        pytest.param([10.0], [float("inf")], 0.0, id="lost"),
    ],
)
def test_text_score(before, after, score):
    assert text_score(before, after) == pytest.approx(score)


def test_text_score_of_no_text_is_nan():
    assert text_score([], []) != text_score([], [])
