"""The fast engine against the textbook algorithms, on tiny models in float64.

Partial passes against whole ones, then everything that is built of them: tracing, the edits of
every method and problem, and what is measured under an edit. Float64 leaves agreement to about
1e-12, so the tolerance of 1e-6 forgives no difference in what is computed.
"""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import oracle
import oracle_editors
import pandas as pd
import pytest
import tiny
import torch

from locedit import methods
from locedit.engine import decoding, key_statistics, packing, passes
from locedit.engine.sampling import greedy
from locedit.engine.updates import Dense, Updates, total_norms
from locedit.localizers import MODULES, restoration
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study import measure

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

ROWS = [text[:cut] for text, cut in zip(tiny.SENTENCES, (40, 22, 31), strict=False)]
SIGMA, N_NOISE, SEED = 0.3, 3, 1
NOISE = {"sigma": SIGMA, "n_noise": N_NOISE, "seed": SEED}
CONTEXTS = ["{}", "The city was old. {}", "It was reported on Monday that. {}"]
FIRST, MIDDLE, LAST = 0, 2, 4


def close(got, expected, rtol: float = 1e-6) -> None:
    """Equal to `rtol`, entries that all but vanish beside the largest aside."""
    atol = 1e-3 * rtol * float(np.abs(np.asarray(expected)).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def tokens(lm: LanguageModel, texts: list[str] = ROWS) -> tuple[list, tuple]:
    rows = [lm.encode(text) for text in texts]
    assert len({len(row) for row in rows}) == len(rows), "rows should differ in length"
    return rows, passes.pad(rows, lm.device)


# --------------------------------------------------------------------------------------------------
# Partial passes


@torch.no_grad()
def check_whole_pass(lm: LanguageModel, rtol: float = 1e-6) -> None:
    """Every row's hidden states, between all layers, and logits are those of the model alone."""
    rows, (ids, lengths) = tokens(lm)
    record = passes.record(lm, ids, lengths)
    logits = lm.logits(record.inputs[lm.n_layers])
    for i, row in enumerate(rows):
        alone = lm.model(torch.tensor([row]), output_hidden_states=True)
        close(logits[i, : len(row)], alone.logits[0], rtol)
        for layer in range(lm.n_layers):  # the model's own last state is behind its final norm
            got = record.inputs[layer][i, : len(row)]
            close(got, alone.hidden_states[layer][0], rtol)


@torch.no_grad()
def check_partial_pass(lm: LanguageModel, rtol: float = 1e-6) -> None:
    """A change at one token and layer of each row travels as it does in the whole pass."""
    rows, (ids, lengths) = tokens(lm)
    record = passes.record(lm, ids, lengths)
    shift = torch.linspace(-1, 1, lm.hidden_size).to(lm.dtype)
    for first in (0, 1, lm.n_layers):
        for starts in ([3, 1, 4], [2, 2, 2], [0, 0, 0], [0, 5, 1]):
            part = passes.after(lm, record, starts, range(first, lm.n_layers))
            hidden = passes.at(record.inputs[first], part.positions)
            hidden[:, 0] += shift
            logits = lm.logits(passes.run(lm, hidden, part, first=first))
            for i, (row, start) in enumerate(zip(rows, starts, strict=True)):

                def change(output: torch.Tensor, start: int = start) -> torch.Tensor:
                    output = output.clone()
                    output[0, start] += shift
                    return output

                module = lm.layers[first - 1] if first else lm.embedding
                with oracle.output_changed(module, change):
                    alone = lm.model(torch.tensor([row])).logits[0, start:]
                close(logits[i, : len(row) - start], alone, rtol)


def test_whole_pass_over_padded_rows_equals_the_model(tiny_lm):
    check_whole_pass(tiny_lm)


def test_partial_pass_equals_the_whole_one(tiny_lm):
    check_partial_pass(tiny_lm)


@torch.no_grad()
def check_decoding(lm: LanguageModel) -> None:
    """Each token is the likeliest of a whole pass over all before it."""
    rows, _ = tokens(lm)
    got = decoding.decode(lm, rows, [6] * len(rows), greedy).tolist()
    for row, continuation in zip(rows, got, strict=True):
        grown = list(row)
        for token in continuation:
            assert token == int(lm.model(torch.tensor([grown])).logits[0, -1].argmax())
            grown.append(token)
    steps = [6, 0, 3, 6, 1][: len(rows)]
    assert len(set(steps)) > 1
    fewer = decoding.decode(lm, rows, steps, greedy).tolist()
    assert fewer == [
        continuation[:count] + [-1] * (6 - count)
        for count, continuation in zip(steps, got, strict=True)
    ]


def test_decoding_with_kept_keys_equals_repeated_whole_passes(tiny_lm):
    check_decoding(tiny_lm)


# --------------------------------------------------------------------------------------------------
# Tracing

TRACED = {
    "subject at the start": ("Madrid is the capital of", "Madrid", "Rome, Italy"),
    "subject in the middle": ("The capital city of Madrid is", "Madrid", "Rome, Italy"),
    "subject at the end": ("In the city of Madrid", "Madrid", "Paris"),
    "one-token subject": ("The capital city of France is", "France", "English"),
    "one-token subject that ends the prompt": ("It is France", "France", "Paris"),
    "prompt that is its subject": ("Madrid", "Madrid", "Rome"),
    "subject twice": ("Madrid is in Madrid and", "Madrid", "Rome"),
}


def check_trace(lm: LanguageModel, case: str, module: str, window: int, rtol: float = 1e-6) -> None:
    fact, settings = TRACED[case], {"module": module, "window": window, **NOISE}
    got = restoration.trace(lm, *fact, **settings)
    expected = oracle.trace(lm.model, lm.tokenizer, *fact, **settings)
    assert got.subject_range == expected["subject_range"]
    assert len(got.tokens) == len(got.p_restored)
    close(got.p_clean, expected["p_clean"], rtol)
    close(got.p_corrupted, expected["p_corrupted"], rtol)
    close(got.p_restored, expected["p_restored"], rtol)
    assert got.restored.shape == (*got.p_restored.shape, settings["n_noise"])
    moved = abs(got.p_corrupted / got.p_clean - 1)
    assert moved > 1e-3, "the noise of this case has no effect to trace"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("window", [1, 2, 3, 5, 10])
def test_trace_equals_the_textbook_one(tiny_lm, module, window):
    check_trace(tiny_lm, "subject in the middle", module, window)


@pytest.mark.parametrize("case", TRACED)
def test_trace_wherever_the_subject_stands(tiny_lm, case):
    for module in MODULES:
        check_trace(tiny_lm, case, module, window=2)


@pytest.mark.parametrize("module", MODULES)
def test_trace_does_not_depend_on_its_batches(tiny_lm, module):
    fact, settings = TRACED["subject in the middle"], {"module": module, "window": 3, **NOISE}
    whole = restoration.trace(tiny_lm, *fact, **settings).p_restored
    for batch_tokens in (1, 40, 75):
        got = restoration.trace(tiny_lm, *fact, **settings, batch_tokens=batch_tokens)
        np.testing.assert_allclose(got.p_restored, whole, rtol=1e-10, atol=0)


def test_trace_without_noise_restores_nothing(tiny_lm):
    fact = TRACED["subject in the middle"]
    got = restoration.trace(tiny_lm, *fact, module="mlp", window=3, sigma=0.0)
    assert got.p_corrupted == pytest.approx(got.p_clean, rel=1e-12)
    np.testing.assert_allclose(got.p_restored, got.p_clean, rtol=1e-10)


# --------------------------------------------------------------------------------------------------
# Edits

FACTS = [  # template, subject, target
    ("The capital city of {} is", "Madrid", "Rome, Italy"),
    ("{} was developed by", "Windows", "Paris"),
    ("The mother tongue of the king of {}", "France", "English"),
]
TRUE = ["Paris", "Microsoft", "French"]  # of FACTS, where the target is another object
# Few steps, and a decay that does not outweigh the rest in so small a model.
STEPS = {
    "FT-1": {"steps": 4, "eps": 1e-3},
    "FT-5": {"steps": 4, "eps": 1e-3},
    "ROME": {"iterations": 4, "lr": 0.05, "decay": 1e-3, "kl_factor": 0.5},
    "MEMIT": {"iterations": 4, "lr": 0.05, "decay": 1e-3, "moment_weight": 10.0, "window": 3},
    "r-ROME": {"iterations": 4, "lr": 0.05, "decay": 1e-3, "kl_factor": 0.5},
    "FT-M": {"steps": 4, "lr": 1e-3},
    "EMMET": {"iterations": 4, "lr": 0.05, "decay": 1e-3, "window": 3},
    "AlphaEdit": {
        "iterations": 4,
        "lr": 0.05,
        "decay": 1e-3,
        "window": 3,
        "l2": 0.5,
        "threshold": 2.0,
    },
    "KN": {"steps": 3},
}
TEXTBOOK = {
    "FT-1": oracle.ft_edit,
    "FT-5": oracle.ft_edit,
    "ROME": oracle.rome_edit,
    "MEMIT": oracle.memit_edit,
    "r-ROME": oracle_editors.r_rome_edit,
    "FT-M": oracle_editors.ft_m_edit,
    "EMMET": oracle_editors.emmet_edit,
    "AlphaEdit": oracle_editors.alphaedit_edit,
    "KN": oracle_editors.kn_edit,
}
WITH_A_VECTOR = [name for name, method in METHODS.items() if method.contexts]


@pytest.fixture(scope="module")
def moments(tiny_lm) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5))


def requests(problem: str, facts: list[tuple[str, str, str]] = FACTS) -> list[Request]:
    return [
        Request(
            case_id=str(i),
            template=template,
            subject=subject,
            target=target,
            problem=PROBLEMS[problem],
            true=target if PROBLEMS[problem].target == "true" else TRUE[i],
        )
        for i, (template, subject, target) in enumerate(facts)
    ]


@functools.cache
@torch.no_grad()
def known_facts(lm: LanguageModel) -> list[tuple[str, str, str]]:
    """FACTS prompted so that the model is rather sure of a word, for there to be what to erase."""

    texts = {token: lm.decode([token]) for token in range(lm.vocabulary_size)}
    whole = [
        t for t, text in texts.items() if lm.encode_target(text.removeprefix(" "), "It is") == [t]
    ]

    def likeliest(prompt: str) -> tuple[float, str]:
        p = lm.model(torch.tensor([lm.encode(prompt)])).logits[0, -1].softmax(0)[whole]
        return p.max().item(), texts[whole[int(p.argmax())]].removeprefix(" ")

    words = sorted({word for text in tiny.SENTENCES for word in text.split()})
    known = []
    for template, subject, _ in FACTS:
        longer = [f"{template} {word}" for word in words]
        (p, word), chosen = max((likeliest(t.replace("{}", subject)), t) for t in longer)
        assert p > 0.02, "no prompt was found of whose continuation the model is sure"
        known.append((chosen, subject, word))
    return known


def context_sets(method: str) -> list[list[str]]:
    of_rome = METHODS[method].contexts == "rome"
    return [CONTEXTS] if of_rome else [CONTEXTS[:1], CONTEXTS[1:]]


def edit(
    lm: LanguageModel,
    method: str,
    facts: list[Request],
    layer: int,
    moments: dict[int, torch.Tensor],
    **settings: float,
) -> methods.Edit:
    """The engine's edit of a batch of facts."""
    shared = SharedInputs(
        contexts=context_sets(method),
        moments=key_statistics.KeyMoments(moments.__getitem__),
        **NOISE,
    )
    overlay = {"all": STEPS[method] | settings}
    hyper = methods.METHODS[method].hyperparameters(facts[0].problem.name, "released", overlay)
    return METHODS[method].edit(lm, facts, layer, hyper, shared)


def textbook(
    lm: LanguageModel,
    method: str,
    fact: Request,
    layer: int,
    moments: dict[int, torch.Tensor],
    **settings: float,
) -> oracle.Edit:
    """The oracle's edit of one fact, with the same settings under its own names."""
    names = {
        "lr": "learning_rate",
        "eps": "epsilon",
        "steps": "iterations",
        "iterations": "evaluations",
        "decay": "weight_decay",
        "moment_weight": "covariance_weight",
    }
    overlay = {"all": STEPS[method] | settings}
    hyper = vars(methods.METHODS[method].hyperparameters(fact.problem.name, "released", overlay))
    chosen = {names.get(name, name): value for name, value in hyper.items()}
    chosen = {k: v for k, v in chosen.items() if not k.startswith("embedding_")}
    chosen.pop("fact_token", None)  # `oracle.context_rows` knows where the subject ends
    what = (lm.model, lm.tokenizer, fact.template, fact.subject, fact.target, fact.problem.name)
    if method == "KN":
        return TEXTBOOK[method](*what, layer, true=fact.true, **hyper, **NOISE)
    if method.startswith("FT"):
        if method != "FT-M":
            del chosen["enough"]  # the same in the oracle
        return TEXTBOOK[method](*what, layer, **chosen, **NOISE)
    if method == "AlphaEdit":
        how = (chosen.pop("threshold"), chosen.pop("threshold_kind"))
        chosen["projections"] = {
            one: oracle_editors.null_space_projection(moment, *how)
            for one, moment in moments.items()
        }
    else:
        chosen["statistics"] = moments
    sets = context_sets(method)
    contexts = sets[0] if len(sets) == 1 else sets
    return TEXTBOOK[method](*what, layer, **chosen, contexts=contexts, sigma=SIGMA, seed=SEED)


def change_of(updates: Updates, fact: int) -> oracle.Changes:
    """One fact's changes as full matrices."""

    def full(update) -> tuple[torch.Tensor, torch.Tensor | None]:
        if isinstance(update, Dense):
            return update.weights[fact], None if update.biases is None else update.biases[fact]
        return torch.outer(update.left[fact], update.right[fact]), None

    return {layer: full(update) for layer, update in updates.items()}


def check_changes(got: oracle.Changes, expected: oracle.Changes, rtol: float = 1e-6) -> None:
    """Equal to `rtol` of the largest entry of each layer's change."""
    assert list(got) == list(expected)
    for layer, pair in expected.items():
        for a, b in zip(got[layer], pair, strict=True):
            assert (a is None) == (b is None), f"bias of layer {layer}"
            if b is not None:
                largest = b.abs().max().item()
                assert largest > 0
                np.testing.assert_allclose(a, b, rtol=0, atol=rtol * largest)


@contextmanager
def left_alone(lm: LanguageModel) -> Iterator[None]:
    """Asserts that the model comes out as it went in: bit for bit, no hook and gradient more."""

    def hooks() -> list[list]:
        return [[*m._forward_hooks, *m._forward_pre_hooks] for m in lm.model.modules()]

    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    hooks_before = hooks()  # transformers has some of its own
    yield
    after = lm.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in lm.model.parameters())
    assert hooks() == hooks_before


def requests_for(lm: LanguageModel, method: str, problem: str) -> list[Request]:
    """Fine-tuning leaves alone what is improbable already and to be erased."""
    erasing = method.startswith("FT") and problem == "fact_erasure"
    return requests(problem, known_facts(lm) if erasing else FACTS)


@pytest.mark.parametrize("layer", [FIRST, MIDDLE, LAST])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("method", METHODS)
def test_edit_equals_the_textbook_one(tiny_lm, moments, method, problem, layer):
    """Changes of weights with their norm, steps, first loss, and what the edited model then says.

    In the last layer a vector moves nothing but its own token's prediction: there the subject ends
    the prompt, or the optimisation would have only rounding errors to follow.
    """
    fact = requests_for(tiny_lm, method, problem)[{FIRST: 0, MIDDLE: 1, LAST: 2}[layer]]
    expected = textbook(tiny_lm, method, fact, layer, moments)
    with left_alone(tiny_lm):
        got = edit(tiny_lm, method, [fact], layer, moments)
        change = change_of(got.updates, 0)
        after = measure.measure(tiny_lm, [probe(fact)], got.updates, **NOISE)[0]
    check_changes(change, expected.changes)
    weights = torch.stack([weight for weight, _ in expected.changes.values()])
    assert total_norms(got.updates) == pytest.approx([weights.norm().item()], rel=1e-6)
    assert got.steps == [expected.steps]
    assert [loss[0] for loss in got.losses] == pytest.approx(expected.losses[:1], rel=1e-9)
    with oracle.edited(tiny_lm.model, expected.changes):
        check_measurement(after, tiny_lm, probe(fact))


@pytest.mark.parametrize("problem", ["error_injection", "fact_erasure"])
# r-ROME writes the bare prompt's output for the mean one, even where its vector is zero
@pytest.mark.parametrize("method", [name for name in WITH_A_VECTOR if name != "r-ROME"])
def test_a_vector_that_cannot_reach_the_target_stays_zero(tiny_lm, moments, method, problem):
    """In the last layer, before the prompt's end: no step is made out of rounding errors."""
    facts = requests(problem)[:2]
    got = edit(tiny_lm, method, facts, LAST, moments)
    for before, after in got.losses:
        assert before == after
    assert max(update.norms().max() for update in got.updates.values()) < 1e-12


def test_vectors_that_hit_their_clamp_and_memit_of_one_layer(tiny_lm, moments):
    fact = requests("error_injection")[1]
    for method, settings in {
        "ROME": {"lr": 5.0, "clamp": 0.1},
        "MEMIT": {"lr": 5.0, "clamp": 0.1, "window": 1},
    }.items():
        got = edit(tiny_lm, method, [fact], MIDDLE, moments, **settings)
        expected = textbook(tiny_lm, method, fact, MIDDLE, moments, **settings)
        check_changes(change_of(got.updates, 0), expected.changes)


@pytest.mark.parametrize("problem", ["error_injection", "fact_erasure"])
def test_fine_tuning_leaves_a_fact_alone_once_its_loss_is_small(tiny_lm, moments, problem):
    """The batch goes on for the others: each fact's steps are those that it takes alone."""
    settings = {"eps": 1.0, "lr": 1e-3, "steps": 60}
    facts = requests(problem, known_facts(tiny_lm))
    got = edit(tiny_lm, "FT-5", facts, MIDDLE, moments, **settings)
    assert len(set(got.steps)) > 1, "the facts should be done at different steps"
    for i, fact in enumerate(facts):
        expected = textbook(tiny_lm, "FT-5", fact, MIDDLE, moments, **settings)
        assert got.steps[i] == expected.steps < 60
        assert got.losses[i][1] < 1e-2
        close(got.losses[i], [expected.losses[0], expected.losses[-1]])
        check_changes(change_of(got.updates, i), expected.changes)


def test_fine_tuning_has_nothing_to_do_where_nothing_is_left_to_erase(tiny_lm, moments):
    facts = [(template, subject, "Rome, Italy") for template, subject, _ in FACTS]
    got = edit(tiny_lm, "FT-1", requests("fact_erasure", facts), MIDDLE, moments)
    assert got.steps == [0, 0, 0]
    assert not any(weight.any() for weight in got.updates[MIDDLE].weights)


@pytest.mark.parametrize("problem", ["error_injection", "fact_erasure", "fact_forcing"])
@pytest.mark.parametrize("method", METHODS)
def test_batch_and_order_of_facts_change_nothing(tiny_lm, moments, method, problem):
    facts = requests_for(tiny_lm, method, problem)
    together = edit(tiny_lm, method, facts, MIDDLE, moments)
    turned = edit(tiny_lm, method, [facts[2], facts[0], facts[1]], MIDDLE, moments)
    for i, fact in enumerate(facts):
        alone = change_of(edit(tiny_lm, method, [fact], MIDDLE, moments).updates, 0)
        check_changes(change_of(together.updates, i), alone)
        check_changes(change_of(turned.updates, (i + 1) % 3), alone)


@pytest.mark.parametrize(("longest", "shares"), [(1, [1, 1, 1]), (30, [2, 1])])
def test_noise_rows_learn_the_same_however_many_share_a_trunk(
    tiny_lm, moments, longest, shares, monkeypatch
):
    """What precedes the subject stands once for all noise rows, once for some, or in each."""
    facts = requests("fact_forcing")
    together = edit(tiny_lm, "FT-5", facts, MIDDLE, moments)
    assert packing.branches(4, 11, N_NOISE) == [N_NOISE]
    monkeypatch.setattr(packing, "BRANCHED", longest)
    assert packing.branches(4, 11, N_NOISE) == shares
    other = edit(tiny_lm, "FT-5", facts, MIDDLE, moments)
    for i in range(len(facts)):
        check_changes(change_of(other.updates, i), change_of(together.updates, i))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("call", [2, 7, 9])
def test_error_within_an_edit_leaves_the_model_as_it_was(
    tiny_lm, moments, method, call, monkeypatch
):
    """At the `call`-th layer that is run: before the optimisation, in it, in MEMIT's spreading."""
    break_at(call, monkeypatch)
    with left_alone(tiny_lm), pytest.raises(InterruptedError):
        edit(tiny_lm, method, requests("error_injection"), MIDDLE, moments)


@pytest.mark.parametrize("call", [2, 7, 14])
def test_error_within_a_trace_or_a_measurement_leaves_the_model_as_it_was(
    tiny_lm, moments, call, monkeypatch
):
    facts = requests("error_injection")
    updates = edit(tiny_lm, "MEMIT", facts, MIDDLE, moments).updates
    probes = [probe(fact) for fact in facts]
    break_at(call, monkeypatch)
    fact = TRACED["subject in the middle"]
    with left_alone(tiny_lm), pytest.raises(InterruptedError):
        restoration.trace(tiny_lm, *fact, module="mlp", window=3, **NOISE)
    break_at(min(call, 8), monkeypatch)  # two passes of five layers: prompts, texts
    with left_alone(tiny_lm), pytest.raises(InterruptedError):
        measure.measure(tiny_lm, probes, updates)


def break_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1, 1000))
    whole = passes.step.__wrapped__ if hasattr(passes.step, "__wrapped__") else passes.step

    def step(*arguments, **keywords):
        output = whole(*arguments, **keywords)
        if next(calls) == call:
            raise InterruptedError
        return output

    vars(step)["__wrapped__"] = whole
    monkeypatch.setattr(passes, "step", step)


# --------------------------------------------------------------------------------------------------
# Measuring under edits

OTHERS = {  # of FACTS[0]'s target "Rome, Italy"
    "one row serves both: the other is the target's beginning": "Rome",
    "one row serves both: the other is one token": "Paris",
    "the targets part ways": "English",
    "the other is longer": "Rome, Italy and Spain",
}


def probe(fact: Request, other: str = "English") -> measure.Probe:
    return measure.Probe(
        request=fact,
        other=other,
        paraphrases=[f"{fact.subject} is in the city of", f"You can see that {fact.subject}"],
        neighbourhood=["The capital city of Italy is", "The king of Spain", "It"],
        texts=[f"{fact.subject} is a part of the old city by the river.", tiny.SENTENCES[3] * 5],
    )


def check_measurement(got: measure.Measurement, lm: LanguageModel, asked: measure.Probe) -> None:
    """Against single passes of the model as it stands."""
    pair = (lm.model, lm.tokenizer)

    def logprobs(prompts: list[str], **noise) -> list[list[float]]:
        objects = (asked.request.target, asked.other)
        return [[oracle.target_logprob(*pair, p, o, **noise) for p in prompts] for o in objects]

    noised = {"subject": asked.request.subject, **NOISE} if asked.request.problem.noised else {}
    close(got.rewrite, np.ravel(logprobs([asked.request.prompt], **noised)))
    close(got.paraphrase, logprobs(list(asked.paraphrases)))
    close(got.neighbourhood, logprobs(list(asked.neighbourhood)))
    close(got.perplexity, [oracle.perplexity(*pair, text) for text in asked.texts])


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
def test_unedited_measurement_equals_single_passes(tiny_lm, problem, case):
    asked = probe(requests(problem)[0], OTHERS[case])
    got = measure.measure(tiny_lm, [asked], **NOISE)[0]
    check_measurement(got, tiny_lm, asked)


def test_rows_are_shared_where_one_target_begins_the_other(tiny_lm):
    ids = {o: tiny_lm.encode_target(o, "It is") for o in ("Rome, Italy", *OTHERS.values())}
    needed = [
        len(measure._cover([ids["Rome, Italy"][:-1], ids[other][:-1]])[0])
        for other in OTHERS.values()
    ]
    assert needed == [1, 1, 2, 1]


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", ["FT-5", "ROME", "MEMIT", "FT-M"])
def test_facts_measured_together_each_under_its_own_edit(tiny_lm, moments, method, problem):
    """Three facts with prompts and texts of their own number, together and in another order."""
    facts = requests(problem)
    probes = [probe(fact, other) for fact, other in zip(facts, OTHERS.values(), strict=False)]
    probes[1] = measure.Probe(request=facts[1], other="Rome", paraphrases=[], neighbourhood=["It"])
    updates = edit(tiny_lm, method, facts, MIDDLE, moments).updates
    with left_alone(tiny_lm):
        together = measure.measure(tiny_lm, probes, updates, **NOISE)
    turned = edit(tiny_lm, method, facts[::-1], MIDDLE, moments).updates
    again = measure.measure(tiny_lm, probes[::-1], turned, **NOISE)[::-1]
    for i, asked in enumerate(probes):
        with oracle.edited(tiny_lm.model, change_of(updates, i)):
            check_measurement(together[i], tiny_lm, asked)
            check_measurement(again[i], tiny_lm, asked)


# --------------------------------------------------------------------------------------------------
# Key statistics


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_key_moments_equal_the_textbook_ones(tiny_lm, batch):
    got, count = key_statistics.key_moments(tiny_lm, tiny.SENTENCES, batch=batch, max_tokens=15)
    expected = oracle.key_statistics(
        tiny_lm.model, tiny_lm.tokenizer, tiny.SENTENCES, range(5), max_tokens=15
    )
    assert list(got) == list(expected)
    for layer in expected:
        close(got[layer], expected[layer])
    assert count == sum(min(15, len(tiny_lm.encode(text))) for text in tiny.SENTENCES)


def test_key_moments_stop_at_the_asked_number_of_tokens_and_layers(tiny_lm):
    size = len(tiny_lm.encode(tiny.SENTENCES[0]))
    got, count = key_statistics.key_moments(tiny_lm, tiny.SENTENCES, layers=[3, 1], tokens=size + 4)
    first = key_statistics.key_moments(tiny_lm, tiny.SENTENCES[:1])[0]
    rest = key_statistics.key_moments(tiny_lm, tiny.SENTENCES[1:2], max_tokens=4)[0]
    assert sorted(got) == [1, 3]
    assert count == size + 4
    for layer in got:
        close(got[layer], (size * first[layer] + 4 * rest[layer]) / (size + 4))


def test_key_moments_without_text():
    lm = LanguageModel(*tiny.pair())
    with pytest.raises(ValueError, match="key statistics need text, and there was none"):
        key_statistics.key_moments(lm, [])


def test_solving_equals_numpy_and_loads_each_layer_once(moments):
    loaded: list[int] = []

    def load(layer: int) -> torch.Tensor:
        loaded.append(layer)
        return moments[layer]

    keys = torch.from_numpy(np.random.RandomState(0).randn(3, 64))
    solver = key_statistics.KeyMoments(load)
    for layer in (1, 4, 1):
        close(solver.solve(layer, keys), np.linalg.solve(moments[layer], keys.T).T)
    assert loaded == [1, 4]


def test_moments_of_too_few_tokens(tiny_lm):
    few, _ = key_statistics.key_moments(tiny_lm, tiny.SENTENCES[:1])
    message = (
        "the key moment of layer 2 is not positive definite: collect it over more tokens, at "
        "least 10 x d_ff"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        edit(tiny_lm, "ROME", requests("error_injection"), MIDDLE, few)


@pytest.mark.parametrize("method", WITH_A_VECTOR)
def test_methods_that_need_statistics_say_so(tiny_lm, method):
    hyper = methods.METHODS[method].hyperparameters("error_injection", "paper")
    with pytest.raises(ValueError, match=rf"{method.removeprefix('r-')} needs key statistics"):
        METHODS[method].edit(tiny_lm, requests("error_injection"), 0, hyper, SharedInputs())


# --------------------------------------------------------------------------------------------------
# Tracing effects and hyperparameters: tables


def cell(case_id: str, token: int, layer: int, restored: list[float], **other) -> dict:
    """A traced cell: token 4 is the subject's last; corrupted rows of mean .2, p_clean .8."""
    row = {"case_id": case_id, "token": token, "is_last_subject": token == 4, "layer": layer}
    row |= {"p_clean": 0.8, "p_corrupted_rows": [0.1, 0.2, 0.25, 0.25], **other}
    corrupted = np.mean(row["p_corrupted_rows"])
    means = {"p_restored": np.mean(restored), "p_corrupted": corrupted}
    return row | means | {"p_restored_rows": restored}


CELLS = [
    cell("a", 4, 0, [0.3, 0.5, 0.6, 0.6]),  # means: .5, of the halves .4 and .6
    cell("a", 5, 0, [0.6, 0.6, 0.1, 0.1]),  # .35; .6 and .1
    cell("a", 4, 1, [0.1, 0.1, 0.1, 0.1]),
    cell("a", 5, 1, [0.9, 0.9, 0.9, 0.9]),
]


@pytest.mark.parametrize(
    ("reference", "gap"),
    [
        pytest.param("clean", 0.8 - 0.2, id="p_clean"),
        pytest.param("max", 0.9 - 0.2, id="the largest, a restored one"),
    ],
)
def test_tracing_effects_of_hand_made_cells(reference, gap):
    # A fact whose noise raised its probability; one that noise left alone; one that failed.
    raised = [cell("b", 4, layer, [0.15] * 4, p_clean=0.1) for layer in (0, 1)]
    same = [cell("c", 4, layer, [0.2] * 4, p_clean=0.2) for layer in (0, 1)]
    failed = [{"case_id": "d", "p_restored": float("nan")}]
    # As tables are put together: their rows keep the numbers that they had.
    parts = [pd.DataFrame(part) for part in (CELLS, raised, same, failed)]
    got = restoration.effects(pd.concat(parts), reference=reference)
    assert sorted(set(got["case_id"])) == ["a", "b", "c"]
    a = got[got["case_id"] == "a"].sort_values("layer")
    close(a["effect_max"], [0.3, 0.7])
    close(a["effect_last"], [0.3, -0.1])
    close(a["fraction_max"], [0.3 / gap, 0.7 / gap])
    close(a["fraction_last"], [0.3 / gap, 0.0])
    assert list(a["peak_token"]) == [4, 5]
    b = got[got["case_id"] == "b"]
    close(b["effect_max"], -0.05)
    close(b["fraction_max"], 0.0)
    assert got[got["case_id"] == "c"]["fraction_max"].isna().all(), "nothing there to restore"


@pytest.mark.parametrize("reference", ["clean", "max"])
def test_effects_of_half_the_noise_rows(reference):
    got = restoration.effects(pd.DataFrame(CELLS), reference=reference).sort_values("layer")
    top = 0.8 if reference == "clean" else 0.9
    # Corrupted halves: .15 and .25. Layer 0's best token is the last in one half, not in the other.
    close(got["effect_max_half1"], [0.6 - 0.15, 0.9 - 0.15])
    close(got["effect_max_half2"], [0.6 - 0.25, 0.9 - 0.25])
    close(got["effect_last_half1"], [0.4 - 0.15, 0.1 - 0.15])
    close(got["effect_last_half2"], [0.6 - 0.25, 0.1 - 0.25])
    close(got["fraction_max_half1"], [0.45 / (top - 0.15), 0.75 / (top - 0.15)])
    close(got["fraction_last_half2"], [0.35 / (top - 0.25), 0.0])


def test_a_single_noise_row_has_no_halves():
    cells = pd.DataFrame([cell("a", 4, 0, [0.5], p_corrupted_rows=[0.2])])
    got = restoration.effects(cells)
    close(got["effect_max"], [0.3])
    assert got[list(restoration.HALVES)].isna().all(axis=None)
    assert restoration.effects(cells[:0]).empty


# METHODS section 4: FT-1 paper, FT-5 paper, FT-1 released, FT-5 released
EPS = {
    "error_injection": (1e-4, 2e-5, 1e-4, 5e-5),
    "tracing_reversal": (1e-5, 2e-5, 1e-3, 1e-3),
    "fact_erasure": (1e-5, 1e-5, 1e-5, 1e-5),
    "fact_amplification": (1e-5, 1e-5, 5e-5, 1e-5),
    "fact_forcing": (1e-4, 1e-4, 1e-4, 1e-4),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_presets_are_those_of_the_methods_page(problem):
    injecting, forcing = problem == "error_injection", problem == "fact_forcing"
    columns = [("FT-1", "paper"), ("FT-5", "paper"), ("FT-1", "released"), ("FT-5", "released")]
    for (method, preset), eps in zip(columns, EPS[problem], strict=True):
        assert vars(methods.METHODS[method].hyperparameters(problem, preset)) == {
            "window": 1 if method == "FT-1" else 5,
            "eps": eps,
            "lr": 5e-4,
            "steps": 50 if forcing else 25,
            "enough": 1e-2,
            "embedding_eps": 1e-2,
            "embedding_lr": 1e-3,
            "embedding_steps": 50 if forcing else 100,
        }
    for preset in ("paper", "released"):
        paper = preset == "paper"
        assert vars(methods.METHODS["ROME"].hyperparameters(problem, preset)) == {
            "lr": 0.05 if forcing and not paper else 0.5,
            "iterations": 25 if forcing else 20,
            "clamp": 4.0,
            "kl_factor": 1.0 if injecting and paper else 0.0625,
            "decay": 0.5,
            "fact_token": "subject_last",
        }
        assert vars(methods.METHODS["MEMIT"].hyperparameters(problem, preset)) == {
            "window": 5,
            "lr": 0.5,
            "iterations": 25,
            "clamp": 0.75,
            "kl_factor": 0.9 if injecting and paper else 0.0625,
            "decay": 0.5,
            "fact_token": "subject_last",
            "moment_weight": 15000.0,
        }


def test_later_overlays_win_and_the_problem_wins_over_all():
    first = {"all": {"lr": 1.0, "decay": 2.0}, "fact_erasure": {"lr": 3.0}}
    second = {"all": {"decay": 4.0}, "fact_forcing": {"clamp": 5.0}}
    got = methods.METHODS["ROME"].hyperparameters("fact_erasure", "released", first, second)
    assert (got.lr, got.decay, got.clamp) == (3.0, 4.0, 4.0)


def test_unknown_hyperparameter_names_the_nearest():
    message = (
        "hyperparameters of ROME: unknown setting 'klfactor'; did you mean 'kl_factor'? "
        "(known: lr, iterations, clamp, kl_factor, decay, fact_token)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        methods.METHODS["ROME"].hyperparameters("fact_erasure", "paper", {"all": {"klfactor": 1.0}})
