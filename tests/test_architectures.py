"""Every family of the table against the textbook algorithms, on tiny random models.

The families differ in where norms, positions and windows stand; what is computed on them does not.
The checks are test_engine's, and so is the tolerance of 1e-6 in float64.
"""

from collections.abc import Iterator

import oracle
import pytest
import tiny
import torch
from test_engine import (
    NOISE,
    change_of,
    check_changes,
    check_measurement,
    check_partial_pass,
    check_trace,
    check_whole_pass,
    edit,
    left_alone,
    probe,
    requests,
    textbook,
)
from torch.overrides import TorchFunctionMode

from locedit import scoring, tracing
from locedit.methods import METHODS
from locedit.models import ARCHITECTURES, LanguageModel

WITH_BOS = ("mistral", "gemma2", "gemma3_text", "gemma3", "opt")


class NothingInFloat32(TorchFunctionMode):
    """Leaves out the casts of float64 to float32 that some families' norms and softmaxes make.

    They round what is to be compared, whatever the weights' type: by 1e-7, which an edit amplifies.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in args):
                return args[0]
            if func is torch.nn.functional.softmax:
                kwargs = {**kwargs, "dtype": None}
        return func(*args, **kwargs)


@pytest.fixture(autouse=True, scope="module")
def nothing_in_float32() -> Iterator[None]:
    with NothingInFloat32():
        yield


def build(family: str, **changes) -> LanguageModel:
    return LanguageModel(*tiny.pair(family, adds_bos=family in WITH_BOS, **changes))


@pytest.fixture(scope="module", params=sorted(set(tiny.FAMILIES) - {"llama", "gpt2"}))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def lm(family) -> LanguageModel:
    return build(family)


@pytest.fixture(scope="module")
def moments(lm) -> dict[int, torch.Tensor]:
    found = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(5))
    # OPT's ReLU lets some units say nothing in so little text.
    return {layer: c + 1e-3 * torch.eye(len(c)) for layer, c in found.items()}


def test_every_entry_of_the_table_is_tested():
    assert set(ARCHITECTURES) == set(tiny.FAMILIES)


def test_passes(lm):
    check_whole_pass(lm)
    check_partial_pass(lm)


@pytest.mark.parametrize("module", tracing.MODULES)
def test_traces(lm, module):
    check_trace(lm, "subject in the middle", module, window=3)


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", METHODS)
def test_edits(lm, moments, method, problem):
    """Changes of weights, and what the edited model then says."""
    fact = requests(problem)[0]
    expected = textbook(lm, method, fact, 1, moments)
    with left_alone(lm):
        got = edit(lm, method, [fact], 1, moments)
        after = scoring.measure(lm, [probe(fact)], got.updates, **NOISE)[0]
    check_changes(change_of(got.updates, 0), expected.changes)
    with oracle.edited(lm.model, expected.changes):
        check_measurement(after, lm, probe(fact))
