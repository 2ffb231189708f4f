"""Fixtures shared by the tests: tiny models, the default model's weights, the golden numbers."""

import hashlib
import inspect
import json
import os
from pathlib import Path

import numpy as np
import oracle
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture(scope="session", params=["llama", "llama with <s>", "gpt2"])
def tiny_pair(request) -> tiny.Pair:
    """A tiny float64 model and its tokenizer, one after the other of every kind."""
    family, _, bos = request.param.partition(" ")
    return tiny.pair(family, adds_bos=bool(bos))


@pytest.fixture(scope="session")
def smollm2() -> tiny.Pair:
    """SmolLM2-135M-Instruct in float32: from $LOCEDIT_SMOLLM2, else out of the asset cache."""
    folder = _smollm2_folder()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return tiny.Pair(model.eval(), AutoTokenizer.from_pretrained(folder))


def _smollm2_folder() -> Path:
    if os.environ.get("LOCEDIT_SMOLLM2"):
        return Path(os.environ["LOCEDIT_SMOLLM2"])
    from locedit import assets

    gguf = assets.cached_path(assets.named(SMOLLM2), assets.cache_dir())
    if not gguf.exists():
        pytest.skip(f"the weights of {SMOLLM2} are not in the asset cache ({gguf})")
    folder = gguf.with_name(gguf.name + "-for-tests")
    return folder if folder.exists() else assets.convert_gguf(gguf, folder)


@pytest.fixture(scope="session")
def golden() -> dict:
    """The reference implementation's numbers."""
    return json.loads(_golden_file("public.json").read_text())


@pytest.fixture(scope="session")
def golden_statistics(smollm2, request) -> dict[int, torch.Tensor]:
    """Key statistics of the golden corpus, every layer of its edits; kept between test runs."""
    corpus = _golden_file("corpus.json")
    edits = json.loads(_golden_file("public.json").read_text())["edits"]
    layers = sorted(
        {i for edit in edits if edit["method"] in ("ROME", "MEMIT") for i in edit["layers"]}
    )
    inputs = corpus.read_text(), layers, inspect.getsource(oracle.key_statistics)
    key = hashlib.sha256(repr(inputs).encode()).hexdigest()[:12]
    file = Path(request.config.cache.mkdir("key-statistics")) / f"{key}.npy"
    if not file.exists():
        for stale in file.parent.glob("*.npy"):
            stale.unlink()
        paragraphs = json.loads(corpus.read_text())
        computed = oracle.key_statistics(*smollm2, paragraphs, layers)
        np.save(file, np.stack([computed[layer].numpy() for layer in layers]))
    return dict(zip(layers, torch.from_numpy(np.load(file)), strict=True))


def _golden_file(name: str) -> Path:
    file = GOLDEN / name
    if not file.exists():
        pytest.skip(f"the golden numbers are not at {file}")
    return file
