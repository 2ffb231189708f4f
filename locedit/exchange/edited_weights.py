"""Edited weights to take home: the difference alone, and a model's folder that holds it.

A difference is a safetensors file. Of each changed tensor, by its name in the model, it has `.left`
[d, r] and `.right` [d_ff, r] (the change is left right^T), or `.delta` in the tensor's own shape;
its metadata say of which model it is, with a hash of each base tensor, so that it is put on no
other. The folder is one that transformers loads by itself.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from locedit.engine.updates import Dense, LowRank, Updates
from locedit.errors import LoceditError
from locedit.model.language_model import LanguageModel
from locedit.store.files import atomic, atomic_folder

FORMAT = "locedit-delta-1"


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A difference of weights. parts: `NAME.left`, `NAME.right`, `NAME.delta` -> tensor.

    base: SHA-256 of each changed tensor as it is without the change. about: texts on its origin
    (base model, editor, settings, facts).
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


def of_updates(
    lm: LanguageModel, updates: Updates, about: Mapping[str, str], *, fact: int = 0
) -> Delta:
    """The difference that one fact's updates make, in the model's own orientation."""
    parts: dict[str, Tensor] = {}
    base: dict[str, str] = {}
    for layer, update in updates.items():
        module = lm.down_projection(layer)
        name = _name_of(lm, module.weight)
        base[name] = _hash(module.weight)
        flipped = lm.architecture.transposed
        if isinstance(update, LowRank):
            left, right = update.left[fact][:, None], update.right[fact][:, None]
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


def write(path: str | Path, delta: Delta) -> None:
    """Write a difference as one safetensors file, all or nothing."""
    metadata = {"format": FORMAT, "base": json.dumps(delta.base), **delta.about}
    with atomic(path) as temporary:
        save_file(delta.parts, temporary, metadata)


def read(path: str | Path) -> Delta:
    """A difference that `write` wrote. Raises LoceditError for what is none."""
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            parts = {name: stream.get_tensor(name) for name in stream.keys()}
        if metadata.pop("format", None) != FORMAT:
            raise LoceditError(f"{path}: no difference of weights that locedit wrote ({FORMAT})")
        base = json.loads(metadata.pop("base"))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise LoceditError(
            f"{path}: cannot be read as a difference of weights ({error}); expected a safetensors "
            "file that locedit wrote"
        ) from error
    return Delta(parts=parts, base=base, about=metadata)


def check_base(lm: LanguageModel, delta: Delta) -> None:
    """Raise LoceditError where the difference was made from other weights than the model's."""
    own = dict(lm.model.named_parameters())
    for name, wanted in delta.base.items():
        if name not in own or _hash(own[name]) != wanted:
            of = delta.about.get("base_model", "another model")
            raise LoceditError(
                f"the difference is one of {of}: the model's tensor {name!r} "
                f"{'is missing' if name not in own else 'has other values'}; give its base model"
            )


def write_folder(lm: LanguageModel, delta: Delta, folder: str | Path, *, card: str = "") -> None:
    """The changed model as a folder that transformers loads, in the model's dtype, all or nothing.

    The model itself is as before, bit for bit. card: the text of the folder's README.md.
    """
    check_base(lm, delta)
    with atomic_folder(folder) as temporary:
        kept = {name: value.clone() for name, value in _changed(lm, delta)}
        try:
            with torch.no_grad():
                for name, value in _changed(lm, delta):
                    value.add_(delta.change(name).to(value))
            lm.model.save_pretrained(temporary)
        finally:
            with torch.no_grad():
                for name, value in _changed(lm, delta):
                    value.copy_(kept[name])
        lm.tokenizer.save_pretrained(temporary)
        if card:
            (temporary / "README.md").write_text(card, encoding="utf-8")
        mode = (temporary / "config.json").stat().st_mode  # weights too may be read by others
        for path in temporary.iterdir():
            path.chmod(mode)


def _changed(lm: LanguageModel, delta: Delta) -> Iterator[tuple[str, nn.Parameter]]:
    own = dict(lm.model.named_parameters())
    yield from ((name, own[name]) for name in delta.names)


def _name_of(lm: LanguageModel, tensor: Any) -> str:
    return next(name for name, value in lm.model.named_parameters() if value is tensor)


def _hash(tensor: Tensor) -> str:
    raw = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(raw.tobytes()).hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
