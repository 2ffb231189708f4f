"""Stages dealt out to several jobs: the whole tables are what one job would have made."""

import pytest
from tiny_study import OUT

from locedit.shards import WHOLE, Shard
from locedit.store import tables


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_every_item_is_in_one_shard(count):
    items = list(range(7))
    parts = [Shard(index=i, count=count).part(items) for i in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_without_shards_one_job_has_all():
    assert WHOLE.part("abc") == "abc"


@pytest.mark.parametrize(("index", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_cannot_be_is_refused(index, count):
    with pytest.raises(ValueError, match=f"no shard {index} of {count}"):
        Shard(index=index, count=count)


# ---- merging -------------------------------------------------------------------------------------


def baseline(*case_ids):
    return [
        {"case_id": case, "rewrite_target": float(case), "generations": [case], "status": "ok"}
        for case in case_ids
    ]


@pytest.fixture
def parts(tmp_path):
    """Three parts of a table over facts 0 to 4, one of them empty."""
    paths = [tmp_path / f"part-{i}.parquet" for i in range(3)]
    for path, rows in zip(paths, [baseline("3", "0", "4"), [], baseline("1", "2")], strict=True):
        tables.write(path, rows, "baseline", {"fingerprint": "one"})
    return paths


def test_a_merged_table_is_the_whole_one_to_the_byte(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK", 2)
    whole, merged = tmp_path / "whole.parquet", tmp_path / "merged.parquet"
    tables.write(whole, baseline(*"01234"), "baseline", {"fingerprint": "one"})
    tables.merge(merged, parts, list("01234"))
    assert merged.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("order", ["0123", "012345", "01239"], ids=["more", "fewer", "others"])
def test_parts_of_other_facts_are_refused(tmp_path, parts, order):
    with pytest.raises(
        tables.TableError, match=rf"the study's {len(order)} facts.*part-0\.parquet"
    ):
        tables.merge(tmp_path / "merged.parquet", parts, list(order))
    assert not (tmp_path / "merged.parquet").exists()


def test_a_fact_in_two_parts_is_refused(tmp_path, parts):
    with pytest.raises(tables.TableError, match="each in one of its parts"):
        tables.merge(tmp_path / "merged.parquet", [*parts, parts[0]], list("01234"))


def test_parts_that_were_made_otherwise_are_refused(tmp_path, parts):
    tables.write(parts[1], [], "baseline", {"fingerprint": "another"})
    with pytest.raises(tables.TableError, match=r"not made alike; delete .*part-1"):
        tables.merge(tmp_path / "merged.parquet", parts, list("01234"))


# ---- the workflow --------------------------------------------------------------------------------

# six facts, or three batches of two: uneven, and one of no fact
SHARDS = ["--set-scatter", "tracing=4", "editing=4"]


def test_another_number_of_shards_reruns_nothing(study):
    assert study.plan(*SHARDS).nothing


@pytest.mark.parametrize("given", ["trace=4", "editing=0"])
def test_shards_of_no_stage_or_none_at_all_are_refused(study, given):
    run = study.run("--dry-run", "--set-scatter", given)
    assert run.status != 0
    assert f"--set-scatter {given}: give `tracing`, `editing` or both, a whole number" in run.text


def test_sharded_tables_are_those_of_one_job_to_the_byte(study, tmp_path):
    sharded = study.copied(tmp_path / "sharded")
    names = [
        "tracing/mlp/window-3",
        "localizing/zeroing/mlp/window-3",
        "baseline/error_injection",
        "editing/ROME/error_injection/layer-2",
    ]
    for name in names:
        (sharded.out / f"{name}.parquet").unlink()
    run = sharded.run(*(str(OUT / f"{name}.parquet") for name in names), *SHARDS)
    assert run.status == 0, run.text
    assert run.jobs["trace"] == run.jobs["localize"] == 4
    assert run.jobs["baseline"] == run.jobs["edit"] == 4
    for name in names:
        old, new = (at.out / f"{name}.parquet" for at in (study, sharded))
        assert new.read_bytes() == old.read_bytes(), name
    assert not list(sharded.out.rglob("*shard-*")), "parts are left over"
    assert sharded.plan().nothing
