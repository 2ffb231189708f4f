"""Fixtures shared by the tests: tiny models, the default model's weights, the golden numbers."""

import copy
import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_study
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from locedit.engine import key_statistics
from locedit.engine.gguf import convert_gguf
from locedit.localizers import LOCALIZERS
from locedit.methods import METHODS
from locedit.model.architectures import ARCHITECTURES
from locedit.model.language_model import LanguageModel
from locedit.model.linear import speed_up
from locedit.registry import SILENT
from locedit.store import assets, files, hashing, pins
from locedit.workflow import plugins

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
SMOLLM2 = "smollm2-135m-instruct"
# Of families of models, those that `make unit` has: the default one, and the one with most oddities
QUICK = {"llama", "gemma3_text"}
WITH_BOS = "llama with <s>"

pytest.register_assert_rewrite("fuzzing")  # its assertions tell the values that they compare

if "OMP_NUM_THREADS" not in os.environ:
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


@pytest.hookimpl(tryfirst=True)  # before what is marked as slow is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of another family is slow: the quick ones find nearly all that it would."""
    others = (tiny.FAMILIES.keys() | {WITH_BOS}) - QUICK
    for item in items:
        of = getattr(item, "callspec", None)
        if of is not None and others & {x for x in of.params.values() if isinstance(x, str)}:
            item.add_marker(pytest.mark.slow)


@contextmanager
def plugins_forgotten() -> Iterator[None]:
    """What plug-ins register within the context is gone after it."""
    registries: list[dict] = [METHODS, LOCALIZERS, ARCHITECTURES, plugins._LOADED]
    before = [dict(registry) for registry in registries]
    silent = list(SILENT)
    try:
        yield
    finally:
        SILENT[:] = silent
        for registry, old in zip(registries, before, strict=True):
            registry.clear()
            registry.update(old)


@pytest.fixture(scope="session", params=["llama", WITH_BOS, "gpt2"])
def tiny_pair(request) -> tiny.Pair:
    """A tiny float64 model and its tokenizer, one after the other of every kind."""
    family, _, bos = request.param.partition(" ")
    return tiny.pair(family, adds_bos=bool(bos))


@pytest.fixture(scope="session", params=["llama", WITH_BOS, "gpt2"])
def tiny_lm(request) -> LanguageModel:
    """The engine's view of a tiny model of its own, whose parameters it freezes."""
    family, _, bos = request.param.partition(" ")
    return LanguageModel(*tiny.pair(family, adds_bos=bool(bos)))


@pytest.fixture(scope="module")
def nothing_in_float32() -> Iterator[None]:
    """For modules whose comparisons a family's norms in float32 would round."""
    with tiny.nothing_in_float32():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[tiny_study.Study, tiny_study.Run]:
    """The tiny study after its one real run, and that run; tests leave it as it is.

    It is made once for all processes of the test run.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    made = base / "finished-study.pickle"
    with files.exclusive_lock(made):
        if not made.exists():
            folder = base / "finished-study"
            folder.mkdir()
            made.write_bytes(pickle.dumps(tiny_study.finished(folder)))
    return pickle.loads(made.read_bytes())


@pytest.fixture(scope="session")
def study(finished) -> tiny_study.Study:
    return finished[0]


@pytest.fixture(scope="session")
def smollm2() -> tiny.Pair:
    """SmolLM2-135M-Instruct in float32: from $LOCEDIT_SMOLLM2, else out of the asset cache."""
    folder = _smollm2_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return tiny.Pair(model.eval(), AutoTokenizer.from_pretrained(folder))


@pytest.fixture(scope="session")
def smollm2_lm(smollm2) -> LanguageModel:
    """The engine's view of that model: a copy of its own, as `models.load` makes it."""
    model = copy.deepcopy(smollm2.model)
    speed_up(model)
    return LanguageModel(model, smollm2.tokenizer)


def _smollm2_folder() -> Path:
    if os.environ.get("LOCEDIT_SMOLLM2"):
        return Path(os.environ["LOCEDIT_SMOLLM2"])
    try:
        gguf = assets.resolve(assets.named(SMOLLM2))
    except pins.AssetError as error:
        pytest.skip(f"the weights of {SMOLLM2} cannot be had: {error}")
    folder = gguf.with_name(gguf.name + "-for-tests")
    with files.exclusive_lock(folder):  # made once for all processes of the test run
        return folder if folder.exists() else convert_gguf(gguf, folder)


@pytest.fixture(scope="session")
def golden() -> dict:
    """The reference implementation's numbers."""
    return json.loads(_golden_file("public.json").read_text())


@pytest.fixture(scope="session")
def golden_paragraphs() -> list[str]:
    """The text behind the reference's key statistics."""
    return json.loads(_golden_file("corpus.json").read_text())


@pytest.fixture(scope="session")
def golden_statistics(smollm2_lm, golden, golden_paragraphs, request) -> dict[int, torch.Tensor]:
    """Key statistics of the golden corpus, every layer that its edits solve with, in one pass.

    They take a minute or two, so they are kept between test runs until anything that they are
    made of changes: the text, the layers, the weights or the code.
    """
    layers = sorted(
        {
            layer
            for edit in golden["edits"]
            if edit["method"] in ("ROME", "MEMIT")
            for layer in edit["layers"]
        }
    )
    code = hashing.code(ROOT / "locedit" / "engine" / "key_statistics.py", ROOT)
    weights = hashlib.sha256(smollm2_lm.head.weight.detach().numpy()).hexdigest()
    key = hashing.digest([golden_paragraphs, layers, weights, code])
    file = Path(request.config.cache.mkdir("key-statistics")) / f"{key}.npy"
    with files.exclusive_lock(file):  # the test run's other processes wait for them, then read them
        if not file.exists():
            for stale in file.parent.glob("*.npy"):
                stale.unlink()
            computed, _ = key_statistics.key_moments(smollm2_lm, golden_paragraphs, layers=layers)
            with files.atomic(file) as temporary:
                np.save(temporary, np.stack([computed[layer].numpy() for layer in layers]))
    return dict(zip(layers, torch.from_numpy(np.load(file)), strict=True))


def _golden_file(name: str) -> Path:
    file = GOLDEN / name
    if not file.exists():
        pytest.skip(f"the golden numbers are not at {file}")
    return file
