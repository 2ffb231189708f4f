"""oneDNN's products against torch's own: values, gradients, and whole models."""

import copy

import pytest
import tiny
import torch
from torch.nn.functional import linear as plain
from transformers.pytorch_utils import Conv1D

from locedit.model import linear as products
from locedit.model.linear import FASTER, can_multiply, linear, speed_up

SHAPES = {"rows": (7, 5), "rows of tokens": (2, 3, 5), "no row": (0, 5), "one value": (5,)}


@pytest.fixture(autouse=True)
def onednn(monkeypatch):
    """The weights here are small ones."""
    monkeypatch.setattr(products, "SMALLEST", 1)
    if not can_multiply(torch.zeros(2, 2), torch.zeros(2, 2)):
        pytest.skip("this torch has no oneDNN")


def drawn(*shape: int, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("stored", ["as it is", "transposed"])
def test_values_and_gradients_equal_torchs(shape, bias, stored):
    weight = drawn(4, 5) if stored == "as it is" else drawn(5, 4).detach().T.requires_grad_()
    given = [drawn(*shape), weight, *([drawn(4)] if bias else [])]
    ours, theirs = linear(*given), plain(*given)
    torch.testing.assert_close(ours, theirs)
    direction = torch.arange(ours.numel(), dtype=torch.float32).view_as(ours)
    gradients = [torch.autograd.grad((y * direction).sum(), given) for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_nothing_is_kept_for_a_gradient_that_nobody_asks_for():
    x, weight = drawn(3, 5).detach(), drawn(4, 5).detach()
    assert linear(x, weight).grad_fn is None
    with torch.no_grad():
        assert linear(x, weight.requires_grad_()).grad_fn is None


def test_small_weights_are_torchs(monkeypatch):
    monkeypatch.undo()
    assert not can_multiply(drawn(3, 32), drawn(32, 32))
    assert can_multiply(drawn(3, 192), drawn(576, 192))


def test_other_numbers_than_single_precision_are_torchs():
    x, weight = drawn(3, 5, dtype=torch.float64), drawn(4, 5, dtype=torch.float64)
    assert not can_multiply(x, weight)
    torch.testing.assert_close(linear(x, weight), plain(x, weight), rtol=0, atol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_sped_up_model_says_the_same_and_a_copy_of_it_is_one_of_its_own(family):
    model = tiny.pair(family).model.float()
    ids = torch.arange(12)[None]
    names = list(model.state_dict())
    with torch.no_grad():
        before = model(ids).logits
        speed_up(model)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)
        twin = copy.deepcopy(model)
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin(ids).logits.any()
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-5, atol=1e-5)
    assert list(model.state_dict()) == names
    fast = [module for module in model.modules() if type(module) in FASTER.values()]
    assert fast
    assert not [module for module in model.modules() if type(module) in FASTER]


LAYERS = {"linear": lambda: torch.nn.Linear(5, 4), "GPT-2's": lambda: Conv1D(4, 5)}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    torch.manual_seed(0)
    layer = request.param().requires_grad_(False)
    speed_up(layer)
    return layer


def unpacked(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    transposed = isinstance(layer, Conv1D)
    return linear(x, layer.weight.T if transposed else layer.weight, layer.bias)


def packs_made(monkeypatch) -> list[torch.Tensor]:
    """The weights that are put into oneDNN's order from now on."""
    made = []
    order = torch.ops.mkldnn._reorder_linear_weight

    class Ops:
        _linear_pointwise = torch.ops.mkldnn._linear_pointwise

        @staticmethod
        def _reorder_linear_weight(weight, rows):
            made.append(weight)
            return order(weight, rows)

    monkeypatch.setattr(products.torch.ops, "mkldnn", Ops)
    return made


@pytest.mark.parametrize("shape", [*SHAPES.values(), (1, 5)], ids=[*SHAPES, "one row"])
def test_a_weight_kept_in_onednns_order_gives_the_same_bits_and_gradients(layer, shape):
    x, again = drawn(*shape), drawn(*shape)
    with torch.inference_mode():  # where it is put in order first
        assert layer(x).equal(unpacked(layer, x))
    ours, theirs = layer(x), unpacked(layer, again)
    assert ours.equal(theirs)
    if ours.grad_fn is not None:
        (gradient,), (expected,) = (
            torch.autograd.grad(y.square().sum(), t) for y, t in ((ours, x), (theirs, again))
        )
        assert gradient.equal(expected)


def test_a_weight_is_put_in_order_once_and_again_when_it_is_written_to(layer, monkeypatch):
    made, x = packs_made(monkeypatch), drawn(3, 5).detach()

    def check(expected: int) -> None:
        for _ in range(2):
            assert layer(x).equal(unpacked(layer, x))
        assert len(made) == expected

    check(1)
    layer.weight.add_(1)
    check(2)
    with torch.inference_mode():
        layer.weight.T.mul_(2)  # by a view, as edits are written
    check(3)
    layer.weight.data = layer.weight * 3
    check(4)
    layer.weight = torch.nn.Parameter(layer.weight.clone(), requires_grad=False)
    check(5)
    twin = copy.deepcopy(layer)
    twin.weight.zero_()
    assert twin(x).equal(unpacked(twin, x))
    check(6)  # of the twin's own


def test_a_weight_that_is_trained_is_not_put_in_order(layer, monkeypatch):
    made = packs_made(monkeypatch)
    layer.weight.requires_grad_()
    layer(drawn(3, 5)).sum().backward()
    assert not made
    assert layer.weight.grad is not None


def test_no_more_of_a_model_is_put_in_order_than_a_bound_holds(monkeypatch):
    made = packs_made(monkeypatch)
    model = torch.nn.Sequential(*[torch.nn.Linear(5, 5) for _ in range(3)]).requires_grad_(False)
    monkeypatch.setattr(products, "PACKED_BYTES", 2 * 5 * 5 * 4)
    speed_up(model)
    model(drawn(3, 5).detach())
    assert [weight.data_ptr() for weight in made] == [m.weight.data_ptr() for m in [*model][:2]]
