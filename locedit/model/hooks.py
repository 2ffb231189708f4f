"""Interventions on modules: what enters and leaves them, seen and replaced while a block lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[Tensor, Tensor], Tensor | None]  # (input, output) -> output in its place, or None

_shape: ContextVar[torch.Size] = ContextVar("shape")  # [B, Q] of the layer that runs


def running(shape: torch.Size) -> None:
    """Tell hooks the shape [B, Q] of a layer's tokens, which some layers flatten on their way."""
    _shape.set(shape)


@contextmanager
def hooked(hooks: dict[nn.Module, Hook]) -> Iterator[None]:
    """Call `hook(input, output)` after each module; a tensor that it returns replaces the output.

    Inputs and outputs are hidden states [B, Q, ...], also where the module sees them flattened;
    whatever else a module returns beside them is kept.
    """

    def adapt(hook: Hook) -> Callable[..., Any]:
        def forward_hook(_module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
            entering = args[0] if args else kwargs["hidden_states"]
            leaving = output if isinstance(output, Tensor) else output[0]
            flat = leaving.dim() == 2
            if flat:
                entering, leaving = (x.unflatten(0, _shape.get()) for x in (entering, leaving))
            replaced = hook(entering, leaving)
            if replaced is None:
                return None
            if flat:
                replaced = replaced.flatten(0, 1)
            return replaced if isinstance(output, Tensor) else (replaced, *output[1:])

        return forward_hook

    handles = []
    try:
        for module, hook in hooks.items():
            handles.append(module.register_forward_hook(adapt(hook), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def spared(module: nn.Module, keep: Tensor, spare: Tensor, value: Tensor) -> Iterator[None]:
    """Run a module that sees one token at a time, as MLPs do, only where it matters.

    keep, spare: which of the batch's [B * Q] tokens it is run for, and where `value` [spare, d]
    stands in for its output; each token is in one of them. As indices and no mask, whose size a
    card would have to be asked for.
    """
    shapes: list[torch.Size] = []

    def gather(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        entering = args[0] if args else kwargs["hidden_states"]
        shapes.append(entering.shape[:-1])
        kept = entering.flatten(0, -2).index_select(0, keep)[None]
        return ((kept, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": kept})

    def scatter(_module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
        whole = output.new_empty(len(keep) + len(spare), output.shape[-1])
        whole.index_copy_(0, keep, output[0])
        whole.index_copy_(0, spare, value)
        return whole.unflatten(0, shapes.pop())

    handles = [
        module.register_forward_pre_hook(gather, with_kwargs=True),
        module.register_forward_hook(scatter),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
