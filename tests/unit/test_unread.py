"""What a data file has that is not read, and what no record has, is said before any model runs."""

import json
import logging

import pytest
import tiny
from fuzzing import GOOD
from handed import handed, input_files
from samples import COUNTERFACT, NATIVE
from test_datasets import EASYEDIT, KNOWN, ZSRE

from locedit.facts.record import read_records
from locedit.model.language_model import LanguageModel
from workflow_scripts import facts as facts_script


@pytest.fixture
def told(tmp_path):
    """A function that reads records and gives what is said of them, without the file's name."""

    def read(records, format, **how):
        said: list[str] = []
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        rows = read_records(path, format, say=said.append, **how)
        assert all(row["status"] == "kept" for row in rows), rows
        return [sentence.removeprefix(f"{path}: ") for sentence in said]

    return read


def test_published_records_give_no_noise(told):
    assert told([COUNTERFACT], "counterfact") == []
    assert told([NATIVE], "native") == []
    no_openings = "no record has generation_prompts; left empty: fluency"
    assert told([EASYEDIT], "easyedit") == [no_openings]
    drawn = (
        "2 new objects were drawn from its other facts, as its form has none; to choose them, "
        "write native records, with target_true and target_new"
    )
    assert told([ZSRE, {**ZSRE, "answers": ["Yale"]}], "zsre") == [no_openings, drawn]
    assert told([KNOWN, {**KNOWN, "known_id": 4, "attribute": "Asia"}], "known_1000") == [
        "no record has paraphrases or neighbourhood or generation_prompts; left empty: "
        "paraphrase score, neighbourhood score, fluency, overall score",
        drawn,
    ]


def test_easyedits_other_spellings_are_read_as_the_usual_ones(tmp_path):
    path = tmp_path / "facts.json"
    spelt = {"rephrase_prompt": "rephrase", "locality_prompt": "locality"}
    other = {spelt.get(key, key): value for key, value in EASYEDIT.items()}
    rows = []
    for record in (EASYEDIT, other, {**other, "rephrase": [other["rephrase"]]}):
        path.write_text(json.dumps([record]))
        rows += read_records(path, "easyedit")
    assert rows[1] == rows[2] == rows[0]
    assert rows[0]["paraphrases"] == ["France is governed from"]
    assert rows[0]["neighbourhood"] == ["The Louvre is in"]


def test_a_value_of_another_kind_is_not_read_and_is_said(told):
    few = {key: EASYEDIT[key] for key in ("prompt", "subject", "ground_truth", "target_new")}
    nested = {"Relation_Specificity": [{"prompt": "The Louvre is in", "ground_truth": "Paris"}]}
    assert told([{**few, "locality": nested}], "easyedit") == [
        "not read: locality (expected a text or a list of texts)",
        "no record has rephrase_prompt or locality_prompt or generation_prompts; left empty: "
        "paraphrase score, neighbourhood score, fluency, overall score",
    ]


MISSPELT = {
    "native": ("neighborhood", "neighbourhood", "neighbourhood"),
    "counterfact": ("paraphrases_prompts", "paraphrase_prompts", "paraphrase_prompts"),
    "easyedit": ("rephrase_prompts", "rephrase_prompt", "rephrase_prompt"),
    "zsre": ("rephrased", "rephrase", "rephrase"),
}


@pytest.mark.parametrize("format", MISSPELT)
def test_a_key_that_is_nearly_ours_is_named_with_it_and_what_it_would_have_given(told, format):
    wrong, right, field = MISSPELT[format]
    record = {wrong if key == right else key: value for key, value in GOOD[format].items()}
    said = told([record, *([{**record, "answers": ["Rome"]}] if format == "zsre" else [])], format)
    assert said[0] == f"not read: {wrong} (did you mean {right}?)"
    assert said[1].startswith("no record has ")
    assert field in said[1]
    corrected = told(
        [GOOD[format], *([{**ZSRE, "answers": ["Rome"]}] if format == "zsre" else [])], format
    )
    assert not any("not read" in sentence or field in sentence for sentence in corrected)


def test_inner_keys_and_odd_ones_are_named_in_one_line(told):
    rewrite = {**COUNTERFACT["requested_rewrite"], "target_truth": 1}
    odd = {**COUNTERFACT, "requested_rewrite": rewrite, "a\nb": 1, " prompt": 2}
    (said,) = told([odd], "counterfact")
    assert said == "not read: requested_rewrite.target_truth, 'a\\nb', ' prompt'"


def test_many_keys_are_counted(told):
    record = NATIVE | {f"k{i}": i for i in range(5000)}
    (said,) = told([record], "native")
    assert said.endswith("k11, ... (5000 in all)")


def test_columns_of_a_table_that_are_not_named_are_not_read(tmp_path):
    said: list[str] = []
    path = tmp_path / "own.csv"
    path.write_text("entity,sentence,answer,wrong,paraphrase\nFrance,{} is,Paris,Rome,One\n")
    columns = {"subject": "entity", "template": "sentence", "target_true": "answer"}
    columns |= {"target_new": "wrong"}
    read_records(path, "native", columns=columns, say=said.append)
    assert said[0] == f"{path}: not read: paraphrase (did you mean paraphrases?)"
    assert said[1].startswith(f"{path}: no record has paraphrases or neigh")
    (row,) = read_records(path, "native", columns={**columns, "paraphrases": "paraphrase"})
    assert row["paraphrases"] == ["One"]


OWN = {"subject": "entity", "prompt": "sentence", "target_true": "answer", "target_new": "wrong"}


def test_columns_that_are_called_as_our_fields_are_read_beside_those_that_are_named(tmp_path):
    said: list[str] = []
    path = tmp_path / "own.csv"
    path.write_text(
        "id,case_id,entity,sentence,template,subject,answer,wrong,paraphrases,neighbourhood\n"
        "1,a,France,France is,T7,x,Paris,Rome,One|Two,Three\n"
    )
    (row,) = read_records(path, "native", columns=OWN, say=said.append)
    assert (row["case_id"], row["subject"], row["template"]) == ("a", "France", "{} is")
    assert (row["paraphrases"], row["neighbourhood"]) == (["One", "Two"], ["Three"])
    assert said[0] == f"{path}: not read: id, template, subject"
    (row,) = read_records(path, "native", columns={**OWN, "case_id": "id"})
    assert row["case_id"] == "1"


def test_a_column_with_our_fields_name_and_values_of_another_kind_is_not_read(tmp_path, told):
    record = {"entity": "France", "sentence": "{} is", "answer": "Paris", "wrong": "Rome"}
    said = told([{**record, "paraphrases": {"a": 1}}], "native", columns=OWN)
    assert said[0] == "not read: paraphrases (expected a text or a list of texts)"


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """A function that runs the job on records; what it says before it loads a model, and after."""

    def job(records):
        path, before = tmp_path / "facts.json", []
        path.write_text(json.dumps(records))

        def load(_):
            before.append(capfd.readouterr().err)
            return LanguageModel(*tiny.pair("gpt2", layers=1))

        monkeypatch.setattr(facts_script, "load_model", load)
        params = {
            "settings": {"facts.n": None, "facts.completion_tokens": 2},
            "reading": {"format": "native"},
            "fingerprint": "",
        }
        given = handed(tmp_path, "filter_facts", input_files(records=path, model=path), params)
        monkeypatch.setattr(facts_script, "provenance", lambda _: {})
        facts_script.main(given)
        logging.captureWarnings(False)
        said = f"filter_facts: {path}: "
        return [
            [line.removeprefix(said) for line in text.splitlines() if line.startswith(said)]
            for text in (before[0], capfd.readouterr().err)
        ]

    return job


def test_the_job_says_so_in_the_terminal_and_its_log_before_it_loads_a_model(run, caplog):
    wrong = {"rephrases" if key == "paraphrases" else key: v for key, v in NATIVE.items()}
    said = [
        "not read: rephrases (did you mean paraphrases?)",
        "no record has paraphrases; left empty: paraphrase score, overall score",
    ]
    assert run([wrong]) == [said, []]
    assert all(sentence in caplog.text for sentence in said)


def test_the_job_says_how_many_records_are_left_out_and_why_and_its_log_which(
    run, tmp_path, caplog
):
    caplog.set_level("INFO")
    long = {**NATIVE, "case_id": "long", "neighbourhood": ["Rome" + 2000 * " Rome"]}
    before, after = run([NATIVE, NATIVE, {**NATIVE, "target_new": ""}, long])
    assert before == [
        "2 of 4 records left out: 1 x its case_id occurs before in the file; 1 x target_new is "
        f"empty; {tmp_path / 'log'} has each"
    ]
    (said,) = after
    assert said.startswith("1 of 4 records left out: 1 x a prompt of ")
    for reason in ("its case_id occurs before in the file", "target_new is empty"):
        assert f"record {NATIVE['case_id']}: left out, {reason}" in caplog.text
    assert "record long: left out, a prompt of" in caplog.text
