"""Where facts peak, and edits there: ties, facts that peak nowhere, one row a fact and layer."""

import pandas as pd
import pytest

from locedit.facts.record import Fact
from locedit.study import peaks
from locedit.study.edit import OK, Subject
from locedit.workflow.pairs import NotGiven, listed, of_pair

NAN, INFINITE = float("nan"), float("inf")


def effects(**values: list[float]) -> pd.DataFrame:
    """Each fact's values at layers 0, 1, ..."""
    rows = [
        {"case_id": case_id, "layer": layer, "value": value}
        for case_id, of_fact in values.items()
        for layer, value in enumerate(of_fact)
    ]
    return pd.DataFrame(rows, columns=["case_id", "layer", "value"])


# ---- peaks ---------------------------------------------------------------------------------------

FACTS = {
    "one_peak": ([0.1, 0.5, 0.2], 1),
    "a_tie": ([0.1, 0.5, 0.5], 1),
    "the_last": ([-1.0, 0.0, 1e-9], 2),
    "a_gap": ([NAN, 0.2, 0.3], 2),
    "no_number": ([INFINITE, 0.2, NAN], 1),
    "nothing": ([0.0, 0.0, 0.0], None),
    "below": ([-0.3, -0.1, -0.2], None),
    "failed": ([NAN, NAN, NAN], None),
}


def test_a_fact_peaks_at_the_first_layer_with_its_largest_value_above_zero():
    table = effects(**{name: values for name, (values, _) in FACTS.items()})
    expected = {name: layer for name, (_, layer) in FACTS.items() if layer is not None}
    assert peaks.layers(table) == expected
    assert peaks.layers(table.iloc[::-1]) == expected, "whatever the order of the rows"
    assert peaks.layers(table.iloc[:0]) == {}


@pytest.mark.parametrize(
    ("values", "layer"),
    [
        ({"a": [0.9, 0.0, 0.3], "b": [0.0, 0.7, 0.5]}, 0),
        ({"a": [0.2, 0.6, 0.0], "b": [0.2, 0.0, 0.6]}, 1),
        ({"a": [0.2, NAN, 0.0], "b": [0.2, 0.3, INFINITE]}, 1),
        ({"a": [0.0, 0.0], "b": [-1.0, 0.0]}, None),
        ({"a": [NAN, NAN]}, None),
    ],
    ids=["no fact's own", "a tie", "of what is known", "nothing above zero", "no number"],
)
def test_the_mean_peaks_where_the_facts_mean_is_largest(values, layer):
    assert peaks.mean_layer(effects(**values)) == layer


def test_the_configured_localizer_module_window_and_measure_are_taken():
    table = pd.DataFrame(
        [
            {"case_id": "a", "localizer": name, "module": module, "window": window, "layer": layer}
            | {"value": float(layer == window), "effect_max": 0.1 * window + 0.01 * layer}
            for name in ("tracing", "zeroing")
            for module in ("mlp", "attn")
            for window in (1, 3)
            for layer in range(5)
        ]
    )
    chosen = {"localizer": "zeroing", "module": "mlp", "window": 3, "effect": "value"}
    rows = peaks.of_localizer(table, chosen)
    assert list(rows.columns) == ["case_id", "layer", "value"]
    assert rows["value"].tolist() == [0, 0, 0, 1, 0]
    assert peaks.layers(rows) == {"a": 3}
    assert peaks.layers(peaks.of_localizer(table, {**chosen, "effect": "effect_max"})) == {"a": 4}


# ---- edits ---------------------------------------------------------------------------------------


def subject(case_id: str, status: str = OK) -> Subject:
    fact = Fact(
        case_id=case_id,
        relation_id="P1",
        subject="Rome",
        template="{} is in",
        target_true="Italy",
        target_new="France",
        paraphrases=[],
        neighbourhood=[],
        generation_prompts=[],
    )
    return Subject(fact=fact, before={"status": status, "target": "Italy"}, texts=[], perplexity=[])


def test_subjects_are_grouped_by_their_peak_and_keep_their_order():
    subjects = [subject(name) for name in "dabc"]
    groups = peaks.grouped(subjects, {"a": 7, "b": 2, "c": 7, "d": 2})
    found = [(layer, [one.fact.case_id for one in group]) for layer, group in groups]
    assert found == [(2, ["d", "b"]), (7, ["a", "c"])]
    assert groups[0][1][0] is subjects[0]


def test_a_subject_that_peaks_nowhere_says_so_unless_something_else_keeps_it_from_being_edited():
    unknown = "not edited: p(o_true) = 0.01 < 0.02"
    subjects = [subject("a"), subject("b"), subject("c", unknown)]
    (layer, found), (nowhere, lost) = peaks.grouped(subjects, {"b": 4})
    assert (layer, [one.fact.case_id for one in found]) == (4, ["b"])
    assert nowhere is None
    assert [one.before["status"] for one in lost] == [
        "not edited: no layer has an effect above zero",
        unknown,
    ]
    assert lost[0].before["target"] == "Italy"
    assert subjects[0].before["status"] == OK
    assert peaks.grouped([], {"a": 1}) == []


# ---- scores --------------------------------------------------------------------------------------


def scored(case_id: str, layer: int | None, problem: str = "fact_forcing", **more) -> dict:
    return {"case_id": case_id, "method": "ROME", "problem": problem, "layer": layer} | more


def test_a_row_stays_for_each_fact_pair_and_layer_and_says_whether_it_is_at_the_peak():
    edits = [scored(case_id, layer, of="layer") for layer in (0, 2) for case_id in "ab"]
    edits += [scored("a", 2, "error_injection", of="layer")]
    own = [scored("a", 2, of="peak"), scored("b", 5, of="peak"), scored("c", None, of="peak")]
    rows = list(peaks.marked(edits, own))
    found = [(r["case_id"], r["layer"], r["of"], r["listed"], r["at_peak"]) for r in rows]
    assert found == [
        ("a", 0, "layer", True, False),
        ("b", 0, "layer", True, False),
        ("a", 2, "layer", True, True),
        ("b", 2, "layer", True, False),
        ("a", 2, "layer", True, True),  # of a pair that is not edited at the peaks itself
        ("b", 5, "peak", False, True),
        ("c", None, "peak", False, False),
    ]


def test_without_edits_at_peaks_no_row_is_at_one():
    rows = list(peaks.marked([scored("a", 0), scored("a", 2)], []))
    assert {row["at_peak"] for row in rows} == {False}
    assert {row["listed"] for row in rows} == {True}


# ---- settings of pairs ---------------------------------------------------------------------------

LAYERS = {"all": [2, "peak"], "fact_forcing": {"all": [2], "ROME": [0, 2, "peak"]}}


def test_a_pairs_setting_is_that_of_its_problem_and_method_or_of_all():
    assert of_pair([3], "fact_forcing", "ROME") == [3]
    assert of_pair(LAYERS, "error_injection", "ROME") == [2, "peak"]
    assert of_pair(LAYERS, "fact_forcing", "MEMIT") == [2]
    assert of_pair(LAYERS, "fact_forcing", "ROME") == [0, 2, "peak"]
    assert listed([0, "peak", 2]) == [0, 2]


@pytest.mark.parametrize(
    ("given", "lacking"),
    [({"fact_forcing": [2]}, "error_injection"), ({"all": {"MEMIT": [2]}}, "ROME")],
)
def test_a_pair_without_a_value_is_named(given, lacking):
    with pytest.raises(NotGiven, match=f"^{lacking}$"):
        of_pair(given, "error_injection", "ROME")
