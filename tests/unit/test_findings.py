"""The report's opening paragraph: every number from the tables, every gap with its reason."""

from dataclasses import replace
from pathlib import Path

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


def verdict(told: str, **changes) -> pd.DataFrame:
    """The table of the primary comparison."""
    row = {
        **{"problem": "error_injection", "method": "ROME", "score": "paraphrase_log_odds"},
        **{"localizer": "tracing", "n_facts": 200, "n_layers": 9, "share_edited": 0.75},
        **{"estimand": "own peak"},
        **{"verdict": told, "use": None, "gain": 0.31, "gain_low": 0.1, "gain_high": 0.52},
        **{"r": 0.3, "r_low": 0.2, "r_high": 0.4, "equivalent": False},
        **{"gain_p": 0.002, "bound": 0.1, "value": -0.02, "value_low": -0.1, "value_high": 0.06},
        **{"effect": 0.2, "wanted": 0.8, "facts_needed": 305, "layers_needed": 6, "reason": ""},
    }
    return pd.DataFrame([row | changes])


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


def test_facts_of_another_localizer_are_not_called_traced():
    zeroed = replace(DESIGN, localizer="zeroing")
    study = pd.DataFrame({"case_id": ["0"]})
    assert findings.count(facts(12, 9), study, zeroed).endswith(
        "1 of these was localized and edited."
    )
    none = findings.count(facts(12, 0), study.head(0), zeroed)
    assert none.endswith("and none was localized or edited.")


def test_facts_that_are_not_known_are_told_where_they_are_studied():
    facts = pd.DataFrame({"status": "kept", "is_correct": [True, True, False, False]})
    said = findings.count(facts, facts.iloc[1:], DESIGN)
    assert said.endswith(
        "; 3 of all these were traced and edited, 1 known and 2 not, and every number is of both."
    )


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
    edits, named = success(ROME=[0.5, 0.5], FT_1=[0.5] * 3), verdict("cannot_say")
    said = findings.mean_peak(effects(means), edits, named, DESIGN)
    assert said == f"Averaged over facts, the tracing effect is {sentence}"


def test_without_a_named_comparison_the_peak_is_edited_where_any_method_edits_it():
    edits = success(ROME=[0.5], FT_1=[0.5] * 3)
    said = findings.mean_peak(effects([0.1, 0.2, 0.3]), edits, pd.DataFrame(), DESIGN)
    assert said.endswith("largest at layer 3, which is edited.")


def test_without_effects_nothing_is_said_of_their_peak():
    assert findings.mean_peak(pd.DataFrame(), success(ROME=[0.5]), pd.DataFrame(), DESIGN) == ""


# ---- the primary comparison ----------------------------------------------------------------------


def test_the_comparison_that_was_named_before_is_said_with_its_size():
    assert findings.compared(verdict("better")) == (
        "The comparison that was named before the study is tracing in error injection with ROME, "
        "by paraphrase log odds, of 200 facts at 9 layers; 75% of the facts peak at one of these."
    )
    nowhere = dict.fromkeys(("localizer", "problem", "method", "score"))
    absent = verdict("not_run", reason="no edits of the primary comparison", **nowhere)
    assert findings.compared(absent) == (
        "The comparison that was named before the study was not made: no edits of the primary "
        "comparison."
    )
    unrun = findings.compared(verdict("not_run", reason="no edits of the primary comparison"))
    assert unrun.endswith("; it was not made: no edits of the primary comparison.")


FOLLOWS = "; within facts, scores follow its values with a correlation of "
WORTH = "; editing by it is not shown to differ from the best fixed layer"
NEEDED = "; 305 facts at 6 layers would find a correlation of 0.2 within facts in 80% of studies."


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            verdict("better", use="undecided"),
            "For single facts, the trace picks better layers than it picks for other facts (by "
            f"+0.31, 95 % interval +0.10 to +0.52, p 0.002){FOLLOWS}+0.30 (95 % interval +0.20 to "
            f"+0.40){WORTH} (\N{MINUS SIGN}0.02, "
            "95 % interval \N{MINUS SIGN}0.10 to +0.06).",
        ),
        (
            verdict("better", r=0.058, r_low=0.012, r_high=0.104, equivalent=True),
            f"{FOLLOWS}+0.06 (95 % interval +0.01 to +0.10), shown to be between "
            "\N{MINUS SIGN}0.1 and 0.1",
        ),
        (verdict("better", r=None), "p 0.002)."),
        (verdict("worse"), "the trace picks worse layers than it picks for other facts (by +0.31"),
        (
            verdict("equivalent", use="worse"),
            "and scores follow its values within facts with a correlation between "
            "\N{MINUS SIGN}0.1 and 0.1; editing by it is worse than at the best fixed layer",
        ),
        (verdict("undecided"), f"p 0.002), nor that it does not{NEEDED}"),
        (
            verdict("cannot_say", reason="11 facts, at least 40"),
            "That is too little to say whether the trace tells where to edit (11 facts, at least "
            f"40){NEEDED}",
        ),
        (verdict("not_run"), "This study does not say whether tracing tells where to edit."),
        (pd.DataFrame(), "This study does not say whether tracing tells where to edit."),
    ],
    ids=[
        "better",
        "better, but hardly",
        "better, no r",
        "worse",
        "equivalent",
        "undecided",
        "too small",
        "not run",
        "no table",
    ],
)
def test_the_conclusion_is_that_of_the_comparison(told, says):
    assert says in findings.conclusion(told, DESIGN)


def chosen(**gains: tuple[float, float]) -> pd.DataFrame:
    """Rows of the table of choices: each localizer's gain and adjusted p."""
    row = verdict("better").iloc[0]
    rows = [
        {**row[["problem", "method", "score"]], "localizer": name, "module": "mlp", "window": 5}
        | {"gain": gain, "p_adjusted": p, "n_facts": 200, "share_edited": 0.6}
        for name, (gain, p) in gains.items()
    ]
    another = {**rows[0], "score": "overall", "localizer": "direct"}
    return pd.DataFrame([*rows, another])


FOUND = {"tracing": (0.3, 0.01), "lens_rise": (0.2, 0.04), "salience": (-0.4, 0.01)}


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        (
            {**FOUND, "depth": (0.1, 0.5)},
            "Better layers are picked by 1 of 2 other localizers (lens rise) and by none of 1 "
            "control (adjusted p below .05).",
        ),
        ({"tracing": (0.3, 0.01), "depth": (0.4, 0.01)}, "by 1 of 1 control (depth) (adj"),
        ({"tracing": (0.3, 0.01)}, ""),
    ],
)
def test_other_localizers_and_controls_are_told_beside_the_conclusion(gains, says):
    design = replace(DESIGN, controls=["depth", "random"])
    said = findings.beside(verdict("better", module="mlp", window=5), chosen(**gains), design)
    assert says in said
    assert bool(says) == bool(said)


def test_what_noise_on_other_tokens_gains_is_told_beside_tracing():
    table = chosen(**FOUND, placebo=(0.18, 0.28)).assign(low=-0.09, high=0.45)
    primary = verdict("better", module="mlp", window=5)
    says = "the subject's (placebo) gains +0.18 (95 % interval \N{MINUS SIGN}0.09 to +0.45)."
    design = replace(DESIGN, controls=["placebo"])
    assert findings.beside(primary, table, design).endswith(says)
    other = primary.assign(localizer="lens_rise")
    assert "(placebo) gains" not in findings.beside(other, table, design)


def test_nothing_is_said_of_localizers_whose_peaks_are_hardly_edited():
    table = chosen(**FOUND)
    primary = verdict("better", module="mlp", window=5)
    hardly = table.assign(share_edited=table["localizer"].map({"salience": 0.04}).fillna(0.5))
    assert findings.beside(primary, hardly, DESIGN) == (
        "Better layers are picked by 1 of 1 other localizer (lens rise) (adjusted p below .05); "
        "too few facts, or too few of their peaks, are edited to say it of salience."
    )
    assert findings.beside(primary, table.assign(n_facts=39), DESIGN) == (
        "Too few facts, or too few of their peaks, are edited to say it of lens rise and salience."
    )


def test_what_a_comparison_needs_to_be_told_is_what_the_verdict_needs():
    text = (Path(__file__).parents[2] / "analysis" / "verdict.R").read_text()
    assert f"ENOUGH_FACTS <- {findings.ENOUGH_FACTS}L" in text
    assert f"ENOUGH_PEAKS <- {findings.ENOUGH_PEAKS} " in text


def test_of_several_places_the_primary_comparisons_counts():
    table = chosen(**FOUND)
    elsewhere = table[table["localizer"] == "lens_rise"].assign(window=1, p_adjusted=0.9)
    primary = verdict("better", module="mlp", window=5)
    said = findings.beside(primary, pd.concat([elsewhere, table]), DESIGN)
    assert "1 of 2 other localizers (lens rise)" in said


def test_a_study_that_cannot_say_it_says_nothing_of_others():
    small = verdict("cannot_say", reason="11 facts, at least 40", module="mlp", window=5)
    assert findings.beside(small, chosen(**FOUND), DESIGN) == ""


def test_where_peaks_lie_between_the_edited_layers_these_are_named():
    told = verdict("better", estimand="among the edited layers")
    assert "for other facts among the edited layers (by +0.31" in findings.conclusion(told, DESIGN)
    told = verdict("undecided", estimand="among the edited layers")
    assert "other facts among the edited layers (by" in findings.conclusion(told, DESIGN)


def test_a_study_that_is_as_large_as_is_asked_is_told_no_size():
    said = findings.conclusion(verdict("undecided", facts_needed=200), DESIGN)
    assert said.endswith("nor that it does not.")


def test_a_localizer_that_changes_no_choice_is_said_to():
    said = findings.conclusion(verdict("better", value=0.0, value_low=None), DESIGN)
    assert said.endswith("; it never outweighs the best fixed layer.")


HITS = pd.DataFrame(
    {"localizer": ["tracing", "tracing", "zeroing", "random"], "hits": [0.6, 0.2, 0.5, None]}
    | {"module": "mlp", "window": [5, 1, 5, 5]}
    | {"chance": [0.2, 0.2, 0.6, 0.2], "p_adjusted": [0.01, 0.9, 0.01, None]}
)


def test_of_planted_facts_the_check_and_the_finders_are_told():
    row = chosen(planted=(0.8, 0.01)).assign(low=0.5, high=1.1, p=0.004, reason="")
    said = findings.planted(HITS, row, verdict("cannot_say", reason="40 %"), DESIGN)
    assert said == (
        "At the layer where a fact was planted its score is +0.80 against where another was (95 % "
        "interval +0.50 to +1.10, p 0.004); 1 of 2 localizers (tracing) find planted facts more "
        "often than by chance (adjusted p below .05)."
    )
    assert findings.planted(HITS[::-1], row, verdict("better"), DESIGN) == said
    unedited = findings.planted(HITS, pd.DataFrame(), verdict("not_run"), DESIGN)
    assert unedited.startswith("Whether edits are better where facts were planted could not be")
    assert findings.planted(pd.DataFrame(), row, verdict("better"), DESIGN) == ""


def test_where_no_size_is_known_none_is_said():
    said = findings.conclusion(verdict("undecided", facts_needed=None), DESIGN)
    assert said.endswith("nor that it does not.")


def test_a_study_without_any_table_still_has_its_paragraph():
    sentences = findings.paragraph({}, DESIGN)
    assert len(sentences) == 3
    assert all(sentence.endswith(".") for sentence in sentences)
