"""Localizers: what can be registered, where they look, and the rows that one cell of them gives."""

import math
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import test_engine as engine
import tiny
from conftest import plugins_forgotten

from locedit.facts.record import Fact
from locedit.localizers import (
    LOCALIZERS,
    Localization,
    Localizer,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
    places,
    register,
    restoration,
    shown_place,
)
from locedit.model.language_model import LanguageModel
from locedit.registry import RegistrationError, imported
from locedit.settings import Count
from locedit.store import tables
from locedit.study import effects
from locedit.study.localize import Cell, localize_cell
from workflow_scripts.effects import joined

N_LAYERS = 5  # of a tiny model


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is gone after it."""
    with plugins_forgotten():
        yield


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(*tiny.pair())


def fact(case_id: str, template: str = "The city of {} is") -> Fact:
    return Fact(
        case_id=case_id,
        relation_id="",
        subject="Rome",
        template=template,
        target_true="old",
        target_new="new",
    )


# ---- what is registered --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Some."""

    steps: Count = 3


@dataclass(frozen=True, kw_only=True)
class Undecided:
    """A setting without a default."""

    steps: Count


@dataclass(frozen=True, kw_only=True)
class Unspeakable:
    """A setting that YAML cannot hold."""

    steps: complex = 1j


def nothing(lm, facts, place, settings, shared):
    return [Unavailable(reason="no partner") for _ in facts]


BAD = {
    "the name of all": ({"name": "all"}, "'all' stands for every one in a configuration"),
    "a name for no folder": ({"name": "a b"}, "its name becomes a folder's"),
    "a taken name": ({"name": "zeroing"}, "locedit.localizers.zeroing has registered that name"),
    "no dataclass": ({"settings": dict}, "`settings` must be a dataclass"),
    "no default": ({"settings": Undecided}, "each of its settings needs a default"),
    "another type": ({"settings": Unspeakable}, "its setting 'steps' is of type"),
    "an unknown module": (
        {"modules": ("mpl",)},
        "unknown module 'mpl'; did you mean 'mlp'? (known: mlp, attn, hidden)",
    ),
    "an unknown need": (
        {"needs": frozenset({"sigma"})},
        "unknown need 'sigma' (known: noise, key_statistics, contexts, records, planting)",
    ),
    "other arguments": ({"function": lambda lm, facts: []}, "must take (lm, facts, place,"),
    "no function": ({"function": 3}, "`function` must take"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_registered_is_refused_in_a_sentence(case):
    changes, sentence = BAD[case]
    given = {"name": "mine", "function": nothing, "settings": Settings, **changes}
    with pytest.raises(RegistrationError, match=re.escape(sentence)) as caught:
        register(Localizer(**given))
    assert str(caught.value).startswith(f"localizer {given['name']!r}: ")
    assert "mine" not in LOCALIZERS


@pytest.mark.parametrize("name", LOCALIZERS)
def test_every_localizer_of_the_library_can_be_called(name):
    localizer = LOCALIZERS[name]
    assert imported(localizer.function).__module__ == localizer.module
    assert localizer.settings() == localizer.settings()


LOCALIZING = {"modules": ["attn", "mlp"], "windows": [1, 5]}


def test_a_localizer_looks_where_it_can_of_what_is_configured():
    register(Localizer(name="of-mlp", function=nothing, modules=("hidden", "mlp")))
    register(Localizer(name="nowhere", function=nothing, modules=(), control=True))
    assert places("tracing", LOCALIZING) == [
        Place(module=module, window=window) for module in ("attn", "mlp") for window in (1, 5)
    ]
    assert places("of-mlp", LOCALIZING) == [Place(module="mlp", window=1)]
    assert places("nowhere", LOCALIZING) == [Place(module="none", window=1)]


@pytest.mark.parametrize(
    ("name", "module", "window"),
    [("tracing", "attn", 5), ("of-mlp", "mlp", 1), ("nowhere", "none", 1)],
)
def test_figures_show_a_localizer_where_they_are_told_to_or_at_its_only_place(name, module, window):
    register(Localizer(name="of-mlp", function=nothing, modules=("hidden", "mlp")))
    register(Localizer(name="nowhere", function=nothing, modules=()))
    shown = shown_place(name, LOCALIZING, "attn", 5)
    assert shown == Place(module=module, window=window)


# ---- a cell --------------------------------------------------------------------------------------


def localized(lm, name: str, facts: list[Fact], size: int = 2, **given) -> list[dict]:
    place = given.pop("place", Place(module="mlp", window=3))
    cell = Cell(localizer=name, place=place, settings=LOCALIZERS[name].settings())
    together = [facts[low : low + size] for low in range(0, len(facts), size)]
    return list(localize_cell(lm, cell, together, SharedInputs(study=facts, **given)))


def test_a_cell_has_a_row_for_each_fact_and_layer(lm, tmp_path):
    rows = localized(lm, "zeroing", [fact("1"), fact("2")])
    assert [(row["case_id"], row["layer"]) for row in rows] == [
        (case_id, layer) for case_id in "12" for layer in range(N_LAYERS)
    ]
    assert all(row["passes"] > 1 for row in rows)
    tables.write(tmp_path / "cell.parquet", rows, "localizing")
    table = effects.of_layers(tables.read(tmp_path / "cell.parquet", "localizing"))
    assert list(table["value"]) == [row["value"] for row in rows]
    assert list(table["p_clean"]) == [dict(row["further"])["p_clean"] for row in rows]


def test_one_bad_fact_costs_its_own_row_alone_in_whatever_batch(lm):
    facts = [fact("1"), fact("2", template="The city is"), fact("3")]
    rows = localized(lm, "zeroing", facts, size=3)
    (bad,) = [row for row in rows if row["status"] != "ok"]
    assert bad["case_id"] == "2"
    assert bad["status"].startswith("failed: ")
    values = [row["value"] for row in rows if row["case_id"] == "1"]
    assert values == [row["value"] for row in localized(lm, "zeroing", facts[:1])]


def test_a_fact_without_a_value_is_no_failure_and_says_why(lm):
    register(Localizer(name="mine", function=nothing))
    rows = localized(lm, "mine", [fact("1"), fact("2")])
    assert rows == [{"case_id": c, "status": "not localized: no partner"} for c in "12"]


def wrong(values):
    return lambda lm, facts, place, settings, shared: [
        Localization(values=np.array(values), passes=1) for _ in facts
    ]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (wrong([1.0, 2.0]), "gives value of shape [2]; expected one number for each of the 5"),
        (wrong([np.inf] * 5), "its values are not finite"),
        (lambda lm, facts, place, settings, shared: [], "gives 0 answers for 1 facts"),
    ],
    ids=["another shape", "not finite", "no answer"],
)
def test_an_answer_that_is_none_is_told(lm, function, said):
    register(Localizer(name="mine", function=function))
    rows = localized(lm, "mine", [fact("1")])
    assert len(rows) == 1
    assert said in rows[0]["status"]


def test_tracing_says_the_same_as_its_table(tiny_lm):
    """The localizer's own function against the rule's cells and the effects that follow of them."""
    prompt, subject, target = engine.TRACED["subject in the middle"]
    one = Fact(
        case_id="1",
        relation_id="",
        subject=subject,
        template=prompt.replace(subject, "{}"),
        target_true=target,
        target_new="new",
    )
    how = {"sigma": 0.5, "n_noise": 4}
    rows = restoration.trace_rows(tiny_lm, one, module="mlp", window=3, seed=1, **how)
    table = pd.DataFrame(rows)
    expected = effects.of_cells(table, reference="clean").set_index("layer")
    (found,) = restoration.localize(
        tiny_lm, [one], Place(module="mlp", window=3), NoSettings(), SharedInputs(**how)
    )
    np.testing.assert_array_equal(found.values, expected["value"])
    np.testing.assert_array_equal(found.halves, expected[["value_half1", "value_half2"]].T)
    for name, values in found.further.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert set(expected["passes"]) == {found.passes}


@pytest.mark.parametrize("window", [1, 3, 20])
def test_the_passes_of_tracing_are_the_layers_and_positions_that_it_runs(lm, window):
    """Counted in the layers' own calls: rows times positions, against those of one whole pass."""
    done = 0

    def count(module, args, output):
        nonlocal done
        hidden = output[0] if isinstance(output, tuple) else output
        done += hidden.shape[0] * hidden.shape[1]

    hooks = [layer.register_forward_hook(count) for layer in lm.model.model.layers]
    one = fact("1")
    what = one.prompt, one.subject, one.target_true
    found = restoration.trace(lm, *what, module="attn", window=window, sigma=0.5, n_noise=2)
    for hook in hooks:
        hook.remove()
    length = len(lm.encode(one.prompt)) + len(lm.encode_target(one.target_true, one.prompt)) - 1
    assert found.passes == pytest.approx(done / (length * lm.n_layers))


# ---- the effects table ---------------------------------------------------------------------------


def test_localizers_stand_one_below_the_other():
    def part(name, layer, value):
        rows = {"localizer": name, "case_id": "1", "layer": layer, "value": value}
        return pd.DataFrame(rows, index=range(len(layer)))

    parts = [part("tracing", [0, 1], 0.5), part("zeroing", [1], 0.5)]
    assert list(joined(parts)["localizer"]) == ["tracing", "tracing", "zeroing"]
    empty = part("swap_tracing", [None], math.nan)
    table = joined([empty, *parts])
    assert list(zip(table["localizer"], table["layer"], strict=True))[:3] == [
        *[("swap_tracing", layer) for layer in (0, 1)],
        ("tracing", 0),
    ]
    assert table["value"].isna().sum() == 2
    for without in ([], [empty]):
        with pytest.raises(ValueError, match="no fact could be localized"):
            joined(without)
