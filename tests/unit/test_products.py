"""oneDNN's products against torch's own: values, gradients, and whole models."""

import copy

import pytest
import tiny
import torch
from torch.nn.functional import linear as plain

from locedit.model.linear import FASTER, can_multiply, linear, speed_up

SHAPES = {"rows": (7, 5), "rows of tokens": (2, 3, 5), "no row": (0, 5), "one value": (5,)}


@pytest.fixture(autouse=True)
def onednn():
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
