"""Labels: every choice has one, and R is given what Python reads."""

import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from locedit import outcomes
from locedit.cli import trace
from locedit.errors import LoceditError
from locedit.facts import record
from locedit.localizers import LOCALIZERS, MODULES, NO_MODULE
from locedit.methods import METHODS
from locedit.methods.problems import PROBLEMS
from locedit.report import rbridge
from locedit.report.labels import COLUMNS, Labels, load
from locedit.store import schemas
from locedit.workflow.sections import Analysis

ROOT = Path(__file__).resolve().parents[2]
ANALYSIS = ROOT / "analysis"
FILE = ANALYSIS / "labels.yaml"
LABELS = Labels.read(FILE)

STATUSES = [record.KEPT, record.EXCLUDED, outcomes.OK, outcomes.FAILED]
STATUSES += [outcomes.NOT_EDITED, outcomes.NOT_LOCALIZED]
LOCALIZED = [
    name for name, localizer in LOCALIZERS.items() if localizer.module.startswith("locedit.")
]

in_r = pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")


def columns_of(table: str, ending: str) -> set[str]:
    return {name for name in schemas.SCHEMAS[table].names if name.endswith(ending)}


PRODUCED = {
    "problems": ("problems", PROBLEMS),
    "methods": (
        "methods",
        [name for name in METHODS if METHODS[name].module.startswith("locedit.")],
    ),
    "modules": ("modules", [*MODULES, NO_MODULE]),
    "localizers": ("localizers", LOCALIZED),
    "effects, by the code": ("effects", [*schemas.MEASURES, *LOCALIZED]),
    "effects, by the configuration": (
        "effects",
        [*get_args(Analysis.model_fields["effect"].annotation), *LOCALIZED],
    ),
    "successes": ("successes", {*columns_of("scores", "_success"), "harmonic"}),
    "statuses": ("statuses", [status.removesuffix(": ") for status in STATUSES]),
}


@pytest.mark.parametrize("choice", PRODUCED)
def test_every_choice_has_a_label_and_no_label_is_left_over(choice):
    kind, names = PRODUCED[choice]
    assert set(LABELS.kinds[kind]) == set(names)


# What the statistics call things
NAMES = """
listed <- function() {
  kinds <- list(
    scores = c(SCORED, OUTCOMES), successes = c(SUCCESSES, "harmonic"), strategies = CHOICES,
    roles = ROLES, subsets = SUBSETS, verdicts = VERDICTS, predictors = sub("^r2_", "", R2S)
  )
  data.frame(kind = rep(names(kinds), lengths(kinds)), name = unlist(kinds, use.names = FALSE))
}
"""


@in_r
def test_every_name_that_the_statistics_give_has_a_label(tmp_path):
    (tmp_path / "names.R").write_text(NAMES)
    files = "labels.yaml frames.R groups.R regressions.R success.R multiplicity.R value.R verdict.R"
    files = f"{files} theme.R figures.R figures_r2.R"
    sources = [ANALYSIS / name for name in files.split()]
    given = rbridge.call("listed", {}, {}, [*sources, tmp_path / "names.R"])
    for kind, names in given.groupby("kind")["name"]:
        assert set(LABELS.kinds[kind]) == set(names), kind
    assert set(given["kind"]) == set(
        "scores successes strategies roles subsets verdicts predictors".split()
    )


def test_every_score_that_is_analysed_has_a_label():
    rules = (ROOT / "rules" / "analysis.smk").read_text()
    for name in ("SCORES", "CHOSEN"):
        listed = re.search(rf"^{name} = \[(.+?)\]", rules, re.M | re.S)
        assert set(re.findall(r'"(\w+)"', listed[1])) <= set(LABELS.kinds["scores"])


def test_no_two_things_of_a_kind_have_one_label_and_colours_are_there():
    kinds = {kind: list(entries.values()) for kind, entries in LABELS.kinds.items()}
    palette = LABELS.kinds["colours"]
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in kinds.pop("colours"))
    for kind, entries in kinds.items():
        for form in ("label", "short", "colour"):
            given = [entry[form] for entry in entries if form in entry]
            assert len(given) == len(set(given)), (kind, form)
            assert all(given)
        assert all(set(entry) <= {"label", "short", "colour"} for entry in entries), kind
        assert {entry["colour"] for entry in entries if "colour" in entry} <= set(palette)
    assert {kind for kind, _ in COLUMNS.values()} <= set(kinds)


def test_the_command_line_calls_modules_as_pages_do():
    assert {name: LABELS.of("module", name) for name in trace.NAMES} == trace.NAMES


def test_what_has_no_label_is_called_by_its_own_name():
    assert LABELS.of("method", "my_method") == "my method"
    assert LABELS.of("localizer", "my_localizer") == "my localizer"
    assert LABELS.of("module", None) == "not traced"


def test_a_localizers_own_value_goes_by_its_name_and_what_has_no_module_has_no_window():
    where = {"module": "mlp", "window": 5, "effect": "value"}
    assert LABELS.place({"localizer": "zeroing", **where}) == [
        "Representation zeroing",
        "MLP outputs",
        "windows of 5 layers",
        "share of the probability lost",
    ]
    assert LABELS.place({"localizer": "mine", **where, "module": "none"}) == ["mine"]
    assert LABELS.place({"localizer": None, "module": None}) == ["not traced"]


def test_a_file_that_is_no_yaml_is_named(tmp_path):
    broken = tmp_path / "labels.yaml"
    broken.write_text("problems: {a: [}\n")
    with pytest.raises(LoceditError, match=r"labels.yaml is not YAML \(.*line 1, column \d+"):
        load(broken)


SAME = """
same <- function(path) {
  compared <- all.equal(lapply(LABELS, as.list), lapply(read_labels(path), as.list))
  data.frame(same = isTRUE(compared), told = toString(compared))
}
"""


@in_r
def test_figures_and_their_tests_in_r_are_given_the_same_labels(tmp_path):
    helper = (ANALYSIS / "tests" / "testthat" / "helper-figures.R").read_text()
    reader = re.search(r"^read_labels <- .*?(?=^# where)", helper, re.M | re.S)
    (tmp_path / "same.R").write_text(reader[0] + SAME)
    given = rbridge.call("same", {}, {"path": str(FILE)}, [FILE, tmp_path / "same.R"])
    assert given["same"].all(), given["told"][0]
    assert list(load(FILE)["methods"]) == [*METHODS]  # in this order
