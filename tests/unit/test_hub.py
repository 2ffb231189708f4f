"""Models of the hub: what is asked for, what is kept, and what is said where it cannot be had.

No test uses the network: the hub is a function that writes files.
"""

import json
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest

from locedit.store import hub
from locedit.store.pins import AssetError

REVISION = "0123456789" * 4
MODEL = {
    "config.json": "{}",
    "model-00001-of-00002.safetensors": "",
    "model-00002-of-00002.safetensors": "",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {f"w{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}}
    ),
    "tokenizer.json": "{}",
    "LICENSE": "be good",
}
UNWANTED = ["pytorch_model.bin", "modeling.py", "onnx/model.safetensors", "weights.pkl", "a.gguf"]


@pytest.fixture
def repository(monkeypatch):
    """A repository's files by name; each download's repository and revision."""
    files, asked = dict.fromkeys(UNWANTED, "") | MODEL, []

    def snapshot_download(repository, *, revision, local_dir, allow_patterns, ignore_patterns):
        asked.append((repository, revision))
        for name, content in files.items():
            wanted = any(fnmatch(name, p) for p in allow_patterns)
            if wanted and not any(fnmatch(name, p) for p in ignore_patterns):
                (Path(local_dir) / name).write_text(content)
        (Path(local_dir) / ".cache").mkdir()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return files, asked


def test_a_revision_is_fetched_without_code_and_other_formats(repository, tmp_path):
    folder = hub.download("org/model", REVISION, tmp_path / "models" / "mine")
    assert repository[1] == [("org/model", REVISION)]
    assert sorted(p.name for p in folder.iterdir()) == sorted(MODEL)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["config.json"], "has no config.json"),
        ([n for n in MODEL if "safetensors" in n], "has no safetensors weights, and no other"),
        (["model-00002-of-00002.safetensors"], "names model-00002-of-00002.safetensors, which is"),
    ],
)
def test_a_repository_that_is_no_model_leaves_nothing(repository, tmp_path, missing, said):
    for name in missing:
        del repository[0][name]
    with pytest.raises(AssetError, match=f"^org/model at revision {REVISION}.*{said}"):
        hub.download("org/model", REVISION, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_one_sentence_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError) as caught:
        hub.download("org/model", REVISION, tmp_path / "mine")
    text = str(caught.value)
    assert text.startswith(f"org/model at revision {REVISION} could not be had from the hub (")
    assert text.endswith("as the model's `path`, in place of `hub` and `revision`.")
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == []
