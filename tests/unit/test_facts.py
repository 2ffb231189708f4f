"""Facts: readers of the public formats, what a model knows, and the order of a study."""

import json
import re

import pytest
import torch
from samples import COUNTERFACT, NATIVE

from locedit.facts.record import EXCLUDED, KEPT, Fact, from_row, read_records, study_order
from locedit.model.language_model import LanguageModel
from locedit.study.knowledge import add_knowledge


@pytest.fixture
def read(tmp_path):
    """A function that writes records to a file and reads them."""

    def write_and_read(records, format="native", n=None):
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        return read_records(path, format, n)

    return write_and_read


def many(count):
    return [{**NATIVE, "case_id": str(i)} for i in range(count)]


# ---- reading -------------------------------------------------------------------------------------


def test_a_native_record_keeps_its_fields(read):
    (row,) = read([NATIVE])
    assert {key: row[key] for key in NATIVE} == NATIVE
    assert row["prompt"] == "The capital of France is"
    assert (row["status"], row["reason"]) == (KEPT, "")


def test_a_counterfact_record_is_the_same_fact(read):
    assert read([COUNTERFACT], "counterfact") == read([NATIVE])


def test_prompts_may_be_absent(read):
    lists = ("paraphrases", "neighbourhood", "generation_prompts")
    (row,) = read([{key: value for key, value in NATIVE.items() if key not in lists}])
    assert row["status"] == KEPT
    assert [row[name] for name in lists] == [[], [], []]


def test_targets_lose_their_outer_spaces(read):
    (row,) = read([{**NATIVE, "target_true": " Paris", "target_new": "Rome "}])
    assert (row["target_true"], row["target_new"]) == ("Paris", "Rome")


def test_a_subject_with_braces_is_not_a_second_hole(read):
    (row,) = read([{**NATIVE, "subject": "{x}"}])
    assert row["prompt"] == "The capital of {x} is"


def test_letters_beyond_ascii_are_read(read):
    (row,) = read([{**NATIVE, "subject": "Côte d’Ivoire", "target_true": "Yamoussoukro"}])
    assert row["prompt"] == "The capital of Côte d’Ivoire is"


def test_a_counterfact_record_without_a_part_is_excluded_and_says_which(read):
    rewrite = {k: v for k, v in COUNTERFACT["requested_rewrite"].items() if k != "target_new"}
    rows = read([{**COUNTERFACT, "requested_rewrite": rewrite}, COUNTERFACT], "counterfact")
    assert [row["status"] for row in rows] == [EXCLUDED, KEPT]
    assert rows[0]["reason"] == "target_new is missing"


def test_the_first_n_records_are_read(read):
    assert [row["case_id"] for row in read(many(5), n=2)] == ["0", "1"]
    assert len(read(many(5), n=9)) == len(read(many(5))) == 5


def test_a_row_gives_its_fact_back(read):
    (row,) = read([NATIVE])
    assert from_row(row) == Fact(**NATIVE)


# ---- what a model knows --------------------------------------------------------------------------


@pytest.fixture
def lm(tiny_pair):
    return LanguageModel(*tiny_pair)


def test_p_true_is_the_probability_of_the_whole_target(lm, read):
    (row,) = read([{**NATIVE, "target_true": "the government"}])
    add_knowledge(lm, [row], completion_tokens=3)
    prompt = lm.encode(row["prompt"])
    target = lm.encode_target("the government", row["prompt"])
    assert len(target) > 1
    logits = lm.model(torch.tensor([prompt + target])).logits
    steps = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = sum(steps[i, token] for i, token in enumerate(target)).exp().item()
    assert row["p_true"] == pytest.approx(expected, rel=1e-9)


def test_a_fact_is_known_if_the_completion_holds_its_target_in_any_case(lm, read):
    (row,) = read([NATIVE])
    add_knowledge(lm, [row], completion_tokens=12)
    part = max(re.findall("[A-Za-z]+", row["completion"]), key=len)
    rows = read(
        [
            {**NATIVE, "case_id": "as said", "target_true": part},
            {**NATIVE, "case_id": "other case", "target_true": part.swapcase()},
            {**NATIVE, "case_id": "not said", "target_true": part + " and so on"},
        ]
    )
    add_knowledge(lm, rows, completion_tokens=12)
    assert [row["is_correct"] for row in rows] == [True, True, False]


def test_knowledge_does_not_depend_on_the_batch(lm, read):
    subjects = ["France", "the old city by the river", "I", "Microsoft Windows"]
    records = [{**NATIVE, "case_id": str(i), "subject": s} for i, s in enumerate(subjects)]
    alone, together = read(records), read(records)
    add_knowledge(lm, alone, completion_tokens=6, batch=1)
    add_knowledge(lm, together, completion_tokens=6, batch=64)
    for one, other in zip(alone, together, strict=True):
        assert one["completion"] == other["completion"]
        assert one["p_true"] == pytest.approx(other["p_true"], rel=1e-9)


def test_progress_counts_the_usable_facts(lm, read):
    rows = read([*many(5), {**NATIVE, "case_id": "bad", "subject": ""}])
    counts: list[int] = []
    add_knowledge(lm, rows, completion_tokens=1, batch=2, progress=counts.append)
    assert counts == [2, 2, 1]
    assert "is_correct" not in rows[-1]


def test_a_prompt_longer_than_the_model_becomes_an_excluded_row(lm, read):
    limit = lm.model.config.max_position_embeddings
    rows = read([{**NATIVE, "case_id": "long", "paraphrases": ["the " * limit]}, NATIVE])
    add_knowledge(lm, rows, completion_tokens=9)
    assert [row["status"] for row in rows] == [EXCLUDED, KEPT]
    assert rows[0]["reason"].endswith(f"tokens and 9 more exceed the model's {limit}")
    assert "p_true" not in rows[0]


# ---- the study's order ---------------------------------------------------------------------------

IDS = [str(i) for i in range(200)]


def test_every_prefix_of_the_order_is_part_of_a_larger_one():
    order = study_order(IDS, seed=0)
    assert sorted(order) == sorted(IDS)
    smaller = study_order(IDS[:120], seed=0)
    assert [case_id for case_id in order if case_id in set(IDS[:120])] == smaller


def test_the_order_is_the_seeds_own_and_not_the_files():
    order = study_order(IDS, seed=0)
    assert study_order(reversed(IDS), seed=0) == order
    assert study_order(IDS, seed=1) != order
    assert order != IDS


def test_a_prefix_is_drawn_from_everywhere():
    chosen = [int(case_id) for case_id in study_order(IDS, seed=0)[:100]]
    assert 35 <= sum(case_id < 100 for case_id in chosen) <= 65
