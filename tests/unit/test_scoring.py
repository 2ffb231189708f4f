"""The formulas of METHODS section 6 on numbers small enough to check by hand."""

import math
from types import SimpleNamespace

import pytest

from locedit.methods.problems import PROBLEMS
from locedit.store import schemas
from locedit.study.scores import (
    aggregate,
    essence_score,
    log_odds,
    neighbourhood_score,
    ngram_entropy,
    rewrite_score,
    score_row,
    text_score,
)
from workflow_scripts.scores import scored


@pytest.mark.parametrize(
    ("p", "p_after", "score"),
    [
        pytest.param(0.2, 0.6, 0.4 / 0.8, id="half of what was left to gain"),
        pytest.param(0.2, 1.0, 1.0, id="all of it"),
        pytest.param(0.2, 0.2, 2e-8, id="nothing: the floor"),
        pytest.param(0.5, 0.1, 2e-8, id="the wrong way: the floor"),
        pytest.param(0.0, 1e-9, 2e-8, id="less than the floor"),
        pytest.param(1.0, 1.0, 1.0, id="certain before"),
        pytest.param(1.0, 0.1, 2e-8, id="certain before, and not after: the floor"),
    ],
)
def test_rewrite_score(p, p_after, score):
    assert rewrite_score(p, p_after) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize(
    ("p", "p_after", "score"),
    [
        pytest.param(0.5, 0.1, 0.8, id="four fifths erased"),
        pytest.param(0.5, 0.0, 1.0, id="all erased"),
        pytest.param(0.5, 0.5, 0.0, id="nothing: zero, not the other floor"),
        pytest.param(0.5, 0.7, 0.0, id="the wrong way"),
        pytest.param(0.0, 0.0, 1.0, id="nothing to erase"),
        pytest.param(0.0, 0.5, 0.0, id="nothing to erase, and then there is"),
    ],
)
def test_rewrite_score_of_erasure(p, p_after, score):
    assert rewrite_score(p, p_after, maximise=False) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize(
    ("p", "p_after", "score"),
    [
        pytest.param(0.3, 0.3, 1.0, id="untouched"),
        pytest.param(0.2, 0.6, 1 - 0.4 / 0.8, id="from below a half: .8 was possible"),
        pytest.param(0.9, 0.6, 1 - 0.3 / 0.9, id="from above a half: .9 was possible"),
        pytest.param(0.5, 1.0, 0.0, id="from a half all the way up"),
        pytest.param(0.9, 0.0, 0.0, id="all the way down"),
        pytest.param(0.0, 1.0, 0.0, id="all the way up"),
    ],
)
def test_neighbourhood_score(p, p_after, score):
    assert neighbourhood_score(p, p_after) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "score"),
    [
        pytest.param([3.0, 5.0], [4.0, 8.0], 0.6, id="means: 4 to 6, two fifths of 5"),
        pytest.param([3.0], [2.0], 1.0, id="perplexity fell"),
        pytest.param([3.0], [8.0], 0.0, id="rose by 5"),
        pytest.param([3.0], [1e9], 0.0, id="rose beyond 5"),
        pytest.param([9.0, 1.0], [1.0, 9.0], 1.0, id="texts may trade places"),
    ],
)
def test_essence_score(before, after, score):
    assert essence_score(before, after) == pytest.approx(score)


def test_scores_of_nothing_are_nan():
    assert math.isnan(essence_score([], []))
    assert math.isnan(aggregate([], "mean"))
    assert math.isnan(aggregate([], "first"))
    assert math.isnan(ngram_entropy([]))
    assert math.isnan(ngram_entropy(["two words"]))


def test_what_is_not_a_number_scores_none():
    nan = float("nan")
    for pair in ((nan, nan), (nan, 0.5), (0.5, nan), (1.0, nan), (0.0, nan)):
        assert math.isnan(rewrite_score(*pair))
        assert math.isnan(rewrite_score(*pair, maximise=False))
        assert math.isnan(neighbourhood_score(*pair))
        assert math.isnan(essence_score([pair[0]], [pair[1]]))
        assert math.isnan(text_score([pair[0]], [pair[1]]))
    made = row("error_injection", rewrite_target_after=nan)
    scores = score_row(made, "mean")
    for name in ("rewrite", "overall", "rewrite_magnitude", "rewrite_success", "rewrite_log_odds"):
        assert math.isnan(scores[name]), name


def test_aggregate():
    assert aggregate([0.2, 0.6, 0.7], "mean") == pytest.approx(0.5)
    assert aggregate([0.2, 0.6, 0.7], "first") == 0.2
    assert aggregate(iter([0.4]), "mean") == pytest.approx(0.4)


def test_ngram_entropy():
    # Bigrams ab ba ab ba, each with share 1/2: 1 bit. Trigrams aba bab aba: shares 2/3 and 1/3.
    repeated = -(2 / 3) * math.log2(2 / 3) - (1 / 3) * math.log2(1 / 3)
    first = 1 / 3 * 1 + 2 / 3 * repeated
    assert ngram_entropy(["a b a b a"]) == pytest.approx(first)
    # Four different words: bigrams of share 1/3, trigrams of share 1/2.
    second = 1 / 3 * math.log2(3) + 2 / 3 * math.log2(2)
    assert ngram_entropy(["w x y z"]) == pytest.approx(second)
    # One word over and over says nothing; marks are words; texts are averaged, short ones left out.
    assert ngram_entropy(["no no no no"]) == 0
    assert ngram_entropy(["w, x."]) == pytest.approx(second)
    both = ["a b a b a", "w x y z", "too short"]
    assert ngram_entropy(both) == pytest.approx((first + second) / 2)


# --------------------------------------------------------------------------------------------------
# A whole row of the editing table. Per prompt: p of the target before and after, of the other after

PROMPTS = {
    "rewrite": [(0.2, 0.6, 0.3)],
    "paraphrase": [(0.5, 0.75, 0.05), (0.1, 0.55, 0.6)],
    "neighbourhood": [(0.2, 0.4, 0.5), (0.6, 0.3, 0.1)],
}


def row(problem: str, **changes: object) -> dict:
    """A row as the table holds it: log-probabilities, the rewrite prompt's as single numbers."""
    made: dict = {"problem": problem}
    for kind, prompts in PROMPTS.items():
        before, after, other = (
            [math.log(p) for p in column] for column in zip(*prompts, strict=True)
        )
        made |= {
            f"{kind}_target_before": before,
            f"{kind}_target_after": after,
            f"{kind}_other_after": other,
        }
    made |= {name: values[0] for name, values in made.items() if name.startswith("rewrite")}
    made |= {"perplexity_before": [10.0, 20.0], "perplexity_after": [11.0, 20.0]}
    made |= {"text_before": [10.0], "text_after": [12.5]}
    made |= {"generations_before": ["a b c"], "generations_after": [], "said_after": []}
    return made | changes


RISES = ["error_injection", "tracing_reversal", "fact_amplification", "fact_forcing"]


@pytest.mark.parametrize("problem", RISES)
def test_scores_of_a_row(problem):
    got = score_row(row(problem), "mean")
    rewrite = 0.4 / 0.8
    paraphrase = (0.25 / 0.5 + 0.45 / 0.9) / 2
    neighbourhood = ((1 - 0.2 / 0.8) + (1 - 0.3 / 0.6)) / 2
    essence = 1 - 0.5 / 5
    assert got["rewrite"] == pytest.approx(rewrite)
    assert got["paraphrase"] == pytest.approx(paraphrase)
    assert got["neighbourhood"] == pytest.approx(neighbourhood)
    assert got["essence"] == pytest.approx(essence)
    assert got["text"] == pytest.approx(10 / 12.5)
    overall = (rewrite + paraphrase + neighbourhood) / 3
    assert got["overall"] == pytest.approx(overall)
    assert got["overall_essence"] == pytest.approx((3 * overall + essence) / 4)
    # The bigrams ab and bc: 1 bit; the one trigram: 0.
    assert got["ngram_entropy_before"] == pytest.approx(1 / 3)
    assert math.isnan(got["ngram_entropy_after"])


@pytest.mark.parametrize("problem", RISES)
def test_successes_and_magnitudes_of_a_row(problem):
    """The target should win, and lose among the neighbours."""
    got = score_row(row(problem), "mean")
    assert got["rewrite_success"] == 1
    assert got["rewrite_magnitude"] == pytest.approx(0.6 - 0.3)
    assert got["paraphrase_success"] == 0.5
    assert got["paraphrase_magnitude"] == pytest.approx((0.70 - 0.05) / 2)
    assert got["neighbourhood_success"] == 0.5
    assert got["neighbourhood_magnitude"] == pytest.approx((0.1 - 0.2) / 2)


def test_scores_of_an_erasing_row():
    """What is to fall has risen in every prompt but the second neighbour's."""
    got = score_row(row("fact_erasure"), "mean")
    assert got["rewrite"] == 0
    assert got["paraphrase"] == 0
    assert got["neighbourhood"] == pytest.approx(0.625), "as in every problem: no change is best"
    fell = row("fact_erasure", rewrite_target_after=math.log(0.05))
    assert score_row(fell, "mean")["rewrite"] == pytest.approx(0.15 / 0.2)


def test_successes_and_magnitudes_of_an_erasing_row():
    """The target should lose, and win among the neighbours, whose object it is too."""
    got = score_row(row("fact_erasure"), "mean")
    assert got["rewrite_success"] == 0
    assert got["rewrite_magnitude"] == pytest.approx(0.3 - 0.6)
    assert got["paraphrase_success"] == 0.5
    assert got["paraphrase_magnitude"] == pytest.approx((-0.70 + 0.05) / 2)
    assert got["neighbourhood_success"] == 0.5
    assert got["neighbourhood_magnitude"] == pytest.approx((-0.1 + 0.2) / 2)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("problem", RISES)
def test_log_odds_of_a_row(problem):
    """Of the target's probability after the edit; among the neighbours it should be low."""
    got = score_row(row(problem), "mean")
    assert got["rewrite_log_odds"] == pytest.approx(logit(0.6))
    assert got["paraphrase_log_odds"] == pytest.approx((logit(0.75) + logit(0.55)) / 2)
    assert got["neighbourhood_log_odds"] == pytest.approx(-(logit(0.4) + logit(0.3)) / 2)
    assert got["paraphrase_log_odds_half1"] == pytest.approx(logit(0.75))
    assert got["paraphrase_log_odds_half2"] == pytest.approx(logit(0.55))


def test_a_row_of_the_scores_has_what_its_edit_cost_too():
    told = {"case_id": "1", "method": "FT-1", "layer": 2, "together": 1, "target": "Rome"}
    record = row("error_injection", **told, update_norm=0.5, steps=7, status="ok")
    params = SimpleNamespace(model="M", dataset="facts", aggregate="mean")
    got = scored(record, {"1": {"relation_id": "P1", "is_correct": True}}, params)
    assert (got["update_norm"], got["steps"]) == (0.5, 7)
    assert got["rewrite_log_odds"] == pytest.approx(logit(0.6))
    assert {"update_norm", "steps", "rewrite_log_odds"} <= {*schemas.SCHEMAS["scores"].names}


def test_log_odds_of_an_erasing_row_are_the_other_way_round():
    rises, falls = (score_row(row(problem), "mean") for problem in (RISES[0], "fact_erasure"))
    names = [name for name in rises if "_log_odds" in name]
    assert len(names) == 5
    assert {name: -falls[name] for name in names} == {name: rises[name] for name in names}


def test_the_halves_of_the_paraphrases_are_the_first_and_the_others():
    after = [math.log(p) for p in (0.1, 0.2, 0.3, 0.4, 0.5)]
    more = {f"paraphrase_{of}": after for of in ("target_before", "target_after", "other_after")}
    got = score_row(row("error_injection", **more), "mean")
    first, second = got["paraphrase_log_odds_half1"], got["paraphrase_log_odds_half2"]
    assert first == pytest.approx((logit(0.1) + logit(0.2)) / 2)
    assert second == pytest.approx((logit(0.3) + logit(0.4) + logit(0.5)) / 3)
    one = {name: values[:1] for name, values in more.items()}
    for lacking in (row("error_injection", **one), row("error_injection", **more)):
        how = "mean" if lacking["paraphrase_target_after"] == after[:1] else "first"
        got = score_row(lacking, how)
        assert got["paraphrase_log_odds"] == pytest.approx(logit(0.1))
        assert math.isnan(got["paraphrase_log_odds_half1"]), "a single prompt has no halves"
        assert math.isnan(got["paraphrase_log_odds_half2"])


@pytest.mark.parametrize("p", [1e-300, 1e-12, 0.1, 0.5, 0.9, 1 - 1e-5])
def test_log_odds_are_those_of_the_probability(p):
    assert log_odds(math.log(p)) == pytest.approx(math.log(p) - math.log1p(-p), rel=1e-9)


def test_log_odds_near_0_and_1_are_exact_and_finite():
    assert log_odds(-1000.0) == -1000.0, "p itself would be 0"
    tiny = 2.0**-20  # 1 - p, to second order p = exp(-tiny)
    assert log_odds(-tiny) == pytest.approx(-math.log(tiny) - tiny / 2, rel=1e-12)
    assert log_odds(0.0) == log_odds(-1e-12) == pytest.approx(24 * math.log(2), rel=1e-6)
    assert math.isnan(log_odds(math.nan))


def test_first_prompts_alone():
    got = score_row(row("error_injection"), "first")
    assert got["paraphrase"] == pytest.approx(0.5)
    assert got["neighbourhood"] == pytest.approx(0.75)
    assert got["paraphrase_success"] == 1
    assert got["paraphrase_magnitude"] == pytest.approx(0.7)
    assert got["neighbourhood_success"] == 1
    assert got["neighbourhood_magnitude"] == pytest.approx(0.1)


def test_equal_probabilities_are_no_success():
    tied = row("error_injection", rewrite_other_after=math.log(0.6))
    assert score_row(tied, "mean")["rewrite_success"] == 0


def test_row_without_neighbours_or_texts():
    nothing: dict = {f"neighbourhood_{name}": [] for name in ("target_before", "target_after")}
    nothing |= {"neighbourhood_other_after": [], "perplexity_before": [], "perplexity_after": []}
    got = score_row(row("error_injection", **nothing), "mean")
    assert got["rewrite"] == pytest.approx(0.5)
    missing = ["neighbourhood", "essence", "overall", "overall_essence", "neighbourhood_success"]
    assert all(math.isnan(got[name]) for name in missing)


def test_only_erasure_is_to_fall():
    assert [problem for problem in PROBLEMS if not PROBLEMS[problem].maximise] == ["fact_erasure"]
