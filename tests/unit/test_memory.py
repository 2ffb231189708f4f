"""Batches are cut by what the machine holds, always in the same places."""

import os
import weakref
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_editing import fact

from locedit.engine import key_statistics, sampling
from locedit.engine.updates import LowRank
from locedit.facts.record import KEPT
from locedit.localizers import restoration, zeroing
from locedit.methods import METHODS, Edit, Method, SharedInputs, together
from locedit.model import memory
from locedit.shards import BATCH_FACTS
from locedit.study.batching import together_or_alone
from locedit.study.knowledge import add_knowledge


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many bytes, and a model of so wide layers on it."""

    def make(total: int, inner: int, hidden: int, dtype=torch.float32, device="cpu", **more):
        monkeypatch.setattr(
            os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": total // 4096}.get
        )
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        sizes = {"inner_size": inner, "hidden_size": hidden, "weight_bytes": 0}
        sizes |= {"dtype": dtype, "trained_dtype": dtype}
        return SimpleNamespace(**sizes | more, device=torch.device(device))

    return make


def test_a_wide_model_gets_an_eighth_of_the_memory(machine):
    lm = machine(2**33, inner=16384, hidden=4096)
    assert memory.token_budget(lm) == 2**30 // ((3 * 16384 + 8 * 4096) * 4)


def test_a_cpu_gets_no_more_than_its_caches_profit_from(machine):
    assert memory.token_budget(machine(2**36, inner=1536, hidden=576)) == memory.CPU_TOKENS


def test_a_card_is_filled(machine):
    wide = {"inner": 16384, "hidden": 4096, "device": "cuda"}
    single = memory.token_budget(machine(2**36, dtype=torch.float32, **wide))
    assert single > memory.CPU_TOKENS
    assert memory.token_budget(machine(2**36, dtype=torch.bfloat16, **wide)) // 2 == single


def test_at_least_one_row(machine):
    assert memory.token_budget(machine(4096, inner=16384, hidden=4096)) == 1
    assert memory.token_budget(machine(4096, inner=16384, hidden=4096, weight_bytes=2**30)) == 1


GPTJ = {"inner": 16384, "hidden": 4096, "n_layers": 28, "weight_bytes": int(24.2e9)}
SMOLLM2 = {"inner": 1536, "hidden": 576, "n_layers": 30, "weight_bytes": int(0.54e9)}


def test_weights_leave_less_for_the_work(machine):
    row = (3 * 16384 + 8 * 4096) * 4
    lm = machine(int(80e9), device="cuda", **GPTJ)
    assert memory.token_budget(lm) == int(80e9 - 24.2e9) // 8 // row


@pytest.mark.parametrize(
    ("card", "model", "facts", "layers"),
    [
        (80e9, GPTJ, 8, 28),  # FT-5's 5.4 GB a fact; 30 GB of key moments beside 24 of weights
        (48e9, GPTJ, 2, 19),
        (26e9, GPTJ, 1, 1),
        (80e9, SMOLLM2, 64, 30),
        (2e9, SMOLLM2, 2, 30),
    ],
)
def test_a_cards_batches_follow_from_its_memory_and_the_model(machine, card, model, facts, layers):
    lm = machine(int(card), device="cuda", **model)
    assert memory.facts_together(lm) == facts
    assert memory.moments_together(lm, 4) == layers


@pytest.mark.parametrize(("method", "facts"), [("FT-1", 16), ("FT-5", 8), ("ROME", 16)])
def test_a_card_edits_the_more_facts_the_less_of_each_is_trained(machine, method, facts):
    lm = machine(int(80e9), device="cuda", **GPTJ)
    editor = METHODS[method]
    trained = editor.fine_tuned(editor.hyperparameters("error_injection", "paper"))
    assert memory.facts_together(lm, trained) == facts


def test_a_cpus_batches_are_the_same_everywhere(machine):
    lm = machine(2**33, **GPTJ)
    assert memory.facts_together(lm) == BATCH_FACTS
    assert memory.moments_together(lm, 4) == 28


def out_of_memory(items):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_a_batch_that_memory_does_not_hold_is_halved_and_stays_so(caplog):
    tried = []

    def double(items):
        tried.append(len(items))
        return [2 * i for i in items] if len(items) <= 3 else out_of_memory(items)

    assert memory.in_batches(double, range(20), "facts", 16) == [*range(0, 40, 2)]
    assert tried == [16, 8, 4, *[2] * 10]
    assert [record.message for record in caplog.records] == [
        f"memory ran out with {n} facts together; going on with {n // 2}" for n in (16, 8, 4)
    ]


def test_nothing_of_a_failed_batch_is_held_when_it_is_tried_again():
    held: list[weakref.ref] = []

    def heavy(n: int) -> int:
        assert not [one for one in held if one() is not None]
        big = torch.zeros(3)
        held.append(weakref.ref(big))
        return n if n < 3 else out_of_memory(big)

    assert memory.fitting(heavy, 8, "facts") == (2, 2)


def test_memory_that_runs_out_for_one_is_said_and_other_errors_go_through():
    with pytest.raises(torch.OutOfMemoryError):
        memory.in_batches(out_of_memory, [1, 2, 3], "facts")
    with pytest.raises(ZeroDivisionError):
        memory.in_batches(lambda items: [1 // 0 for _ in items], [1, 2, 3], "facts")


def test_facts_go_on_in_halves_and_a_bad_one_alone_is_lost():
    def invert(items):
        return [{"x": 1 / i} for i in items] if len(items) < 3 else out_of_memory(items)

    assert together_or_alone(invert, [1, 2, 4, 5]) == [{"x": 1 / i} for i in (1, 2, 4, 5)]
    rows = together_or_alone(invert, [1, 2, 4, 0])
    assert rows[:3] == [{"x": 1.0}, {"x": 0.5}, {"x": 0.25}]
    assert rows[3]["status"].startswith("failed: ")
    with pytest.raises(torch.OutOfMemoryError):  # the machine's fault, and no fact's
        together_or_alone(out_of_memory, [1, 2])


def test_a_tracing_goes_on_with_fewer_layers(tiny_lm, monkeypatch):
    fact = ("The city of Madrid is", "Madrid", "old")
    settings = {"module": "mlp", "window": 3, "sigma": 0.3, "n_noise": 3}
    expected = restoration.trace(tiny_lm, *fact, **settings)
    walk, tried = restoration._Restoration.run, []

    def run(self, windows):
        tried.append(len(windows))
        return walk(self, windows) if len(windows) <= 2 else out_of_memory(windows)

    monkeypatch.setattr(restoration._Restoration, "run", run)
    found = restoration.trace(tiny_lm, *fact, **settings)
    np.testing.assert_allclose(found.restored, expected.restored, rtol=0, atol=1e-12)
    assert max(tried) == tiny_lm.n_layers > 2 in tried


def test_a_zeroing_goes_on_with_fewer_layers(tiny_lm, monkeypatch):
    prompt = ("The city of Madrid is", "Madrid", "old")
    expected = zeroing.zero(tiny_lm, *prompt, module="mlp", window=3)
    walk, tried = zeroing._walk, []

    def run(lm, clean, some, *rest):
        tried.append(len(some))
        return walk(lm, clean, some, *rest) if len(some) <= 2 else out_of_memory(some)

    monkeypatch.setattr(zeroing, "_walk", run)
    found = zeroing.zero(tiny_lm, *prompt, module="mlp", window=3)
    np.testing.assert_allclose(found.p_zeroed, expected.p_zeroed, rtol=0, atol=1e-12)
    assert max(tried) == tiny_lm.n_layers > 2 in tried


def test_facts_are_asked_for_fewer_at_a_time(tiny_lm, monkeypatch):
    def asked() -> list[dict[str, Any]]:
        places = ["Madrid", "France", "Paris"]
        facts = [fact(place, place) for place in places]
        more = {"status": KEPT, "remark": None}
        rows = [asdict(one) | more | {"prompt": one.prompt} for one in facts]
        add_knowledge(tiny_lm, rows, completion_tokens=2)
        return rows

    expected = asked()
    complete, tried = sampling.complete, []

    def completed(lm, prompts, *rest):
        tried.append(len(prompts))
        return complete(lm, prompts, *rest) if len(prompts) == 1 else out_of_memory(prompts)

    monkeypatch.setattr(sampling, "complete", completed)
    found = asked()
    assert tried == [3, 1, 1, 1]
    for one, other in zip(found, expected, strict=True):
        assert one["p_true"] == pytest.approx(other.pop("p_true"))
        assert {**one, **other} == one


@pytest.mark.parametrize("how", ["planned", "after memory ran out"])
def test_key_moments_that_do_not_fit_are_summed_in_several_passes(tiny_lm, monkeypatch, how):
    expected, count = key_statistics.key_moments(tiny_lm, tiny.SENTENCES)
    made = key_statistics._key_moments
    passes: list[list[int]] = []
    told: list[int] = []

    def some(lm, batches, layers, *more):
        passes.append(list(layers))
        return made(lm, batches, layers, *more) if len(layers) <= 2 else out_of_memory(layers)

    monkeypatch.setattr(key_statistics, "_key_moments", some)
    if how == "planned":
        monkeypatch.setattr(key_statistics, "moments_together", lambda *_: 2)
    found, again = key_statistics.key_moments(tiny_lm, iter(tiny.SENTENCES), progress=told.append)
    assert again == count == sum(told)
    assert list(found) == list(expected)
    for layer, moment in found.items():
        assert moment.equal(expected[layer])
    done = [layers for layers in passes if len(layers) <= 2]
    assert [layer for layers in done for layer in layers] == list(range(tiny_lm.n_layers))
    assert (len(done) < len(passes)) == (how != "planned")


def test_facts_that_share_an_update_are_optimised_fewer_at_a_time(tiny_lm):
    """What an edit is told is how many run in one pass; the update is of all."""
    sizes = []
    d, inner = tiny_lm.down_weight(3).shape

    def edit(lm, requests, layer, hyper, shared):
        sizes.append((len(requests), shared.jointly))
        if shared.jointly > 2:
            out_of_memory(requests)
        left, right = (torch.ones(1, size, dtype=tiny_lm.dtype) for size in (d, inner))
        return Edit(updates={3: LowRank(left=left, right=right)}, steps=[0] * len(requests))

    method = Method(name="a method", function=edit, settings=dict, jointly=True)
    made = together.edit(tiny_lm, method, [1, 2, 3], 3, None, SharedInputs(), side_by_side=8)
    assert sizes == [(3, 8), (3, 4), (3, 2)]
    assert not [one for one in made.edits if isinstance(one, str)]
