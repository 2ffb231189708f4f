"""Edited weights to take home: the difference alone, an adapter, a folder of the whole model.

A difference is a safetensors file. Of each changed tensor, by its name in the model, it has `.left`
[d, r] and `.right` [d_ff, r] (the change is left right^T), or `.delta` in the tensor's own shape;
its metadata say of which model it is, with a hash of each base tensor, so that it is put on no
other. The folder is one that transformers loads by itself, the adapter one that peft does. Each is
written whole or not at all.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from locedit.engine.updates import Dense, LowRank, Updates
from locedit.errors import LoceditError
from locedit.messages import listed
from locedit.model.language_model import LanguageModel
from locedit.store import older_releases
from locedit.store.files import atomic, atomic_folder
from locedit.windows import EMBEDDING

FORMAT = "locedit-delta-1"


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A difference of weights. parts: `NAME.left`, `NAME.right`, `NAME.delta` -> tensor.

    base: SHA-256 of each changed tensor as it is without the change, of its values in float32,
    whatever dtype they are kept in. about: texts on its origin (base model, editor, settings,
    facts).
    """

    parts: dict[str, Tensor]
    base: dict[str, str]
    about: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The changed tensors, by their names in the model."""
        return list(self.base)

    def change(self, name: str) -> Tensor:
        """The change of a tensor, in float32 or better: left right^T, or `delta` itself."""
        if f"{name}.delta" in self.parts:
            return self.parts[f"{name}.delta"]
        return self.parts[f"{name}.left"] @ self.parts[f"{name}.right"].T

    def fits(self, name: str, tensor: Tensor) -> bool:
        """Whether the change of a tensor has its shape."""
        if f"{name}.delta" in self.parts:
            return self.parts[f"{name}.delta"].shape == tensor.shape
        left, right = (self.parts[f"{name}.{side}"].shape for side in ("left", "right"))
        return len(left) == len(right) == 2 and (
            left[1] == right[1] and (left[0], right[0]) == tensor.shape
        )


def of_updates(
    lm: LanguageModel, updates: Updates, about: Mapping[str, str], *, fact: int = 0
) -> Delta:
    """The difference that one fact's updates make, in the model's own orientation."""
    parts: dict[str, Tensor] = {}
    base: dict[str, str] = {}
    for layer, update in updates.items():
        module = lm.edited_module(layer)
        name = _name_of(lm, module.weight)
        base[name] = _hash(module.weight)
        flipped = lm.architecture.transposed and layer != EMBEDDING
        if isinstance(update, LowRank):
            left, right = update.factors(fact)
            pair = (right, left) if flipped else (left, right)
            parts |= dict(zip((f"{name}.left", f"{name}.right"), map(_plain, pair), strict=True))
            continue
        weight = update.weights[fact]
        parts[f"{name}.delta"] = _plain(weight.T if flipped else weight)
        if update.biases is not None:
            bias = _name_of(lm, module.bias)
            base[bias] = _hash(module.bias)
            parts[f"{bias}.delta"] = _plain(update.biases[fact])
    return Delta(parts=parts, base=base, about=dict(about))


def of_changes(lm: LanguageModel, changes: Mapping[int, Tensor], about: Mapping[str, str]) -> Delta:
    """The same of whole changes of down projections, [d, d_ff] by layer."""
    return of_updates(lm, {la: Dense(weights=[change]) for la, change in changes.items()}, about)


@contextmanager
def changed(lm: LanguageModel, delta: Delta) -> Iterator[None]:
    """The model with the difference in its weights; afterwards it is as before, bit for bit.

    No hash is compared: see `check_base`.
    """
    kept = {name: value.clone() for name, value in _tensors(lm, delta)}
    try:
        with torch.no_grad():
            for name, value in _tensors(lm, delta):
                value.copy_(_sum(value, delta.change(name)))
        yield
    finally:
        with torch.no_grad():
            for name, value in _tensors(lm, delta):
                value.copy_(kept[name])


def _sum(value: Tensor, change: Tensor) -> Tensor:
    """A tensor and its change, rounded once: in float64, on its device."""
    return value.double() + change.to(value.device, torch.float64)


def rounding(lm: LanguageModel, delta: Delta, dtype: torch.dtype) -> float:
    """What is lost where the changed weights are kept in a dtype: ||rounded - exact|| / ||change||.

    Over all changed tensors together, Frobenius norms. 0 of a change that is 0 itself.
    """
    lost = size = 0.0
    for name, value in _tensors(lm, delta):
        change = delta.change(name).double()
        exact = _sum(value, change)
        lost += float((exact.to(dtype).double() - exact).square().sum())
        size += float(change.square().sum())
    return (lost / size) ** 0.5 if size else 0.0


def write(path: str | Path, delta: Delta) -> None:
    """Write a difference as one safetensors file, all or nothing."""
    with atomic(path) as temporary:
        save_file(delta.parts, temporary, _metadata(delta))


def _metadata(delta: Delta) -> dict[str, str]:
    return {"format": FORMAT, "base": json.dumps(delta.base), **delta.about}


def read(path: str | Path) -> Delta:
    """A difference that `write` wrote. Raises LoceditError for what is none."""
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            parts = {name: stream.get_tensor(name) for name in stream.keys()}
        if metadata.pop("format", None) != FORMAT:
            raise ValueError(f"it has no format {FORMAT}")
        base = json.loads(metadata.pop("base"))
        _check_parts(parts, base)
        if not isinstance(json.loads(metadata.get("settings", "{}")), dict):
            raise ValueError("its settings are no mapping")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise LoceditError(
            f"{path}: cannot be read as a difference of weights ({error}); expected a safetensors "
            "file that --save-delta wrote"
        ) from error
    return Delta(parts=parts, base=base, about=metadata)


def _check_parts(parts: Mapping[str, Tensor], base: Mapping[str, str]) -> None:
    """ValueError where a tensor lacks its change, as in an adapter's file, which is like ours."""
    if not isinstance(base, dict):
        raise ValueError("its base is no mapping of tensors to hashes")
    for name in base:
        if f"{name}.delta" not in parts and not {f"{name}.left", f"{name}.right"} <= set(parts):
            raise ValueError(f"it has no change of {name}")
    for name, part in parts.items():
        if not part.is_floating_point() or not part.isfinite().all():
            raise ValueError(f"not all of {name} is a finite number")


def check_base(lm: LanguageModel, delta: Delta) -> None:
    """Raise LoceditError where the difference was made from other weights than the model's, or
    a change has another shape than its tensor, as in a file that somebody else made.
    """
    own = dict(lm.model.named_parameters())
    for name, wanted in delta.base.items():
        if name not in own or _hash(own[name]) != wanted:
            of = delta.about.get("base_model", "another model")
            raise LoceditError(
                f"the difference is one of {of}: the model's tensor {name!r} "
                f"{'is missing' if name not in own else 'has other values'}; give its base model"
            )
        if not delta.fits(name, own[name]):
            raise LoceditError(
                f"the difference's change of {name!r} has another shape than the tensor; make it "
                "again"
            )


def write_folder(
    lm: LanguageModel,
    delta: Delta,
    folder: str | Path,
    *,
    card: str = "",
    dtype: torch.dtype | None = None,
    beside: Mapping[str, Path] | None = None,
) -> None:
    """The changed model as a folder that transformers loads, all or nothing.

    The model itself is as before, bit for bit. card: the text of the folder's README.md. dtype: of
    the weights, the model's own if none is given; what that loses, `rounding` says. beside: more
    files for the folder, by name.
    """
    check_base(lm, delta)
    dtype = lm.dtype if dtype is None else dtype
    with atomic_folder(folder) as temporary:
        with changed(lm, delta):
            weights = None
            if dtype != lm.dtype:
                named = lm.model.state_dict().items()
                weights = {n: v.to(dtype) if v.is_floating_point() else v for n, v in named}
            lm.model.save_pretrained(temporary, state_dict=weights)
        lm.tokenizer.save_pretrained(temporary)
        for name, path in (beside or {}).items():
            shutil.copyfile(path, temporary / name)
        older_releases.make_readable(temporary, dtype=str(dtype).removeprefix("torch."))
        _finish(temporary, card)


def check_adapter(lm: LanguageModel, delta: Delta) -> None:
    """Raise LoceditError where an adapter cannot hold the change: of a tensor that changes as a
    whole, or of the embedding, which a head may share.
    """
    if _name_of(lm, lm.embedding.weight) in delta.names:
        raise LoceditError(
            "the change is of the embedding, which an adapter does not reach as a model's head "
            "does; keep the difference or the whole model"
        )
    whole = [name for name in delta.names if f"{name}.delta" in delta.parts]
    if whole:
        raise LoceditError(
            f"the change of {listed(whole)} is no product of low rank, as an adapter's is; keep "
            "the difference or the whole model"
        )


def write_adapter(
    lm: LanguageModel, delta: Delta, folder: str | Path, *, base: str, card: str = ""
) -> None:
    """A difference of low rank as a LoRA adapter, which peft loads on its base, all or nothing.

    B = left, A = right^T, alpha = rank, so that nothing is scaled. base: the base model's name or
    folder, which peft may ask the hub for. Raises LoceditError where the change of a tensor is no
    product of few columns.
    """
    check_base(lm, delta)
    check_adapter(lm, delta)
    modules = [name.removesuffix(".weight") for name in delta.names]
    ranks = {m: delta.parts[f"{m}.weight.left"].shape[1] for m in modules}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "target_modules": modules,
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": lm.architecture.transposed,
    }
    tensors = {}
    for module in modules:
        left, right = (delta.parts[f"{module}.weight.{side}"] for side in ("left", "right"))
        if lm.architecture.transposed:  # peft turns B A itself
            left, right = right, left
        tensors[f"base_model.model.{module}.lora_A.weight"] = right.T.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = left.contiguous()
    with atomic_folder(folder) as temporary:
        text = json.dumps(settings, indent=2, sort_keys=True)
        (temporary / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
        save_file(tensors, temporary / "adapter_model.safetensors", _metadata(delta))
        _finish(temporary, card)


def _finish(folder: Path, card: str) -> None:
    if card:
        (folder / "README.md").write_text(card, encoding="utf-8")
    mode = min(folder.glob("*config.json")).stat().st_mode  # weights too may be read by others
    for path in folder.iterdir():
        path.chmod(mode)


def _tensors(lm: LanguageModel, delta: Delta) -> Iterator[tuple[str, nn.Parameter]]:
    own = dict(lm.model.named_parameters())
    yield from ((name, own[name]) for name in delta.names)


def _name_of(lm: LanguageModel, tensor: Any) -> str:
    return next(name for name, value in lm.model.named_parameters() if value is tensor)


def _hash(tensor: Tensor) -> str:
    raw = tensor.detach().cpu().float().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(raw.tobytes()).hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
