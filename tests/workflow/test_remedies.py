"""Every remedy that a message about records advises is followed, and leads out."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import pyarrow
import pytest
import yaml
from pyarrow import parquet
from test_datasets import EASYEDIT, NATIVE, SAMPLES
from tiny_study import merged, snakemake, write_inputs

from locedit.facts import formats
from locedit.facts.record import read_records
from locedit.facts.records import DataError
from locedit.workflow import config as configuration
from locedit.workflow.sections import Dataset

ROOT = Path(__file__).resolve().parents[2]
NESTED = [
    {
        "title": "France",
        "paragraphs": [
            {
                "context": "Paris is the capital of France.",
                "qas": [{"question": "What is the capital of France?", "answers": ["Paris"]}],
            }
        ],
    }
]
FLAT = {"entity": "France", "sentence": "The capital of {} is", "answer": "Paris", "wrong": "Rome"}
COLUMNS = {
    "subject": "entity",
    "template": "sentence",
    "target_true": "answer",
    "target_new": "wrong",
}


@pytest.fixture
def refused(tmp_path):
    """A function that writes a file and reads it as a format: the sentence with which it fails."""

    def sentence(name, content, format="native", **how):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError) as caught:
            read_records(tmp_path / name, format, **how)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return sentence


@pytest.fixture
def works(tmp_path):
    """A function that reads a file in which the first record is then kept."""

    def read(name, content=None, format="native", **how):
        if content is not None:
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(data)
        row = read_records(tmp_path / name, format, **how)[0]
        assert (row["status"], row["reason"]) == ("kept", "")
        return row

    return read


def table(records, separator=",", **how):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(records[0]), delimiter=separator, **how)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


# ---- another form --------------------------------------------------------------------------------


@pytest.mark.parametrize("named", formats.FORMATS)
@pytest.mark.parametrize("real", formats.FORMATS)
def test_the_format_that_a_file_looks_like_is_the_one_to_set(refused, works, real, named):
    if real == named:
        return
    other = {"attribute": "Asia", "answers": ["Yale"], "case_id": 9, "known_id": 9}
    more = {key: other.get(key, value) for key, value in SAMPLES[real].items()}
    content = json.dumps([SAMPLES[real], more])
    said = refused("facts.json", content, named)
    advised = yaml.safe_load(said.rpartition(": set `")[2].rstrip("`"))
    works("facts.json", format=advised["dataset.format"])


def test_records_without_a_prompt_are_told_what_a_prompt_is_called(refused, works):
    bare = {key: NATIVE[key] for key in ("subject", "target_true", "target_new")}
    said = refused("facts.json", json.dumps([bare]))
    assert "(expected the keys subject, target_true, target_new and template or prompt; " in said
    assert "; give each record a `template`, with {} for the subject, or a `prompt` with" in said
    works("facts.json", json.dumps([{**bare, "template": "The capital of {} is"}]))
    works("facts.json", json.dumps([{**bare, "prompt": "The capital of France is"}]))
    columns = {**{key: key for key in bare}, "template": "sentence"}
    works("facts.json", json.dumps([{**bare, "sentence": "{} has"}]), columns=columns)


def test_a_record_without_a_prompt_says_so(tmp_path):
    bare = {key: NATIVE[key] for key in ("subject", "target_true", "target_new")}
    odd = [bare, {**bare, "template": None}, {**bare, "template": "", "prompt": ""}]
    (tmp_path / "facts.json").write_text(json.dumps([NATIVE, *odd]))
    rows = read_records(tmp_path / "facts.json", "native")[1:]
    assert [row["reason"] for row in rows] == [
        "template, or prompt with the subject in it, is missing"
    ] * 3


@pytest.mark.parametrize("format", formats.FORMATS)
def test_a_nested_file_is_told_how_to_write_it(refused, works, format):
    said = refused("facts.json", json.dumps(NESTED), format)
    assert "dataset.columns" not in said
    keys = "the keys subject, target_true, target_new and template or prompt"
    assert said.endswith(
        f"write its facts as a list of objects with {keys}, and set `dataset.format: native` and "
        "give that file"
    )
    written = {"subject": "France", "target_true": "Paris", "target_new": "Rome"}
    works("facts.json", json.dumps([{**written, "prompt": "What is the capital of France?"}]))


@pytest.mark.parametrize("suffix", ["json", "csv"])
@pytest.mark.parametrize("format", formats.FORMATS)
def test_a_table_of_ones_own_is_told_to_name_its_columns(refused, works, format, suffix):
    name = f"facts.{suffix}"
    said = refused(name, json.dumps([FLAT]) if suffix == "json" else table([FLAT]), format)
    set_native = "" if format == "native" else "set `dataset.format: native` and "
    assert f"; {set_native}name its columns in `dataset.columns`, or choose" in said
    row = works(name, columns=COLUMNS)
    assert (row["prompt"], row["target_new"]) == ("The capital of France is", "Rome")


@pytest.mark.parametrize(
    ("named", "lacking"),
    [
        (["subject", "template", "target_true"], ["target_new"]),
        (["subject", "target_true", "target_new"], ["template or prompt"]),
        (["subject"], ["target_true", "target_new", "template or prompt"]),
    ],
)
def test_columns_that_are_not_all_named_are_told(refused, works, named, lacking):
    some = {ours: COLUMNS[ours] for ours in named}
    said = refused("facts.csv", table([FLAT]), columns=some)
    assert "found entity, sentence, answer, wrong)" in said
    assert said.endswith(f"name in `dataset.columns` also which columns are {', '.join(lacking)}")
    works("facts.csv", columns=COLUMNS)


def test_columns_for_a_published_form_are_to_be_left_out(refused, works):
    columns = {"subject": "subject"}
    said = refused("facts.json", json.dumps([EASYEDIT]), columns=columns)
    assert said.endswith("set `dataset.format: easyedit` and leave `dataset.columns` out")
    works("facts.json", format="easyedit")


def test_a_column_or_a_format_that_is_nearly_there_is_the_one_meant(refused, works):
    said = refused("facts.csv", table([FLAT]), columns={**COLUMNS, "target_true": "anser"})
    meant = said.partition("did you mean '")[2].partition("'")[0]
    works("facts.csv", columns={**COLUMNS, "target_true": meant})
    said = refused("facts.json", json.dumps([NATIVE]), "nativ")
    works("facts.json", format=said.partition("did you mean '")[2].partition("'")[0])


def test_the_configuration_refuses_columns_of_a_published_form(works):
    named = configuration.load_yaml(ROOT / "config.yaml")["dataset"]
    path = ROOT / "config.yaml"
    given = {**named, "path": str(path), "format": "zsre", "columns": COLUMNS}
    remedy = "got the format zsre: set it to native, or leave `columns` out"
    with pytest.raises(configuration.ConfigError, match=remedy):
        configuration._check_data(Dataset(**given))
    configuration._check_data(Dataset(**{**given, "format": "native"}))
    configuration._check_data(Dataset(**{**given, "columns": {}}))


def test_a_list_inside_an_object_is_to_be_saved_alone(refused, works):
    said = refused("facts.json", json.dumps({"version": 1, "data": [NATIVE]}))
    assert said.endswith("expected a list of native records; save the list under 'data' alone")
    works("facts.json", json.dumps([NATIVE]))


def test_one_of_several_lists_inside_an_object_is_to_be_saved_alone(refused, works):
    said = refused("facts.json", json.dumps({"train": [NATIVE], "test": [NATIVE], "tags": ["a"]}))
    assert said.endswith("; save one of its lists alone, such as the one under 'train'")
    works("facts.json", json.dumps([NATIVE]))


@pytest.mark.parametrize("format", formats.FORMATS)
def test_a_record_alone_is_to_be_put_in_brackets(refused, works, format):
    record = json.dumps(SAMPLES[format])
    said = refused("facts.json", record, format)
    assert said.endswith(
        f"holds a JSON dict; expected a list of {format} records; if it is one record, put [ and ] "
        "around it, else write its records as one list"
    )
    if not formats.FORMATS[format].draws_target:  # from other records
        works("facts.json", f"[{record}]", format)


# ---- tables --------------------------------------------------------------------------------------

CELLS = {
    "subject": "France",
    "template": "In Europe, the capital of {} is",
    "target_true": "Paris",
    "target_new": "Rome",
    "paraphrases": "One; two|Three, four",
}


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_table_is_read_whatever_separates_its_cells(works, suffix, separator, quoting):
    row = works(f"facts.{suffix}", table([CELLS], separator, quoting=quoting))
    assert {key: row[key] for key in CELLS} == {**CELLS, "paraphrases": ["One; two", "Three, four"]}


def test_a_heading_with_another_separator_in_it_is_no_reason_to_split_there(works):
    row = works("facts.csv", table([{**CELLS, "a;b;c;d;e;f;g": "x;y"}]))
    assert row["template"] == CELLS["template"]
    works("facts.csv", table([{**FLAT, "notes, if any": "x"}], ";"), columns=COLUMNS)


def test_blanks_behind_commas_belong_to_no_name_and_no_cell(works):
    lines = [
        "subject , template, target_true,\u00a0target_new",
        'France, "In Europe, the capital of {} is", Paris, Rome',
    ]
    row = works("facts.csv", "\n".join(lines))
    assert {key: row[key] for key in list(CELLS)[:4]} == {
        key: CELLS[key] for key in list(CELLS)[:4]
    }
    assert row["remark"] is None


def test_names_that_look_right_are_quoted_where_they_are_not(refused, works):
    odd = {" subject": "France", "template": "{} is", "target_true": "A", "target_new": "B"}
    said = refused("facts.json", json.dumps([odd]))
    assert "found ' subject', template, target_true, target_new)" in said
    works("facts.json", columns={"subject": " subject"} | {k: k for k in list(odd)[1:]})


def test_a_separator_of_another_kind_is_told(refused, works):
    said = refused("facts.csv", table([CELLS], "|"))
    assert said.endswith("; separate the names of its header, and the cells, by commas")
    works("facts.csv", table([CELLS]))


def test_a_column_that_is_there_twice_is_refused(refused, works):
    twice = table([CELLS]).replace("paraphrases", "subject ")
    said = refused("facts.csv", twice)
    assert said.endswith("facts.csv has more than one column 'subject'; rename the others")
    works("facts.csv", twice.replace("subject ", "notes"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "top", ["\n", "\r\n \r\n", ",,,,\n", "sep={}\n", '"sep={}"\r\n\r\n', "\nSEP={}\n"]
)
def test_lines_that_spreadsheets_write_above_a_table_are_no_part_of_it(works, separator, top):
    if separator == "|" and "{}" not in top:
        return  # unusual separators are known only where they are told
    cells = {**CELLS, "paraphrases": "One; two"}
    row = works("facts.csv", top.format(separator) + table([cells], separator))
    assert {key: row[key] for key in cells} == {**cells, "paraphrases": ["One; two"]}


def test_rows_are_counted_with_the_lines_above_the_table(refused):
    text = "\nsep=,\nsubject,template,target_true,target_new\nFrance,In Europe, {} has,Paris,Rome\n"
    assert "row 4: more cells than" in refused("facts.csv", text)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("comment", ["# my facts", '# mine, and "others"; 2020\n#\n# all'])
def test_a_comment_above_a_table_is_to_be_deleted(refused, works, comment, separator):
    content = table([CELLS] * 2, separator)
    said = refused("facts.csv", f"{comment}\n{content}")
    first = comment.split("\n", 1)[0]
    assert said.endswith(
        f"begins with a comment, {first!r}; delete what stands before the line with the names of "
        "the columns"
    )
    works("facts.csv", content)


def test_a_column_whose_name_begins_as_a_comment_is_one(works):
    works("facts.csv", table([{"#": "1", **CELLS}, {"#": "2", **CELLS}]))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lines_within_quotes_are_told_as_such(refused, works, separator):
    content = table([CELLS], separator, lineterminator="\n")
    doubled = (line.replace('"', '""') for line in content.splitlines())
    said = refused("facts.csv", "".join(f'"{line}"\n' for line in doubled))
    assert "facts.csv has its header in double quotes as a whole, 'subject" in said
    assert "take the quotes from around each such line, and write doubled quotes inside" in said
    works("facts.csv", content)


def test_a_cell_with_a_comma_is_to_be_quoted(refused, works):
    text = "subject,template,target_true,target_new\nFrance,In Europe, {} has,Paris,Rome\n"
    said = refused("facts.csv", text)
    assert said.endswith(
        "row 2: more cells than the header has; put a text that holds ',' in double quotes"
    )
    works("facts.csv", text.replace("In Europe, {} has", '"In Europe, {} has"'))


# ---- other kinds of files ------------------------------------------------------------------------

AS_JSON, AS_LINES = json.dumps([NATIVE]), f"{json.dumps(NATIVE)}\n{json.dumps(NATIVE)}\n"
AS_CSV = table([{key: NATIVE[key] for key in list(NATIVE)[:6]}] * 2)


def as_parquet():
    stream = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([NATIVE]), stream)
    return stream.getvalue()


CONTENTS = {
    "json": AS_JSON.encode(),
    "jsonl": AS_LINES.encode(),
    "csv": AS_CSV.encode(),
    "parquet": as_parquet(),
}


@pytest.mark.parametrize("real", CONTENTS)
@pytest.mark.parametrize("named", [*CONTENTS, "tsv", "txt"])
def test_a_file_is_to_be_named_as_what_it_is(refused, works, real, named):
    if named == real or (named, real) in [("txt", "json"), ("tsv", "csv")]:
        works(f"facts.{named}", CONTENTS[real])
        return
    said = refused(f"facts.{named}", CONTENTS[real])
    suffix = said.partition(": name it *.")[2].partition(";")[0]
    assert suffix == real
    works(f"facts.{suffix}", CONTENTS[real])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_so_is_a_table_with_other_separators(refused, works, separator):
    content = table([{key: NATIVE[key] for key in list(NATIVE)[:6]}] * 2, separator)
    assert "it looks like CSV: name it *.csv" in refused("facts.txt", content)
    works("facts.csv", content)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("facts.csv", AS_CSV)
    return stream.getvalue()


PACKED = {
    "gzip": ("facts.json", gzip.compress(AS_JSON.encode()), "a gzip archive: unpack it first"),
    "zip": ("facts.csv", zipped(), "a zip archive, or a spreadsheet: unpack it, or save it as CSV"),
    "UTF-16": ("facts.csv", AS_CSV.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
    "another encoding": ("facts.csv", AS_CSV.replace("France", "Perú").encode("latin-1"), "UTF-8"),
}


@pytest.mark.parametrize("kind", PACKED)
def test_a_file_is_to_be_unpacked_or_saved_in_utf_8(refused, works, kind):
    name, content, advice = PACKED[kind]
    assert advice in refused(name, content)
    match kind:
        case "gzip":
            works(name, gzip.decompress(content))
        case "zip":
            works(name, zipfile.ZipFile(io.BytesIO(content)).read("facts.csv"))
        case _:
            works(name, content.decode("utf-16" if kind == "UTF-16" else "latin-1"))


def test_the_path_of_a_file_is_to_be_given(tmp_path, works):
    with pytest.raises(DataError, match="is a folder; give the path of a file of native records"):
        read_records(tmp_path, "native")
    with pytest.raises(DataError, match="no such data file; check `path` of the data set"):
        read_records(tmp_path / "facts.json", "native")
    works("facts.json", AS_JSON)


def test_a_file_that_a_run_built_is_made_anew_if_it_is_deleted(tmp_path):
    work, built = tmp_path / "work", Path("results/datasets/bundled.json")
    work.mkdir()
    settings = merged(
        write_inputs(tmp_path),
        {
            "dataset": {"name": "bundled", "path": None},
            "facts": {"n": 3, "completion_tokens": 2},
            "editing": {"layers": [0, 3]},
            "tuning": {"layer": 1},
        },
    )
    assert snakemake(work, settings, str(built)).status == 0
    whole = (work / built).read_bytes()
    (work / built).write_bytes(whole[:-1000])
    said = snakemake(work, settings, "results/tiny/bundled/facts.parquet")
    assert said.status != 0
    assert "a file that a run fetched or built is made anew if you delete it" in said.text
    (work / built).unlink()
    again = snakemake(work, settings, "results/tiny/bundled/facts.parquet")
    assert again.status == 0, again.text
    assert (work / built).read_bytes() == whole
