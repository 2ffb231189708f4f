"""Facts that the model does not know, studied where that is asked for."""

from tiny_study import OUT

from locedit.store import tables


def test_any_fact_that_can_be_used_may_be_studied(study, tmp_path):
    copy = study.copied(tmp_path / "any")
    asked = tables.read(copy.out / "facts.parquet", "facts").set_index("case_id")
    usable = set(asked.index[asked["status"] == "kept"])
    unknown = usable - set(asked.index[asked["is_correct"].eq(True)])
    assert unknown
    run = copy.run(str(OUT / "study.parquet"), facts={"known": "any", "study": None})
    assert run.status == 0, run.text
    assert run.jobs == {"study": 1}
    rows = tables.read(copy.out / "study.parquet", "facts")
    assert set(rows["case_id"]) == usable


def test_every_analysis_is_of_them_too(study):
    """All tables and figures that choose the known facts are made again, and say so."""
    planned = study.plan("all", facts={"known": "any"}).jobs
    assert {"study", "table_success", "table_choice", "figure_rewrite_by_layer"} <= planned.keys()
