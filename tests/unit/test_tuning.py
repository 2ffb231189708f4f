"""Choosing hyperparameters: the grid, a setting's scores, and the choice among settings."""

import math

import pytest

from locedit.study import tuning

NAN = float("nan")


def edited(rewrite, neighbourhood=(), status="ok"):
    """A row of the editing table, from (before, after) probabilities."""

    def logs(pairs, which):
        return [math.log(pair[which]) for pair in pairs]

    row = {"case_id": "1", "problem": "error_injection", "status": status}
    for which, suffix in enumerate(("before", "after")):
        row[f"rewrite_target_{suffix}"] = math.log(rewrite[which])
        row[f"paraphrase_target_{suffix}"] = []
        row[f"neighbourhood_target_{suffix}"] = logs(neighbourhood, which)
        row |= {f"{kind}_{suffix}": [] for kind in ("perplexity", "text")}
        row[f"generations_{suffix}"] = []
        row[f"said_{suffix}"] = []
    row["rewrite_other_after"] = math.log(0.5)
    row["paraphrase_other_after"] = []
    row["neighbourhood_other_after"] = [math.log(0.5)] * len(neighbourhood)
    return row


def setting(rewrite, neighbourhood):
    return {
        "rewrite": rewrite,
        "neighbourhood": neighbourhood,
        "objective": (rewrite + neighbourhood) / 2,
    }


SATURATING, UNSATURATED = (0.0, 0.99), (0.5, 0.7)


def choice(rows, interval=SATURATING):
    """(index of the chosen row, indices of the admissible ones)."""
    done = tuning.choose(rows, interval)
    for given, row in zip(rows, done, strict=True):
        assert {key: row[key] for key in given} == pytest.approx(given, nan_ok=True)
    chosen = [i for i, row in enumerate(done) if row["chosen"]]
    assert len(chosen) <= 1
    return (chosen or [None])[0], [i for i, row in enumerate(done) if row["admissible"]]


# ---- the grid ------------------------------------------------------------------------------------


def test_all_combinations_are_tried_the_first_name_slowest():
    assert list(tuning.settings({"lr": [1, 2], "eps": [3, 4]})) == [
        {"lr": 1, "eps": 3},
        {"lr": 1, "eps": 4},
        {"lr": 2, "eps": 3},
        {"lr": 2, "eps": 4},
    ]


def test_a_grid_without_names_is_the_preset_alone():
    assert list(tuning.settings({})) == [{}]


def test_a_setting_may_be_a_word():
    values = {"threshold": 1.0, "threshold_kind": "energy"}
    assert tuning.in_words(values) == "threshold=1, threshold_kind=energy"


# ---- a setting's scores --------------------------------------------------------------------------


def test_scores_are_means_over_the_edited_facts():
    rows = [edited((0.5, 0.75), [(0.5, 0.5)]), edited((0.5, 1.0), [(0.5, 1.0), (0.5, 0.5)])]
    summary = tuning.summarise(rows, "mean")
    assert summary["n_facts"] == 2
    assert summary["rewrite"] == pytest.approx((0.5 + 1) / 2)
    assert summary["neighbourhood"] == pytest.approx((1 + 0.5) / 2)
    assert summary["objective"] == pytest.approx((0.75 + 0.75) / 2)


def test_the_first_prompt_may_stand_for_all():
    rows = [edited((0.5, 0.75), [(0.5, 1.0), (0.5, 0.5)])]
    assert tuning.summarise(rows, "first")["neighbourhood"] == pytest.approx(0)


def test_facts_that_were_not_edited_do_not_count():
    rows = [edited((0.5, 0.75), [(0.5, 0.5)]), edited((0.5, 1.0), status="failed: no")]
    assert tuning.summarise(rows, "mean")["n_facts"] == 1
    assert tuning.summarise(rows, "mean")["rewrite"] == pytest.approx(0.5)


def test_a_fact_without_neighbours_counts_for_the_rewrite_score_alone():
    rows = [edited((0.5, 0.75), [(0.5, 1.0)]), edited((0.5, 1.0))]
    summary = tuning.summarise(rows, "mean")
    assert (summary["rewrite"], summary["neighbourhood"]) == pytest.approx((0.75, 0))


def test_without_any_edited_fact_or_neighbour_there_is_no_objective():
    nothing = tuning.summarise([edited((0.5, 1.0), status="failed: no")], "mean")
    assert nothing["n_facts"] == 0
    assert math.isnan(nothing["rewrite"])
    alone = tuning.summarise([edited((0.5, 1.0))], "mean")
    assert alone["rewrite"] == pytest.approx(1)
    assert math.isnan(alone["objective"])


# ---- the choice ----------------------------------------------------------------------------------


def test_the_best_objective_among_the_admissible_is_chosen():
    rows = [setting(0.5, 0.9), setting(0.9, 0.8), setting(1.0, 0.95)]
    assert choice(rows) == (1, [0, 1])


def test_the_limit_itself_is_admissible():
    assert choice([setting(0.99, 0.1), setting(0.5, 0.1)]) == (0, [0, 1])


def test_among_equals_the_first_is_chosen():
    assert choice([setting(0.5, 0.7), setting(0.7, 0.5)]) == (0, [0, 1])


def test_where_none_is_admissible_the_one_that_rewrites_least_is_chosen():
    assert choice([setting(1.0, 0.9), setting(0.995, 0.1)]) == (1, [])


def test_a_setting_without_an_objective_is_never_chosen():
    rows = [setting(NAN, NAN), setting(0.3, NAN), setting(0.2, 0.2)]
    assert choice(rows) == (2, [2])
    assert choice(rows[:2]) == (None, [])


def test_without_settings_there_is_no_choice():
    assert tuning.choose([], SATURATING) == []


def test_an_aim_below_saturation_passes_over_better_means_outside_it():
    rows = [setting(0.45, 0.99), setting(0.55, 0.9), setting(0.65, 0.85), setting(0.95, 0.9)]
    assert choice(rows, UNSATURATED) == (2, [1, 2])
    assert choice(rows, SATURATING) == (3, [0, 1, 2, 3])


def test_both_ends_of_the_aim_belong_to_it():
    rows = [setting(0.5, 0.9), setting(0.7, 0.6), setting(0.4999, 1.0), setting(0.7001, 1.0)]
    assert choice(rows, UNSATURATED) == (0, [0, 1])


@pytest.mark.parametrize(
    ("rewrites", "nearest"),
    [
        pytest.param([0.1, 0.45, 0.9], 1, id="from below"),
        pytest.param([0.1, 0.9, 0.71], 2, id="from above"),
        pytest.param([0.9, 0.99], 0, id="all above"),
        pytest.param([0.2, 0.01], 0, id="all below"),
    ],
)
def test_where_no_setting_is_within_the_aim_the_nearest_is_chosen(rewrites, nearest):
    assert choice([setting(rewrite, 0.8) for rewrite in rewrites], UNSATURATED) == (nearest, [])


def test_of_two_as_near_the_better_is_chosen():
    assert choice([setting(0.25, 0.1), setting(0.25, 0.8)], UNSATURATED) == (1, [])
