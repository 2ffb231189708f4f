"""What comes in a model's folder or in a cache stays data: none of its code is run, and what is
damaged is named.
"""

import json
import pickle
import struct
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from locedit.engine import key_statistics, loading
from locedit.model import architectures
from locedit.store import hub, pins
from locedit.workflow import config as configuration


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that hostile code would write; whoever asks on the terminal is told yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code of a checkpoint was run"


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    pair = tiny.pair("llama", layers=2, dtype=torch.float32)
    return tiny.save(pair, tmp_path_factory.mktemp("sound") / "model")


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    """A model's folder to spoil."""
    target = tmp_path / "model"
    target.mkdir()
    for path in sound.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def change(path: Path, **values) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def refused(folder: Path) -> str:
    with pytest.raises(architectures.ModelError) as caught:
        loading.load(folder, device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    return said


def evil_module(folder: Path, canary: Path, name: str) -> None:
    body = f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
    body += "from transformers import LlamaForCausalLM as EvilModel, LlamaConfig as EvilConfig\n"
    body += "from transformers import PreTrainedTokenizerFast as EvilTokenizer\n"
    (folder / f"{name}.py").write_text(body)


def test_a_payload_does_write_the_canary(tmp_path):
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt", "model.ckpt"])
def test_pickled_weights_are_not_read(folder, canary, name):
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Payload(canary)}, folder / name)
    assert "cannot be loaded" in refused(folder)


def test_pickled_weights_beside_the_safetensors_are_not_read(folder, canary):
    torch.save({"lm_head.weight": Payload(canary)}, folder / "pytorch_model.bin")
    loading.load(folder, device="cpu")


def test_code_beside_a_model_of_no_known_type_is_not_run(folder, canary):
    evil_module(folder, canary, "modeling_evil")
    auto = {"AutoConfig": "modeling_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.Evil"}
    change(folder / "config.json", model_type="evil", auto_map=auto)
    assert "contains custom code" in refused(folder)


def test_code_beside_a_model_of_a_known_type_is_not_run(folder, canary):
    evil_module(folder, canary, "modeling_evil")
    auto = {
        "AutoConfig": "modeling_evil.EvilConfig",
        "AutoModelForCausalLM": "modeling_evil.EvilModel",
        "AutoTokenizer": ["modeling_evil.EvilTokenizer", "modeling_evil.EvilTokenizer"],
    }
    change(folder / "config.json", auto_map=auto)
    change(folder / "tokenizer_config.json", auto_map=auto)
    assert type(loading.load(folder, device="cpu").model).__module__.startswith("transformers.")


def test_code_that_a_tokenizer_names_is_not_run(folder, canary):
    evil_module(folder, canary, "tokenization_evil")
    names = ["tokenization_evil.EvilTokenizer", "tokenization_evil.EvilTokenizer"]
    values = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": names}}
    change(folder / "tokenizer_config.json", **values)
    assert "contains custom code" in refused(folder)


def test_a_kernel_of_the_hub_is_refused(folder, canary):
    change(folder / "config.json", attn_implementation="somebody/kernels")
    assert "kernel" in refused(folder)


HEADER = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = {
    "nothing": b"",
    "a pickle": pickle.dumps({"a": 1}),
    "a header beyond the file": struct.pack("<Q", 1 << 20) + b"{}",
    "a header of all memory": struct.pack("<Q", 2**63 - 1) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    "a list for a header": struct.pack("<Q", 2) + b"[]",
    "tensors beyond the file": struct.pack("<Q", len(HEADER)) + HEADER,
    "tensors of negative size": struct.pack("<Q", 62)
    + b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,9999999]}}',
    "another tensor alone": struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 4,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none_are_named(folder, name):
    (folder / "model.safetensors").write_bytes(WEIGHTS[name])
    assert str(folder) in refused(folder)


def test_weights_without_a_layer_are_no_model(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    left_out = next(name for name in tensors if "layers.1" in name)
    del tensors[left_out]
    save_file(tensors, path, metadata={"format": "pt"})
    assert left_out in refused(folder)


TOKENIZERS = ["", "{", "null", "[]", "{}", "7", '{"model": {"type": "Evil"}}', "\0", "[" * 9999]
TOKENIZERS += ['{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 4e9}, "merges": [[]]}}']


@pytest.mark.parametrize("text", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_a_tokenizer_that_is_none_is_named(folder, text):
    (folder / "tokenizer.json").write_text(text)
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_type": "llama"', "[" * 9999])
def test_a_configuration_that_is_none_is_named(folder, text):
    (folder / "config.json").write_text(text)
    assert str(folder) in refused(folder)


def test_a_poisoned_cache_of_key_statistics_is_not_unpickled(tmp_path, canary):
    path = tmp_path / "key_statistics.safetensors"
    path.write_bytes(pickle.dumps(Payload(canary)))
    with pytest.raises(OSError, match="no readable key moments"):
        key_statistics.moments_from_file(path, torch.device("cpu"))


def test_a_yaml_file_runs_nothing(tmp_path, canary):
    path = tmp_path / "model.yaml"
    path.write_text(f"!!python/object/apply:pathlib.Path.touch [!!python/name:x '{canary}']")
    with pytest.raises(configuration.ConfigError, match="is not YAML"):
        configuration.load_yaml(path)


def test_sharded_weights_name_no_files_of_other_folders(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").touch()
    for name in ("../a.safetensors", str(tmp_path / "a.safetensors"), "a\\b", 7):
        index.write_text(json.dumps({"weight_map": {"x": name, "y": "a.safetensors"}}))
        with pytest.raises(pins.AssetError, match=r"index\.json"):
            hub._check(tmp_path, "somebody/model")
