"""Data sets: every published form and every kind of file, on records in their format."""

import csv
import json
import random
import re

import pyarrow
import pytest
import samples
import tiny
from pyarrow import parquet

from locedit import messages
from locedit.facts import formats
from locedit.facts.record import exclusions, from_row, read_records
from locedit.facts.records import CALL, COMMAND, CONFIGURATION, DataError
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.study.knowledge import add_knowledge

PARAPHRASES = ["France is governed from", "The seat of France's government is"]
NATIVE = {**samples.NATIVE, "paraphrases": PARAPHRASES}
COUNTERFACT = {**samples.COUNTERFACT, "paraphrase_prompts": PARAPHRASES}
EASYEDIT = {
    "case_id": 7,
    "prompt": "The capital of France is",
    "target_new": "Rome",
    "subject": "France",
    "ground_truth": "Paris",
    "rephrase_prompt": "France is governed from",
    "locality_prompt": "The Louvre is in",
    "locality_ground_truth": "Paris",
}
ZSRE = {
    "subject": "Watts Humphrey",
    "src": "What university did Watts Humphrey attend?",
    "pred": "Trinity College",
    "rephrase": "What university did Watts Humphrey take part in?",
    "alt": "University of Michigan",
    "answers": ["Illinois Institute of Technology"],
    "loc": "nq question: who played desmond doss father in hacksaw ridge",
    "loc_ans": "Hugo Weaving",
    "cond": "Trinity College >> University of Michigan || What university did ... attend?",
}
KNOWN = {
    "known_id": 3,
    "subject": "Vinson Massif",
    "attribute": "Antarctica",
    "template": "{} is located in the continent",
    "prediction": " of Antarctica. It is the largest of the three",
    "prompt": "Vinson Massif is located in the continent of",
    "relation_id": "P30",
}
SAMPLES = {
    "native": NATIVE,
    "counterfact": COUNTERFACT,
    "easyedit": EASYEDIT,
    "zsre": ZSRE,
    "known_1000": KNOWN,
}


def zsre_records(count):
    return [
        {
            **ZSRE,
            "subject": f"Person {i}.",
            "src": f"What university did Person {i}. attend?",
            "answers": [f"School {chr(65 + i % 20)}"],
        }
        for i in range(count)
    ]


@pytest.fixture
def read(tmp_path):
    """A function that writes records to a JSON file and reads them."""

    def write_and_read(records, format, n=None, **how):
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        return read_records(path, format, n, **how)

    return write_and_read


def only(rows):
    (row,) = rows
    assert (row["status"], row["reason"]) == ("kept", "")
    return row


# ---- the published forms -------------------------------------------------------------------------


def test_every_form_has_a_sample_that_its_reader_takes(read):
    assert list(SAMPLES) == list(formats.FORMATS)
    for name, sample in SAMPLES.items():
        records = [sample, {**sample, "attribute": "Asia", "answers": ["Yale"], "case_id": "x"}]
        assert read(records, name)[0]["status"] == "kept", name


@pytest.mark.parametrize("name", SAMPLES)
def test_records_of_every_form_are_put_to_a_model_and_kept_in_a_table(read, tmp_path, name):
    lm = LanguageModel(*tiny.pair("gpt2", layers=1))
    more = {**SAMPLES[name], "attribute": "Asia", "answers": ["Yale"]}
    more |= {"case_id": "x", "known_id": 4}
    rows = read([SAMPLES[name], more, {"case_id": "bad"}], name)
    add_knowledge(lm, rows, completion_tokens=2)
    tables.write(tmp_path / "facts.parquet", rows, "facts")
    table = tables.read(tmp_path / "facts.parquet", "facts")
    assert list(table["status"]) == ["kept", "kept", "excluded"]
    assert table["p_true"][:2].between(0, 1).all()
    assert from_row(table.to_dict("records")[0]) == from_row(rows[0])


def test_counterfact_and_native_records_say_the_same(read):
    assert read([COUNTERFACT], "counterfact") == read([NATIVE], "native")


def test_an_easyedit_record_has_its_filled_prompt_as_template(read):
    row = only(read([EASYEDIT], "easyedit"))
    assert (row["case_id"], row["subject"]) == ("7", "France")
    assert row["template"] == "The capital of {} is"
    assert (row["target_true"], row["target_new"]) == ("Paris", "Rome")
    assert row["paraphrases"] == ["France is governed from"]
    assert row["neighbourhood"] == ["The Louvre is in"]
    assert row["generation_prompts"] == []


def test_easyedits_further_prompts_may_be_lists_or_absent(read):
    several = {**EASYEDIT, "rephrase_prompt": ["One", "Two"], "locality_prompt": ""}
    row = only(read([several], "easyedit"))
    assert (row["paraphrases"], row["neighbourhood"]) == (["One", "Two"], [])
    few = {key: EASYEDIT[key] for key in ("prompt", "subject", "ground_truth", "target_new")}
    row = only(read([few], "easyedit"))
    assert (row["paraphrases"], row["case_id"]) == ([], "record-0")


def test_a_zsre_record_is_a_question_with_its_answer_to_come(read):
    row = read([ZSRE, *zsre_records(3)], "zsre")[0]
    assert row["prompt"] == "Question: What university did Watts Humphrey attend? Answer:"
    assert row["template"] == "Question: What university did {} attend? Answer:"
    assert row["target_true"] == "Illinois Institute of Technology"
    assert row["target_new"] in {"School A", "School B", "School C"}
    assert row["paraphrases"] == [
        "Question: What university did Watts Humphrey take part in? Answer:"
    ]
    assert row["neighbourhood"] == ["nq question: who played desmond doss father in hacksaw ridge?"]


def test_zsre_records_are_known_by_their_place(read):
    assert [row["case_id"] for row in read(zsre_records(3), "zsre")] == ["0", "1", "2"]


def test_a_known_1000_record_is_completed_after_its_prompt_and_not_its_template(read):
    other = {**KNOWN, "known_id": 4, "attribute": "Asia"}
    row = read([KNOWN, other], "known_1000")[0]
    assert (row["case_id"], row["relation_id"]) == ("3", "P30")
    assert row["template"] == "{} is located in the continent of"
    assert (row["target_true"], row["target_new"]) == ("Antarctica", "Asia")


@pytest.mark.parametrize(
    ("prompt", "subject", "template"),
    [
        ("The capital of France is", "France", "The capital of {} is"),
        ("In France, the capital of France is", "France", "In France, the capital of {} is"),
        ("France is", "France", "{} is"),
        ("I met a {x} man", "{x}", "I met a {} man"),
    ],
)
def test_the_subjects_last_occurrence_is_the_hole(prompt, subject, template):
    assert formats.with_hole(prompt, subject, "prompt") == template
    assert template.replace("{}", subject) == prompt


# ---- false objects that are drawn ----------------------------------------------------------------


def targets(rows):
    return {row["subject"]: row["target_new"] for row in rows}


def test_a_false_object_depends_neither_on_order_nor_on_how_many_are_read(read):
    records = zsre_records(60)
    shuffled = random.Random(1).sample(records, len(records))
    drawn = targets(read(records, "zsre"))
    assert targets(read(shuffled, "zsre")) == drawn
    assert targets(read(records, "zsre", n=7)) == dict(list(drawn.items())[:7])
    assert targets(read(shuffled, "zsre", n=5)).items() <= drawn.items()
    assert targets(read(records, "zsre", seed=1)) != drawn


def test_false_objects_are_other_ones_and_spread_over_all(read):
    rows = read(zsre_records(400), "zsre")
    assert all(row["status"] == "kept" for row in rows)
    assert all(row["target_new"] != row["target_true"] for row in rows)
    assert {row["target_new"] for row in rows} == {row["target_true"] for row in rows}


def test_a_false_object_is_of_the_same_relation_and_cannot_be_mistaken_for_the_true_one(read):
    def known(i, attribute, relation="P17"):
        subject = f"Mali {i}"
        prompt = f"{subject} is in"
        return {**KNOWN, "known_id": i, "subject": subject, "prompt": prompt} | {
            "attribute": attribute,
            "relation_id": relation,
        }

    objects = ["Guinea", "Guinea-Bissau", "guinea", "Chad", "Mali"]
    records = [known(i, name) for i, name in enumerate(objects)] + [known(9, "opera", "P101")]
    rows = read(records, "known_1000")
    assert [row["target_new"] for row in rows[:3]] == ["Chad"] * 3  # Mali is in the prompt
    assert rows[3]["target_new"] in objects[:3]
    assert rows[5]["status"] == "excluded"
    assert rows[5]["reason"] == "no false object: its relation has no other object"


def test_every_true_answer_is_no_false_one(read):
    records = [{**ZSRE, "answers": ["Yale", "Yale University", "Harvard"]}]
    records += [{**zsre_records(1)[0], "answers": ["Harvard"]}]
    assert read(records, "zsre")[0]["status"] == "excluded"
    records += [{**zsre_records(2)[1], "answers": ["Oxford"]}]
    assert read(records, "zsre")[0]["target_new"] == "Oxford"


# ---- bad records ---------------------------------------------------------------------------------

BAD: dict[str, tuple[str, dict, str]] = {
    "easyedit without the subject": (
        "easyedit",
        {**EASYEDIT, "subject": "Spain"},
        "prompt: the prompt lacks the subject 'Spain'",
    ),
    "easyedit with a number": (
        "easyedit",
        {**EASYEDIT, "ground_truth": 7},
        "ground_truth: expected text, got int",
    ),
    "easyedit without a target": (
        "easyedit",
        {k: v for k, v in EASYEDIT.items() if k != "target_new"},
        "target_new is missing",
    ),
    "easyedit with braces": (
        "easyedit",
        {**EASYEDIT, "prompt": "{} and France"},
        "prompt: the prompt lacks the subject: expected one {}, found 2",
    ),
    "easyedit with a numeric paraphrase": (
        "easyedit",
        {**EASYEDIT, "rephrase_prompt": 3},
        "a prompt: expected text, got int",
    ),
    "zsre without answers": (
        "zsre",
        {**ZSRE, "answers": []},
        "answers: expected a list of at least one answer",
    ),
    "zsre with one answer as text": (
        "zsre",
        {**ZSRE, "answers": "Yale"},
        "answers: expected a list of at least one answer",
    ),
    "zsre with a number": ("zsre", {**ZSRE, "answers": [7]}, "answers: expected text, got int"),
    "zsre with a numeric question": ("zsre", {**ZSRE, "src": 7}, "src: expected text, got int"),
    "zsre without a question": (
        "zsre",
        {k: v for k, v in ZSRE.items() if k != "src"},
        "src is missing",
    ),
    "known with an empty attribute": (
        "known_1000",
        {**KNOWN, "attribute": " "},
        "attribute is empty",
    ),
    "native with an odd id": (
        "native",
        {**NATIVE, "case_id": ["a"]},
        "case_id: expected text or a number, got list",
    ),
    "counterfact with a numeric target": (
        "counterfact",
        {**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "subject": 5}},
        "subject: expected text, got int",
    ),
    "counterfact with a list for the rewrite": (
        "counterfact",
        {**COUNTERFACT, "requested_rewrite": []},
        "requested_rewrite: expected a JSON object, got list",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_excluded_and_its_neighbours_stay(read, name):
    form, bad, reason = BAD[name]
    good = SAMPLES[form]
    good_too = {**good, "case_id": 8, "known_id": 8, "attribute": "Asia", "answers": ["Yale"]}
    rows = read([good, bad, good_too], form)
    assert [row["status"] for row in rows] == ["kept", "excluded", "kept"]
    assert rows[1]["reason"] == reason
    if isinstance(bad.get("subject"), str):
        assert rows[1]["subject"] == bad["subject"]


def test_a_good_record_stays_though_a_bad_one_had_its_id(read):
    rows = read([{**NATIVE, "subject": ""}, NATIVE], "native")
    assert [row["status"] for row in rows] == ["excluded", "kept"]


def test_reasons_that_differ_in_kind_are_not_counted_as_one():
    # "#" once stood for each number, and is a text of its own here
    said = messages.commonest(["# is odd", "5 is odd", "7 is odd"])
    assert said == "2 x 5 or 7 is odd; 1 x # is odd"


def test_exclusions_are_counted_with_the_commonest_reasons(read):
    bad = [{**NATIVE, "case_id": i, "subject": ""} for i in range(3)]
    bad += [{**EASYEDIT, "template": None, "target_true": "Paris", "subject": s} for s in "XYZ"]
    bad += [{**NATIVE, "case_id": "n", "target_new": 5}]
    bad += [{**NATIVE, "case_id": "m", "target_true": []}]
    rows = read([NATIVE, *bad], "native")
    assert exclusions(rows) == (
        "8 excluded: 3 x subject is empty; 3 x prompt: the prompt lacks the subject 'X', 'Y', ...; "
        "1 x target_new: expected text, got int; ..."
    )
    assert exclusions(rows[:1]) == ""


def test_a_number_that_differs_within_a_reason_is_not_told_as_that_of_all(read):
    bad = [{**NATIVE, "case_id": i, "template": "It is" + i * "{}"} for i in (0, 2)]
    assert exclusions(read(bad, "native")) == (
        "2 excluded: 2 x template: the prompt lacks the subject: expected one {}, found 0 or 2"
    )


FLAT = {"entity": "France", "sentence": "{} is", "answer": "Paris", "wrong": "Rome"}
ASKERS = {
    "the configuration": (
        CONFIGURATION,
        ["set `dataset.format: easyedit`", "name its columns in `dataset.columns`"],
        ["`dataset.columns` names", "check `path` of the data set", "if you delete it"],
    ),
    "a command": (
        COMMAND,
        ["give `--format easyedit`", "name its columns by `--column FIELD=COLUMN`"],
        ["`--column` names", "check its name", "expected a list of native records"],
    ),
    "a call": (
        CALL,
        ['give `format="easyedit"`', "name its columns in `columns`"],
        ["`columns` names", "check its name", "expected a list of native records"],
    ),
}


@pytest.mark.parametrize("name", ASKERS)
def test_remedies_are_in_the_words_of_who_asks(tmp_path, name):
    asker, of_form, of_file = ASKERS[name]
    path = tmp_path / "facts.json"
    faults = [([EASYEDIT], {}), ([FLAT], {}), ([FLAT], {"subject": "x"}), (None, {}), ("{", {})]
    for (content, columns), said in zip(faults, of_form + of_file, strict=True):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text("{" if content == "{" else json.dumps(content))
        with pytest.raises(DataError) as caught:
            read_records(path, "native", columns=columns, asker=asker)
        assert said in str(caught.value)
        assert asker is CONFIGURATION or "dataset." not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"format": "easyedit", "columns": {"subject": "entity"}}, "whose format is native, not"),
        ({"format": "native", "columns": {"subjct": "entity"}}, "did you mean 'subject'?"),
        ({"format": "native", "separator": ""}, "the separator is empty; give what stands"),
    ],
)
def test_columns_of_another_form_or_of_no_field_are_refused(tmp_path, how, said):
    (tmp_path / "facts.json").write_text(json.dumps([FLAT]))
    with pytest.raises(DataError, match=re.escape(said)):
        read_records(tmp_path / "facts.json", **how)


@pytest.mark.parametrize(("true", "new"), [("Moscow", "moscow"), ("New York", "New  YORK")])
def test_objects_that_are_one_but_for_case_or_blanks_are_remarked(read, true, new):
    row = only(read([{**EASYEDIT, "ground_truth": true, "target_new": new}], "easyedit"))
    assert (row["status"], row["remark"]) == (
        "kept",
        f"target_new {new!r} is ground_truth {true!r} but for case or blanks",
    )
    assert only(read([EASYEDIT], "easyedit"))["remark"] is None
    (equal,) = read([{**EASYEDIT, "target_new": "Paris "}], "easyedit")
    assert equal["reason"] == "target_new equals ground_truth"


# ---- files: kinds --------------------------------------------------------------------------------

TABLE = {**NATIVE, "paraphrases": " | ".join(NATIVE["paraphrases"])}
TABLE |= {key: NATIVE[key][0] for key in ("neighbourhood", "generation_prompts")}


def write_csv(path, records, **how):
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]), **how)
        writer.writeheader()
        writer.writerows(records)


def write_kind(path, record):
    """The native record in a file of the kind that its suffix says."""
    match path.suffix:
        case ".csv":
            write_csv(path, [{**TABLE, **record}])
        case ".tsv":
            write_csv(path, [{**TABLE, **record}], delimiter="\t")
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist([{**NATIVE, **record}]), path)
        case ".jsonl" | ".ndjson":
            path.write_text("\n" + json.dumps({**NATIVE, **record}) + "\n\n")
        case _:
            path.write_text(json.dumps([{**NATIVE, **record}]))


KINDS = [".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ""]


@pytest.mark.parametrize("suffix", KINDS)
def test_null_is_no_prompts_in_every_kind_of_file(tmp_path, suffix):
    """In CSV: an empty cell."""
    path = tmp_path / f"facts{suffix}"
    write_kind(path, dict.fromkeys(formats.LISTS))
    row = only(read_records(path, "native"))
    assert row == {**row, **NATIVE, **{name: [] for name in formats.LISTS}}


@pytest.mark.parametrize("form", ["native", "counterfact", "easyedit", "zsre"])
def test_null_is_no_prompts_in_every_form(read, form):
    """Of the usual keys; native records have our names."""
    keys = [formats.FORMATS[form].reads.get(name, ()) for name in formats.LISTS]
    none = dict.fromkeys(spellings[0] for spellings in keys if spellings)
    other = {"answers": ["Yale"], "subject": "Jean Dee", "src": "What did Jean Dee attend?"}
    rows = read([{**SAMPLES[form], **none}, {**SAMPLES[form], **other}], form)
    row = only(rows[:1])
    assert [row[name] for name in formats.LISTS] == [[], [], []]


def test_null_under_a_column_of_ones_own_is_no_prompts(tmp_path):
    (tmp_path / "own.json").write_text(json.dumps([{**OWN, "ways": None}]))
    row = only(read_records(tmp_path / "own.json", "native", columns=COLUMNS))
    assert row["paraphrases"] == []


def test_null_among_prompts_is_a_reason(read):
    (row,) = read([{**NATIVE, "paraphrases": ["France is governed from", None]}], "native")
    assert (row["status"], row["reason"]) == ("excluded", "paraphrases: expected a list of texts")


@pytest.mark.parametrize("suffix", KINDS)
def test_every_kind_of_file_holds_the_same_fact(tmp_path, suffix):
    path = tmp_path / f"facts{suffix}"
    write_kind(path, {"subject": 'Côte "d’Ivoire", the'})
    row = only(read_records(path, "native"))
    assert {key: row[key] for key in NATIVE} == {**NATIVE, "subject": 'Côte "d’Ivoire", the'}


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    write_csv(tmp_path / "facts.csv", [TABLE], encoding="utf-8-sig")
    assert only(read_records(tmp_path / "facts.csv", "native"))["case_id"] == "7"


COLUMNS = {
    "subject": "entity",
    "prompt": "sentence",
    "target_true": "answer",
    "target_new": "wrong",
    "paraphrases": "ways",
}
OWN = {
    "entity": "France",
    "sentence": "The capital of France is",
    "answer": "Paris",
    "wrong": "Rome",
    "ways": "France is governed from; France's capital is",
    "target_new": "not this column",
}


def test_the_columns_of_ones_own_table_are_named_in_the_configuration(tmp_path):
    write_csv(tmp_path / "own.csv", [OWN])
    how = {"columns": COLUMNS, "separator": ";"}
    row = only(read_records(tmp_path / "own.csv", "native", **how))
    assert row["template"] == "The capital of {} is"
    assert (row["target_true"], row["target_new"]) == ("Paris", "Rome")
    assert row["paraphrases"] == ["France is governed from", "France's capital is"]
    assert row["case_id"] == "record-0"


def test_a_parquet_column_may_hold_lists_or_nothing(tmp_path):
    records = [{**OWN, "ways": ["One", "Two"], "id": 3}, {**OWN, "ways": None, "id": 4}]
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "own.parquet")
    columns = {**COLUMNS, "case_id": "id"}
    rows = read_records(tmp_path / "own.parquet", "native", columns=columns)
    assert [row["status"] for row in rows] == ["kept", "kept"]
    assert [row["paraphrases"] for row in rows] == [["One", "Two"], []]
    assert [row["case_id"] for row in rows] == ["3", "4"]


def test_an_empty_cell_is_no_prompt_and_an_empty_target_a_reason(tmp_path):
    write_csv(tmp_path / "own.csv", [{**OWN, "ways": " ; "}, {**OWN, "answer": ""}])
    how = {"columns": COLUMNS, "separator": ";"}
    rows = read_records(tmp_path / "own.csv", "native", **how)
    assert (rows[0]["status"], rows[0]["paraphrases"]) == ("kept", [])
    assert rows[1]["reason"] == "answer is empty"


def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path):
    write_csv(tmp_path / "own.csv", [OWN])
    columns = {**COLUMNS, "target_true": "anser"}
    with pytest.raises(DataError, match=r"no column 'anser', which `dataset\.columns` names for t"):
        read_records(tmp_path / "own.csv", "native", columns=columns)
    with pytest.raises(DataError, match=r"did you mean 'answer'\? \(found: answer, entity, sent"):
        read_records(tmp_path / "own.csv", "native", columns=columns)


# ---- files that are not what they are said to be -------------------------------------------------


@pytest.mark.parametrize("named", formats.FORMATS)
@pytest.mark.parametrize("real", formats.FORMATS)
def test_a_file_in_another_form_than_named_says_which_it_looks_like(read, real, named):
    if real == named:
        return
    with pytest.raises(DataError) as caught:
        read([SAMPLES[real]] * 3, named)
    assert f"holds no {named} record (expected the keys " in str(caught.value)
    assert f"it looks like {real}: set `dataset.format: {real}`" in str(caught.value)


def test_a_file_in_no_known_form_says_what_it_has(read):
    with pytest.raises(DataError, match=r"found a, b\); name its columns in `dataset\.columns`"):
        read([{"a": 1, "b": 2}], "native")
    with pytest.raises(DataError, match=r"holds no counterfact record .*; found int\)"):
        read([1, 2], "counterfact")


def test_an_empty_file_and_an_empty_list_are_named(tmp_path, read):
    with pytest.raises(DataError, match=r"facts\.json holds no record; expected zsre records"):
        read([], "zsre")
    for suffix in (".jsonl", ".csv"):
        path = tmp_path / f"empty{suffix}"
        path.write_text("")
        with pytest.raises(DataError, match="holds no record"):
            read_records(path, "native")
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(DataError, match=r"empty\.json is not JSON \(.*\); expected a list of nat"):
        read_records(tmp_path / "empty.json", "native")


LOOKS = {
    # file name, content, the end of the sentence
    "JSON Lines in .json": (
        "facts.json",
        f"{json.dumps(NATIVE)}\n{json.dumps(NATIVE)}\n".encode(),
        r"expected a list of native records; it looks like JSON Lines: name it \*\.jsonl",
    ),
    "CSV in .json": ("facts.json", b"subject,answer\nFrance,Paris\n", r"like CSV: name it \*\.csv"),
    "Parquet in .json": ("facts.json", b"PAR1\x15\x04\xff\xee", r"Parquet: name it \*\.parquet"),
    "a web page in .json": (
        "facts.json",
        b"<!DOCTYPE html>\n<p>404</p>",
        "like a web page: the do",
    ),
    "gzip in .json": ("facts.json", b"\x1f\x8b\x08\x00\xff", "a gzip archive: unpack it first"),
    "UTF-16 in .csv": ("facts.csv", "a,b\n".encode("utf-16"), "like UTF-16 text: save it as UTF-8"),
    "JSON in .parquet": (
        "facts.parquet",
        b'[{"a": 1}]',
        r"not Parquet .*JSON: name it \*\.json; a",
    ),
    "JSON in .jsonl": (
        "facts.jsonl",
        b'[\n{"a": 1}\n]',
        r"\(line 1: .*JSON: name it \*\.json; a",
    ),
    "a cut-off line": (
        "facts.jsonl",
        b'{"a": 1}\n{"a": ',
        r"is not JSON Lines \(line 2: .*\); expected a list of native records; a file that a run",
    ),
    "a cut-off JSON file": (
        "facts.json",
        b'[{"a": 1},',
        "; expected a list of native records; a file that",
    ),
    "another encoding": (
        "facts.json",
        b'["\xe9"]',
        r"facts\.json is not UTF-8 text \(byte 0xe9 at position 2\); save it as UTF-8$",
    ),
    "too many cells": (
        "facts.csv",
        b"subject,answer\nFrance, the land,Paris\n",
        "facts.csv, row 2: more cells than the header has; put a text that holds ',' in double",
    ),
    "an open quotation": ("facts.csv", b'a,b\n"x,1\n', r"facts\.csv is not CSV \(line 1: unexp"),
    "a JSON object": ("facts.json", b'{"facts": []}', "holds a JSON dict; expected a list of nat"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_file_of_another_kind_says_what_it_looks_like(tmp_path, name):
    file, content, sentence = LOOKS[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_records(tmp_path / file, "native")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for suffix in (".json", ".csv", ".parquet"):
        with pytest.raises(DataError, match=r"none\..*: no such data file; check `path`"):
            read_records(tmp_path / f"none{suffix}", "native")
    with pytest.raises(DataError, match="is a folder; give the path of a file of native records"):
        read_records(tmp_path, "native")


def test_an_unknown_format_is_named_with_the_nearest(read):
    known = ", ".join(formats.FORMATS)
    with pytest.raises(DataError, match=rf"'counterfact'\? \(known: {known}\)$"):
        read([NATIVE], "counterfacts")


@pytest.mark.parametrize("n", [0, -1])
def test_n_below_one_is_refused(read, n):
    with pytest.raises(DataError, match=f"n facts must be at least 1, got {n}"):
        read([NATIVE], "native", n=n)


# ---- size ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_twenty_thousand_records_are_read(read):
    count = 20_000
    paraphrases = [f"Paraphrase {i} of it is" for i in range(2)]
    neighbours = [f"Neighbour {i} is" for i in range(10)]
    records = [
        {
            **COUNTERFACT,
            "case_id": i,
            "paraphrase_prompts": paraphrases,
            "neighborhood_prompts": neighbours,
            "generation_prompts": neighbours,
        }
        for i in range(count)
    ]
    rows = read(records, "counterfact")
    assert len(rows) == count == sum(row["status"] == "kept" for row in rows)


@pytest.mark.slow
def test_twenty_thousand_false_objects_are_drawn(read):
    records = [
        {**record, "answers": [f"{i % 7919} School"]}
        for i, record in enumerate(zsre_records(20_000))
    ]
    rows = read(records, "zsre")
    assert len(rows) == 20_000 == sum(row["status"] == "kept" for row in rows)


def test_one_false_object_is_found_among_many_that_are_none(read):
    records = [
        {**record, "answers": [f"School {'x' * i}"]} for i, record in enumerate(zsre_records(200))
    ]
    records += [{**ZSRE, "answers": ["Yale"]}]
    rows = read(records, "zsre")
    assert {row["target_new"] for row in rows[:-1]} == {"Yale"}
