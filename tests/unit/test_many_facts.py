"""`locedit.recommend` and `locedit.apply`: the same as from the command line, and as one by one."""

import json
import math

import pytest
import tiny
import torch
from tiny_study import known_records

import locedit
from locedit.api import inputs
from locedit.cli.main import main
from locedit.errors import LoceditError
from locedit.exchange import edited_weights
from locedit.store import tables

LAYERS = 4
PLAIN = {"layer": 2, "method": "FT-1", "tuned": "none"}


@pytest.fixture(scope="module")
def pair():
    return tiny.pair("llama", layers=LAYERS, dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory):
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(scope="module")
def lm(folder):
    return locedit.load(folder)


@pytest.fixture(scope="module")
def records(pair):
    return known_records(pair, 8)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, records) -> None:
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts.json").write_text(json.dumps(records))


@pytest.mark.slow
def test_a_recommendation_is_the_command_lines(lm, folder, capsys, monkeypatch):
    asked = {"facts": "facts.json", "editors": ["FT-1"], "budget": "24 edits"}
    found = locedit.recommend(lm, **asked, folder="own")
    chosen = found["FT-1"].chosen
    assert 0 <= chosen["layer"] < LAYERS
    assert chosen["overall_low"] <= chosen["overall"] <= chosen["overall_high"]
    command = ["recommend", folder, "--facts", "facts.json", "--editors", "FT-1", "--out", "cli"]
    assert main([*map(str, command), "--budget", "24 edits"]) == 0
    assert f"FT-1: edit layer {chosen['layer']} " in capsys.readouterr().out
    kept = [tables.records(f"{name}/layers.parquet", "recommended") for name in ("own", "cli")]
    assert repr(kept[0]) == repr(kept[1])  # NaN too
    monkeypatch.delattr("locedit.study.recommending.edit_cell")  # no edit is made again
    assert repr(locedit.recommend(lm, **asked, folder="own")) == repr(found)


def test_facts_that_are_applied_are_one_difference(lm, folder, records, tmp_path):
    edited = locedit.apply(lm, records[:2], **PLAIN, save="edited", save_delta="d.safetensors")
    assert [line.status for line in edited.lines] == ["ok", "ok"]
    assert all(line.p_after != line.p_before for line in edited.lines)
    (tmp_path / "two.json").write_text(json.dumps(records[:2]))
    command = ["apply", "two.json", "--model", folder, "--layer", "2", "--method", "FT-1"]
    assert main([*map(str, command), "--tuned", "none", "--save-delta", "cli.safetensors"]) == 0
    (name,) = edited.delta.names
    for kept in ("d.safetensors", "cli.safetensors"):
        assert torch.equal(edited_weights.read(kept).change(name), edited.delta.change(name))
    assert records[0]["target_new"] in (tmp_path / "edited" / "README.md").read_text()


def test_under_the_difference_the_model_says_what_the_lines_tell(lm, records):
    edited = locedit.apply(lm, records[:2], **PLAIN | {"method": "FT-M"}, together=True)
    with edited_weights.changed(lm, edited.delta):
        for fact, line in zip(records, edited.lines, strict=False):
            prompt = lm.encode(fact["template"].replace("{}", fact["subject"]))
            ids = [*prompt, *lm.encode_target(fact["target_new"], line.prompt)]
            logits = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            log_p = sum(logits[i, ids[i + 1]].item() for i in range(len(prompt) - 1, len(ids) - 1))
            assert line.p_after == pytest.approx(math.exp(log_p), rel=1e-4)


def test_a_record_that_is_no_fact_is_a_line(lm, records):
    odd = {**records[1], "target_new": records[1]["target_true"]}
    one, other = locedit.apply(lm, [records[0], odd], **PLAIN).lines
    assert one.status == "ok"
    assert other.status == "left out: target_new equals target_true"


FAULTS = {
    "a method": ({"method": "MEMITT"}, "unknown method 'MEMITT'; did you mean 'MEMIT'?"),
    "a layer": ({"layer": 9}, "no layer 9"),
    "a setting": ({"hyperparameters": {"lrr": 1}}, "unknown setting 'lrr'"),
    "one fact at a time": ({"together": True}, "FT-1 writes one fact at a time"),
    "the embedding, together": (
        {"together": True, "layer": -1, "method": "FT-M"},
        "at the embedding facts are written one after another; leave it out, or name a layer",
    ),
    "a name that is taken": ({"save": "facts.json"}, "facts.json is there already"),
    "an adapter of whole changes": ({"save_lora": "a"}, "no product of low rank"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_applied_is_a_sentence(lm, records, name):
    more, part = FAULTS[name]
    with pytest.raises(LoceditError, match=part.replace("?", r"\?")):
        locedit.apply(lm, records[:1], **PLAIN | more)


@pytest.mark.parametrize("facts", ["none.json", [], [{"subject": "France"}]])
def test_facts_that_are_none_are_a_sentence(lm, facts):
    with pytest.raises(LoceditError, match=r"no such data file|holds no"):
        locedit.apply(lm, facts, **PLAIN)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"editors": ["ROMA"]}, "editors: unknown method 'ROMA'; did you mean 'ROME'"),
        ({"editors": "ROME"}, "editors: expected a list of methods, got the text 'ROME'"),
        ({"problem": "erasure"}, "unknown problem 'erasure'"),
        ({"budget": "soon"}, "expected a time or a number of edits"),
        ({"facts": "none.json"}, "no such data file"),
    ],
)
def test_what_cannot_be_recommended_is_a_sentence(lm, more, part):
    with pytest.raises(LoceditError) as caught:
        locedit.recommend(lm, folder="new", **more)
    assert part in str(caught.value)
