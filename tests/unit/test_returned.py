"""What editors and localizers give back is held to its shapes, in a sentence of ours."""

import numpy as np
import pytest
import test_localizers_plain as plain
import tiny
import torch
from test_left_alone import REQUEST

from locedit.engine.updates import Dense, LowRank
from locedit.errors import LoceditError
from locedit.localizers import Localization, Localizer, Place, Unavailable
from locedit.localizers import SharedInputs as LocalizersInputs
from locedit.methods import Edit, Method, SharedInputs
from locedit.model.language_model import LanguageModel

FACTS, D, INNER, LAYERS = 3, 32, 64, 5


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    found = LanguageModel(*tiny.pair("llama"))
    assert (found.hidden_size, found.inner_size, found.n_layers) == (D, INNER, LAYERS)
    return found


def ones(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.ones(*shape, dtype=dtype)


def edit(lm: LanguageModel, found: object, jointly: int | None = None) -> Edit:
    method = Method(name="mine", function=lambda *_: found, settings=dict)
    return method.edit(lm, [REQUEST] * FACTS, 2, {}, SharedInputs(jointly=jointly))


def made(update: object = None, layer: object = 2, **fields: object) -> Edit:
    update = low() if update is None else update
    return Edit(**{"updates": {layer: update}, "steps": [0] * FACTS, **fields})


def low(left: object = None, right: object = None) -> LowRank:
    return LowRank(
        left=ones(FACTS, D) if left is None else left,
        right=ones(FACTS, INNER) if right is None else right,
    )


SOUND = {
    "of rank one": made(),
    "of a higher rank": made(low(ones(FACTS, D, 2), ones(FACTS, INNER, 2))),
    "dense": made(Dense(weights=[ones(D, INNER)] * FACTS)),
    "with losses": made(losses=[(2.0, 1.0)] * FACTS, neurons=[1] * FACTS, null_space_rank=[3]),
    "a loss that is no number": made(losses=[(float("nan"), 1.0)] * FACTS),
    "one fact left out": made(not_edited={1: "why"}),
    "all left out": made(updates={}, not_edited=dict.fromkeys(range(FACTS), "why")),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_edit_is_given_on(lm, name):
    assert edit(lm, SOUND[name]) is SOUND[name]


def test_facts_that_share_an_update_have_one_change(lm):
    shared = made(LowRank(left=ones(1, D, 3), right=ones(1, INNER, 3)))
    assert edit(lm, shared, jointly=8) is shared
    with pytest.raises(LoceditError, match=r"updates\[2\].left has shape \(1, 32, 3\), expected"):
        edit(lm, shared)


UNSOUND = {
    "nothing": (None, "its function gives None, expected a locedit.methods.Edit"),
    "updates alone": ({2: 0}, "its function gives {2: 0}, expected a locedit.methods.Edit"),
    "no mapping": (
        made(updates=[1]),
        "updates is [1], expected a mapping from layers to changes",
    ),
    "no change": (made(updates={}), "updates is empty, expected the change of at least one layer"),
    "a layer beyond": (
        made(layer=102),
        "updates has the key 102, expected a layer from 0 to 4, or -1 for the embedding",
    ),
    "a layer by name": (
        made(layer="2"),
        "updates has the key '2', expected a layer from 0 to 4, or -1 for the embedding",
    ),
    "a bare tensor": (
        made(3.0),
        "updates[2] is 3.0, expected a LowRank or Dense of locedit.engine.updates",
    ),
    "factors swapped": (
        made(low(ones(FACTS, INNER), ones(FACTS, D))),
        "updates[2].left has shape (3, 64), expected (3, 32) or (3, 32, rank)",
    ),
    "facts last": (
        made(low(ones(D, FACTS))),
        "updates[2].left has shape (32, 3), expected (3, 32) or (3, 32, rank)",
    ),
    "one fact of three": (
        made(low(right=ones(1, INNER))),
        "updates[2].right has shape (1, 64), expected (3, 64) or (3, 64, rank)",
    ),
    "two ranks": (
        made(low(ones(FACTS, D, 2), ones(FACTS, INNER, 3))),
        "updates[2].left has shape (3, 32, 2) and right (3, 64, 3), expected one rank of both",
    ),
    "another type": (
        made(low(ones(FACTS, D, dtype=torch.float32))),
        "updates[2].left has the dtype torch.float32, expected the weight's, torch.float64",
    ),
    "another device": (
        made(low(right=torch.empty(FACTS, INNER, device="meta", dtype=torch.float64))),
        "updates[2].right has the device meta, expected the weight's, cpu",
    ),
    "an array": (
        made(low([1.0])),
        "updates[2].left is [1.0], expected a tensor",
    ),
    "a transposed weight": (
        made(Dense(weights=[ones(D, INNER), ones(INNER, D), ones(D, INNER)])),
        "updates[2].weights[1] has shape (64, 32), expected (32, 64)",
    ),
    "too few weights": (
        made(Dense(weights=[])),
        "updates[2].weights is [], expected a tensor for each fact of the batch (3)",
    ),
    "biases of a family without": (
        made(Dense(weights=[ones(D, INNER)] * FACTS, biases=[ones(D)] * FACTS)),
        "updates[2] has biases, and this model's module has none; leave them None",
    ),
    "a single number of steps": (
        made(steps=0),
        "steps is 0, expected a whole number for each fact of the batch (3)",
    ),
    "too few steps": (
        made(steps=[0]),
        "steps is [0], expected a whole number for each fact of the batch (3)",
    ),
    "too few losses": (
        made(losses=[(2.0, 1.0)]),
        "losses is [(2.0, 1.0)], expected (first, last) for each fact of the batch (3), or []",
    ),
    "losses alone": (
        made(losses=[2.0] * FACTS),
        "losses has 2.0, expected a pair of numbers, (first, last)",
    ),
    "neurons of another batch": (
        made(neurons=[1]),
        "neurons is [1], expected a whole number for each fact of the batch (3)",
    ),
    "ranks of other layers": (
        made(null_space_rank=[1, 2]),
        "null_space_rank is [1, 2], expected a whole number for each layer of updates (1)",
    ),
    "a fact beyond the batch": (
        made(not_edited={3: "why"}),
        "not_edited has 3: 'why', expected a place in the batch, 0 to 2, and the reason in words",
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_edit_is_told_by_its_field(lm, name):
    found, said = UNSOUND[name]
    with pytest.raises(LoceditError) as caught:
        edit(lm, found)
    assert str(caught.value) == f"the method mine: {said}"


def test_a_transposed_change_is_told_where_the_family_stores_the_weight_so():
    lm = LanguageModel(*tiny.pair("gpt2"))
    d, inner = lm.down_weight(0).shape
    sound = Dense(weights=[ones(d, inner)] * FACTS, biases=[ones(d)] * FACTS)
    assert edit(lm, made(sound))
    with pytest.raises(LoceditError, match=r"weights\[0\] has shape .*, expected"):
        edit(lm, made(Dense(weights=[ones(inner, d)] * FACTS)))


# ---- localizers ----------------------------------------------------------------------------------


def localize(lm: LanguageModel, found: object) -> object:
    localizer = Localizer(name="mine", function=lambda *_: found)
    facts = [plain.MADRID] * 2
    return localizer.localize(lm, facts, Place(module="mlp"), {}, LocalizersInputs())


def answer(**fields: object) -> Localization:
    return Localization(**{"values": np.zeros(LAYERS), "passes": 1, **fields})


def test_sound_answers_are_given_on(lm):
    for sound in (
        [answer(), Unavailable(reason="why")],
        (answer(values=[float("nan")] * LAYERS), answer(values=torch.zeros(LAYERS))),
        [answer(halves=np.zeros((2, LAYERS)), further={"x": [0] * LAYERS}, passes=np.float32(2))]
        * 2,
    ):
        assert localize(lm, sound) is sound


EACH = "expected one number for each of the 5 layers"
ANSWERS = {
    "nothing": (None, "None; expected a list of a Localization or Unavailable for each fact"),
    "a mapping": (
        {0: 1},
        "{0: 1}; expected a list of a Localization or Unavailable for each fact",
    ),
    "too few": ([answer()], "1 answers for 2 facts; it has to give one a fact"),
    "numbers": ([1.0, 2.0], "1.0 for a fact; expected a Localization or Unavailable"),
    "rows": ([answer(values=np.zeros((1, LAYERS)))] * 2, f"value of shape [1, 5]; {EACH}"),
    "a layer short": ([answer(values=np.zeros(LAYERS - 1))] * 2, f"value of shape [4]; {EACH}"),
    "words": ([answer(values="abcde")] * 2, f"value 'abcde', which is no array of numbers; {EACH}"),
    "one half": (
        [answer(halves=np.zeros(LAYERS))] * 2,
        "halves of shape [5]; expected two rows, each of one number for each of the 5 layers",
    ),
    "a further measure short": (
        [answer(further={"x": [0.0]})] * 2,
        f"x of shape [1]; {EACH}",
    ),
    "a further measure of a column's name": (
        [answer(further={"value": np.zeros(LAYERS)})] * 2,
        "a further measure named 'value', which is a column's already; rename it",
    ),
    "no cost": (
        [answer(passes=None)] * 2,
        "passes None; expected how many forward passes it took, a number",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_unsound_answers_are_told_by_what_they_are(lm, name):
    found, said = ANSWERS[name]
    with pytest.raises(LoceditError) as caught:
        localize(lm, found)
    assert str(caught.value) == f"the localizer mine gives {said}"


def test_a_bare_array_is_no_list_of_answers(lm):
    with pytest.raises(LoceditError, match="expected a list of a Localization"):
        localize(lm, np.zeros((2, LAYERS)))
