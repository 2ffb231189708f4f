"""What docs/results.md prints is the published data's, and what the studies were set to."""

import re
from pathlib import Path

import pandas as pd
import pytest

from locedit import localizers
from locedit.workflow.config import load_yaml
from locedit.workflow.pairs import PEAK, of_pair

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DEFAULT = load_yaml(ROOT / "config.yaml")["editing"]
ROW = re.compile(r"^\| ([a-z ,-]+?)(?: \((\d+)\))?(, the primary one)? \| (.+) \|$", re.M)
NAMES = {
    "edit cost, a control": "edit_cost",
    "integrated gradients": "integrated",
    "direct attribution": "direct",
    "random values, a control": "random",
}
ENDS = ("", "_low", "_high")


# By the folder of a study's data: its section of the page
STUDIES = {
    "smollm2-200": "## The primary comparison on 200 facts",
    "gemma3-270m-primary": "## The same question of Gemma 3 270M",
}


@pytest.fixture(scope="module", params=STUDIES)
def study(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def arena(study) -> pd.DataFrame:
    table = pd.read_csv(DOCS / "data" / study / "arena.csv")
    return table[table["score"] == "paraphrase_log_odds"]


def printed_rows(study: str) -> list[tuple[str, str, list[str]]]:
    """Localizer, window ("" if it has one only), and the other cells of each printed row."""
    section = (DOCS / "results.md").read_text().split(STUDIES[study])[1]
    text = section.split("| localizer (window) |")[1].split("\n\n")[0]
    cells = re.compile(r" *\| *")
    rows = [(name, window, cells.split(rest)) for name, window, _, rest in ROW.findall(text)]
    assert len(rows) == text.count("\n") - 1  # but for the rule below the heading
    return [
        (NAMES.get(name, name.replace(" ", "_")), window, cells) for name, window, cells in rows
    ]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.\d+|-?\d+", cell)]


def known(row: dict[str, float], *columns: str) -> list[float]:
    """What a row has in these columns, of which an empty cell prints nothing."""
    return [row[column] for column in columns if not pd.isna(row[column])]


def close(printed: list[float], exact: list[float], step: float) -> bool:
    """Whether these are the exact ones as they are printed, at a step of the last digit."""
    pairs = zip(printed, exact, strict=True)
    return all(abs(one - other) <= step / 2 + 1e-9 for one, other in pairs)


def test_each_printed_row_is_the_tables(study, arena):
    rows = printed_rows(study)
    assert len(rows) == len(arena) - 2  # depth and middle, which choose one layer for all
    for name, window, cells in rows:
        found = arena[arena["localizer"].eq(name)]
        found = found[found["window"].eq(int(window))] if window else found
        (row,) = found.to_dict("records")
        gain, p, r, rank, passes = (numbers(cell) for cell in cells)
        assert close(gain, known(row, *(f"gain{end}" for end in ENDS)), 0.01), name
        assert close(r, known(row, *(f"r{end}" for end in ENDS)), 0.01), name
        step = 10.0 ** -len(cells[1].split(",")[0].partition(".")[2])
        assert close(p, known(row, "gain_p_adjusted"), step), name
        assert close(rank, known(row, "rank_r"), 0.01), name
        assert close(passes, [row["passes"]], 1), name


def test_no_localizers_use_is_shown(arena):
    assert not (arena["value_low"] > 0).any()  # what the page and the README say of C


# ---- the design: the default study's edit layers, and the doses ----------------------------------


def test_the_mean_effects_peak_that_is_printed_is_edited_in_every_pair_of_the_default_study():
    page = " ".join((DOCS / "results.md").read_text().split("## The default study")[1].split())
    (layer,) = re.findall(r"the tracing effect is largest at layer (\d+), which is edited", page)
    for problem in DEFAULT["problems"]:
        for method in DEFAULT["methods"]:
            layers = of_pair(DEFAULT["layers"], problem, method)
            assert int(layer) - 1 in layers, (problem, method)
            assert PEAK in layers, (problem, method)


def tuned_rows(aim: str) -> list[tuple[str, str, dict[str, float], float]]:
    """Method, problem, setting and mean rewrite score of each printed row of a sweep."""
    text = (DOCS / "results.md").read_text().split("## Tuning of SmolLM2")[1].split(f"`{aim}`")[1]
    lines = text.split("|---|---|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    found = []
    for line in lines:
        method, problem, setting, rewrite, _ = (cell.strip() for cell in line.strip("|").split("|"))
        pairs = (pair.split("=") for pair in setting.split(", "))
        found.append((method, problem, {k: float(v) for k, v in pairs}, float(rewrite)))
    return found


# what the page says of those that no setting of their grid brings to the aim
BEYOND = {"unsaturated": [("KN", "error_injection")], "saturating": [("MEMIT", "fact_erasure")]}


@pytest.mark.parametrize("aim", BEYOND)
def test_each_printed_dose_is_the_models_and_meets_its_aim(aim):
    settings = load_yaml(ROOT / "models" / "smollm2-135m-instruct.yaml")["tuned"][aim]
    low, high = load_yaml(ROOT / "config.yaml")["tuning"]["aims"][aim]["rewrite"]
    rows = tuned_rows(aim)
    assert {method for method, *_ in rows} == settings["hyperparameters"].keys()
    for method, problem, printed, _ in rows:
        place = "all" if problem == "error_injection" else problem
        assert printed.items() <= settings["hyperparameters"][method][place].items(), method
    beyond = [(method, problem) for method, problem, _, got in rows if not low <= got <= high]
    assert beyond == BEYOND[aim]


def test_the_page_of_localizers_has_a_section_for_each():
    page = (DOCS / "explanation" / "localizers.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    told = {name.strip() for heading in headings for name in heading.split(",")}
    controls = {"depth", "middle", "random", "placebo"}  # under one heading
    assert "Controls" in told
    assert localizers.LOCALIZERS.keys() - controls - {"planted"} <= told
