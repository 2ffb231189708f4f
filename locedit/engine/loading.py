"""Loading a model's folder: safetensors alone, and no code of a checkpoint."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch

from locedit import machine
from locedit.engine import misfits
from locedit.errors import ran_out_of_memory
from locedit.messages import listed, one_line, unknown
from locedit.model.architectures import (
    ModelError,
    architecture_of,
    is_tested,
)
from locedit.model.language_model import LanguageModel
from locedit.model.tokenizing import NO_CODE
from locedit.settings import Dtype


def pick_device(device: str) -> torch.device:
    """`auto` is what $LOCEDIT_DEVICE says, or else CUDA where there is one, or else the CPU.

    Raises ModelError for a CUDA that is not there, and for what torch has no name of.
    """
    device = machine.device() if device == "auto" else device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ModelError(f"device: {machine.unknown_device(device)}") from None
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: cuda is asked for, but torch finds no GPU; write auto or cpu")
    return picked


def pick_dtype(dtype: str) -> torch.dtype:
    """`auto` is float32, in which the published numbers hold; for another word, ModelError."""
    if dtype not in (known := get_args(Dtype)):
        raise ModelError(f"dtype: {unknown('value', dtype, known)}")
    return torch.float32 if dtype == "auto" else getattr(torch, dtype)


def keep_freed_memory() -> None:
    """Ask glibc to use freed memory again instead of returning it to the system.

    Logits and activations are tens of megabytes, allocated and freed thousands of times; having
    them mapped page by page each time costs a fifth of a pass. Other C libraries are left alone.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of <malloc.h>
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's cyclic garbage collector rests: a million new objects, and no garbage among them.

    It would look through all of them again and again, for a quarter of a job's start-up.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def load(path: str | Path, *, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """Load a model directory (safetensors, config, tokenizer); no network, no remote code.

    Raises ModelError naming the path if it is missing or not a model, or if a weight is not finite.
    """
    # transformers costs seconds to import, and only this function needs it
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, __version__

    from locedit.engine import architecture_check
    from locedit.model.linear import speed_up

    keep_freed_memory()
    target = pick_device(device)
    if target.type == "cpu":
        # torch's CPU attention takes grouped queries as they are; transformers would copy the keys
        os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")
    path = Path(path)
    misfits.check_folder(path)
    try:
        config = AutoConfig.from_pretrained(path, **NO_CODE)
        misfits.check_kind(config, path)
        architecture_of(config)
        _check_kernels(config)
        tested = is_tested(config.model_type, __version__)
        misfits.check_complete(path)
        found: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=pick_dtype(dtype),
            use_safetensors=True,
            output_loading_info=True,
            **NO_CODE,
        )
        model, loaded = found
        if missing := sorted(loaded["missing_keys"]):  # transformers would draw them at random
            raise ModelError(
                f"the weights at {path} lack {len(missing)} tensors: {listed(missing)}; "
                f"{misfits.remedy_of_missing(model, missing)}"
            )
        if not tested:
            architecture_check.check_paths(model)
        misfits.check_stated(model, config, loaded["unexpected_keys"], path)
        tokenizer = AutoTokenizer.from_pretrained(path, **NO_CODE)
    except ModelError:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        if said := misfits.own_words(error, path):
            raise ModelError(said) from error
        raise ModelError(
            f"the model at {path} cannot be loaded ({one_line(error)}); where a run made that "
            "directory, in the cache, delete it and run again; otherwise correct the model's `path`"
        ) from error
    model = model.to(target)
    misfits.check_finite(model, path)
    speed_up(model)
    lm = LanguageModel(model, tokenizer)
    if not tested:
        architecture_check.check_architecture(lm)
    return lm


def _check_kernels(config: Any) -> None:
    """Raise ModelError where a configuration asks for compute kernels, which are code of a hub."""
    for one in (config, config.get_text_config()):
        wanted = getattr(one, "_attn_implementation", None)
        if wanted is not None and "/" in str(wanted):
            raise ModelError(
                f"config.json asks for the attention kernel {wanted!r}, which is code of the model "
                "hub; take `attn_implementation` out of it"
            )
