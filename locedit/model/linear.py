"""Matrix products with frozen weights on a CPU, by oneDNN, where torch would call its BLAS.

torch multiplies single-precision matrices with MKL, which on processors that are not Intel's leaves
their widest vector units idle; oneDNN, which torch carries too, uses them: up to 2.2 times as fast
(docs/explanation/engine.md). Both round as single precision does, and sum in another order.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain
from transformers.pytorch_utils import Conv1D


def can_multiply(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these: single precision on a CPU, with a torch that has it.

    It knows no single vector, and no product over nothing.
    """
    return bool(
        x.dim() > 1
        and x.numel() > 0
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what torch's own compiler calls
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias: [..., n] and [m, n] -> [..., m], with gradients."""
    if not can_multiply(x, weight):
        return plain(x, weight, bias)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias)
    ):
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """oneDNN's product has no gradient of its own: two more products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        gradient = gradients[0]
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.T) if of_x else None,
            _product(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


class _FastLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _FastConv1D(Conv1D):
    """GPT-2's linear layers, which keep their weights transposed."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.T, self.bias)


FASTER: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _FastLinear, Conv1D: _FastConv1D}


def speed_up(model: nn.Module) -> None:
    """Let every linear layer of a model multiply by `linear`; weights and names stay as they are.

    A layer changes its class, not its `forward`, so that a copy of the model is one of its own.
    """
    for module in model.modules():
        if type(module) in FASTER:
            module.__class__ = FASTER[type(module)]
