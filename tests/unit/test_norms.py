"""What is written behind an RMS norm: the nearest of its outputs, and edits that then reach it."""

import dataclasses

import oracle
import pytest
import test_engine as engine
import tiny
import torch

from locedit.engine.key_statistics import KeyMoments
from locedit.methods import METHODS, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.model.norms import nearest_output

D = 16


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def of_unit_square(x: torch.Tensor) -> torch.Tensor:
    return x / x.square().mean(dim=-1, keepdim=True).sqrt()


GAINS = {
    "alike": 1 + 0.1 * draw(D),
    "of many orders": 10 ** draw(D, seed=1).mul(2),
    "some zero": draw(D, seed=2) * (torch.arange(D) > 2),
    "none but zero": torch.zeros(D, dtype=torch.float64),
}


@pytest.mark.parametrize("size", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("gain", GAINS)
def test_no_other_output_is_nearer(gain, size):
    """Not one of many drawn around it and anywhere, for outputs that are wanted in and out."""
    g = GAINS[gain].expand(3, D)
    wanted = size * draw(3, D, seed=3)
    u = nearest_output(g, wanted)
    torch.testing.assert_close(u, of_unit_square(u))
    distance = (g * u - wanted).norm(dim=-1)
    for scale in (1e-4, 1e-2, 1.0, 100.0):
        others = of_unit_square(u + scale * draw(2000, 3, D, seed=4))
        assert bool(((g * others - wanted).norm(dim=-1) >= distance * (1 - 1e-9)).all())


def test_an_output_that_can_be_had_is_had():
    g = GAINS["of many orders"]
    u = of_unit_square(draw(5, D, seed=5))
    torch.testing.assert_close(nearest_output(g.expand(5, D), g * u), u)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_the_textbook_change_is_the_same(family):
    lm = LanguageModel(*tiny.pair(family))
    norm = lm.mlp_norm(1)
    with torch.no_grad(), tiny.nothing_in_float32():
        norm.weight.copy_(3 * draw(lm.hidden_size))  # gains of both signs, some of them small
        for size in (1e-3, 1.0, 30.0):
            output = size * draw(lm.hidden_size, seed=6)
            for change in (0.1 * draw(lm.hidden_size, seed=7), 30 * draw(lm.hidden_size, seed=7)):
                expected = oracle.change_before_norm(lm.model, 1, output, change)
                torch.testing.assert_close(lm.mlp_change(1, output, change), expected)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_a_window_of_one_layer_puts_out_what_rome_writes(family):
    """The same value before the same norm: EMMET's goal is what ROME's block puts out."""
    with tiny.nothing_in_float32():
        lm = LanguageModel(*tiny.pair(family, adds_bos=True))
        moments = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, [1])
        shared = SharedInputs(moments=KeyMoments(moments.__getitem__))  # the bare prompt alone
        (fact,) = engine.requests("error_injection")[:1]
        rome = METHODS["ROME"].hyperparameters(
            "error_injection", "paper", {"all": engine.STEPS["ROME"] | {"clamp": 0.5, "lr": 0.5}}
        )
        emmet = METHODS["EMMET"].settings(**dataclasses.asdict(rome), window=1, ridge=0.0)
        rows, _ = oracle.context_rows(
            *(lm.model, lm.tokenizer, fact.template, fact.subject, fact.target),
            ["{}"],
            sigma=None,
            seed=0,
        )
        block = oracle.parts(lm.model).module("hidden", 1)
        reached = [oracle.at_last_subject_token(lm.model, rows, block)[1][0]]
        for name, hyper in (("ROME", rome), ("EMMET", emmet)):
            got = METHODS[name].edit(lm, [fact], 1, hyper, shared)
            with oracle.edited(lm.model, engine.change_of(got.updates, 0)):
                reached.append(oracle.at_last_subject_token(lm.model, rows, block)[1][0])
    unedited, by_rome, by_emmet = reached
    torch.testing.assert_close(by_emmet, by_rome, rtol=1e-6, atol=1e-6)
    assert (by_rome - unedited).norm() > 0.1 * unedited.norm()
