"""The table that docs/results.md prints of the study of 200 facts is that of its published data."""

import re
from pathlib import Path

import pandas as pd
import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| ([a-z ,-]+?)(?: \((\d+)\))?(, the primary one)? \| (.+) \|$", re.M)
NAMES = {
    "edit cost, a control": "edit_cost",
    "integrated gradients": "integrated",
    "direct attribution": "direct",
    "random values, a control": "random",
}
ENDS = ("", "_low", "_high")


@pytest.fixture(scope="module")
def arena() -> pd.DataFrame:
    table = pd.read_csv(DOCS / "data" / "smollm2-200" / "arena.csv")
    return table[table["score"] == "paraphrase_log_odds"]


def printed_rows() -> list[tuple[str, str, list[str]]]:
    """Localizer, window ("" if it has one only), and the other cells of each printed row."""
    text = (DOCS / "results.md").read_text().split("| localizer (window) |")[1].split("\n\n")[0]
    cells = re.compile(r" *\| *")
    rows = [(name, window, cells.split(rest)) for name, window, _, rest in ROW.findall(text)]
    assert len(rows) == text.count("\n") - 1  # but for the rule below the heading
    return [
        (NAMES.get(name, name.replace(" ", "_")), window, cells) for name, window, cells in rows
    ]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.\d+|-?\d+", cell)]


def close(printed: list[float], exact: list[float], step: float) -> bool:
    """Whether these are the exact ones as they are printed, at a step of the last digit."""
    pairs = zip(printed, exact, strict=True)
    return all(abs(one - other) <= step / 2 + 1e-9 for one, other in pairs)


def test_each_printed_row_is_the_tables(arena):
    rows = printed_rows()
    assert len(rows) == len(arena) - 2  # depth and middle, which choose one layer for all
    for name, window, cells in rows:
        found = arena[arena["localizer"].eq(name)]
        found = found[found["window"].eq(int(window))] if window else found
        (row,) = found.to_dict("records")
        gain, p, r, rank, passes = (numbers(cell) for cell in cells)
        assert close(gain, [row[f"gain{end}"] for end in ENDS], 0.01), name
        assert close(r, [row[f"r{end}"] for end in ENDS], 0.01), name
        step = 10.0 ** -len(cells[1].split(",")[0].split(".")[1])
        assert close(p, [row["gain_p_adjusted"]], step), name
        assert close(rank, [] if pd.isna(row["rank_r"]) else [row["rank_r"]], 0.01), name
        assert close(passes, [row["passes"]], 1), name


def test_no_localizers_use_is_shown(arena):
    assert not (arena["value_low"] > 0).any()  # what the page and the README say of C
