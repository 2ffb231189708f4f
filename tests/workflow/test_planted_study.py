"""A study of a model with planted facts, from the variant to the table of hits."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from tiny_study import SETTINGS, merged, snakemake

from locedit.exchange import edited_weights

OUT = "results/variant/planted"
TARGETS = [f"{OUT}/{name}" for name in ("figures/hits.svg", "scores.parquet", "tables/arena.csv")]
PLACES = {"planted": 6, "placebo": 3}
TRAINING = {"steps": 100, "lr": 0.01, "look": 20, "texts": 1, "text_tokens": 8}
TRAINING |= {"kl_factor": 0.0, "rest": 1.0, "enough": 1.0}  # all that such a model can learn


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The finished study: its folder and what Snakemake said."""
    folder = tmp_path_factory.mktemp("planted")
    # wide enough for a single layer to hold whole facts
    wide = {"hidden_size": 64, "intermediate_size": 1024}
    tiny.save(tiny.pair(layers=3, **wide), folder / "base")
    (folder / "base.yaml").write_text(
        yaml.safe_dump({"label": "tiny", "n_layers": 3, "noise": 0.5, "path": "base"})
    )
    variant = {
        "label": "tiny, planted",
        "n_layers": 3,
        "noise": 0.5,
        "planted": {
            "base": str(folder / "base.yaml"),
            **PLACES,
            "layers": [0, 2],
            "max_p_before": 1.0,
            "training": TRAINING,
        },
    }
    (folder / "variant.yaml").write_text(yaml.safe_dump(variant))
    settings = merged(
        SETTINGS,
        {
            "model": str(folder / "variant.yaml"),
            "dataset": {"name": "planted", "format": "native", "path": None},
            "facts": {"n": None, "study": None, "completion_tokens": 24},
            "localizing": {"localizers": ["planted", "tracing", "random"], "windows": [1]},
            "editing": {"methods": ["FT-1"], "problems": ["error_injection"], "layers": [0, 2]},
            "analysis": {"window": 1},
        },
    )
    settings["environment"] = {"LOCEDIT_CACHE": str(folder / "cache")}
    work = folder / "work"
    work.mkdir()
    run = snakemake(work, settings, *TARGETS)
    assert run.status == 0, run.text
    return work, run, settings


def test_the_variant_is_the_base_and_the_change(planted):
    work, run, _ = planted
    assert run.jobs["plant"] == run.jobs["planted_weights"] == 1
    (made,) = (work / OUT).glob("delta*.safetensors")
    delta = edited_weights.read(made)
    (folder,) = (work.parent / "cache" / "models").glob("variant-*")
    assert made.stem.removeprefix("delta-") == folder.name.rpartition("-")[2]
    assert delta.about["base_model"] == "base"
    table = pd.read_parquet(work / OUT / "planting.parquet")
    assert dict(table["kind"].value_counts()) == PLACES
    assert set(table.loc[table["kind"] == "planted", "layer"]) == {0, 2}
    assert table.loc[table["kind"] == "placebo", "layer"].isna().all()
    study = pd.read_parquet(work / OUT / "study.parquet")
    assert set(study["case_id"]) <= set(table["case_id"])
    assert len(study) >= 5, "the variant knows most of what was trained into it"
    records = json.loads((work / OUT / "records.json").read_text())
    assert [record["case_id"] for record in records] == table["case_id"].tolist()


def test_the_control_says_where_facts_were_put(planted):
    work, *_ = planted
    effects = pd.read_parquet(work / OUT / "effects.parquet")
    table = pd.read_parquet(work / OUT / "planting.parquet")
    table = table.set_index("case_id")["layer"]
    truth = effects[effects["localizer"] == "planted"]
    assert len(truth)
    for case_id, rows in truth.groupby("case_id"):
        assert np.array_equal(rows["value"], rows["layer"] == table[case_id])


def test_hits_are_counted_for_every_other_localizer(planted):
    work, *_ = planted
    hits = pd.read_parquet(work / OUT / "analysis/hits.parquet")
    assert set(hits["localizer"]) == {"tracing", "random"}
    assert (work / OUT / "figures/hits.png").stat().st_size > 0


def test_a_second_run_plants_nothing(planted):
    work, _, settings = planted
    assert snakemake(work, settings, "-n", *TARGETS).nothing


def test_the_arena_has_every_localizer_with_its_hits_and_marks_controls(planted):
    work, *_ = planted
    arena = pd.read_csv(work / OUT / "tables/arena.csv")
    hits = pd.read_parquet(work / OUT / "analysis/hits.parquet").set_index("localizer")
    rows = arena[(arena["score"] == "rewrite_log_odds") & (arena["method"] == "FT-1")]
    assert sorted(rows["localizer"]) == ["planted", "random", "tracing"]
    rows = rows.set_index("localizer")
    assert rows["control"].to_dict() == {"planted": True, "random": True, "tracing": False}
    assert (rows["passes"].drop("tracing") == 0).all()
    assert rows["passes"]["tracing"] > 1
    for name in ("tracing", "random"):
        assert rows["found"][name] == pytest.approx(hits["hits"][name])
    assert rows["found_reason"]["planted"] == "no row in the table hits"
    assert ((rows["low"] > -1) & (rows["low"] < rows["rank_r"])).all()
    assert ((rows["high"] < 1) & (rows["high"] > rows["rank_r"])).all()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"dataset": {"name": "planted", "path": None}}, "dataset.name"),
        ({"localizing": {"localizers": ["tracing", "planted"]}}, "localizing.localizers"),
    ],
)
def test_a_model_without_planted_facts_is_told(changes, key, tmp_path):
    tiny.save(tiny.pair(layers=3), tmp_path / "base")
    (tmp_path / "base.yaml").write_text(
        yaml.safe_dump({"label": "tiny", "n_layers": 3, "noise": 0.5, "path": "base"})
    )
    settings = merged(SETTINGS, {"model": str(tmp_path / "base.yaml"), **changes})
    (tmp_path / "work").mkdir()
    run = snakemake(tmp_path / "work", settings, "-n")
    assert run.status != 0
    assert f"config: {key}: planted is of a model with planted facts, and base has none" in run.text
    assert "Traceback" not in run.text
