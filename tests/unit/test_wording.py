"""Prompts as they are put to a model: their ends, `{}` in them, and letters of another form.

One policy for all readers; the command line's is tested with the command line.
"""

import json
import unicodedata

import pyarrow
import pytest
from fuzzing import GOOD
from pyarrow import parquet

from locedit.facts import formats, wording
from locedit.facts.record import read_records
from locedit.store import tables

OTHER = {"subject": "Italy", "src": "What is the capital of Italy?", "answers": ["Rome"]}
OTHER |= {"known_id": 2, "prompt": "The capital of Italy is", "attribute": "Rome"}
OTHER |= {"relation_id": "capital"}
BLANKS = {
    "a blank": " ",
    "a tab": "\t",
    "no-break": "\u00a0",
    "no width": "\u200b",
    "wide": "\u3000",
    "a soft hyphen": "\u00ad",
    "a byte order mark": "\ufeff",
    "a mark of direction": "\u200f",
}
LEFT_OUT, STAYS = "blanks at an end left out", "a line feed at the end stays"


@pytest.fixture
def read(tmp_path):
    """A function that reads the first of some records of a format, with one to draw from behind."""

    def write_and_read(format, record, **how):
        path = tmp_path / "facts.json"
        draws = formats.FORMATS[format].draws_target
        path.write_text(json.dumps([record, *([OTHER] if draws else [])]), encoding="utf-8")
        return read_records(path, format, **how)[0]

    return write_and_read


def changed(value, change):
    """A record with each of its prompts changed, and its subject and targets as they are."""
    prompts = {"template", "prompt", "src", "rephrase", "loc", "paraphrases", "neighbourhood"}
    prompts |= {"generation_prompts", "paraphrase_prompts", "neighborhood_prompts"}
    prompts |= {"rephrase_prompt", "locality_prompt"}

    def one(key, inner):
        if isinstance(inner, dict):
            return changed(inner, change)
        if key not in prompts:
            return inner
        return [change(text) for text in inner] if isinstance(inner, list) else change(inner)

    return {key: one(key, inner) for key, inner in value.items()}


def without_remark(row):
    return {key: value for key, value in row.items() if key != "remark"}


# ---- the ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("format", GOOD)
def test_blanks_at_the_ends_of_any_prompt_are_left_out_and_said(read, format, blank):
    blank, clean = BLANKS[blank], read(format, GOOD[format])
    for change in (
        lambda text: text + blank,
        lambda text: blank + text,
        lambda text: f"{blank}{text} {blank}",
    ):
        row = read(format, changed(GOOD[format], change))
        assert without_remark(row) == without_remark(clean)
        remarks = row["remark"].split("; ")
        prompts = [row[name] for name in formats.LISTS if row[name]]
        assert len(remarks) == 1 + len(prompts)
        assert all(remark.endswith(f": {LEFT_OUT}") for remark in remarks)
    assert clean["remark"] is None


def test_remarks_name_fields_as_the_file_does(read):
    row = read("easyedit", changed(GOOD["easyedit"], lambda text: text + " "))
    fields = ("prompt", "rephrase_prompt", "locality_prompt")
    assert row["remark"] == "; ".join(f"{name}: {LEFT_OUT}" for name in fields)
    row = read("zsre", {**GOOD["zsre"], "loc": "Where is it? "})
    assert (row["remark"], row["neighbourhood"]) == (f"loc: {LEFT_OUT}", ["Where is it?"])


@pytest.mark.parametrize("format", [name for name in GOOD if name != "zsre"])
def test_a_line_feed_at_the_end_of_a_prompt_stays_and_is_said(read, format):
    clean = read(format, GOOD[format])
    for end in (" \n", "\r\n", " \n\t", "\u200b\r\n "):
        row = read(format, changed(GOOD[format], lambda text, end=end: text + end))
        assert row["status"] == "kept"
        assert row["prompt"] == f"{clean['prompt']}\n"
        for name in formats.LISTS:
            assert row[name] == [f"{text}\n" for text in clean[name]]
        assert row["remark"].count(STAYS) == row["remark"].count(LEFT_OUT) >= 1


@pytest.mark.parametrize(
    ("given", "text", "said"),
    [
        ("Answer:\n", "Answer:\n", [STAYS]),
        ("Answer: \n", "Answer:\n", [LEFT_OUT, STAYS]),
        ("Answer:\r\n", "Answer:\n", [LEFT_OUT, STAYS]),
        ("Answer:\r", "Answer:", [LEFT_OUT]),
        ("Answer: \r\n\t\n ", "Answer:\n\n", [LEFT_OUT, STAYS]),
        ("a \r\n b", "a \r\n b", []),
        ("\nAnswer:", "\nAnswer:", []),
        ("\u0d28\u0d4d\u200d", "\u0d28\u0d4d\u200d", []),  # a joiner that ends a word
    ],
)
def test_line_feeds_at_the_end_stay_without_what_is_around_them(given, text, said):
    assert wording.trimmed(given) == (text, said)
    assert wording.trimmed(text)[0] == text


def test_a_question_in_a_frame_has_nothing_around_it(read):
    clean = read("zsre", GOOD["zsre"])
    row = read("zsre", changed(GOOD["zsre"], lambda text: f" {text} \n"))
    assert without_remark(row) == without_remark(clean)
    assert row["remark"] == "; ".join(f"{key}: {LEFT_OUT}" for key in ("src", "rephrase", "loc"))


@pytest.mark.parametrize("subject", ["France ", " France", "\u00a0France\n"])
@pytest.mark.parametrize("format", GOOD)
def test_blanks_around_a_subject_are_none_of_its_own(read, format, subject):
    def padded(value):
        return {
            key: padded(inner)
            if isinstance(inner, dict)
            else subject
            if key == "subject"
            else inner
            for key, inner in value.items()
        }

    row = read(format, padded(GOOD[format]))
    assert without_remark(row) == without_remark(read(format, GOOD[format]))
    assert row["remark"] == f"subject: {LEFT_OUT}"


def with_target(value, change):
    """A record with each of its targets changed, whatever its form calls them."""
    targets = {"target_true", "target_new", "ground_truth", "attribute", "answers", "str"}

    def one(key, inner):
        if isinstance(inner, dict):
            return with_target(inner, change)
        if key not in targets:
            return inner
        return [change(text) for text in inner] if isinstance(inner, list) else change(inner)

    return {key: one(key, inner) for key, inner in value.items()}


@pytest.mark.parametrize("around", ["{}\u200b", "\ufeff{}", "{}\u00ad", " {}", "{}\r\n"])
@pytest.mark.parametrize("format", GOOD)
def test_nothing_around_a_target_is_its_own(read, format, around):
    clean, form = read(format, GOOD[format]), formats.FORMATS[format]
    row = read(format, with_target(GOOD[format], around.format))
    assert without_remark(row) == without_remark(clean)
    fields = ["target_true"] + (["target_new"] if not form.draws_target else [])
    assert row["remark"] == "; ".join(f"{form.names[name]}: {LEFT_OUT}" for name in fields)


def test_targets_are_compared_without_what_is_around_them(read):
    row = read("native", {**GOOD["native"], "target_new": "\u00adParis\u200b"})
    assert row["reason"] == "target_new equals target_true"
    assert row["target_new"] == "Paris"
    row = read("native", {**GOOD["native"], "target_new": "\u00ad"})
    assert row["reason"] == "target_new is empty"


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_file_is_read_by_the_same_policy(tmp_path, suffix):
    record = {"subject": "France", "template": "The capital of {} is ", "target_true": "Paris"}
    record |= {"target_new": "Rome", "paraphrases": "{} has | Rule France \n"}
    path = tmp_path / f"facts.{suffix}"
    match suffix:
        case "jsonl":
            lists = {"paraphrases": ["{} has", "Rule France \n"]}
            path.write_text(json.dumps({**record, **lists}))
        case "parquet":
            parquet.write_table(pyarrow.Table.from_pylist([record]), path)
        case _:
            cell = "\t" if suffix == "tsv" else ","
            quoted = (f'"{text}"' for text in record.values())
            path.write_text(f"{cell.join(record)}\n{cell.join(quoted)}\n")
    (row,) = read_records(path, "native")
    assert row["prompt"] == "The capital of France is"
    assert row["paraphrases"] == ["France has", "Rule France\n"]
    fields = (f"template: {LEFT_OUT}", f"paraphrases: {LEFT_OUT}", f"paraphrases: {STAYS}")
    assert row["remark"] == "; ".join(fields)


def test_a_prompt_of_blanks_alone_is_empty(read):
    row = read("native", {**GOOD["native"], "paraphrases": ["\u200b "]})
    assert row["reason"] == "paraphrases holds an empty prompt"


def test_remarks_are_kept_in_the_table_and_counted(read, tmp_path):
    said: list[str] = []
    row = read("native", {**GOOD["native"], "template": "{} is "}, say=said.append)
    path = tmp_path / "facts.parquet"
    tables.write(path, [row, read("native", GOOD["native"])], "facts")
    remarks = tables.read(path, "facts")["remark"]
    assert remarks[0] == f"template: {LEFT_OUT}"
    assert remarks.isna().tolist() == [False, True]
    source = tmp_path / "facts.json"
    assert said == [f"{source}: 1 of 1 records changed or odd: 1 x template: {LEFT_OUT}"]


# ---- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_what_is_no_number_is_missing_and_no_text(tmp_path, suffix):
    keys = ("subject", "template", "target_true", "target_new")
    record = {key: GOOD["native"][key] for key in keys}
    record |= {"case_id": float("nan"), "relation_id": float("nan"), "prompt": float("nan")}
    path = tmp_path / f"facts.{suffix}"
    match suffix:
        case "parquet":
            parquet.write_table(pyarrow.Table.from_pylist([record, record]), path)
        case "jsonl":
            path.write_text(f"{json.dumps(record)}\n" * 2)
        case _:
            path.write_text(json.dumps([record, record]))
    rows = read_records(path, "native")
    assert [row["case_id"] for row in rows] == ["record-0", "record-1"]
    assert [row["relation_id"] for row in rows] == ["", ""]
    assert [row["status"] for row in rows] == ["kept", "kept"]


@pytest.mark.parametrize("format", ["counterfact", "easyedit", "known_1000"])
def test_so_it_is_in_every_form(read, format):
    record = json.loads(json.dumps(GOOD[format]))
    record |= {"known_id" if format == "known_1000" else "case_id": float("nan")}
    record.get("requested_rewrite", record)["relation_id"] = float("nan")
    row = read(format, record)
    assert row["case_id"] == "record-0"
    assert row["relation_id"] in ("", GOOD[format].get("template", ""))


def test_a_missing_target_is_told_as_missing(read):
    row = read("native", {**GOOD["native"], "target_true": float("nan")})
    assert row["reason"] == "target_true is missing"


# ---- a place-holder ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["native", "counterfact", "easyedit", "zsre"])
def test_a_place_holder_in_a_prompt_about_the_subject_is_filled(read, format):
    def opened(text):
        return text.replace("France", "{}")

    neighbours = {"neighbourhood", "neighborhood_prompts", "locality_prompt", "loc"}
    record = changed(GOOD[format], opened)
    kept = {key: value for key, value in GOOD[format].items() if key in neighbours}
    row = read(format, {**record, **kept})
    assert row == read(format, GOOD[format])
    assert row["paraphrases"]
    assert "{}" not in row["paraphrases"][0]


@pytest.mark.parametrize(
    ("format", "key"),
    [
        ("native", "neighbourhood"),
        ("counterfact", "neighborhood_prompts"),
        ("easyedit", "locality_prompt"),
        ("zsre", "loc"),
    ],
)
def test_a_neighbour_with_a_place_holder_is_a_reason(read, format, key):
    good = GOOD[format][key]
    open_prompt = "{} borders"
    bad = [*good, open_prompt] if isinstance(good, list) else open_prompt
    row = read(format, {**GOOD[format], key: bad})
    assert row["status"] == "excluded"
    assert row["reason"] == (
        f"{key} holds a prompt with {{}}: a neighbour is of another subject; write that in its "
        "place"
    )
    mended = [*good, "Spain borders"] if isinstance(good, list) else "Spain borders"
    assert read(format, {**GOOD[format], key: mended})["status"] == "kept"


def test_a_template_under_the_key_of_a_filled_prompt_is_one(read):
    row = read("easyedit", {**GOOD["easyedit"], "prompt": "The capital of {} is"})
    assert row == read("easyedit", GOOD["easyedit"])


def test_a_filled_prompt_under_the_key_of_a_template_says_what_to_write(read):
    row = read("native", {**GOOD["native"], "template": "The capital of France is"})
    assert row["reason"] == ("template: the subject itself is in the prompt; write {} in its place")
    assert read("native", {**GOOD["native"], "template": "The capital of {} is"})["reason"] == ""


OTHER_HOLES = (
    "{subject}",
    "{0}",
    "{ }",
    "{ x }",
    "{{}}",
    "[X]",
    "[Y]",
    "<subject>",
    "[MASK]",
    "%s",
)


@pytest.mark.parametrize("hole", OTHER_HOLES)
@pytest.mark.parametrize("format", ["native", "counterfact", "easyedit", "zsre"])
def test_another_place_holder_is_told_and_the_record_kept(read, format, hole):
    form = formats.FORMATS[format]
    inside = changed(GOOD[format], lambda text: f"So {hole}: {text}")
    if hole == "{{}}":  # filled in templates and paraphrases, braces staying; no neighbour has {}
        text = f"So {{{{}}}}: {GOOD['native']['paraphrases'][0]}"
        row = read("native", {**GOOD["native"], "paraphrases": [text]})
        assert row["remark"] == "paraphrases: '{{}}' is put to the model as it stands"
        return
    row = read(format, inside)
    assert row["status"] == "kept"
    assert hole in row["prompt"]
    held = ["template", *(name for name in formats.LISTS if row[name])]
    assert row["remark"] == "; ".join(
        f"{form.names[name]}: '{hole}' is put to the model as it stands" for name in held
    )


def test_it_is_told_at_once_by_the_job_of_the_facts(read, tmp_path):
    said: list[str] = []
    read("native", {**GOOD["native"], "neighbourhood": ["[X] borders"]}, say=said.append)
    assert said[-1].endswith(
        "1 of 1 records changed or odd: 1 x neighbourhood: '[X]' is put to the model as it stands"
    )


@pytest.mark.parametrize(
    "text", ["a {} b", "f(x) = {1, 2}", "[1]", "a < b > c", "100% sure", "<s>"]
)
def test_what_is_no_place_holder_is_not_told(text):
    assert wording.prompt(text) == (text, [])


def test_nothing_in_a_subject_is_a_place_holder(read):
    subject = "Malcolm [X]"
    record = {"subject": subject, "prompt": f"{subject} was born in"}
    native = {key: GOOD["native"][key] for key in ("target_true", "target_new")}
    row = read("native", {**native, **record, "paraphrases": [f"Where was {subject} born?"]})
    assert (row["status"], row["remark"]) == ("kept", None)


# ---- a prompt beside its template ----------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["The capital of Italy is", "The capital of France", "{} has"])
def test_a_prompt_that_is_not_its_template_filled_is_a_reason(read, prompt):
    template = GOOD["native"]["template"]
    row = read("native", {**GOOD["native"], "prompt": prompt})
    assert row["status"] == "excluded"
    filled = [text.replace("{}", "France") for text in (template, prompt)]
    assert row["reason"] == (
        f"template and prompt contradict each other, {filled[0]!r} and {filled[1]!r}; correct one "
        "or leave it out"
    )
    left = {key: value for key, value in GOOD["native"].items() if key != "template"}
    for record in ({**left, "prompt": "The capital of France is"}, GOOD["native"]):
        assert read("native", record)["status"] == "kept"


@pytest.mark.parametrize("change", ["{}", " {} ", "{}\u200b", ""])
def test_one_that_is_may_stand_beside_it(read, change):
    record = {**GOOD["native"], "subject": "France ", "template": " The capital of {} is"}
    for prompt in ("The capital of France is", "The capital of {} is"):
        row = read("native", {**record, "prompt": change.format(prompt)})
        assert (row["status"], row["prompt"]) == ("kept", "The capital of France is")


# ---- forms ---------------------------------------------------------------------------------------

DECOMPOSED = unicodedata.normalize("NFD", "Côte d'Ivoire")
LETTERS = "composed or decomposed letters (NFC, NFD)"
BREAKS = "blanks (a no-break one, U+00A0, or more than one)"
MARKS = "apostrophes, quotation marks or dashes (curly or straight)"
FORMS = {
    "decomposed": (DECOMPOSED, "Côte d'Ivoire", LETTERS),
    "composed": ("Côte d'Ivoire", DECOMPOSED, LETTERS),
    "a no-break blank": ("New\u00a0York", "New York", BREAKS),
    "two blanks": ("New  York", "New York", BREAKS),
    "a curly apostrophe": ("Côte d’Ivoire", "Côte d'Ivoire", MARKS),
    "a dash": ("Guinea–Bissau", "Guinea-Bissau", MARKS),
    "a soft hyphen": ("Fran\u00adce", "France", "characters that cannot be seen (soft hyphens, "),
    "letter case": ("FRANCE", "France", "letter case"),
    "two of them": (DECOMPOSED.replace("'", "’"), "Côte d'Ivoire", f"{LETTERS} and {MARKS}"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("format", ["native", "easyedit", "known_1000", "zsre"])
def test_a_subject_in_another_form_is_told_with_the_form_and_the_prompt_kept(read, format, name):
    written, subject, form = FORMS[name]
    key = "src" if format == "zsre" else "prompt"
    prompt = f"The capital of {written} is"
    record = {k: v for k, v in GOOD[format].items() if k != "template"}
    row = read(format, {**record, "subject": subject, key: prompt})
    assert row["status"] == "excluded"
    assert row["reason"].startswith(
        f"{key}: the prompt has the subject {subject!r} in another form; the two differ in {form}"
    )
    assert row["reason"].endswith(": write both alike")
    assert (row["prompt"], row["subject"]) == (prompt, subject)
    alike = read(format, {**record, "subject": written, key: prompt})
    assert (alike["status"], alike["subject"]) == ("kept", written)


def test_a_subject_that_is_not_there_at_all_is_lacking(read):
    assert wording.differs_in("The capital of France is", "Spain") == ""
    row = read("easyedit", {**GOOD["easyedit"], "subject": "Spain"})
    assert row["reason"] == "prompt: the prompt lacks the subject 'Spain'"
    assert row["prompt"] == "The capital of France is"
