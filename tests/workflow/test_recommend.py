"""`snakemake recommend` on the tiny model: an answer for each method, made once."""

import pytest
import tiny_study
import yaml

from locedit.store import tables


@pytest.mark.slow
def test_each_method_has_its_answer_and_nothing_is_made_twice(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    settings = tiny_study.merged(tiny_study.SETTINGS, tiny_study.write_inputs(tmp_path))
    settings["facts"]["study"] = 2
    settings["recommending"] = {"methods": ["FT-1", "ROME"], "budget": "30 edits", "facts": 8}
    tiny_study.write_corpus(folder, settings, tiny_study.ROOT)
    run = tiny_study.snakemake(folder, settings, "recommend")
    assert run.status == 0, run.text
    assert run.jobs["recommend_layer"] == 2
    for method in ("FT-1", "ROME"):
        kept = folder / tiny_study.OUT / "recommended" / method
        rows = tables.records(kept / "layers.parquet", "recommended")
        assert [row["role"] for row in rows].count("chosen") == 1
        assert tables.provenance(kept / "layers.parquet")["rule"] == "recommend_layer"
        own = yaml.safe_load((kept / "recommended.yaml").read_text())["recommended"]
        assert list(own[method]) == ["error_injection"]
    again = tiny_study.snakemake(folder, settings, "--dry-run", "recommend")
    assert again.nothing, again.text
