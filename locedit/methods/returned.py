"""What an editing method's function gives back, held to what is made of it.

A wrong shape would be torch's own words at best, and at worst be broadcast.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from locedit.engine.updates import Dense, LowRank
from locedit.errors import LoceditError
from locedit.messages import shown
from locedit.methods.base import Edit
from locedit.model.language_model import LanguageModel
from locedit.windows import EMBEDDING


def check(found: Any, method: str, lm: LanguageModel, facts: int, *, jointly: bool) -> None:
    """Raise LoceditError, naming the method and the field, for what is no edit of so many facts.

    jointly: whether they share one update. Of facts that are all left unedited, updates may be {}.
    """
    fault = _fault(found, lm, facts, jointly)
    if fault is not None:
        raise LoceditError(f"the method {method}: {fault}")


def _fault(found: Any, lm: LanguageModel, facts: int, jointly: bool) -> str | None:
    if not isinstance(found, Edit):
        return f"its function gives {shown(found)}, expected a locedit.methods.Edit"
    if not isinstance(found.updates, Mapping):
        return f"updates is {shown(found.updates)}, expected a mapping from layers to changes"
    if not found.updates and len(found.not_edited) < facts:
        return "updates is empty, expected the change of at least one layer"
    for layer, update in found.updates.items():
        fault = _layers_fault(layer, update, lm, 1 if jointly else facts)
        if fault is not None:
            return fault
    return _numbers_fault(found, facts)


# ---- of each layer -------------------------------------------------------------------------------


def _layers_fault(layer: Any, update: Any, lm: LanguageModel, facts: int) -> str | None:
    if not isinstance(layer, int) or not (layer == EMBEDDING or 0 <= layer < lm.n_layers):
        return (
            f"updates has the key {shown(layer)}, expected a layer from 0 to {lm.n_layers - 1}, "
            f"or {EMBEDDING} for the embedding"
        )
    weight, name = lm.edited_weight(layer), f"updates[{layer}]"
    d, inner = weight.shape
    if isinstance(update, LowRank):
        return _low_rank_fault(update, name, weight, facts)
    if not isinstance(update, Dense):
        return f"{name} is {shown(update)}, expected a LowRank or Dense of locedit.engine.updates"
    if update.biases is not None and getattr(lm.edited_module(layer), "bias", None) is None:
        return f"{name} has biases, and this model's module has none; leave them None"
    parts: dict[str, tuple[Any, tuple[int, ...]]] = {"weights": (update.weights, (d, inner))}
    if update.biases is not None:
        parts["biases"] = update.biases, (d,)
    for part, (tensors, shape) in parts.items():
        if not isinstance(tensors, Sequence | Tensor) or len(tensors) != facts:
            return f"{name}.{part} is {shown(tensors)}, expected a tensor for {_each(facts)}"
        for index, tensor in enumerate(tensors):
            fault = _tensors_fault(tensor, f"{name}.{part}[{index}]", weight, [shape])
            if fault is not None:
                return fault
    return None


def _low_rank_fault(update: LowRank, name: str, weight: Tensor, facts: int) -> str | None:
    for side, size in zip(("left", "right"), weight.shape, strict=True):
        tensor = getattr(update, side)
        rank = tensor.shape[2] if isinstance(tensor, Tensor) and tensor.dim() == 3 else "rank"
        shapes = [(facts, size), (facts, size, rank)]
        fault = _tensors_fault(tensor, f"{name}.{side}", weight, shapes)
        if fault is not None:
            return fault
    if update.left.shape[2:] != update.right.shape[2:]:
        return (
            f"{name}.left has shape {tuple(update.left.shape)} and right "
            f"{tuple(update.right.shape)}, expected one rank of both"
        )
    return None


def _tensors_fault(
    tensor: Any, name: str, weight: Tensor, shapes: Sequence[tuple[Any, ...]]
) -> str | None:
    """Of a part of a change: any of the shapes is right, the weight's own type and device are."""
    if not isinstance(tensor, Tensor):
        return f"{name} is {shown(tensor)}, expected a tensor"
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join("(" + ", ".join(map(str, shape)) + ")" for shape in shapes)
        return f"{name} has shape {tuple(tensor.shape)}, expected {wanted}"
    for what in ("dtype", "device"):
        given, wanted = getattr(tensor, what), getattr(weight, what)
        if given != wanted:
            return f"{name} has the {what} {given}, expected the weight's, {wanted}"
    return None


def _each(facts: int) -> str:
    return f"each fact of the batch ({facts})"


# ---- of each fact --------------------------------------------------------------------------------


def _numbers_fault(found: Edit, facts: int) -> str | None:
    for name, values in {"steps": found.steps, "neurons": found.neurons}.items():
        if name == "neurons" and values is None:
            continue
        if not _whole(values, facts):
            return f"{name} is {shown(values)}, expected a whole number for {_each(facts)}"
    ranks = found.null_space_rank
    if ranks is not None and not _whole(ranks, len(found.updates)):
        return (
            f"null_space_rank is {shown(ranks)}, expected a whole number for each layer of updates "
            f"({len(found.updates)})"
        )
    losses = found.losses
    if not isinstance(losses, Sequence) or len(losses) not in (0, facts):
        return f"losses is {shown(losses)}, expected (first, last) for {_each(facts)}, or []"
    for pair in losses:
        if not isinstance(pair, Sequence) or [isinstance(x, Real) for x in pair] != [True, True]:
            return f"losses has {shown(pair)}, expected a pair of numbers, (first, last)"
    for place, reason in found.not_edited.items():
        if place not in range(facts) or not isinstance(reason, str):
            return (
                f"not_edited has {shown(place)}: {shown(reason)}, expected a place in the batch, "
                f"0 to {facts - 1}, and the reason in words"
            )
    return None


def _whole(values: Any, count: int) -> bool:
    several = isinstance(values, Sequence) and not isinstance(values, str)
    return several and len(values) == count and all(isinstance(x, Integral) for x in values)
