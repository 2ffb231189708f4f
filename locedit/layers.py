"""Linear layers that multiply by `locedit.products`, in the place of transformers' own.

Apart from `products`, since transformers takes a while to import.
"""

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from locedit.products import linear


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
