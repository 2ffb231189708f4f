"""Whether a function that was lent a model gives it back as it was.

Editors and localizers are anybody's. One that writes to a weight, or leaves a hook behind, makes
every later row of the job one of another model, and no number would show it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locedit.errors import SpoiledModelError
from locedit.model.language_model import LanguageModel

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def left_alone(lm: LanguageModel, who: str) -> Iterator[None]:
    """Raise SpoiledModelError where the block changed the model, whether or not it ended well.

    who: whose function runs in the block, for the sentence. What has to be asked of each module
    takes a millisecond; the weights' numbers are asked for once.
    """
    before = _State.of(lm)
    try:
        yield
    except Exception as error:
        _refuse(before.change(lm), who, error)
        raise
    _refuse(before.change(lm), who, None)


def _refuse(change: str | None, who: str, cause: Exception | None) -> None:
    if change is not None:
        raise SpoiledModelError(
            f"{who} has to leave the model as it was, and {change}: whatever came after would be "
            "of another model; run passes under a change by locedit.engine.updates.applied, and "
            "hooks by locedit.model.hooks.hooked, which takes them away again"
        ) from cause


# by name, the thing itself and what its calls depend on, in the order of the words for a change
Things = dict[str, tuple[Any, tuple[Any, ...]]]
_OF_MODULES = (
    "a hook was left at",
    "training was switched on or off in",
    "`forward` was replaced in",
)
_OF_WEIGHTS = ("a write was made to", "gradients were switched on or off for")


@dataclass(frozen=True, kw_only=True)
class _State:
    """What of a model's modules and weights its calls depend on.

    Of weights that is the storage and the version, which torch raises with each write. lines: of
    those that edits change, some numbers, for writes past the version.
    """

    modules: Things
    weights: Things
    lines: Tensor

    @classmethod
    def of(cls, lm: LanguageModel) -> "_State":
        modules, weights = {}, {}
        for name, module in lm.model.named_modules():
            hooks = [tuple(getattr(module, kind)) for kind in _HOOKS]
            modules[name] = module, (hooks, module.training, vars(module).get("forward"))
            for own, weight in module._parameters.items():
                if weight is not None:
                    written = _version(weight), weight.untyped_storage()._cdata
                    weights[f"{name}.{own}"] = weight, (written, weight.requires_grad)
        return cls(modules=modules, weights=weights, lines=torch.cat(_lines(lm)))

    def change(self, lm: LanguageModel) -> str | None:
        """The first thing that is not as it was, in words; None where all is."""
        now = _State.of(lm)
        said = _difference(self.modules, now.modules, _OF_MODULES)
        said = said or _difference(self.weights, now.weights, _OF_WEIGHTS)
        if said is not None:
            return said
        moved = (self.lines != now.lines) & ~self.lines.isnan()
        if not moved.any():
            return None
        ends = torch.tensor([len(line) for line in _lines(lm)]).cumsum(dim=0)
        layer = int((ends <= int(moved.nonzero()[0])).sum())
        return f"a write was made to the down projection of layer {layer}"


def _difference(before: Things, after: Things, words: Sequence[str]) -> str | None:
    for name in sorted(before.keys() ^ after.keys()):
        return f"{name} was {'added' if name in after else 'taken away'}"
    for name, (thing, state) in before.items():
        other, now = after[name]
        if other is not thing:
            return f"{name} was replaced"
        if state != now:
            what = next(word for word, a, b in zip(words, state, now, strict=True) if a != b)
            return f"{what} {name or 'the model itself'}"
    return None


def _version(weight: Tensor) -> int | None:
    return None if weight.is_inference() else weight._version  # such tensors count no writes


@torch.no_grad()
def _lines(lm: LanguageModel) -> list[Tensor]:
    """Of each layer's down projection the first row and the first column, [d_ff + d].

    A write through `weight.data` raises no version. One of whole rows or columns, or of low rank,
    as edits are, meets these.
    """
    weights = [lm.down_weight(layer) for layer in range(lm.n_layers)]
    return [torch.cat([weight[0], weight[:, 0]]).to(lm.device) for weight in weights]
