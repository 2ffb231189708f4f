"""The search for a layer: it finds the one that can be edited, on a budget, the same again."""

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from locedit.api.recommending import section
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.study import advice, halving, intervals
from locedit.study.budget import Budget, Purse
from locedit.study.edit import Subject
from locedit.study.recommending import Costs, check_question, mean_by_layer, usable
from locedit.study.trials import Arm, Trials

LAYERS, SETTINGS = 12, 3


def subject(name: str) -> Subject:
    fact = Fact(
        case_id=name,
        relation_id="",
        subject="France",
        template="{} is",
        target_true="a",
        target_new="b",
    )
    return Subject(fact=fact, before={"status": "ok"}, texts=[], perplexity=[])


POOLS = {
    "search": [subject(f"s{i}") for i in range(20)],
    "held_out": [subject(f"h{i}") for i in range(20)],
}


class Machine:
    """Edits that take the time of a clock that nobody waits for, and are as good as is said."""

    def __init__(self, good: Callable[[Arm, str], float], seconds: Callable[[Arm], float]) -> None:
        self.now, self.made = 0.0, 0
        self._good, self._seconds = good, seconds

    def clock(self) -> float:
        return self.now

    def edit(self, arm, subjects):
        self.now += self._seconds(arm) * len(subjects)
        self.made += len(subjects)
        return [self._row(arm, one.fact.case_id) for one in subjects]

    def _row(self, arm, case_id):
        after = math.log(min(1.0, max(1e-6, self._good(arm, case_id))))
        return {
            "case_id": case_id,
            "problem": "error_injection",
            "layer": arm.layer,
            "rewrite_target_before": math.log(1e-6),
            "rewrite_target_after": after,
            "rewrite_other_after": after,
            "paraphrase_target_before": [math.log(1e-6)],
            "paraphrase_target_after": [after],
            "paraphrase_other_after": [after],
            "neighbourhood_target_before": [math.log(0.5)],
            "neighbourhood_target_after": [math.log(0.5)],
            "neighbourhood_other_after": [math.log(0.5)],
            "perplexity_before": [],
            "perplexity_after": [],
            "text_before": [],
            "text_after": [],
            "generations_before": [],
            "generations_after": [],
            "said_after": [],
            "status": "ok",
        }


def noisy(best: int):
    """Layers that fall off from the best one, the last setting being best, noise by fact."""

    def good(arm: Arm, case_id: str) -> float:
        noise = np.random.RandomState(abs(hash_of(case_id, arm)) % 2**32).randn()
        return 0.7 - 0.08 * abs(arm.layer - best) + 0.05 * arm.setting + 0.05 * noise

    return good


def hash_of(case_id: str, arm: Arm) -> int:
    return sum(map(ord, case_id)) * 7919 + arm.layer * 104729 + arm.setting


def found(folder, budget, good, seconds=lambda _: 1.0, **more):
    """(search, trials, machine) of one editor that has all of a budget."""
    machine = Machine(good, seconds)
    purse = Purse(budget=Budget.parse(budget))
    trials = Trials(folder, purse, machine.edit, POOLS, clock=machine.clock)
    limit = purse.budget.amount
    return halving.search(trials, LAYERS, SETTINGS, limit=limit, **more), trials, machine


# ---- the search ----------------------------------------------------------------------------------


def test_the_one_layer_that_can_be_edited_is_found(tmp_path):
    search, trials, _ = found(tmp_path, "200 edits", lambda arm, _: 0.9 * (arm.layer == 7))
    assert search.chosen.layer == 7
    assert min(trials.scores(search.chosen, "held_out", 8)) > 0.9


@pytest.mark.parametrize("best", [0, 4, 11])
def test_among_noisy_layers_the_best_is_found_and_the_better_setting(tmp_path, best):
    search, _, _ = found(tmp_path, "400 edits", noisy(best))
    assert abs(search.chosen.layer - best) <= 1
    assert search.chosen.setting == 2


@pytest.mark.parametrize("budget", [60, 150, 400, 2000])
@pytest.mark.parametrize("pace", ["even", "early layers take longer", "it slows down", "uneven"])
def test_the_budget_is_kept_within_a_fifth_and_used(tmp_path, budget, pace):
    draws = np.random.RandomState(0)
    calls = iter(range(10**6))
    paces = {
        "even": lambda _: 1.0,
        "early layers take longer": lambda arm: 2.0 - arm.layer / LAYERS,
        "it slows down": lambda _: 1.0 + next(calls) / 50,
        "uneven": lambda _: float(draws.lognormal(0, 0.5)),
    }
    search, trials, machine = found(tmp_path, f"{budget}s", noisy(4), paces[pace])
    assert search.chosen is not None
    assert machine.now == pytest.approx(trials.purse.spent)
    assert machine.now <= 1.2 * budget
    everything = search.facts_held_out == 20 and trials.count(search.chosen, "search") == 20
    assert everything or machine.now >= 0.7 * budget


def test_a_budget_in_edits_does_not_depend_on_the_clock(tmp_path):
    draws = np.random.RandomState(1)
    even, trials, _ = found(tmp_path / "a", "150 edits", noisy(4))
    uneven, _, machine = found(tmp_path / "b", "150 edits", noisy(4), lambda _: draws.rand())
    assert even == uneven
    assert machine.made <= 150
    assert trials.purse.spent == machine.made


@pytest.mark.slow
def test_without_a_limit_the_answer_is_the_same_at_any_pace(tmp_path):
    draws = np.random.RandomState(1)
    even, _, _ = found(tmp_path / "a", "none", noisy(4))
    uneven, trials, _ = found(tmp_path / "b", "none", noisy(4), lambda _: draws.rand())
    assert even == uneven
    assert even.facts_held_out == 20 == trials.count(even.chosen, "search")


def test_an_interrupted_search_goes_on_and_decides_as_it_would_have(tmp_path):
    whole, _, once = found(tmp_path / "whole", "150s", noisy(4))
    killed = Machine(noisy(4), lambda _: 1.0)

    def edit(arm, subjects):
        if killed.made > 60:
            raise KeyboardInterrupt
        return killed.edit(arm, subjects)

    purse = Purse(budget=Budget.parse("150s"))
    trials = Trials(tmp_path / "cut", purse, edit, POOLS, clock=killed.clock)
    with pytest.raises(KeyboardInterrupt):
        halving.search(trials, LAYERS, SETTINGS, limit=150)
    # at another pace: what was done counts as it was paid for
    again, trials, machine = found(tmp_path / "cut", "150s", noisy(4))
    assert again == whole
    assert machine.made == once.made - killed.made
    assert trials.purse.spent == pytest.approx(150, rel=0.2)


def test_a_larger_budget_goes_on_from_a_smaller_ones_edits(tmp_path):
    _, _, first = found(tmp_path, "100 edits", noisy(4))
    search, _, second = found(tmp_path, "300 edits", noisy(4))
    fresh, _, alone = found(tmp_path / "fresh", "300 edits", noisy(4))
    assert search == fresh
    assert second.made < alone.made <= first.made + second.made


def test_where_there_is_no_room_for_all_layers_some_are_left_out_and_that_is_said(tmp_path):
    search, trials, machine = found(tmp_path, "25 edits", noisy(4), pointed_at=[1])
    assert 3 <= len(search.layers) < LAYERS
    assert "layers were tried" in " ".join(search.left_undone)
    assert machine.made <= 25
    assert set(search.layers) == {arm.layer for arm in trials.arms()}


def test_where_there_is_no_room_for_a_screen_there_is_no_answer(tmp_path):
    search, _, machine = found(tmp_path, "6 edits", noisy(4))
    assert search.chosen is None
    assert machine.made == 1


def test_a_screen_of_the_fewest_layers_is_made_where_there_is_room_for_it(tmp_path):
    assert [halving.least(n) for n in (1, 2, 3, 4, 5, 12, 30)] == [1, 2, 3, 4, 3, 3, 3]
    part = (1 + (halving.least(LAYERS) - 1) / halving.SCREENING) / halving.SEARCHING
    search, _, _ = found(tmp_path / "enough", f"{math.ceil(part)} edits", noisy(4))
    assert len(search.layers) == halving.least(LAYERS)
    search, _, _ = found(tmp_path / "less", f"{math.floor(part) - 1} edits", noisy(4))
    assert search.layers == []


def test_facts_are_nested_and_those_held_out_are_never_searched_by(tmp_path):
    search, trials, _ = found(tmp_path, "200 edits", noisy(4))
    counts = [one.facts for one in search.rounds]
    assert counts == sorted(counts)
    for arm in trials.arms():
        assert len(trials.of(arm, "search", 20)) == trials.count(arm, "search") > 0
    assert {arm for one in search.rounds for arm in one.arms} == set(trials.arms())


def test_rounds_end_at_three(tmp_path):
    assert halving.sizes(30, 3) == [30, 30, 15, 8, 4, 3]
    assert halving.sizes(3, 1) == [3]
    assert halving.sizes(1, 1) == [1]
    assert halving.sizes(4, 2) == [4, 6, 3]


# ---- what is said --------------------------------------------------------------------------------


def told(search, trials, peaks=None):
    settings = [{"clamp": value} for value in (1.5, 0.8, 4.0)]
    names = {"model": "M", "dataset": "d", "method": "ROME", "problem": "error_injection"}
    rows = advice.rows(trials, search, names, settings, 1, LAYERS, peaks or {})
    return advice.Advice(
        method="ROME",
        problem="error_injection",
        n_layers=LAYERS,
        kinds=trials.kinds,
        rows=rows,
        settings=settings[search.chosen.setting],
    )


def test_a_rival_that_a_localizer_points_at_is_shown_at_its_own_best_setting(tmp_path):
    """It is measured at the chosen setting, too, which may be worse."""
    best = {(7, 0): 0.6, (7, 1): 0.6, (7, 2): 0.9, (3, 0): 0.85, (3, 1): 0.5, (3, 2): 0.2}

    def good(arm, _):
        return best.get((arm.layer, arm.setting), 0.05)

    plain, trials, _ = found(tmp_path / "plain", "600 edits", good)
    runner_up = told(plain, trials).runner_up
    assert (runner_up["layer"], runner_up["setting"]) == (3, "clamp=1.5")
    pointed, trials, _ = found(tmp_path / "pointed", "600 edits", good, pointed_at=[3])
    assert Arm(layer=3, setting=2) in pointed.held_out
    assert told(pointed, trials).runner_up == runner_up


def test_the_scores_are_means_over_the_held_out_facts(tmp_path):
    search, trials, _ = found(tmp_path, "400 edits", noisy(4), pointed_at=[9])
    own = told(search, trials, {"tracing": 9}).chosen
    values = trials.scores(search.chosen, "held_out", search.facts_held_out)
    assert own["n_held_out"] == search.facts_held_out == len(values)
    assert own["overall"] == pytest.approx(np.mean(values))
    assert own["overall_low"] < own["overall"] < own["overall_high"]
    assert own["setting"] == "clamp=4"


def test_following_a_localizer_costs_what_its_layer_loses_on_the_same_facts(tmp_path):
    search, trials, _ = found(tmp_path, "400 edits", noisy(4), pointed_at=[9])
    (row,) = [row for row in told(search, trials, {"tracing": 9}).rows if row["localizers"]]
    facts = search.facts_held_out
    pair = [
        trials.scores(arm, "held_out", facts)
        for arm in (search.chosen, Arm(setting=search.chosen.setting, layer=9))
    ]
    assert row["cost"] == pytest.approx(np.mean(pair[0]) - np.mean(pair[1]))
    assert row["cost_low"] < row["cost"] < row["cost_high"]
    assert row["told_apart"]


def test_layers_that_are_alike_cannot_be_told_apart(tmp_path):
    def flat(arm, case_id):
        return 0.5 + 0.2 * np.random.RandomState(hash_of(case_id, arm)).rand()

    search, trials, _ = found(tmp_path, "200 edits", flat)
    said = " ".join(advice.certainty(told(search, trials)))
    assert "cannot be told apart on held-out facts" in said
    assert "no proof" in said


def test_what_is_far_better_is_told_apart(tmp_path):
    search, trials, _ = found(tmp_path, "300 edits", lambda arm, _: 0.9 * (arm.layer == 7))
    said = " ".join(advice.certainty(told(search, trials)))
    assert "cannot be told apart" not in said


def test_an_answer_that_writes_nothing_says_so_and_is_not_kept_for_a_models_file(tmp_path):
    search, trials, _ = found(tmp_path, "200 edits", noisy(4))
    answer = told(search, trials)
    assert answer.writes
    assert "Nothing is written" not in " ".join(advice.certainty(answer))
    question = SimpleNamespace(dataset="d")
    assert "ROME" in section(question, [answer])
    idle = dataclasses.replace(answer, rows=[{**row, "rewrite": 0.0004} for row in answer.rows])
    said = " ".join(advice.certainty(idle))
    assert "Nothing is written" in said
    assert section(question, [idle]) == {}


def test_failed_edits_count_as_nothing_and_are_told(tmp_path):
    machine = Machine(lambda *_: 0.9, lambda _: 1.0)

    def edit(arm, subjects):
        rows = machine.edit(arm, subjects)
        return (
            rows
            if arm.layer == 3
            else [{"case_id": r["case_id"], "status": "failed: no"} for r in rows]
        )

    purse = Purse(budget=Budget.parse("100 edits"))
    trials = Trials(tmp_path, purse, edit, POOLS, clock=machine.clock)
    assert halving.search(trials, LAYERS, SETTINGS, limit=100).chosen.layer == 3
    assert "edits failed and score 0: " in advice.failures(trials)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([4], "4"),
        ([4, 5], "4 and 5"),
        ([7, 4, 5, 6], "4 to 7"),
        ([0, 2, 3, 4, 9], "0, 2 to 4 and 9"),
        ([0, 1, 5], "0 and 1, 5"),
    ],
)
def test_layers_in_words(layers, words):
    assert advice.together(layers) == words


# ---- intervals, budgets, what is kept ------------------------------------------------------------


@pytest.mark.parametrize(
    ("df", "wanted"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (9, 2.2622), (30, 2.0423)]
)
def test_quantiles_of_t_are_those_of_the_tables(df, wanted):
    assert intervals.t_quantile(0.975, df) == pytest.approx(wanted, abs=5e-5)


def test_intervals_of_scores_stay_inside_and_cover():
    assert intervals.bounded([0.99, 1.0, 0.98])[2] < 1
    mean, low, high = intervals.bounded([0.4])
    assert mean == 0.4
    assert math.isnan(low)
    assert math.isnan(high)
    draws = np.random.RandomState(0)
    inside = [
        low <= 0.6 <= high
        for _, low, high in (intervals.bounded(draws.beta(3, 2, size=8)) for _ in range(400))
    ]
    assert 0.92 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize(("n", "p"), [(4, 0.4), (8, 0.6), (20, 0.85), (20, 0.9)])
def test_equal_values_leave_open_what_they_would_not_show(n, p):
    """Saturated scores: of all that are 1 with probability p, else 0, the interval has the mean."""
    q = 0.05 ** (1 / n)
    assert intervals.bounded([1.0] * n) == pytest.approx((1, q, 1))
    assert intervals.bounded([0.0] * n) == pytest.approx((0, 0, 1 - q))
    assert intervals.bounded([0.3] * n) == pytest.approx((0.3, 0.3 * q, 0.3 * q + 1 - q))
    _, low, _ = intervals.bounded([1.0] * n)
    missed = 0.0 if low <= p else p**n  # how often they are all 1 and it has not
    assert missed < 0.05


def test_differences_are_of_pairs():
    found = intervals.difference([0.5, 0.7, 0.7], [0.4, 0.5, 0.6])
    assert found == pytest.approx([2 * one - 1 for one in intervals.bounded([0.55, 0.6, 0.55])])
    q = 0.05 ** (1 / 3)
    equal = intervals.difference([0.5, 0.6, 0.7], [0.4, 0.5, 0.6])
    assert equal == pytest.approx((0.1, 1.1 * q - 1, 1.1 * q - 1 + 2 * (1 - q)))


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("20m", 1200, "seconds"), ("1h30m", 5400, "seconds"), ("600 edits", 600, "edits")],
)
def test_budgets_are_times_or_edits(text, amount, unit):
    assert Budget.parse(text) == Budget(amount=amount, unit=unit)


@pytest.mark.parametrize("text", ["", "m", "20", "20 minutes", "0s", "-5m", "0 edits", "9" * 400])
def test_another_budget_is_one_sentence(text):
    with pytest.raises(LoceditError, match=r"expected .*20m"):
        Budget.parse(text)


def test_steps_before_the_edits_are_paid_for_once_and_again_at_that_price(tmp_path):
    for price, pays in ((5.0, 5.0), (0.5, 5.0)):
        now = iter([0.0, price, price])
        purse = Purse(budget=Budget.parse("20m"))
        with Costs(tmp_path / "costs.json", purse, lambda now=now: next(now)).paid("asking"):
            pass
        assert purse.spent == pays


def test_a_folder_with_another_questions_search_is_refused(tmp_path):
    file = tmp_path / "question.json"
    check_question(file, {"seed": 0, "editors": ["ROME"]})
    check_question(file, {"seed": 0, "editors": ["ROME"]})
    with pytest.raises(
        LoceditError, match="a search with seed 0, and this one has 1; name another"
    ):
        check_question(file, {"seed": 1, "editors": ["ROME"]})


def test_facts_without_the_prompts_of_the_others_are_left_out():
    both = {"paraphrases": ["a"], "neighbourhood": ["b"]}
    rows = [both, both, both, {**both, "neighbourhood": []}]
    kept, kinds, said = usable(rows)
    assert (len(kept), kinds) == (3, ["rewrite", "paraphrase", "neighbourhood"])
    assert said == "1 of 4 facts lack prompts and are left out"
    kept, kinds, said = usable([{**both, "paraphrases": []}] * 3)
    assert (len(kept), kinds) == (3, ["rewrite", "neighbourhood"])
    assert "no paraphrases" in said


def test_a_localizers_mean_is_over_facts_that_have_a_value():
    rows = [
        {"status": "ok", "layer": 0, "value": 1.0},
        {"status": "ok", "layer": 0, "value": 3.0},
        {"status": "ok", "layer": 1, "value": None},
        {"status": "not localized: no"},
    ]
    np.testing.assert_array_equal(mean_by_layer(rows, 2), [2.0, math.nan])
