"""Facts that share an update, through the workflow: what is added runs alone, and is compared."""

import pytest
from tiny_study import LAYERS, OUT, PROBLEMS

from locedit.store import tables

TOGETHER = {"editing": {"methods": ["ROME"], "problems": PROBLEMS[:1], "together": [1, 3]}}
PATH = OUT / "editing/ROME/error_injection"


@pytest.fixture(scope="module")
def compared(study, tmp_path_factory):
    """The study with one more number of facts together, and the run that added it."""
    copy = study.copied(tmp_path_factory.mktemp("together") / "work")
    names = ["scores_together.parquet", "tables/together.csv", "figures/together.svg"]
    return copy, copy.run(*(str(OUT / name) for name in names), **TOGETHER)


def test_a_number_that_is_added_runs_its_own_edits_alone(compared):
    _, run = compared
    assert run.status == 0, run.text
    assert run.jobs == {
        "edit": len(LAYERS),
        "scores_together": 1,
        "table_together": 1,
        "figure_together": 1,
    }


def test_groups_share_an_update_and_are_scored_fact_by_fact(compared):
    copy, _ = compared
    rows = tables.read(copy.folder / PATH / "layer-2-together-3.parquet", "editing")
    alone = tables.read(copy.folder / PATH / "layer-2.parquet", "editing")
    assert list(rows["case_id"]) == list(alone["case_id"])
    assert set(alone["together"]) == {1}
    assert set(rows["status"]) == {"ok"}
    norms = rows["update_norm"]
    assert norms[:3].nunique() == norms[3:].nunique() == 1 != norms.nunique()
    scores = tables.read(copy.out / "scores_together.parquet", "scores")
    assert len(scores) == 2 * len(LAYERS) * len(rows)
    assert set(scores["together"]) == {1, 3}
    table = tables.read(copy.out / "analysis/together.parquet", None)
    assert set(table["reason"]) <= {"", "the same gain whichever fact is left out: no interval"}
    assert table["gain"].notna().all()


def test_sharded_groups_are_those_of_one_job(compared):
    copy, _ = compared
    path = PATH / "layer-2-together-3.parquet"
    before = tables.read(copy.folder / path, "editing")
    (copy.folder / path).unlink()
    run = copy.run(str(path), "--set-scatter", "editing=2", **TOGETHER)
    assert run.status == 0, run.text
    assert tables.read(copy.folder / path, "editing").equals(before)
