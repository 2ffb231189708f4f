"""What is given as a model's folder, looked at before anything is loaded.

Only names and small JSON files are read, nothing heavy is imported, and nothing is run. Each
sentence says what was found and what leads to a folder that loads.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from locedit.messages import listed, shown

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
OTHERS = ("*.h5", "*.msgpack", "*.onnx")  # TensorFlow, Flax, ONNX
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def is_gguf(path: str | Path) -> bool:
    """Whether a path names a GGUF file: by its suffix, since it may not be there yet."""
    return Path(path).suffix.lower() == ".gguf"


def own_config(folder: Path) -> dict[str, Any]:
    """config.json; empty where it is none, which whoever loads the model will say."""
    return _json(folder / "config.json")


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, likewise."""
    return _json(folder / "tokenizer_config.json")


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def n_layers(folder: Path) -> int | None:
    """The number of layers that config.json tells; None where it tells none."""
    config = own_config(folder)
    for part in (config.get("text_config"), config):  # a model with vision keeps its text's apart
        for name in ("num_hidden_layers", "n_layer", "num_layers"):
            value = part.get(name) if isinstance(part, Mapping) else None
            if type(value) is int:
                return value
    return None


def fault(folder: Path) -> str | None:
    """What speaks against a folder, in a sentence; None where nothing does.

    Only what is there counts: a folder that still waits for its weights has no fault.
    """
    return next(_faults(folder), None)


def lacking(folder: Path) -> str | None:
    """What a folder lacks that any model needs; None where nothing does."""
    if not any(folder.glob("*.safetensors")):
        return (
            f"{folder} has no weights: no file model.safetensors; fetch the model again, whole, or "
            "give the folder that has them"
        )
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return (
            f"{folder} has no tokenizer: none of {', '.join(TOKENIZERS)}; put the tokenizer.json "
            "there that belongs to the model"
        )
    return None


def _faults(folder: Path) -> Iterator[str]:
    if folder.is_file():
        yield _file_fault(folder)
    if (folder / "adapter_config.json").is_file():
        yield (
            f"{folder} holds an adapter (adapter_config.json), which changes another model; merge "
            "it into that one (peft: `merge_and_unload()`, then `save_pretrained(FOLDER)`) and "
            "give the folder with the merged weights; beside a whole model, take that file away"
        )
    if not (folder / "config.json").is_file():
        yield from _no_config(folder)
        return
    kind = own_config(folder).get("quantization_config")
    if kind is not None:
        method = kind.get("quant_method") if isinstance(kind, Mapping) else kind
        yield (
            f"{folder}: the weights are quantized (config.json: quantization_config, "
            f"{shown(method)}), and edits change plain ones; give the model's folder from before "
            "its quantization"
        )
    yield from _weights_faults(folder)


def _file_fault(file: Path) -> str:
    if is_gguf(file):
        return (
            f"{file} is a GGUF file; unpack it: locedit.engine.gguf.convert_gguf(file, new_folder)"
        )
    if file.suffix == ".safetensors":
        return f"{file} is a file; give its folder, {file.parent}, with config.json beside it"
    return (
        f"{file} is a file; give a model's folder, with config.json, safetensors weights and "
        "tokenizer.json, or a GGUF file, whose name ends with .gguf"
    )


def _no_config(folder: Path) -> Iterator[str]:
    """Folders whose model lies elsewhere: below, as in the hub's cache, or in a GGUF file."""
    if not folder.is_dir():
        return
    if files := sorted(path for path in folder.iterdir() if is_gguf(path)):
        yield f"{folder} has no config.json but holds a GGUF file; give that file, {files[0]}"
    found = [*folder.glob("*/config.json"), *folder.glob("*/*/config.json")]
    if found:
        cache = (folder / "snapshots").is_dir() or folder.name == "snapshots"
        kind = "is a folder of the hub's cache" if cache else "has no config.json"
        more = f" (the first of {len(found)})" if len(found) > 1 else ""
        yield (
            f"{folder} {kind}: the model lies below it; give its folder, {min(found).parent}{more}"
        )


def _weights_faults(folder: Path) -> Iterator[str]:
    names = {path.name for path in folder.glob("*.safetensors")}
    index = folder / INDEX
    if "model.safetensors" in names:
        return
    if index.is_file():
        if missing := sorted(_shards(index) - names):
            yield (
                f"{folder}: {INDEX} names {listed(missing)}, which is not there; fetch the model "
                "again, whole"
            )
    elif any(map(_SHARD.fullmatch, names)):
        yield (
            f"{folder} has weights in pieces without {INDEX}, which tells what is where; put that "
            "file there, from where the pieces come"
        )
    elif names:
        yield (
            f"{folder} has no model.safetensors but {listed(sorted(names))}; if that holds the "
            "weights, rename it to model.safetensors"
        )
    else:
        yield from _other_formats(folder)


def _other_formats(folder: Path) -> Iterator[str]:
    if pickles := _named(folder, PICKLES):
        code = (
            "from transformers import AutoModelForCausalLM as M; "
            f"M.from_pretrained({str(folder)!r}, use_safetensors=False)"
            f".save_pretrained({str(folder)!r})"
        )
        yield (
            f"{folder}: the weights cannot be loaded: there are pickles alone ({listed(pickles)}), "
            "which can run code and are never read here; take a model with safetensors, or, where "
            f"you trust these, convert them: `python -c {shlex.quote(code)}`"
        )
    elif others := _named(folder, OTHERS):
        yield (
            f"{folder}: the weights are in another format alone ({listed(others)}), and only "
            "safetensors are read; fetch the model as safetensors"
        )
    elif files := sorted(path for path in folder.iterdir() if is_gguf(path)):
        yield f"{folder} has no safetensors weights but a GGUF file; give that file, {files[0]}"


def _named(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    found = {path.name for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found - set(_NOT_WEIGHTS))


def _shards(index: Path) -> set[str]:
    """Names of the files that an index names; none where it is no index, which the loader says."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
