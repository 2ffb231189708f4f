"""A card that is none: tensors that say they are on another device, and compute on the CPU.

What a GPU would refuse is refused here too: operations on tensors of both devices, and reading a
card's numbers as if they were the CPU's. So that code can be shown to put everything where it
belongs on a machine that has no card.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Torch's own name of a device that its autograd serves on the calling thread, and no one else uses
CARD = torch.device("lazy")

aten = torch.ops.aten
# A card takes tensors of both devices where it copies, and indices of the CPU, which it fetches
FETCHING = {aten.index, aten.index_put_, aten.index_put, aten._index_put_impl_}
MIXING = FETCHING | {aten.copy_, aten._to_copy, aten.to}


class OnCard(Tensor):
    """A tensor on the card; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnCard":
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CARD,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.held})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch does before it dispatches, and could not for a device that is none."""
        if func is Tensor.tolist:
            return args[0].cpu().tolist()  # a copy, and seen as one
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
            args = (args[0], index, *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(func, args, kwargs or {})


class _Tensors(TorchFunctionMode):
    """torch.tensor copies to its device by itself, past every dispatch: here as any copy."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == CARD.type:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(CARD)
        return func(*args, **kwargs)


class _Card(TorchDispatchMode):
    """Makes tensors on the card where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on the tensors' numbers, its results where a card's would be."""
    leaves = [*_leaves((*args, *kwargs.values()))]
    there = [x for x in leaves if isinstance(x, OnCard)]
    numbers = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnCard)]
    asked = [x for x in leaves if isinstance(x, torch.device)]
    if there and any(x.dim() > 0 for x in numbers):  # a single number goes along with a launch
        if func.overloadpacket not in MIXING:
            raise RuntimeError(f"{func}: tensors on the card and on the CPU")
        if func.overloadpacket in FETCHING and not isinstance(args[0], OnCard):
            raise RuntimeError(f"{func}: indices on the card of a tensor on the CPU")
    if asked:
        on_card = asked[0].type == CARD.type
    elif func.overloadpacket in MIXING:
        on_card = isinstance(args[0], OnCard)
    else:
        on_card = bool(there)
    out = func(*_mapped(plain, args), **{k: _mapped(plain, v) for k, v in kwargs.items()})
    known = {id(x.held): x for x in there}  # what is written in place is itself

    def placed(x: Any) -> Any:
        if not (on_card and isinstance(x, Tensor)):
            return x
        return known[id(x)] if id(x) in known else OnCard(x)

    return _mapped(placed, out)


# An operation takes and gives values and lists of them; torch's own walk, of any tree, took most of
# the time of what runs here
def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, one) for one in value])
    return change(value)


def plain(x: Any) -> Any:
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.held if isinstance(x, OnCard) else x


@contextmanager
def card() -> Iterator[torch.device]:
    """Within the context CARD is a device like any other."""
    optimizer: Any = import_module("torch.optim.optimizer")
    devices = [*optimizer._get_fused_kernels_supported_devices(), CARD.type]
    with ExitStack() as stack:
        # views of such tensors cannot be made in inference mode, which computes as no_grad does
        mode = torch.inference_mode
        stack.enter_context(mock.patch.object(mode, "__enter__", _enter_no_grad))
        stack.enter_context(mock.patch.object(mode, "__exit__", _exit_no_grad))
        name = "_get_fused_kernels_supported_devices"
        stack.enter_context(mock.patch.object(optimizer, name, return_value=devices))
        stack.enter_context(mock.patch.object(nn.Module, "to", _moved))
        stack.enter_context(_Tensors())
        stack.enter_context(_Card())
        yield CARD


def _enter_no_grad(self: Any) -> None:
    self._without = torch.no_grad()
    self._without.__enter__()


def _exit_no_grad(self: Any, *error: Any) -> None:
    self._without.__exit__(*error)


_to = nn.Module.to


def _moved(model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """nn.Module.to, which changes its parameters in place, as such tensors cannot be."""
    if CARD not in args:
        return _to(model, *args, **kwargs)
    moved: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in moved:  # tied ones stay tied
                there = OnCard(weight.detach())
                moved[id(weight)] = nn.Parameter(there, requires_grad=weight.requires_grad)
            module._parameters[name] = None if weight is None else moved[id(weight)]
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else OnCard(buffer)
    return model
