"""Every localizer on a card that is none (tests/support/elsewhere.py), beside a CPU."""

from dataclasses import replace

import elsewhere
import numpy as np
import oracle
import pytest
import tiny
import torch
from test_architectures import build
from test_localizers_plain import CONTROLS, SHARED, STUDY

from locedit.engine.key_statistics import KeyMoments
from locedit.localizers import LOCALIZERS, Localization, Place, SharedInputs, mean_ablation
from locedit.model.language_model import LanguageModel

NAMES = [name for name in LOCALIZERS if name not in (*CONTROLS, "planted")]
CASES: list[tuple[str, dict]] = [
    *((name, {}) for name in NAMES),
    ("edit_cost", {"target": "full", "iterations": 3}),
]


FAMILY = "gemma3_text"  # the most parts; test_bench_gpu has a trace of every family


@pytest.fixture(scope="module")
def moments() -> dict[int, torch.Tensor]:
    lm = build(FAMILY)
    return oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(lm.n_layers))


def values(lm: LanguageModel, name: str, settings: dict, shared: SharedInputs) -> np.ndarray:
    """[facts, layers]; of a whole study at once, its means made where the model is."""
    mean_ablation._KNOWN.clear()
    localizer = LOCALIZERS[name]
    place = Place(module=localizer.modules[0], window=3 if localizer.windows else 1)
    found = localizer.localize(lm, STUDY[:2], place, localizer.settings(**settings), shared)
    assert all(isinstance(answer, Localization) for answer in found)
    return np.array([answer.values for answer in found])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_localizer_says_the_same_on_a_card(moments, name, settings):
    shared = replace(SHARED, contexts=[["{}"], ["In the city. {}"]])
    here = values(build(FAMILY), name, settings, replace(shared, moments=KeyMoments(moments.get)))
    with elsewhere.card() as device:
        lm = build(FAMILY)
        lm.model.to(device)
        there = {layer: moment.to(device) for layer, moment in moments.items()}
        card = replace(shared, moments=KeyMoments(there.__getitem__))
        found = values(lm, name, settings, card)
    mean_ablation._KNOWN.clear()
    assert np.nanmax(np.abs(here)) > 0
    np.testing.assert_allclose(found, here, rtol=1e-8, atol=1e-12)
