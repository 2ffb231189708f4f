"""Localizers without gradients against their textbook forms, on tiny models of every family."""

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import oracle
import oracle_localizers_plain as textbook
import pytest
import tiny
import torch
from test_architectures import build
from test_engine import close, left_alone

from locedit.facts.record import Fact
from locedit.localizers import (
    LOCALIZERS,
    MODULES,
    Localization,
    Place,
    SharedInputs,
    Unavailable,
    mean_ablation,
    placebo,
    prompts,
    swap_tracing,
)
from locedit.localizers.base import Answer
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study.localize import Cell, localize_cell

pytestmark = pytest.mark.usefixtures("nothing_in_float32")

MINE = ("swap_tracing", "mean_ablation", "lens_rise", "direct", "placebo")
CONTROLS = ("depth", "middle", "random")
CITY, TONGUE = "The capital city of {} is", "The mother tongue of the king of {}"


def fact(case_id: str, subject: str, true: str, new: str = "Windows", **changes: str) -> Fact:
    given = {"relation_id": "capital", "template": CITY} | changes
    return Fact(case_id=case_id, subject=subject, target_true=true, target_new=new, **given)


# Subjects of three tokens, but for the last two. "Rome" and "Windows" begin with the same token, a
# bare blank; the other objects with one of their own.
MADRID = fact("madrid", "Madrid", "Rome, Italy", "Paris")
WAR = fact("war", "the war", "Paris")
FRENCH = fact("french", "French", "France")
PARIS = fact("paris", "Paris", "Madrid")
RIVER = fact("river", "the river", "France", "Madrid", relation_id="tongue", template=TONGUE)
STUDY = (MADRID, WAR, FRENCH, PARIS, RIVER)
SHARED = SharedInputs(study=STUDY, records=STUDY, sigma=0.3, n_noise=3, noise_seed=1, seed=7)


@pytest.fixture(scope="module", params=sorted(tiny.FAMILIES))
def lm(request) -> LanguageModel:
    return build(request.param)


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return build("llama")


def answers(
    name: str,
    lm: LanguageModel,
    facts: Sequence[Fact] = STUDY,
    shared: SharedInputs = SHARED,
    **changes,
) -> list[Answer]:
    localizer = LOCALIZERS[name]
    module, window = (*localizer.modules, "none")[0], 1
    where = Place(**({"module": module, "window": window} | changes))
    found = localizer.localize(lm, facts, where, localizer.settings(), shared)
    assert len(found) == len(facts)
    return list(found)


def localized(name: str, lm: LanguageModel, one: Fact, *args, **changes) -> Localization:
    (found,) = answers(name, lm, [one], *args, **changes)
    assert isinstance(found, Localization), found
    return found


def reason(name: str, lm: LanguageModel, one: Fact, *args, **changes) -> str:
    (found,) = answers(name, lm, [one], *args, **changes)
    assert isinstance(found, Unavailable)
    return found.reason


# --------------------------------------------------------------------------------------------------
# Against the textbook


@pytest.mark.parametrize("module", MODULES)
def test_swap_tracing_equals_the_textbook_one(lm, module):
    check_swap(lm, MADRID, module, window=3)


@pytest.mark.parametrize("window", [1, 2, 10])
def test_swap_tracing_of_other_windows_equals_the_textbook_one(llama, window):
    check_swap(llama, MADRID, "mlp", window)


def check_swap(lm: LanguageModel, one: Fact, module: str, window: int) -> None:
    with left_alone(lm):
        got = localized("swap_tracing", lm, one, module=module, window=window)
    found = swap_tracing.swaps(lm, one, prompts.read(lm, one), SHARED, 2)
    assert not isinstance(found, Unavailable)
    pairs = [(swap.partner.subject, swap.partner.target_true) for swap in found]
    assert len(pairs) == 2
    where = {"module": module, "window": window}
    what = (lm.model, lm.tokenizer, one.template, one.subject, one.target_true, pairs)
    p, m, taken = textbook.swap_effects(*what, **where)
    b, e = lm.subject_range(one.prompt, one.subject)
    close(got.values, m.mean(axis=2).max(axis=0))
    assert got.halves is not None
    for half, expected in zip(got.halves, np.moveaxis(m, 2, 0), strict=True):
        close(half, expected.max(axis=0))
    last, size = e - 1 - b, abs(taken.mean())
    assert size > 1e-3, "the swap changes nothing in this case"
    expected = {
        "last": m.mean(axis=2)[last],
        "share": (m.mean(axis=2).max(axis=0) / size).clip(min=0),
        "share_last": (m.mean(axis=2)[last] / size).clip(min=0),
        "p": p.mean(axis=2).max(axis=0),
        "p_last": p.mean(axis=2)[last],
    }
    assert set(got.further) == set(expected)
    for name, values in expected.items():
        close(got.further[name], values)


@pytest.mark.parametrize("module", MODULES)
def test_mean_ablation_equals_the_textbook_one(lm, module):
    check_ablation(lm, MADRID, module, window=3)


@pytest.mark.parametrize("window", [1, 2, 10])
def test_mean_ablation_of_other_windows_equals_the_textbook_one(llama, window):
    check_ablation(llama, MADRID, "mlp", window)


def test_mean_ablation_of_a_subject_that_begins_the_prompt(llama):
    check_ablation(
        llama, fact("first", "Madrid", "Rome", template="{} is the capital of"), "mlp", 2
    )


def check_ablation(lm: LanguageModel, one: Fact, module: str, window: int) -> None:
    """The fact itself is not in the mean, whether the study has it or not."""
    others = [(other.template, other.subject) for other in STUDY if other is not one]
    what = (lm.model, lm.tokenizer, one.template, one.subject, one.target_true, others)
    expected = textbook.mean_ablation(*what, module=module, window=window)
    assert np.abs(expected).max() > 1e-3, "ablating changes nothing in this case"
    without = dataclasses.replace(SHARED, study=[other for other in STUDY if other is not one])
    for shared in (SHARED, without):
        with left_alone(lm):
            got = localized("mean_ablation", lm, one, shared, module=module, window=window)
        close(got.values, expected)


def test_the_rise_of_the_lens_equals_the_textbook_one(lm):
    for one, got in zip(STUDY, answers("lens_rise", lm), strict=True):
        assert isinstance(got, Localization)
        what = (lm.model, lm.tokenizer, one.prompt, one.subject, one.target_true)
        whole, first = textbook.lens(*what)
        for values, read in ((got.values, whole), (got.further["last_subject"], first)):
            assert np.isnan(values[0])
            close(values[1:], np.diff(read))
        log_p = oracle.target_logprob(lm.model, lm.tokenizer, one.prompt, one.target_true)
        close(whole[0] + np.nansum(got.values), log_p)  # what all layers together raise


@pytest.mark.parametrize("module", MODULES)
def test_direct_attribution_equals_the_textbook_one(lm, module):
    for one, got in zip(STUDY, answers("direct", lm, module=module), strict=True):
        assert isinstance(got, Localization)
        what = (lm.model, lm.tokenizer, one.prompt, one.target_true, one.target_new)
        close(got.values, textbook.direct(*what)[module])


def test_direct_attributions_of_all_modules_add_up_to_the_logit_difference(lm):
    what = (lm.model, lm.tokenizer, MADRID.prompt, MADRID.target_true, MADRID.target_new)
    rest = textbook.direct(*what)
    added = sum(
        localized("direct", lm, MADRID, module=kind).values.sum() for kind in ("attn", "mlp")
    )
    whole = localized("direct", lm, MADRID, module="hidden").values.sum()
    close(added, whole)
    close(whole + rest["embedding"] + rest["constant"], textbook.logit_difference(*what))


@pytest.mark.parametrize("module", MODULES)
def test_the_placebo_is_tracing_with_the_noise_elsewhere(lm, module):
    noised = placebo.other_tokens(lm, prompts.read(lm, MADRID), seed=3)
    assert not isinstance(noised, Unavailable)
    b, e = lm.subject_range(MADRID.prompt, MADRID.subject)
    assert len(noised) == e - b
    assert noised == sorted(set(noised) - set(range(b, e)))
    got = localized("placebo", lm, MADRID, module=module, window=3)
    chosen = placebo.other_tokens(
        lm, prompts.read(lm, MADRID), placebo.derive(SHARED.seed, "placebo", MADRID.case_id)
    )
    assert not isinstance(chosen, Unavailable)
    noise = {"sigma": SHARED.sigma, "n_noise": SHARED.n_noise, "seed": SHARED.noise_seed}
    expected = textbook.noised_at(
        lm.model,
        lm.tokenizer,
        MADRID.prompt,
        MADRID.target_true,
        chosen,
        module=module,
        window=3,
        **noise,
    )
    assert expected.any(), "nothing is restored in this case"
    close(got.values, expected)
    assert got.halves is not None
    assert got.halves.shape == (2, lm.n_layers)


# --------------------------------------------------------------------------------------------------
# One result whatever the batch, the order and the study's order


def alike(got: np.ndarray, expected: np.ndarray) -> None:
    """To rounding; NaN where the other is."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    close(np.nan_to_num(got), np.nan_to_num(expected), 1e-9)


@pytest.mark.parametrize("name", [*MINE, *CONTROLS])
def test_a_fact_is_localized_alike_alone_and_in_any_batch(llama, name):
    together = answers(name, llama)
    backwards = dataclasses.replace(SHARED, study=STUDY[::-1], records=STUDY[::-1])
    turned = answers(name, llama, STUDY[::-1], backwards)[::-1]
    for one, first, second in zip(STUDY, together, turned, strict=True):
        (alone,) = answers(name, llama, [one])
        if isinstance(first, Unavailable):
            assert first == second == alone
            continue
        for other in (second, alone):
            assert isinstance(other, Localization)
            alike(other.values, first.values)
            assert set(other.further) == set(first.further)
            for key, values in first.further.items():
                alike(other.further[key], values)
            assert other.passes == first.passes


@pytest.mark.parametrize("name", ["lens_rise", "direct", "mean_ablation"])
def test_how_many_facts_memory_holds_changes_nothing(llama, name, monkeypatch):
    whole = answers(name, llama)
    monkeypatch.setattr(prompts, "token_budget", lambda lm: 20)
    rows = [prompts.read(llama, one) for one in STUDY]
    assert len(list(prompts.batches(llama, rows))) > 1
    mean_ablation._KNOWN.clear()
    for got, expected in zip(answers(name, llama), whole, strict=True):
        assert isinstance(got, Localization)
        assert isinstance(expected, Localization)
        alike(got.values, expected.values)


# --------------------------------------------------------------------------------------------------
# Signs: large where the fact is


PLANTED = 2


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def planted(request) -> tuple[LanguageModel, Fact]:
    """A model whose MLP of one layer was made to write a fact's object at its subject."""
    one = fact("planted", "Madrid", "Paris", "Rome", template="In the city of {}")
    lm = copy.deepcopy(build(request.param))
    row = oracle.scored_row(lm.tokenizer, one.prompt, one.target_true)
    down = lm.down_projection(PLANTED)
    with oracle.recorded(down) as record:
        oracle.forward(lm.model, [row])
    key = record["input"][0, row.predicted_from]
    written = 40 * torch.nn.functional.normalize(lm.head.weight[row.target[0]], dim=0)
    change = torch.outer(written, key) / (key @ key)
    with torch.no_grad():
        down.weight += oracle.as_stored(down, change)
    return lm, one


# Those by gradients, too, but for what looks at the object of an edit: salience, agreement, cost.
FINDING = ("tracing", "zeroing", *MINE[:-1], "integrated", "neurons")


@pytest.mark.parametrize("name", [*FINDING, "attribution"])
def test_a_planted_fact_is_found_where_it_was_planted(planted, name):
    """Attribution has the right sign there; its peak need not be, where p at the corrupted run is
    too small to move."""
    lm, one = planted
    war = dataclasses.replace(WAR, target_true="the river")
    others = [one, war, FRENCH]
    shared = dataclasses.replace(SHARED, study=others, records=others)
    got = localized(name, lm, one, shared).values
    assert name == "attribution" or np.nanargmax(got) == PLANTED
    assert got[PLANTED] > 0


# --------------------------------------------------------------------------------------------------
# Partners


def partners(lm: LanguageModel, one: Fact, study: Sequence[Fact], n: int = 9, seed: int = 7):
    shared = dataclasses.replace(SHARED, records=study, seed=seed)
    found = swap_tracing.swaps(lm, one, prompts.read(lm, one), shared, n)
    return [] if isinstance(found, Unavailable) else [swap.partner for swap in found]


def test_a_partner_is_another_subject_of_the_relation_of_as_many_tokens_with_another_object(llama):
    others = [
        WAR,
        fact("itself under another name", "Madrid", "France"),
        fact("the same object", "the war", "rome, italy"),
        fact("an object that begins alike", "the war", "Rome"),
        fact("one token", "Paris", "the river"),
        fact("a blank of its own", "Rome", "the river"),  # three tokens, and one more of the prompt
        fact("another relation", "the war", "Paris", relation_id="tongue"),
    ]
    assert partners(llama, MADRID, [MADRID, *others]) == [WAR]


def test_the_partners_template_is_the_facts_own(llama):
    elsewhere = dataclasses.replace(WAR, template=TONGUE)
    row = prompts.read(llama, MADRID)
    (swap,) = swap_tracing.swaps(
        llama, MADRID, row, dataclasses.replace(SHARED, records=[elsewhere]), 1
    )
    assert swap.ids == llama.encode(CITY.replace("{}", "the war"))
    b, e = row.subject
    assert swap.ids[:b] + swap.ids[e:] == row.prompt[:b] + row.prompt[e:]


def test_without_relations_facts_of_one_template_are_of_one(llama):
    nameless = [dataclasses.replace(one, relation_id="") for one in STUDY]
    elsewhere = dataclasses.replace(nameless[1], case_id="x", template=TONGUE)
    assert partners(llama, nameless[0], [elsewhere]) == []
    assert partners(llama, nameless[0], [elsewhere, *nameless[:2]]) == [nameless[1]]


def test_partners_are_drawn_by_the_seed_and_not_by_the_studys_order(llama):
    names = ("the war", "French", "the one")
    study = [fact(name, name, "Paris") for name in names]
    drawn = [partners(llama, MADRID, study, 1, seed) for seed in range(8)]
    assert drawn == [partners(llama, MADRID, study[::-1], 1, seed) for seed in range(8)]
    assert len({one.case_id for (one,) in drawn}) > 1
    # a fact more in the study takes another's place only where it comes first
    longer = [*study, fact("new", "the war", "the river")]
    for seed, (one,) in enumerate(drawn):
        assert partners(llama, MADRID, longer, 1, seed)[0].case_id in (one.case_id, "new")


@pytest.mark.parametrize(
    ("others", "said"),
    {
        "none": ([], "the data set has no other subject of its relation"),
        "one object": (
            [dataclasses.replace(WAR, target_true=MADRID.target_true)],
            "all other subjects of its relation have its object",
        ),
        "another length": (
            [PARIS],
            "no other subject of its relation has 3 tokens here and an object that begins "
            "otherwise",
        ),
    }.values(),
)
def test_a_fact_without_a_partner_has_no_value_but_the_reason(llama, others, said, monkeypatch):
    def never(*_args, **_kwargs):
        raise AssertionError("something stands in for the swap")

    monkeypatch.setattr(swap_tracing, "sweep", never)
    shared = dataclasses.replace(SHARED, records=[MADRID, *others])
    assert reason("swap_tracing", llama, MADRID, shared) == said


def test_one_partner_gives_values_and_no_halves(llama):
    shared = dataclasses.replace(SHARED, records=[MADRID, WAR])
    got = localized("swap_tracing", llama, MADRID, shared)
    assert got.halves is None
    assert np.isfinite(got.values).all()


# --------------------------------------------------------------------------------------------------
# What cannot be had, controls, costs


def test_a_mean_needs_other_facts(llama):
    for study in ([MADRID], []):
        shared = dataclasses.replace(SHARED, study=study)
        said = "no other fact of the study has a token to take the mean over"
        assert reason("mean_ablation", llama, MADRID, shared) == said


def test_objects_that_begin_alike_have_no_logit_difference(llama):
    alike = dataclasses.replace(MADRID, target_new="Rome")
    found = answers("direct", llama, [alike, MADRID])
    assert found[0] == Unavailable(reason="the true and the new object begin with the same token")
    assert isinstance(found[1], Localization)


def test_a_placebo_needs_as_many_other_tokens(lm):
    one = fact("all", "Madrid", "Rome", template="{} is")
    n = len(lm.encode("Madrid", bare=True))
    said = f"the subject has {n} of the prompt's tokens, and 1 are others"
    assert reason("placebo", lm, one) == said


def test_controls(llama):
    assert localized("depth", llama, MADRID).values.tolist() == [0, 1, 2, 3, 4]
    assert localized("middle", llama, MADRID).values.tolist() == [-2, -1, 0, -1, -2]
    drawn = [found.values for found in answers("random", llama)]
    assert len({tuple(values) for values in drawn}) == len(STUDY)
    other = LOCALIZERS["random"].settings(draw=1)
    (again,) = LOCALIZERS["random"].localize(llama, [MADRID], Place(module="none"), other, SHARED)
    assert tuple(again.values) != tuple(drawn[0])
    reseeded = dataclasses.replace(SHARED, seed=8)
    assert tuple(localized("random", llama, MADRID, reseeded).values) != tuple(drawn[0])
    for name in CONTROLS:
        assert LOCALIZERS[name].control
        assert LOCALIZERS[name].places(["mlp"], [1, 5]) == [Place(module="none")]
        assert localized(name, llama, MADRID).passes == 0


@pytest.mark.parametrize("name", [*MINE, *CONTROLS])
def test_a_studys_table_holds_values_and_reasons(llama, name, tmp_path):
    localizer = LOCALIZERS[name]
    (where,) = localizer.places(["mlp"], [3])
    cell = Cell(localizer=name, place=where, settings=localizer.settings())
    tables.write(tmp_path / "t.parquet", localize_cell(llama, cell, [STUDY], SHARED), "localizing")
    table = tables.read(tmp_path / "t.parquet", "localizing")
    without = ["paris", "river"] if name == "swap_tracing" else []  # nobody of their length
    rows = table.groupby("case_id", sort=False)
    assert list(rows.groups) == [one.case_id for one in STUDY]
    for case_id, of_fact in rows:
        if case_id in without:
            assert of_fact["status"].str.startswith("not localized: ").all()
        else:
            assert (len(of_fact), set(of_fact["status"])) == (llama.n_layers, {"ok"})
            assert of_fact["value"].notna().sum() == llama.n_layers - (name == "lens_rise")


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("name", MINE)
def test_passes_are_what_is_run(llama, name, window):
    """Tokens through layers, as a share of those of the whole row."""
    row = prompts.read(llama, MADRID)
    answers("mean_ablation", llama, [MADRID], window=window)  # the study's means are kept
    run = []

    def count(_module, args, kwargs, _output):
        hidden = args[0] if args else kwargs["hidden_states"]
        run.append(hidden.shape[0] * hidden.shape[1])

    handles = [la.register_forward_hook(count, with_kwargs=True) for la in llama.layers]
    try:
        got = localized(name, llama, MADRID, window=window)
    finally:
        for handle in handles:
            handle.remove()
    length = len(row.prompt if name == "direct" else row.ids)
    counted = sum(run) / (length * llama.n_layers)
    if name == "mean_ablation":  # passes over the bare prompt: one here, one for the study's means
        counted += 2 - len(row.prompt) / len(row.ids)
    assert got.passes == pytest.approx(counted)
