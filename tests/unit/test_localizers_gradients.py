"""Localizers built on gradients against their textbook forms, and the traps of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import oracle
import oracle_localizers as textbook
import pytest
import tiny
import torch
from test_architectures import WITH_BOS
from test_engine import left_alone
from torch.utils._python_dispatch import TorchDispatchMode

from locedit.engine import gradients, neurons
from locedit.engine.key_statistics import KeyMoments
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, corrupted
from locedit.localizers.base import MODULES, Answer, Localization, Place, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.registry import imported
from locedit.workflow.config import read

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

NAMES = ("attribution", "integrated", "salience", "gradient_agreement", "edit_cost", "neurons")
NOISE = {"sigma": 0.3, "n_noise": 3, "seed": 1}
CONTEXTS = [["{}"], ["In the city. {}", "You can see it. {}"]]
# Few steps, and a decay that does not outweigh the rest in so small a model.
ROME = {"iterations": 4, "lr": 0.05, "decay": 1e-3, "kl_factor": 0.5, "clamp": 2.0}


def fact(template: str, subject: str, true: str, new: str) -> Fact:
    return Fact(
        case_id=f"{template} {subject}",
        relation_id="",
        subject=subject,
        template=template,
        target_true=true,
        target_new=new,
    )


FACTS = {
    "subject in the middle": fact("The capital city of {} is", "Madrid", "Rome, Italy", "Paris"),
    "subject at the start": fact("{} was developed by", "Windows", "Paris", "Rome, Italy"),
    "subject at the end": fact(
        "The mother tongue of the king of {}", "France", "English", "French"
    ),
    "prompt that is its subject": fact("{}", "Madrid", "Rome", "The war"),
    "subject twice": fact("Madrid and {} are", "Madrid", "old", "new"),
}
MIDDLE = FACTS["subject in the middle"]


@pytest.fixture(scope="module", params=sorted(tiny.FAMILIES))
def lm(request) -> LanguageModel:
    family = request.param
    return LanguageModel(*tiny.pair(family, adds_bos=family in WITH_BOS, layers=4))


@pytest.fixture(scope="module")
def gpt2() -> LanguageModel:
    return LanguageModel(*tiny.pair("gpt2", layers=4))


def statistics(lm: LanguageModel) -> dict[int, torch.Tensor]:
    layers = range(lm.n_layers)
    found = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, layers)
    # OPT's ReLU lets some units say nothing in so little text
    return {layer: c + 1e-3 * torch.eye(len(c)) for layer, c in found.items()}


def shared(lm: LanguageModel, **changes: Any) -> SharedInputs:
    known = {"sigma": NOISE["sigma"], "n_noise": NOISE["n_noise"], "noise_seed": NOISE["seed"]}
    return SharedInputs(**{**known, "contexts": CONTEXTS, **changes})


def run(
    name: str,
    lm: LanguageModel,
    facts: Sequence[Fact] = (MIDDLE,),
    module: str = "mlp",
    inputs: SharedInputs | None = None,
    **settings: Any,
) -> Sequence[Answer]:
    one = LOCALIZERS[name]
    inputs = inputs or shared(lm, moments=KeyMoments(statistics(lm).__getitem__))
    with left_alone(lm):
        return one.localize(lm, facts, Place(module=module), one.settings(**settings), inputs)


def prompt_of(fact: Fact) -> textbook.Prompt:
    return textbook.Prompt(text=fact.prompt, subject=fact.subject, start=fact.subject_start)


def close(got: np.ndarray, expected: Any, rtol: float = 1e-9, atol: float = 0.0) -> None:
    np.testing.assert_allclose(got, np.asarray(expected), rtol=rtol, atol=atol)


# --------------------------------------------------------------------------------------------------
# Each equals its textbook form, in every family


def check_attributions(
    lm: LanguageModel, got: Localization, fact: Fact, module: str, metric: str, n: int, **path: Any
) -> None:
    what = (lm.model, lm.tokenizer, prompt_of(fact), fact.target_true)
    noise = NOISE | {"n_noise": n}
    values = textbook.attributions(*what, module=module, metric=metric, **path, **noise).numpy()
    b, e = lm.subject_range(fact.prompt, fact.subject, fact.subject_start)
    mean = values.mean(axis=0)
    atol = 1e-12 * np.abs(values).max()  # sums over d of what may nearly cancel
    close(got.values, mean.max(axis=0), atol=atol)
    close(got.further["last"], mean[e - 1 - b], atol=atol)
    close(got.further["sum"], mean.sum(axis=0), atol=atol)
    halves = [part.mean(axis=0).max(axis=0) for part in np.split(values, [n // 2])]
    close(got.halves, halves, atol=atol)
    with torch.no_grad():
        clean = textbook.value(lm.model, oracle.scored_row(lm.tokenizer, *_scored(fact)), metric)
    assert np.abs(mean).max() > 1e-6 * abs(clean), "there is nothing to attribute in this case"


@pytest.mark.parametrize("module", MODULES)
def test_attribution_equals_the_textbook_one(lm, module):
    for metric in textbook.METRICS:
        (got,) = run("attribution", lm, module=module, metric=metric)
        check_attributions(lm, got, MIDDLE, module, metric, 3, shares=(0.0,))


@pytest.mark.parametrize("case", FACTS)
def test_attribution_wherever_the_subject_stands(gpt2, case):
    (got,) = run("attribution", gpt2, [FACTS[case]])
    check_attributions(gpt2, got, FACTS[case], "mlp", "p", 3, shares=(0.0,))


def test_integrated_equals_the_textbook_one(lm):
    for metric in textbook.METRICS:
        (got,) = run("integrated", lm, module="hidden", metric=metric, steps=3)
        shares = (1 / 3, 2 / 3, 1.0)
        check_attributions(lm, got, MIDDLE, "hidden", metric, 2, shares=shares)


@pytest.mark.parametrize("case", FACTS)
def test_integrated_wherever_the_subject_stands(gpt2, case):
    (got,) = run("integrated", gpt2, [FACTS[case]], steps=2, n_noise=3)
    check_attributions(gpt2, got, FACTS[case], "mlp", "log_p", 3, shares=(0.5, 1.0))


def test_salience_equals_the_textbook_one(lm):
    for one in (MIDDLE, FACTS["subject at the start"]):  # targets of one token and of several
        (got,) = run("salience", lm, [one])
        close(got.values, textbook.salience(lm.model, lm.tokenizer, prompt_of(one), one.target_new))


def test_gradient_agreement_equals_the_textbook_one(lm):
    for one in (MIDDLE, FACTS["subject at the start"]):
        (got,) = run("gradient_agreement", lm, [one])
        what = (lm.model, lm.tokenizer, prompt_of(one))
        expected = textbook.gradient_agreement(*what, one.target_true, one.target_new)
        norms = [textbook.salience(*what, o) for o in (one.target_true, one.target_new)]
        close(got.values, expected, atol=1e-12 * float((norms[0] * norms[1]).max()))
        close(got.further["cosine"], expected / norms[0] / norms[1], atol=1e-12)


def test_cheap_edit_cost_equals_the_textbook_one(lm):
    (got,) = run("edit_cost", lm)
    c = statistics(lm)
    what = (lm.model, lm.tokenizer, prompt_of(MIDDLE), MIDDLE.target_new, c)
    for layer in range(lm.n_layers - 1):
        close(np.exp(-got.values[layer]), textbook.edit_cost_cheap(*what, layer), rtol=1e-8)


def test_full_edit_cost_equals_the_textbook_one(lm):
    (got,) = run("edit_cost", lm, target="full", **ROME)
    what = (lm.model, lm.tokenizer, MIDDLE.template, MIDDLE.subject, MIDDLE.target_new)
    c = statistics(lm)
    settings = {
        "contexts": CONTEXTS,
        "learning_rate": ROME["lr"],
        "evaluations": ROME["iterations"],
        "kl_factor": ROME["kl_factor"],
        "weight_decay": ROME["decay"],
        "clamp": ROME["clamp"],
    }
    for layer in range(lm.n_layers - 1):
        expected = textbook.edit_cost_full(*what, c, layer, **settings)
        close(np.exp(-got.values[layer]), expected, rtol=1e-7)


@pytest.mark.parametrize("token", ["last", "subject"])
def test_neurons_equal_the_textbook_ones(lm, token):
    (got,) = run("neurons", lm, token=token, steps=3)
    what = (lm.model, lm.tokenizer, prompt_of(MIDDLE), MIDDLE.target_true)
    expected = textbook.neurons(*what, token=_token(lm, MIDDLE, token), steps=3)
    close(got.values, expected.sum(dim=1), atol=1e-12 * float(expected.abs().max()))


def _token(lm: LanguageModel, fact: Fact, token: str) -> int:
    if token == "last":
        return len(lm.encode(fact.prompt)) - 1
    return lm.subject_range(fact.prompt, fact.subject, fact.subject_start)[1] - 1


# --------------------------------------------------------------------------------------------------
# Batches


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_facts_together_are_as_alone(gpt2, name, budget, monkeypatch):
    """Whatever memory holds."""
    facts, inputs = list(FACTS.values()), shared(gpt2, moments=KeyMoments(statistics(gpt2).get))
    alone = [run(name, gpt2, [one], inputs=inputs)[0] for one in facts]
    for module in (gradients, neurons):
        monkeypatch.setattr(module, "token_budget", lambda _lm, *, layers: budget)
    together = run(name, gpt2, facts[::-1], inputs=inputs)[::-1]
    for one, other in zip(together, alone, strict=True):
        scale = np.nanmax(np.abs(other.values))
        close(one.values, other.values, atol=1e-12 * scale)
        assert one.passes == pytest.approx(other.passes, rel=1e-12)
        assert one.further.keys() == other.further.keys()
        for further, values in other.further.items():
            close(one.further[further], values, atol=1e-12 * scale)


def test_full_edit_cost_of_facts_together_is_as_alone(gpt2):
    facts = [FACTS["subject in the middle"], FACTS["subject at the end"]]
    together = run("edit_cost", gpt2, facts, target="full", **ROME)
    for one, got in zip(facts, together, strict=True):
        (alone,) = run("edit_cost", gpt2, [one], target="full", **ROME)
        close(got.values, alone.values, rtol=1e-8)
        assert got.passes == pytest.approx(alone.passes, rel=1e-12)


# --------------------------------------------------------------------------------------------------
# Restoring: windows, first order, completeness


@pytest.fixture(scope="module")
def affine() -> LanguageModel:
    """A network whose last outputs are affine in its embeddings: no norm, no activation, and
    attention that looks at everything alike."""
    return straightened(range(4))


def straightened(layers: Sequence[int]) -> LanguageModel:
    """A tiny GPT-J, some of its layers affine."""
    lm = LanguageModel(*tiny.pair("gptj", layers=4))
    for layer in layers:
        block = lm.layers[layer]
        block.ln_1, block.mlp.act = torch.nn.Identity(), torch.nn.Identity()
        block.attn.q_proj.weight.zero_()
    return lm


def linear_metric(lm: LanguageModel, runs: corrupted.Corrupted, ends: Sequence[int]):
    """A direction of the last outputs, read at the prompt's last token."""
    lines, cells = runs.packed.line, torch.tensor(runs.packed.offset) + torch.tensor(ends)
    return lambda hidden: hidden[lines, cells] @ direction(lm)


def direction(lm: LanguageModel) -> torch.Tensor:
    return lm.head.weight[7]


def linear_attributions(lm: LanguageModel, module: str) -> np.ndarray:
    """Of a linear metric: [N, tokens from the subject's first on, layers]."""
    (rows,) = corrupted.batches(lm, [MIDDLE], NOISE["n_noise"])
    runs = corrupted.Corrupted.build(lm, rows, module, shared(lm), NOISE["n_noise"])
    end = rows.ends[0] - rows.subjects[0][0]
    seen = runs.observe(0.0, linear_metric(lm, runs, [end] * NOISE["n_noise"]))
    return runs.restored(seen.outputs, seen.gradients)[:, : end + 1].numpy()


def restored_exactly(lm: LanguageModel, module: str, token: int, layers: Sequence[int]) -> float:
    """The same metric's mean rise over noise rows, by restoring whole passes with hooks."""
    clean = oracle.scored_row(lm.tokenizer, MIDDLE.prompt, MIDDLE.target_true)
    what = (MIDDLE.prompt, MIDDLE.subject)
    noised = oracle.with_noise(lm.model, lm.tokenizer, clean, *what, **NOISE)
    rows = [clean, *noised]

    def restore(output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[1:, noised[0].begin + token] = output[0, noised[0].begin + token]
        return output

    def metric() -> torch.Tensor:
        with torch.no_grad(), oracle.recorded(lm.layers[-1]) as record:
            oracle.forward(lm.model, rows)
        return record["output"][1:, clean.predicted_from] @ direction(lm)

    before = metric()
    with torch.no_grad():
        managers = [oracle.output_changed(lm.module(module, la), restore) for la in layers]
        for manager in managers:
            manager.__enter__()
        after = metric()
        for manager in managers:
            manager.__exit__(None, None, None)
    return float((after - before).mean())


@pytest.mark.parametrize("module", MODULES)
def test_on_a_linear_network_attribution_is_restoring(affine, module):
    values = linear_attributions(affine, module).mean(axis=0)
    for token, layer in np.ndindex(values.shape):
        expected = restored_exactly(affine, module, token, [layer])
        close(values[token, layer], expected, atol=1e-12 * np.abs(values).max())


def test_a_sum_of_attributions_is_not_the_effect_of_a_window(affine):
    """Restoring two layers blocks the path from the lower through the upper one."""
    values = linear_attributions(affine, "mlp").mean(axis=0)
    exact = restored_exactly(affine, "mlp", 0, [1, 2])
    assert abs(values[0, 1:3].sum() / exact - 1) > 0.01
    for name in NAMES:
        places = LOCALIZERS[name].places(MODULES, [1, 5])
        assert {place.window for place in places} == {1}, "so it is not offered"


def test_on_a_linear_network_hidden_states_account_for_all_that_noise_took(affine):
    values = linear_attributions(affine, "hidden")
    everywhere = values.sum(axis=1).mean(axis=0)  # as no token after the prompt's last is read
    clean = oracle.scored_row(affine.tokenizer, MIDDLE.prompt, MIDDLE.target_true)
    what = (MIDDLE.prompt, MIDDLE.subject)
    noised = oracle.with_noise(affine.model, affine.tokenizer, clean, *what, **NOISE)
    with torch.no_grad(), oracle.recorded(affine.layers[-1]) as record:
        oracle.forward(affine.model, [clean, *noised])
    m = record["output"][:, clean.predicted_from] @ direction(affine)
    close(everywhere, np.full(4, float(m[0] - m[1:].mean())), rtol=1e-9)


@pytest.mark.parametrize("module", MODULES)
def test_attribution_of_p_is_causal_tracing_to_first_order(gpt2, module):
    """With its sign: large where restoring brings the fact back."""
    what = (gpt2.model, gpt2.tokenizer, MIDDLE.prompt, MIDDLE.subject, MIDDLE.target_true)
    errors = []
    for sigma in (1e-3, 1e-4):
        noise = NOISE | {"sigma": sigma}
        traced = oracle.trace(*what, module=module, window=1, **noise)
        effect = (traced["p_restored"] - traced["p_corrupted"]).max(axis=0)
        inputs = shared(gpt2, sigma=sigma)
        (got,) = run("attribution", gpt2, module=module, inputs=inputs, metric="p")
        errors.append(np.abs(got.values - effect).max() / np.abs(effect).max())
    assert errors[0] < 0.05
    assert errors[1] < errors[0] / 5


@pytest.mark.slow
def test_integrated_gradients_account_for_all_that_noise_took_as_steps_grow():
    """What enters layer 1 moves in a straight line here; the layers above are as they were."""
    lm = straightened([0])
    one = fact("The capital city of {} is", "Madrid", "Paris", "Rome")  # no token after the prompt
    what = (lm.model, lm.tokenizer, one.prompt, one.target_true)
    lost = []
    for draw in range(NOISE["n_noise"]):
        row = oracle.scored_row(*what[1:])
        noised = oracle.with_noise(*what[:2], row, one.prompt, one.subject, **NOISE)[draw]
        with torch.no_grad():
            pair = [textbook.value(lm.model, r) for r in (row, noised)]
        lost.append(float(pair[0] - pair[1]))
    errors = []
    for steps in (4, 40, 400):
        settings = {"steps": steps, "n_noise": NOISE["n_noise"], "module": "hidden"}
        (got,) = run("integrated", lm, [one], **settings)
        errors.append(abs(got.further["sum"][0] / np.mean(lost) - 1))
    assert errors[2] < 0.02
    assert errors[2] < errors[1] / 5 < errors[0] / 25, "the error falls as one over the steps"


@pytest.mark.parametrize("token", ["last", "subject"])
def test_neurons_account_for_all_that_their_absence_takes_as_steps_grow(gpt2, token):
    what = (gpt2.model, gpt2.tokenizer, prompt_of(MIDDLE), MIDDLE.target_true)
    with torch.no_grad():
        p = textbook.value(gpt2.model, oracle.scored_row(gpt2.tokenizer, *_scored(MIDDLE)), "p")
    lost = (p - textbook.p_without_inner(*what, token=_token(gpt2, MIDDLE, token))).numpy()
    errors = [
        np.abs(run("neurons", gpt2, token=token, steps=steps)[0].values - lost).max()
        for steps in (50, 500)
    ]
    assert np.abs(lost).max() > 1e-3 * p
    assert errors[1] < 0.02 * np.abs(lost).max()
    assert errors[1] < errors[0] / 5


def _scored(fact: Fact) -> tuple[str, str]:
    return fact.prompt, fact.target_true


# --------------------------------------------------------------------------------------------------
# Gradients of weights are never formed


class LargestTensor(TorchDispatchMode):
    """Entries of the largest tensor that comes about, the model's own weights left out."""

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__()
        self.own = {p.untyped_storage().data_ptr() for p in lm.model.parameters()}
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and (
                tensor.untyped_storage().data_ptr() not in self.own
            ):
                self.entries = max(self.entries, tensor.numel())
        return made


@pytest.mark.parametrize("name", ["salience", "gradient_agreement"])
def test_no_gradient_of_a_weight_is_formed(lm, name):
    size = lm.hidden_size * lm.inner_size
    one, short = LOCALIZERS[name], FACTS["subject at the end"]  # one token of logits
    with LargestTensor(lm) as seen:
        one.localize(lm, [short], Place(module="mlp"), one.settings(), shared(lm))
    assert 0 < seen.entries < size
    with LargestTensor(lm) as seen:
        textbook.salience(lm.model, lm.tokenizer, prompt_of(short), short.target_new)
    assert seen.entries >= size, "the watch would not notice"


# --------------------------------------------------------------------------------------------------
# Signs and edges


def test_an_object_agrees_with_itself(gpt2):
    same = fact(MIDDLE.template, MIDDLE.subject, "Paris", "Paris")
    (agreement,), (salience,) = (
        run("gradient_agreement", gpt2, [same]),
        run("salience", gpt2, [same]),
    )
    close(agreement.values, salience.values**2)
    close(agreement.further["cosine"], np.ones(4))


def test_what_cannot_reach_the_prediction_has_no_edit_cost(gpt2):
    """Written by the last layer at a token from which nothing is predicted."""
    for settings in ({}, {"target": "full", **ROME}):
        (got,) = run("edit_cost", gpt2, **settings)
        assert list(np.isnan(got.values)) == [False, False, False, True]
    (got,) = run("edit_cost", gpt2, [FACTS["subject at the end"]])
    assert np.isfinite(got.values).all()


def test_edit_cost_is_high_in_value_where_keys_are_rare(gpt2):
    """A tenth of C is a tenth of the cost: what other keys there are is disturbed less."""
    c = statistics(gpt2)
    (plain,) = run("edit_cost", gpt2, inputs=shared(gpt2, moments=KeyMoments(c.get)))
    c[1] = c[1] / 10
    (rare,) = run("edit_cost", gpt2, inputs=shared(gpt2, moments=KeyMoments(c.get)))
    close((rare.values - plain.values)[:3], [0, np.log(10), 0], atol=1e-9)


def test_edit_cost_asks_for_key_statistics(gpt2):
    with pytest.raises(LoceditError, match="needs key statistics"):
        run("edit_cost", gpt2, inputs=shared(gpt2))


def test_one_noise_row_has_no_halves(gpt2):
    (got,) = run("attribution", gpt2, inputs=shared(gpt2, n_noise=1))
    assert got.halves is None


def test_passes_are_counted(gpt2):
    """What precedes the subject is run once; a backward pass counts as two."""
    ids = (
        len(gpt2.encode(MIDDLE.prompt)) + len(gpt2.encode_target("Rome, Italy", MIDDLE.prompt)) - 1
    )
    b, _ = gpt2.subject_range(MIDDLE.prompt, MIDDLE.subject)
    share = (ids - b) / ids
    counts = {name: run(name, gpt2)[0].passes for name in NAMES}
    assert counts["attribution"] == pytest.approx(1 + 3 * 3 * share)
    assert counts["integrated"] == pytest.approx(1 + 2 * (1 + 10 * 3) * share)
    assert (counts["salience"], counts["gradient_agreement"]) == (3, 6)
    assert counts["edit_cost"] == 3
    tokens = ids - len(gpt2.encode(MIDDLE.prompt)) + 1
    assert counts["neurons"] == pytest.approx(1 + 20 * 3 * (4 + 3 + 2 + 1) / 4 * tokens / ids)


@pytest.mark.parametrize("name", NAMES)
def test_settings_can_be_told_in_a_configuration(name):
    one = LOCALIZERS[name]
    given = vars(one.settings())
    assert read({"localizing": {"settings": {name: given}}}).localizing.settings == {name: given}
    assert imported(one.function).__module__ == one.module == f"locedit.localizers.{name}"
    assert one.new_target == (name in ("salience", "gradient_agreement", "edit_cost"))
