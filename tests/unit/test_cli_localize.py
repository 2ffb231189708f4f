"""`locedit localize` on a tiny model: what the localizers say, and why one says nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from locedit.api import inputs, localizing, look
from locedit.cli import localize
from locedit.cli.main import main
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, Localization, Place, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.store.schemas import SCHEMAS

TEMPLATE, SUBJECT = "The capital of {} is the city of", "France"
CHEAP = [name for name, localizer in LOCALIZERS.items() if localizer.cheap]


@pytest.fixture(scope="module")
def pair() -> tiny.Pair:
    return tiny.pair("llama", dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory) -> Path:
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(folder, capsys):
    """Run the command; (status, what it printed, its error)."""

    def command(*more: str) -> tuple[int, str, str]:
        what = ["localize", TEMPLATE, "--subject", SUBJECT, "--target", "Paris"]
        status = main([*what, "--model", str(folder), *more])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


def test_all_cheap_localizers_are_shown_in_one_map_and_one_table(run, tmp_path):
    status, out, error = run("--to", "Rome", "--out", "map.png", "--table", "all.parquet")
    assert (status, error) == (0, "")
    lines = out.splitlines()
    for name in CHEAP:
        shown = [line for line in lines if line.startswith(name)]
        unavailable = any("not localized" in line for line in shown)
        assert len(shown) == (1 if unavailable else 2), name
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert list(table.columns) == SCHEMAS["effects"].names
    assert {"zeroing", "mean_ablation", "lens_rise", "direct"} <= set(table["localizer"])
    assert (table.groupby("localizer").size() == 5).all()


def test_the_values_are_the_localizers_own(run, pair, tmp_path):
    status, out, _ = run("--to", "Rome", "--localizer", "direct", "--table", "one.parquet")
    assert status == 0
    fact = Fact(
        case_id="",
        relation_id="",
        subject=SUBJECT,
        template=TEMPLATE,
        target_true="Paris",
        target_new="Rome",
    )
    place = Place(module="mlp")
    (wanted,) = LOCALIZERS["direct"].localize(
        LanguageModel(*pair), [fact], place, LOCALIZERS["direct"].settings(), SharedInputs()
    )
    assert isinstance(wanted, Localization)
    table = pd.read_parquet(tmp_path / "one.parquet")
    np.testing.assert_allclose(table["value"], wanted.values, rtol=1e-5, atol=1e-6)
    peak = int(wanted.values.argmax())
    shown = f"{peak + 1:>6}{wanted.values[peak]:>10.3g}"
    (line,) = [line for line in out.splitlines() if line.startswith("direct  mlp")]
    assert shown in line


@pytest.mark.slow
def test_its_settings_are_the_configurations(run, monkeypatch, tmp_path):
    default = look._default

    def changed(root: Path):
        config = default(root)
        own = {"settings": {"attribution": {"metric": "log_p"}}}
        localizing = config.localizing.model_copy(update=own)
        return config.model_copy(update={"localizing": localizing})

    asked = ("--localizer", "attribution", "--table")
    assert run(*asked, "default.parquet")[0] == 0
    monkeypatch.setattr(look, "_default", changed)
    assert run(*asked, "changed.parquet")[0] == 0
    tables = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("default", "changed")]
    assert not np.allclose(tables[0]["value"], tables[1]["value"])


def test_what_says_nothing_has_its_reason(run, monkeypatch):
    monkeypatch.setattr(localizing, "_others", lambda fact: [])
    status, out, _ = run("--localizer", "direct", "--localizer", "swap_tracing")
    assert status == 0
    direct, swap = (
        next(line for line in out.splitlines() if line.startswith(name))
        for name in ("direct", "swap_tracing")
    )
    assert direct.endswith("not localized: it looks at the object of an edit; give one")
    assert swap.endswith("not localized: the data set has no other subject of its relation")


def test_what_needs_a_study_names_the_option_that_gives_one(run):
    status, out, _ = run("--to", "Rome", "--localizer", "edit_cost", "--localizer", "depth")
    assert status == 0
    (line,) = [line for line in out.splitlines() if line.startswith("edit_cost")]
    assert line.endswith("has no key statistics; --results names a study that has")


def test_a_localizer_that_fails_leaves_the_others(run, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ValueError("no such thing")

    monkeypatch.setattr("locedit.localizers.lens_rise.localize", broken)
    status, out, _ = run("--localizer", "lens_rise", "--localizer", "depth")
    assert status == 0
    assert "failed: unforeseen ValueError: no such thing" in out
    assert "no module" in out


def test_a_module_and_window_can_be_chosen(run, tmp_path):
    more = ("--module", "attn", "--window", "2", "--table", "t.parquet")
    status, _, _ = run("--localizer", "zeroing", "--localizer", "lens_rise", *more)
    assert status == 0
    table = pd.read_parquet(tmp_path / "t.parquet").drop_duplicates("localizer")
    places = table[["localizer", "module", "window"]].to_numpy().tolist()
    assert places == [["zeroing", "attn", 2], ["lens_rise", "hidden", 1]]


def test_the_facts_behind_means_and_swaps_do_not_hold_the_prompt_itself():
    fact = Fact(
        case_id="",
        relation_id="",
        subject=SUBJECT,
        template=TEMPLATE,
        target_true="Paris",
        target_new="",
    )
    study = localizing._others(fact)
    assert len(study) > 1
    assert all(other.template == TEMPLATE and other.subject != SUBJECT for other in study)


def test_a_study_is_stood_in_for_by_some_facts_and_a_data_set_by_all(run, monkeypatch):
    seen = []

    def told(lm, facts, place, settings, shared):
        seen.append(shared)
        raise ValueError("told")

    monkeypatch.setattr("locedit.localizers.lens_rise.localize", told)
    assert run("--localizer", "lens_rise")[0] == 0
    (shared,) = seen
    assert 1 < len(shared.study) <= localizing.STUDY
    assert list(shared.records[: len(shared.study)]) == list(shared.study)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--localizer", "lens_rize"], "unknown localizer 'lens_rize'"),
        (["--table", "all.csv"], "ends in .parquet"),
        (["--table", "nowhere/all.parquet"], "no folder 'nowhere'"),
        (["--out", "map.svg"], "ends in .png"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, more, part):
    status, _, error = run(*more)
    assert status == 1
    assert error.count("\n") == 1
    assert part in error


def test_rows_are_scaled_each_by_itself():
    def one(values: list[float]) -> localizing.Found:
        answer = Localization(values=np.array(values), passes=1.0)
        return localizing.Found(
            localizer="x", place=Place(module="mlp"), answer=answer, seconds=0.0
        )

    got = localize.shares([one([np.nan, -2, 0]), one([3, 3, 3]), one([0, 5, 10])])
    nan = np.nan
    np.testing.assert_array_equal(got, [[nan, 0, 1], [nan, nan, nan], [0, 0.5, 1]])
