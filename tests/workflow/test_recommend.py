"""`snakemake recommend` on the tiny model: an answer for each method, made once."""

from dataclasses import replace

import pytest
import tiny_study
import yaml

from locedit.store import tables

pytestmark = pytest.mark.slow
METHODS = ["FT-1", "ROME"]


@pytest.fixture(scope="module")
def recommended(tmp_path_factory):
    """A finished search by each method, and what Snakemake said."""
    base = tmp_path_factory.mktemp("recommended")
    folder = base / "work"
    folder.mkdir()
    settings = tiny_study.merged(tiny_study.SETTINGS, tiny_study.write_inputs(base))
    settings["facts"]["study"] = 2
    settings["recommending"] = {"methods": METHODS, "budget": "30 edits", "facts": 8}
    tiny_study.write_corpus(folder, settings, tiny_study.ROOT)
    study = tiny_study.Study(folder=folder, root=tiny_study.ROOT, settings=settings)
    run = study.run("recommend")
    assert run.status == 0, run.text
    return study, run


def test_each_method_has_its_answer_and_nothing_is_made_twice(recommended):
    study, run = recommended
    assert run.jobs["recommend_layer"] == 2
    for method in METHODS:
        kept = study.out / "recommended" / method
        rows = tables.records(kept / "layers.parquet", "recommended")
        assert [row["role"] for row in rows].count("chosen") == 1
        assert tables.provenance(kept / "layers.parquet")["rule"] == "recommend_layer"
        own = yaml.safe_load((kept / "recommended.yaml").read_text())["recommended"]
        assert list(own[method]) == ["error_injection"]
    assert study.plan("recommend").nothing


@pytest.mark.parametrize(
    ("changes", "searches"),
    [
        ({"recommending": {"grid": {"EMMET": {"clamp": [0.5]}}}}, 0),
        ({"recommending": {"grid": {"ROME": {"clamp": [0.5]}}}}, 1),
        ({"editing": {"hyperparameters": {"ROME": {"fact_erasure": {"lr": 0.3}}}}}, 0),
        ({"localizing": {"settings": {"swap_tracing": {"partners": 3}}}}, 0),
        ({"localizing": {"settings": {"integrated": {"steps": 3}}}}, 2),
        ({"facts": {"min_p_erase": 0.06}}, 0),
    ],
)
def test_a_setting_reruns_the_searches_that_it_matters_to(recommended, changes, searches):
    study, _ = recommended
    assert study.plan("recommend", **changes).jobs.get("recommend_layer", 0) == searches


@pytest.mark.parametrize(
    ("file", "searches"),
    [
        ("localizers/attribution.py", 2),
        ("localizers/swap_tracing.py", 0),
        ("methods/ft.py", 1),
        ("methods/memit.py", 0),
    ],
)
def test_code_reruns_the_searches_that_use_it(recommended, tmp_path, file, searches):
    study, _ = recommended
    changed = replace(study, root=tiny_study.copy_tree(study.root, tmp_path / "tree"))
    path = changed.root / "locedit" / file
    path.write_text(path.read_text() + "\nCHANGED = 1\n")
    assert changed.plan("recommend").jobs.get("recommend_layer", 0) == searches
