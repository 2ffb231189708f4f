"""Edits of the embedding, through the workflow: what is added runs alone, and where it is shown."""

import pytest
from tiny_study import LAYERS, OUT

from locedit.store import tables
from locedit.windows import EMBEDDING

CHANGES = {
    "editing": {
        "layers": {"all": LAYERS, "error_injection": [*LAYERS, "embedding"]},
        "hyperparameters": {"FT-1": {"all": {"embedding_lr": 0.05, "embedding_steps": 5}}},
    }
}
MADE = ["scores.parquet", "tables/success.html", "figures/rewrite_by_layer.svg", "tables/r2.csv"]
MADE += ["tables/choice.csv"]


@pytest.fixture(scope="module")
def added(study, tmp_path_factory):
    copy = study.copied(tmp_path_factory.mktemp("embedding") / "work")
    return copy, copy.run(*(str(OUT / name) for name in MADE), **CHANGES)


def test_the_embedding_is_edited_by_what_can_and_others_say_why_not(added):
    copy, run = added
    assert run.status == 0, run.text
    assert ("FT-1", "error_injection", "embedding") in run.edits
    path = "editing/{}/error_injection/layer-embedding.parquet"
    tuned = tables.read(copy.out / path.format("FT-1"), "editing")
    assert set(tuned["status"]) == {"ok"}
    assert set(tuned["layer"]) == {EMBEDDING}
    assert [list(layers) for layers in tuned["layers"]] == [[EMBEDDING]] * len(tuned)
    others = tables.read(copy.out / path.format("ROME"), "editing")
    why = "not edited: ROME writes to MLPs and has no meaning for the embedding"
    assert set(others["status"]) == {why}
    scores = tables.read(copy.out / "scores.parquet", "scores")
    assert scores.loc[scores["layer"] == EMBEDDING, "listed"].all()


def test_it_is_shown_by_its_name_and_no_localizer_is_judged_by_it(added):
    copy, _ = added
    page = (copy.out / "tables/success.html").read_text()
    assert ">embedding<" in page
    assert "embedding" in (copy.out / "figures/rewrite_by_layer.svg").read_text()
    r2 = tables.read(copy.out / "analysis/r2.parquet", None)
    assert set(r2["n_layers"]) <= {0, len(LAYERS)}
