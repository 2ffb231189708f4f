"""Weights that come as GGUF files, unpacked into a folder that transformers reads."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from locedit.errors import ran_out_of_memory
from locedit.messages import one_line
from locedit.store import older_releases
from locedit.store.assets import resolve, terms
from locedit.store.files import atomic_folder, exclusive_lock
from locedit.store.pins import Asset, AssetError


def unpack(asset: Asset, folder: Path, *, cache: Path) -> Path:
    """A pinned GGUF model as a folder that loads, its licence terms beside the weights.

    A folder that is there is left as it is: another run made it.
    """
    with exclusive_lock(folder):
        if not (folder / "config.json").is_file():
            convert_gguf(resolve(asset, cache=cache), folder, terms(asset, cache=cache))
    return folder


def unpack_file(gguf: Path, folder: Path) -> Path:
    """A GGUF file of the user's as a folder that loads; one that is there is left as it is."""
    with exclusive_lock(folder):
        if not (folder / "config.json").is_file():
            convert_gguf(gguf, folder)
    return folder


def convert_gguf(gguf: Path, out_dir: Path, beside: Mapping[str, Path] | None = None) -> Path:
    """A GGUF model as a folder of float32 safetensors, config and tokenizer; replaces `out_dir`.

    The unpacked weights are written bit for bit, the tied output head once. `beside`: more files
    for the folder, by name. The folder appears under its name only when it is complete.
    """
    if not gguf.is_file():
        raise AssetError(f"The GGUF model {gguf} does not exist.")
    with _quiet_progress(), atomic_folder(out_dir) as temporary:
        model, tokenizer = _read_gguf(gguf)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        older_releases.make_readable(temporary)
        for name, path in (beside or {}).items():
            shutil.copyfile(path, temporary / name)
        # The weights' file is written for its owner's eyes only; the cache may be shared.
        mode = (temporary / "config.json").stat().st_mode
        for path in temporary.iterdir():
            path.chmod(mode)
    return out_dir


def _read_gguf(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file; the model is a plain one that can be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    arguments["trust_remote_code"] = False
    folder = str(gguf.parent)
    try:
        read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **arguments)
        tokenizer = AutoTokenizer.from_pretrained(folder, **arguments)
    except Exception as error:  # a damaged one fails anywhere in its reader
        if ran_out_of_memory(error):
            raise
        raise AssetError(
            f"{gguf} cannot be read as a GGUF model ({one_line(error)}); fetch it again, or give "
            "a folder with the model's safetensors."
        ) from error
    # The reader marks its model as quantized, which forbids saving it, though its weights are
    # unpacked: a model made from the same config takes them over.
    del read.config.quantization_config
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    return model.eval(), tokenizer


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
