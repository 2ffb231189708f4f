"""Nothing waits for a card inside a loop over layers: counted on a card that is none."""

import dataclasses
from collections.abc import Callable, Iterator

import elsewhere
import oracle
import pytest
import test_engine as engine
import test_localizers_plain as plain
import tiny
import torch
import waits
from test_architectures import build

from locedit.engine import key_statistics, sampling
from locedit.localizers import LOCALIZERS, MODULES, restoration
from locedit.methods import METHODS, descent
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.study import measure

FAMILY = "gpt2"  # learned positions, whose table ends, so that they have to be checked
LAYERS = range(5)
TEXT = "The king of Rome is old and the war is in the city."
TRACED = {"window": 3, "sigma": 0.3, "n_noise": 3}
OPERATIONS = 1250  # launches of one fact traced, five layers and nine tokens: a tenth above today's


@pytest.fixture(scope="module")
def moments() -> dict[int, torch.Tensor]:
    lm = build(FAMILY)
    return oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, LAYERS)


@pytest.fixture
def card() -> Iterator[torch.device]:
    with elsewhere.card() as device:
        yield device


@pytest.fixture
def lm(card) -> LanguageModel:
    return on(card, FAMILY)


def on(card: torch.device, family: str) -> LanguageModel:
    lm = build(family)
    lm.model.to(card)
    return lm


def there(moments: dict[int, torch.Tensor], card: torch.device) -> dict[int, torch.Tensor]:
    return {layer: moment.to(card) for layer, moment in moments.items()}


def seen(do: Callable[[], object]) -> waits.Waits:
    """What is seen while it is done, having found no wait within a loop over layers."""
    with waits.watched() as found:
        do()
    assert not found.in_loops, "\n".join(f"{n} x {at}" for at, n in found.in_loops.items())
    return found


@pytest.mark.parametrize(
    ("family", "module"),
    [*((FAMILY, module) for module in MODULES), ("gemma3_text", "attn"), ("opt", "mlp")],
)
def test_tracing(card, family, module):
    lm, fact = on(card, family), plain.MADRID
    what = fact.prompt, fact.subject, fact.target_true
    found = seen(lambda: restoration.trace(lm, *what, module=module, **TRACED))
    assert sum(found.others.values()) < 25  # some for each token, none for each layer
    if family == FAMILY:
        assert 0 < sum(found.operations.values()) < OPERATIONS


@pytest.mark.parametrize("name", [n for n, one in LOCALIZERS.items() if one.modules])
def test_every_localizer(lm, card, moments, name):
    localizer = LOCALIZERS[name]
    place, *_ = localizer.places(["mlp"], [3])
    solved = key_statistics.KeyMoments(there(moments, card).__getitem__)
    shared = dataclasses.replace(plain.SHARED, moments=solved)
    facts = plain.STUDY[:2]
    found = seen(lambda: localizer.localize(lm, facts, place, localizer.settings(), shared))
    assert found.operations


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", METHODS)
def test_every_editor_and_what_is_measured_of_it(lm, card, moments, method, problem):
    facts, solved = engine.requests(problem), there(moments, card)
    edits = []
    seen(lambda: edits.append(engine.edit(lm, method, facts, engine.MIDDLE, solved)))
    probes = [
        measure.Probe(
            request=fact,
            other="Rome",
            paraphrases=["The old city"],
            neighbourhood=["The war is", "The river is"],
            texts=[TEXT],
        )
        for fact in facts
    ]
    seen(lambda: measure.measure(lm, probes, edits[0].updates, sigma=0.3, n_noise=3))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "KN"])
def test_an_editor_waits_no_more_for_more_steps(lm, card, moments, method):
    """But to look now and then which facts fine-tuning is done with."""
    facts, solved = engine.requests("error_injection"), there(moments, card)
    name = "steps" if method.startswith("FT") else "iterations"

    def waited(steps: int) -> int:
        changed = {name: steps, **({"enough": 0.0} if name == "steps" else {})}
        what = lm, method, facts, engine.MIDDLE, solved
        return sum(seen(lambda: engine.edit(*what, **changed)).others.values())

    looks = 8 // descent.LOOK_EVERY - 4 // descent.LOOK_EVERY if name == "steps" else 0
    assert waited(8) == waited(4) + looks


def test_decoding(lm):
    """Waits only where it is asked which rows are done, and none of a layer's."""
    prompts = tiny.SENTENCES[:3]
    found = seen(lambda: sampling.complete(lm, prompts, 8, lambda row, text: row == 1))
    assert sum(found.others.values()) < 12
    found = seen(lambda: sampling.sample(lm, prompts, [3, 5, 8], [1, 2, 3]))
    assert sum(found.others.values()) < 12


def test_key_statistics(lm):
    seen(lambda: key_statistics.key_moments(lm, tiny.SENTENCES))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FT-1", "FT-5", "FT-M"])
def test_what_a_card_is_not_asked_for_ends_as_it_would(card, method):
    """Facts that are done between two looks: the same steps, losses and changes as on the CPU."""
    facts = engine.requests("error_injection")
    settings = {"steps": 11, "lr": 0.02, **({} if method == "FT-M" else {"eps": 1.0})}
    with tiny.nothing_in_float32():
        alone = build(FAMILY)
        whole = engine.edit(alone, method, facts, engine.MIDDLE, {}, enough=0.0, **settings)
        settings["enough"] = 2 * max(last for _, last in whole.losses)
        expected = engine.edit(alone, method, facts, engine.MIDDLE, {}, **settings)
        got = engine.edit(on(card, FAMILY), method, facts, engine.MIDDLE, {}, **settings)
    assert got.steps == expected.steps
    assert len(set(got.steps)) > 1, "facts should be done at different steps"
    assert any(n % descent.LOOK_EVERY for n in got.steps), "and between two looks"
    for one, other in zip(got.losses, expected.losses, strict=True):
        engine.close(one, other)
    for index in range(len(facts)):
        for layer, change in engine.change_of(expected.updates, index).items():
            here = engine.change_of(got.updates, index)[layer]
            for a, b in zip(here, change, strict=True):
                if b is not None:
                    engine.close(a.cpu(), b)


def test_a_wait_is_seen(lm):
    """What this file relies on: each kind of wait within a layer is found, and where."""
    asked = {
        "_local_scalar_dense": lambda x: bool(x.any()),
        "aten.index at": lambda x: x[x > 0],
        "_to_copy": lambda x: torch.tensor([1.0], device=x.device),
    }
    fact = plain.MADRID
    what = fact.prompt, fact.subject, fact.target_true
    for kind, ask in asked.items():
        hooked = {lm.layers[2]: lambda _, out, ask=ask: (ask(out), None)[1]}
        with waits.watched() as found, hooks.hooked(hooked):
            restoration.trace(lm, *what, module="mlp", **TRACED)
        assert found.in_loops
        assert all(kind in at for at in found.in_loops)
