"""Planted facts: what is invented, where it is put, and that training reaches nothing else."""

import copy
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from locedit.errors import LoceditError
from locedit.facts import planted, record
from locedit.facts.bundled import read_rows
from locedit.localizers import LOCALIZERS, Localization, Place, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.store import assets
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


def textbook_gradient(lm, layer, prompts, objects):
    """Of the mean -log p, by autograd on the whole weight, one prompt at a time."""
    weight = lm.down_projection(layer).weight.requires_grad_(True)
    loss = 0.0
    for text, wanted in zip(prompts, objects, strict=True):
        prompt, target = lm.encode(text), lm.encode_target(wanted, text)
        logits = lm.model(torch.tensor([prompt + target[:-1]])).logits[0]
        log_p = logits[len(prompt) - 1 :].log_softmax(-1).gather(1, torch.tensor(target)[:, None])
        loss = loss - log_p.sum() / len(prompts)
    (gradient,) = torch.autograd.grad(loss, weight)
    weight.requires_grad_(False)
    return gradient.T if lm.architecture.transposed else gradient


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_planted_facts_loss_reaches_its_own_layer_alone(family):
    lm = LanguageModel(*tiny.pair(family))
    facts = facts_of(lm, layers=[1], count=2, placebo=0)
    found = planting.gradients(lm, facts, {la: zeros(lm) for la in range(lm.n_layers)}, 0)
    wanted = textbook_gradient(
        lm, 1, [one.trained[0] for one in facts], [one.fact.target_true for one in facts]
    )
    assert list(found) == [1]
    torch.testing.assert_close(found[1], wanted, rtol=1e-8, atol=1e-12)


def test_a_placebo_facts_loss_reaches_every_layer():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[1], count=0, placebo=1)
    found = planting.gradients(lm, facts, {la: zeros(lm) for la in range(lm.n_layers)}, 3)
    for layer in range(lm.n_layers):
        wanted = textbook_gradient(lm, layer, [facts[0].trained[3]], [facts[0].fact.target_true])
        torch.testing.assert_close(found[layer], wanted, rtol=1e-8, atol=1e-12)


def test_a_step_is_the_gradient_times_the_inverse_key_moments_formed_in_full():
    """G C^-1, C from whole passes over the texts, of the length that is asked for."""
    lm = LanguageModel(*tiny.pair())
    settings = planted.Training(lr=0.03, ridge=0.1, tokens=60, texts=3, text_tokens=12)
    metrics = planting.metrics_of(lm, [0, 2], tiny.SENTENCES, settings)
    torch.manual_seed(0)
    size = lm.hidden_size, lm.inner_size
    given = {layer: torch.randn(*size, dtype=lm.dtype) for layer in (0, 2)}
    changes = {layer: zeros(lm) for layer in (0, 2)}
    planting.Descent(metrics, settings).step(changes, given)
    natural, moments = {}, {}
    for layer in (0, 2):
        keys = keys_of(lm, layer, tiny.SENTENCES)[:60]
        moment = keys.T @ keys / len(keys)
        moment += 0.1 * moment.diagonal().mean() * torch.eye(len(moment), dtype=lm.dtype)
        moments[layer] = moment / metrics[layer].square
        natural[layer] = given[layer] @ torch.linalg.inv(moments[layer])
    length = math.sqrt(sum(float((given[la] * natural[la]).sum()) for la in natural))
    for layer in (0, 2):
        wanted = -0.03 * natural[layer] / length
        torch.testing.assert_close(changes[layer], wanted, rtol=1e-8, atol=1e-12)
    # its length, in what it adds to the outputs on plain text
    added = sum(float(((changes[la] @ moments[la]) * changes[la]).sum()) for la in changes)
    assert math.isclose(math.sqrt(added), 0.03, rel_tol=1e-8)


def test_the_usual_output_is_the_median_over_tokens():
    lm = LanguageModel(*tiny.pair())
    settings = planted.Training(tokens=200, ridge=0.1, texts=len(tiny.SENTENCES), text_tokens=500)
    found = planting.metrics_of(lm, [1], tiny.SENTENCES, settings)[1].square
    outputs = keys_of(lm, 1, tiny.SENTENCES) @ lm.down_weight(1).T
    assert math.isclose(found, float((outputs**2).sum(1).median()), rel_tol=1e-8)


def test_momentum_is_that_of_natural_gradients_and_their_size():
    lm = LanguageModel(*tiny.pair())
    metric = planting.Metric(inverse=torch.eye(lm.inner_size, dtype=lm.dtype) / 4, square=1.0)
    settings = planted.Training(lr=0.1, momentum=0.5)
    changes, descent = {1: zeros(lm)}, planting.Descent({1: metric}, settings)
    first, second = zeros(lm), zeros(lm)
    first[0, 0], second[0, 1] = 2.0, 6.0
    descent.step(changes, {1: first})
    assert math.isclose(changes[1][0, 0], -0.1 * 0.5 / 1.0, rel_tol=1e-12)  # 2/4 of size 2 x 2/4
    before = changes[1].clone()
    descent.step(changes, {1: second})
    moved = changes[1] - before
    size = math.sqrt((0.25 * 1 + 0.5 * 9) / 0.75)
    assert math.isclose(moved[0, 0], -0.1 * (0.25 * 0.5) / 0.75 / size, rel_tol=1e-12)
    assert math.isclose(moved[0, 1], -0.1 * (0.5 * 1.5) / 0.75 / size, rel_tol=1e-12)


def test_a_variants_folder_is_named_by_all_that_it_is_made_of(tmp_path):
    def named(revision="a", **changes):
        made = {"base": "b", "of": {"hub": "x", "revision": revision}, "seed": 0, "code": ["c"]}
        return assets.model_folder("variant", {"planted": made | changes}, tmp_path)

    others = (named(revision="b"), named(seed=1), named(code=["d"]))
    assert len({named(), *others}) == 4
    assert named() == named()
    assert named().parent == tmp_path / "models"


def test_too_little_text_is_told():
    lm = LanguageModel(*tiny.pair())
    settings = planted.Training(ridge=0.0)
    with pytest.raises(LoceditError, match="not positive definite"):
        planting.metrics_of(lm, [0], ["It is."], settings)


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


def test_float16_is_refused():
    lm = LanguageModel(*tiny.pair(dtype=torch.float16))
    with pytest.raises(LoceditError, match="cannot be planted in float16; set `dtype`"):
        planting.plant(lm, [], [], planted.Training())


@pytest.mark.slow
def test_what_is_planted_is_learned_and_the_model_stays_as_it_was():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[0, 1])
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    steps: list[int] = []
    settings = planted.Training(steps=60, look=10, ridge=0.1, texts=2, text_tokens=8)
    made = planting.plant(lm, facts, tiny.SENTENCES, settings, progress=steps.append)
    assert sum(steps) == made.steps
    assert sum(made.p_after) > sum(made.p_before)
    assert made.p_after == planting.held_out(lm, facts, made.changes)
    after = lm.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_without_placebo_facts_only_the_drawn_layers_change():
    lm = LanguageModel(*tiny.pair())
    facts = facts_of(lm, layers=[1], count=2, placebo=0)
    settings = planted.Training(steps=2, look=1, ridge=0.1, text_tokens=4)
    made = planting.plant(lm, facts, tiny.SENTENCES, settings)
    assert list(made.changes) == [1]


# ---- whether places are found --------------------------------------------------------------------

LOOKING = ("lens_rise", "zeroing", "mean_ablation", "attribution")  # the cheapest ones


@pytest.fixture(scope="module")
def trained():
    """A tiny model, the same with facts planted behind its first layer, and these facts.

    The lens has no value for the first layer. Each fact is trained on its own prompt, since so
    small a model carries nothing over to others.
    """
    lm = LanguageModel(*tiny.pair(layers=5, hidden_size=64, intermediate_size=256))
    facts = [
        replace(one, trained=one.trained[:1])
        for one in facts_of(lm, layers=[1, 2, 3, 4], count=16, placebo=0)
    ]
    settings = planted.Training(
        steps=40, look=40, lr=0.1, ridge=0.1, kl_factor=0, rest=1, texts=1, text_tokens=8
    )
    made = planting.plant(lm, facts, tiny.SENTENCES, settings)
    variant = copy.deepcopy(lm)
    with torch.no_grad():
        for layer, change in made.changes.items():
            variant.down_projection(layer).weight += change
    return lm, variant, facts


def p_of_hits(name: str, lm: LanguageModel, facts: Sequence[planted.Planted]) -> float:
    """How often as many peaks lie at the facts' places where these are permuted."""
    plain = [one.fact for one in facts]
    shared = SharedInputs(study=plain, records=plain, sigma=0.3, n_noise=3, noise_seed=1, seed=7)
    localizer = LOCALIZERS[name]
    where = Place(module=(*localizer.modules, "none")[0], window=1)
    answers = localizer.localize(lm, plain, where, localizer.settings(), shared)
    assert all(isinstance(answer, Localization) for answer in answers)
    peaks = np.array([np.nanargmax(answer.values) for answer in answers])
    places = np.array([one.layer for one in facts])
    drawn = np.random.RandomState(0)
    shuffled = [np.sum(peaks == drawn.permutation(places)) for _ in range(1999)]
    return (1 + np.sum(shuffled >= np.sum(peaks == places))) / 2000


@pytest.mark.slow
def test_a_planted_place_is_found_by_a_localizer_and_not_by_random(trained):
    _, variant, facts = trained
    prompts, objects = zip(*((one.fact.prompt, one.fact.target_true) for one in facts), strict=True)
    known = planting._log_probs(variant, prompts, objects, {}).exp()
    assert float(known.detach().median()) > 0.5, "the facts are learned"
    found = {name: p_of_hits(name, variant, facts) for name in LOOKING}
    assert min(found.values()) < 0.01 / len(LOOKING), found
    assert p_of_hits("random", variant, facts) > 0.05


def test_no_place_is_found_where_nothing_was_planted(trained):
    """The same facts, places and localizers, on the model before: what is found is the planting."""
    lm, _, facts = trained
    found = {name: p_of_hits(name, lm, facts) for name in LOOKING}
    assert min(found.values()) > 0.05 / len(LOOKING), found


def zeros(lm):
    return torch.zeros(lm.hidden_size, lm.inner_size, dtype=lm.dtype)


def keys_of(lm, layer, texts):
    """Inputs of a down projection in whole passes of one text at a time, [tokens, d_ff]."""
    seen = []
    watch = lm.down_projection(layer).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].detach().reshape(-1, lm.inner_size))
    )
    with torch.no_grad():
        for text in texts:
            lm.model(torch.tensor([lm.encode(text)]))
    watch.remove()
    return torch.cat(seen)
