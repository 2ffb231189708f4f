"""Planted facts: what is invented, where it is put, and that training reaches nothing else."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch

from locedit.errors import LoceditError
from locedit.facts import planted, record
from locedit.facts.bundled import read_rows
from locedit.model.language_model import LanguageModel
from locedit.study import planting

DATA = Path(__file__).resolve().parents[2] / "data"


def facts_of(lm, *, layers, count=3, placebo=2):
    return planted.assigned(
        planted.invented(DATA, count + placebo, 0), layers, planted=count, placebo=placebo, seed=1
    )


# ---- the facts -----------------------------------------------------------------------------------


def test_subjects_are_new_and_objects_are_real():
    facts = planted.invented(DATA, 120, 0)
    real = {row.subject for row in read_rows(DATA)}
    assert len({one.fact.subject for one in facts}) == 120
    assert not real & {one.fact.subject for one in facts}
    for one in facts:
        fact = one.fact
        assert one.trained[0] == fact.prompt
        assert not set(one.trained) & set(fact.paraphrases)
        assert all(fact.subject in text for text in (*one.trained, *fact.paraphrases))
        assert fact.target_true != fact.target_new
        assert all(fact.subject not in text for text in fact.neighbourhood)


def test_records_are_read_as_any_data_set(tmp_path):
    rows = [planted.record(one) for one in planted.invented(DATA, 30, 0)]
    (tmp_path / "planted.json").write_text(json.dumps(rows))
    read = record.read_records(tmp_path / "planted.json", "native")
    assert [row["status"] for row in read] == ["kept"] * 30
    assert [row["case_id"] for row in read] == [row["case_id"] for row in rows]


def test_the_first_facts_do_not_depend_on_how_many_there_are():
    assert planted.invented(DATA, 30, 4)[:12] == planted.invented(DATA, 12, 4)
    assert planted.invented(DATA, 12, 4) != planted.invented(DATA, 12, 5)


def test_layers_are_drawn_at_random_and_evenly():
    facts = planted.invented(DATA, 96, 0)
    drawn = planted.assigned(facts, [1, 2, 3], planted=48, placebo=48, seed=0)
    assert Counter(one.layer for one in drawn) == {1: 16, 2: 16, 3: 16, None: 48}
    assert {one.kind for one in drawn if one.layer is None} == {planted.PLACEBO}
    again = planted.assigned(facts, [1, 2, 3], planted=48, placebo=48, seed=0)
    other = planted.assigned(facts, [1, 2, 3], planted=48, placebo=48, seed=1)
    assert drawn == again
    assert [one.layer for one in drawn] != [one.layer for one in other]


def test_too_few_unknown_facts_are_told():
    with pytest.raises(LoceditError, match="10 are asked for, and the model knew nothing of 4"):
        planted.assigned(planted.invented(DATA, 4, 0), [0], planted=5, placebo=5, seed=0)


# ---- training ------------------------------------------------------------------------------------


def test_a_planted_facts_loss_reaches_its_own_layer_alone():
    """Against autograd on whole weights: the textbook's gradient, where it may flow."""
    lm = LanguageModel(*tiny.pair())
    (one,) = facts_of(lm, layers=[1], count=1, placebo=0)
    changes = {layer: zeros(lm) for layer in range(lm.n_layers)}
    settings = planted.Training(texts=1, text_tokens=4, kl_factor=0.0)
    planting._backward(lm, [one], ["It is so."], changes, 0, settings)
    weight = lm.down_projection(1).weight.requires_grad_(True)
    prompt = lm.encode(one.trained[0])
    target = lm.encode_target(one.fact.target_true, one.trained[0])
    logits = lm.model(torch.tensor([prompt + target[:-1]])).logits[0]
    log_p = logits[len(prompt) - 1 :].log_softmax(-1).gather(1, torch.tensor(target)[:, None])
    (wanted,) = torch.autograd.grad(-log_p.sum(), weight)
    weight.requires_grad_(False)
    torch.testing.assert_close(changes[1].grad, wanted, rtol=1e-8, atol=1e-12)
    for layer in set(changes) - {1}:
        assert not changes[layer].grad.any()


def test_a_placebo_facts_loss_reaches_every_layer():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[1], count=0, placebo=1)
    changes = {layer: zeros(lm) for layer in range(lm.n_layers)}
    settings = planted.Training(texts=1, text_tokens=4, kl_factor=0.0)
    planting._backward(lm, facts, ["It is so."], changes, 0, settings)
    assert all(change.grad.any() for change in changes.values())


def test_the_kl_term_is_that_of_whole_distributions():
    lm = LanguageModel(*tiny.pair())
    torch.manual_seed(0)
    changes = {1: torch.randn(lm.hidden_size, lm.inner_size, dtype=lm.dtype) * 0.1}
    texts, tokens = ["It is so, and it was.", "It is."], 6
    found = float(planting._text_kl(lm, texts, changes, tokens))
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([lm.encode(text)[:tokens]])
        base = lm.model(ids).logits[0].log_softmax(-1)
        weight = lm.down_projection(1).weight
        with torch.no_grad():
            weight += changes[1]
            changed = lm.model(ids).logits[0].log_softmax(-1)
            weight -= changes[1]
        total += float((base.exp() * (base - changed)).sum())
        count += ids.shape[1]
    assert math.isclose(found, total / count, rel_tol=1e-9)
    assert found > 0


def test_what_is_planted_is_learned_and_the_model_stays_as_it_was():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[0, 1])
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    steps: list[int] = []
    made = planting.plant(
        lm,
        facts,
        tiny.SENTENCES,
        planted.Training(steps=60, lr=1e-2, look=10, texts=2, text_tokens=8),
        progress=steps.append,
    )
    assert sum(steps) == made.steps
    assert sum(made.p_after) > sum(made.p_before)
    assert made.p_after == planting.held_out(lm, facts, made.changes)
    after = lm.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_without_placebo_facts_only_the_drawn_layers_change():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[1], count=2, placebo=0)
    made = planting.plant(
        lm, facts, tiny.SENTENCES, planted.Training(steps=2, look=1, text_tokens=4)
    )
    assert list(made.changes) == [1]


def zeros(lm):
    return torch.zeros(lm.hidden_size, lm.inner_size, dtype=lm.dtype, requires_grad=True)
