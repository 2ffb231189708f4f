"""Matrix products with frozen weights on a CPU, by oneDNN, where torch would call its BLAS.

torch multiplies single-precision matrices with MKL, which on processors that are not Intel's leaves
their widest vector units idle; oneDNN, which torch carries too, uses them: up to 2.2 times as fast
(docs/explanation/engine.md). Both round as single precision does, and sum in another order.

oneDNN multiplies by weights in an order of its own, and puts them into it at each product unless it
finds them so. Layers keep theirs in that order, which changes no number.
"""

from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch.nn.functional import linear as plain
from transformers.pytorch_utils import Conv1D

# A weight of fewer entries is multiplied by torch: oneDNN prepares for half a millisecond whenever
# it sees a new shape, and a product with 32 x 32 takes three microseconds
SMALLEST = 1 << 14


def can_multiply(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies these: single precision on a CPU, with a torch that has it.

    It knows no single vector, and no product over nothing.
    """
    return bool(
        weight.numel() >= SMALLEST
        and x.dim() > 1
        and x.numel() > 0
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what torch's own compiler calls
    )


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    layer: "_FastLinear | _FastConv1D | None" = None,
) -> Tensor:
    """x weight^T + bias: [..., n] and [m, n] -> [..., m], with gradients.

    layer: whose weight it is, as it is or transposed, where that may be kept in oneDNN's order.
    """
    if not can_multiply(x, weight):
        return plain(x, weight, bias)
    packed = weight if layer is None else _packed(layer, x, weight)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias)
    ):
        return _Linear.apply(x, weight, bias, packed)
    return _product(x, packed, bias)


PACKED_BYTES = 1 << 30  # of a model's weights at most are kept a second time, in oneDNN's order

# of each layer, what its weight was when it was put in order, and the weight in order
_PACKED: WeakKeyDictionary[nn.Module, tuple[tuple[ref[Tensor], int, int], Tensor]]
_PACKED = WeakKeyDictionary()


def _packed(layer: Any, x: Tensor, weight: Tensor) -> Tensor:
    """A layer's weight in oneDNN's order; as it is where that is not kept or sums otherwise.

    It is put in order again where the parameter is another one or was written to.
    """
    single = x.numel() == x.shape[-1]  # for one row oneDNN takes another sum, by the order given
    if single or not layer.packs or weight.requires_grad or weight.is_inference():
        return weight
    as_it_is = ref(layer.weight), layer.weight.data_ptr(), layer.weight._version
    if layer in _PACKED:
        known, packed = _PACKED[layer]
        if known[0]() is layer.weight and known[1:] == as_it_is[1:]:
            return packed
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
    _PACKED[layer] = as_it_is, packed
    return packed


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """oneDNN's product has no gradient of its own: two more products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, packed, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        gradient = gradients[0]
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.T) if of_x else None,
            _product(rows.T, x.flatten(0, -2).T) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
            None,
        )


class _FastLinear(nn.Linear):
    packs = False  # whether the weight is kept in oneDNN's order too

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias, layer=self)


class _FastConv1D(Conv1D):
    """GPT-2's linear layers, which keep their weights transposed."""

    packs = False

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.T, self.bias, layer=self)


FASTER: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _FastLinear, Conv1D: _FastConv1D}


def speed_up(model: nn.Module) -> None:
    """Let every linear layer of a model multiply by `linear`; weights and names stay as they are.

    A layer changes its class, not its `forward`, so that a copy of the model is one of its own. The
    first layers that PACKED_BYTES hold put their weights into oneDNN's order when these are first
    needed, and keep them so.
    """
    left = PACKED_BYTES
    for module in model.modules():
        if type(module) in FASTER:
            faster: Any = module
            faster.__class__ = FASTER[type(module)]
            left -= faster.weight.nbytes
            faster.packs = left >= 0
