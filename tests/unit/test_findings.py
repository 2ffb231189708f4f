"""The report's opening paragraph: every number from the tables, every gap with its reason."""

from dataclasses import replace

import pandas as pd
import pytest

from locedit.report import findings

DESIGN = findings.Design(
    model="Tiny Llama",
    dataset="hand-made",
    problems=["error_injection", "fact_erasure"],
    methods=["FT-1", "ROME"],
    module="mlp",
    window=5,
    localizer="tracing",
    effect="value",
)
TRACED = {"localizer": "tracing", "module": "mlp", "window": 5, "effect": "value"}
OTHER = {"localizer": "tracing", "module": "attn", "window": 5, "effect": "value"}


def facts(kept: int, known: int, excluded: int = 0) -> pd.DataFrame:
    rows = [{"status": "kept", "is_correct": i < known} for i in range(kept)]
    return pd.DataFrame(rows + [{"status": "excluded", "is_correct": None}] * excluded)


def success(**means: list[float | None]) -> pd.DataFrame:
    """Mean overall scores of error injection at layers 0, 1, ... of each method."""
    rows = [
        {"problem": "error_injection", "method": method.replace("_", "-"), "layer": layer}
        | {"overall": mean, "reason": "" if mean is not None else "all edits failed"}
        for method, values in means.items()
        for layer, mean in enumerate(values)
    ]
    other = {"problem": "fact_erasure", "method": "ROME", "layer": 9, "overall": 1.0, "reason": ""}
    return pd.DataFrame([*rows, other])


def diff(value, low, high, verdict="undecided", reason="", **keys) -> dict:
    row = {**TRACED, "problem": "error_injection", "method": "ROME", "score": "rewrite"}
    row |= {"diff": value, "diff_low": low, "diff_high": high, "bound": 0.01}
    return row | {"verdict": verdict, "reason": reason} | keys


def change(method, value, low, high, reason="", **keys) -> dict:
    """A row of the regret table: what following the trace changes against the fixed layer."""
    row = {**TRACED, "problem": "error_injection", "method": method, "score": "overall"}
    row |= {"strategy": "tracing_peak", "versus_fixed": value, "reason": reason}
    return row | {"versus_fixed_low": low, "versus_fixed_high": high} | keys


# ---- counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "studied", "sentence"),
    [
        (
            facts(1200, 480),
            8,
            "Tiny Llama knows 480 of the 1,200 facts of the data set hand-made that were put to "
            "it; 8 of these were traced and edited.",
        ),
        (
            facts(12, 9, excluded=2),
            1,
            "Tiny Llama knows 9 of the 12 facts of the data set hand-made that were put to it "
            "(2 more could not be used); 1 of these was traced and edited.",
        ),
        (
            facts(12, 0),
            0,
            "Tiny Llama knows 0 of the 12 facts of the data set hand-made that were put to it, "
            "and none was traced or edited.",
        ),
        (pd.DataFrame(), 0, "No fact of the data set hand-made was put to Tiny Llama."),
    ],
    ids=["many", "excluded ones", "an empty study", "no facts"],
)
def test_facts_are_counted(asked, studied, sentence):
    study = pd.DataFrame({"case_id": [str(i) for i in range(studied)]})
    assert findings.count(asked, study, DESIGN) == sentence


# ---- the mean effect's peak --------------------------------------------------------------------


def effects(means: list[float]) -> pd.DataFrame:
    """Effects of two facts with these means at layers 0, 1, ..., beside those of another module."""
    rows = [
        {"case_id": case_id, "layer": layer, **TRACED, "value": mean + add}
        for layer, mean in enumerate(means)
        for case_id, add in (("a", -0.05), ("b", 0.05))
    ]
    other = {"case_id": "a", "layer": 7, **OTHER, "value": 9.0}
    return pd.DataFrame([*rows, other]).drop(columns="effect")


@pytest.mark.parametrize(
    ("means", "sentence"),
    [
        ([0.1, 0.4, 0.3], "largest at layer 2, which is edited."),
        ([0.1, 0.2, 0.3], "largest at layer 3, which is not edited (but 1 and 2)."),
        ([-0.1, -0.2], "above zero at no layer."),
    ],
    ids=["edited", "not edited", "nowhere"],
)
def test_the_mean_effects_peak_is_said_and_whether_it_is_edited(means, sentence):
    said = findings.mean_peak(effects(means), success(ROME=[0.5, 0.5]), DESIGN)
    assert said == f"Averaged over facts, the tracing effect is {sentence}"


def test_without_effects_nothing_is_said_of_their_peak():
    assert findings.mean_peak(pd.DataFrame(), success(ROME=[0.5]), DESIGN) == ""


# ---- the best layers -----------------------------------------------------------------------------


def test_the_best_layer_of_each_method_is_said_from_one():
    said = findings.best_layers(success(FT_1=[0.2, 0.7], ROME=[0.81, 0.4]), DESIGN)
    assert said == (
        "For error injection, the best edit layer by mean overall score is 1 with ROME (0.81) and "
        "2 with FT-1 (0.70), of 1 and 2 tried."
    )


def test_of_layers_that_score_the_same_the_lowest_is_named():
    said = findings.best_layers(success(FT_1=[0.5, 0.5], ROME=[0.5, 0.5]), DESIGN)
    assert "is 1 with FT-1 (0.50) and ROME (0.50), of" in said


def test_a_method_without_scores_gives_its_reason():
    said = findings.best_layers(success(FT_1=[None, None], ROME=[0.8, 0.4]), DESIGN)
    assert said.endswith(
        "1 with ROME (0.80), of 1 and 2 tried (not computed: all edits failed (FT-1))."
    )


def test_without_any_score_the_best_layer_is_not_named():
    said = findings.best_layers(success(FT_1=[None], ROME=[None]), DESIGN)
    assert said == (
        "The best layer to edit could not be computed: all edits failed (FT-1 and ROME)."
    )


def test_without_error_injection_the_first_problem_is_described():
    design = replace(DESIGN, problems=["fact_erasure"], methods=["ROME"])
    assert findings.best_layers(success(ROME=[0.3]), design).startswith("For fact erasure")


# ---- the largest difference ----------------------------------------------------------------------


def test_the_largest_difference_is_that_of_the_configured_tracing_and_the_rewrite_score():
    rows = [
        diff(0.02, 0.001, 0.05),
        diff(0.3, 0.1, 0.6, problem="fact_erasure", method="FT-1", verdict="larger"),
        diff(0.9, 0.8, 1.0, **OTHER),
        diff(0.9, 0.8, 1.0, score="essence"),
        diff(None, None, None, verdict=None, reason="too few rows", method="MEMIT"),
    ]
    said = findings.largest_diff(pd.DataFrame(rows), pd.DataFrame(), DESIGN)
    assert said == (
        "Beyond the edit layer, the tracing effect there explains at most 0.300 of the rewrite "
        "score's variance (fact erasure with FT-1; 95 % interval 0.100 to 0.600); none of the 2 "
        "pairs of problem and method was shown to stay below 0.01, which counts as nothing."
    )


def test_differences_shown_to_be_nothing_are_counted():
    rows = [diff(0.002, 0, 0.004, verdict="equivalent", method=m) for m in ("FT-1", "ROME")]
    said = findings.largest_diff(pd.DataFrame([*rows, diff(0.02, 0, 0.1)]), pd.DataFrame(), DESIGN)
    assert "2 of the 3 pairs of problem and method were shown to stay below 0.01" in said


def test_the_same_difference_on_other_facts_is_given_where_it_is_known():
    unseen = pd.DataFrame([diff(-0.04, None, None), diff(0.5, None, None, method="FT-1")])
    said = findings.largest_diff(pd.DataFrame([diff(0.02, 0.001, 0.05)]), unseen, DESIGN)
    assert "; on facts left out of the regression it is \N{MINUS SIGN}0.040; " in said


def test_a_difference_without_an_interval_says_why():
    rows = pd.DataFrame([diff(0.1, None, None, verdict=None, reason="too few facts (2)")])
    said = findings.largest_diff(rows, pd.DataFrame(), DESIGN)
    assert said.endswith("(error injection with ROME; no interval: too few facts (2)).")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pd.DataFrame([diff(None, None, None, reason="no variance")]), "no variance"),
        (pd.DataFrame(), "its table has no such row"),
        (pd.DataFrame([diff(0.1, 0, 1, **OTHER)]), "its table has no such row"),
    ],
    ids=["not fitted", "no table", "another tracing"],
)
def test_a_difference_that_could_not_be_computed_says_why(table, reason):
    said = findings.largest_diff(table, pd.DataFrame(), DESIGN)
    assert said == f"What tracing adds to the edit layer could not be computed: {reason}."


# ---- following the trace -------------------------------------------------------------------------


def test_what_following_the_trace_changes_is_said_for_each_method():
    rows = [
        change("ROME", -0.083, -0.14, -0.03),
        change("FT-1", 0.021, -0.004, 0.05),
        change("FT-1", -0.5, -0.6, -0.4, strategy="random"),
        change("FT-1", -0.5, -0.6, -0.4, **OTHER),
    ]
    minus = "\N{MINUS SIGN}"
    assert findings.following(pd.DataFrame(rows), DESIGN) == (
        "With each fact edited where its tracing is strongest, instead of at the best fixed layer, "
        "the mean overall score changes by +0.02 with FT-1 (0.00 to +0.05) and "
        f"{minus}0.08 with ROME ({minus}0.14 to {minus}0.03); the ranges are 95 % intervals."
    )


def test_a_change_that_could_not_be_computed_says_why():
    reason = "no fact with an effect at every edit layer"
    rows = pd.DataFrame([change(m, None, None, None, reason) for m in DESIGN.methods])
    said = findings.following(rows, DESIGN)
    assert said.endswith(f"could not be computed: {reason} (FT-1 and ROME).")


WORSE, BETTER, OPEN = (-0.2, -0.1), (0.1, 0.2), (-0.1, 0.1)


@pytest.mark.parametrize(
    ("ft", "rome", "says"),
    [
        (
            WORSE,
            WORSE,
            "does not tell where to edit: its layer is worse than a fixed one with FT-1",
        ),
        (WORSE, OPEN, "worse than a fixed one with FT-1, and better with no method"),
        (BETTER, OPEN, "So the trace tells where to edit with FT-1, better than a fixed layer."),
        (BETTER, WORSE, "a better layer than a fixed one for FT-1, and a worse one for ROME"),
        (OPEN, OPEN, "All these ranges hold zero"),
        ((None, None), (None, None), "This study does not say"),
    ],
)
def test_the_conclusion_follows_the_intervals(ft, rome, says):
    rows = [change("FT-1", 0.0, *ft), change("ROME", 0.0, *rome)]
    assert says in findings.conclusion(pd.DataFrame(rows), DESIGN)


def test_a_study_without_any_table_still_has_its_paragraph():
    sentences = findings.paragraph({}, DESIGN)
    assert len(sentences) == 5
    assert all(sentence.endswith(".") for sentence in sentences)
    assert sum("could not be computed" in sentence for sentence in sentences) == 3
