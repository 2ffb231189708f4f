"""An editor or localizer that changes the model ends the job: later rows would be of another."""

import numpy as np
import pytest
import test_localizers_plain as plain
import tiny
import torch

from locedit import outcomes
from locedit.engine.updates import LowRank
from locedit.errors import LoceditError, SpoiledModelError
from locedit.localizers import Localization, Localizer, Place
from locedit.localizers import SharedInputs as LocalizersInputs
from locedit.methods import Edit, Method, SharedInputs, together
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study.batching import together_or_alone

LAYER = 2
REQUEST = Request(
    case_id="1",
    template="The city of {} is",
    subject="Rome",
    target="old",
    problem=PROBLEMS["error_injection"],
)


@pytest.fixture(params=["llama", "gpt2"])
def lm(request) -> LanguageModel:
    return LanguageModel(*tiny.pair(request.param))


def write(lm):
    with torch.no_grad():
        lm.down_weight(LAYER)[1, 2] += 1


def write_in_inference_mode(lm):
    with torch.inference_mode():
        lm.layers[0].get_parameter(next(iter(dict(lm.layers[0].named_parameters())))).mul_(2)


def write_past_the_version(lm):
    weight = lm.down_weight(LAYER)
    left, right = (torch.linspace(1, 2, size, dtype=lm.dtype) for size in weight.shape)
    weight.data += torch.outer(left, right)


def write_a_column_past_the_version(lm):
    lm.down_weight(LAYER).data[:, -1] = 0


def take_another_storage(lm):
    weight = lm.down_projection(LAYER).weight
    weight.data = weight.data * 2


def leave_a_hook(lm):
    lm.down_projection(LAYER).register_forward_hook(lambda _, args, output: output * 1.5)


def leave_a_hook_before(lm):
    lm.layers[LAYER].register_forward_pre_hook(lambda _, args: args)


def replace_a_module(lm):
    norm = lm.architecture.norm.rpartition(".")
    setattr(lm.model.get_submodule(norm[0]), norm[2], torch.nn.Identity())


def replace_a_forward(lm):
    lm.mlp(LAYER).forward = lambda hidden: hidden


def train(lm):
    lm.model.train()


def ask_for_gradients(lm):
    lm.down_projection(LAYER).weight.requires_grad_(True)


CHANGES = {
    write: "a write was made to",
    write_in_inference_mode: "a write was made to",
    write_past_the_version: f"a write was made to the down projection of layer {LAYER}",
    write_a_column_past_the_version: f"a write was made to the down projection of layer {LAYER}",
    take_another_storage: "a write was made to",
    leave_a_hook: "a hook was left at",
    leave_a_hook_before: "a hook was left at",
    replace_a_module: "was replaced",
    replace_a_forward: "`forward` was replaced in",
    train: "training was switched on or off in the model itself",
    ask_for_gradients: "gradients were switched on or off for",
}


def method(do) -> Method:
    def edit(lm, requests, layer, hyper, shared):
        do(lm)
        weight = lm.down_weight(layer)
        left, right = (torch.ones(len(requests), size, dtype=lm.dtype) for size in weight.shape)
        return Edit(updates={layer: LowRank(left=left, right=right)}, steps=[0] * len(requests))

    return Method(name="mine", function=edit, settings=dict)


def localizer(do) -> Localizer:
    def localize(lm, facts, place, settings, shared):
        do(lm)
        return [Localization(values=np.zeros(lm.n_layers), passes=1) for _ in facts]

    return Localizer(name="mine", function=localize)


def edited(lm, do):
    return method(do).edit(lm, [REQUEST], LAYER, {}, SharedInputs())


def localized(lm, do):
    return localizer(do).localize(lm, [plain.MADRID], Place(module="mlp"), {}, LocalizersInputs())


@pytest.mark.parametrize("do", CHANGES, ids=lambda do: do.__name__)
@pytest.mark.parametrize("run", [edited, localized])
def test_a_change_of_the_model_is_refused_and_named(lm, do, run):
    with pytest.raises(SpoiledModelError) as caught:
        run(lm, do)
    kind = "method" if run is edited else "localizer"
    said = str(caught.value)
    assert said.startswith(f"the {kind} mine has to leave the model as it was, and ")
    assert CHANGES[do] in said
    if do in (write, leave_a_hook, ask_for_gradients):
        assert lm.architecture.down_projection in said
        assert f".{LAYER}." in said


@pytest.mark.parametrize("run", [edited, localized])
def test_what_leaves_the_model_alone_is_let_be(lm, run):
    def nothing(lm):
        handle = lm.layers[0].register_forward_hook(lambda *_: None)
        lm.model(torch.tensor([lm.encode("The city")]))
        handle.remove()

    assert run(lm, nothing)


def test_a_change_is_told_where_the_function_fails_too(lm):
    def fail(lm):
        write(lm)
        raise LoceditError("too late")

    with pytest.raises(SpoiledModelError) as caught:
        edited(lm, fail)
    assert str(caught.value.__cause__) == "too late"


def test_no_facts_row_swallows_it(lm):
    with pytest.raises(SpoiledModelError):
        together_or_alone(lambda some: edited(lm, write), [1, 2])
    with pytest.raises(SpoiledModelError):
        together.edit(*(lm, method(write), [REQUEST], LAYER, {}, SharedInputs()), side_by_side=1)
    with pytest.raises(SpoiledModelError):
        outcomes.failure(SpoiledModelError("so it is"))
