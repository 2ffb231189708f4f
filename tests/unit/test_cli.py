"""The command line on a tiny model: numbers equal the oracle's, faults are one sentence each."""

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
import tiny
import torch
import yaml
from conftest import plugins_forgotten

from locedit.api import inputs
from locedit.cli import drawing, parsing, prompts, saying, terminal
from locedit.cli import edit as edit_command
from locedit.cli.main import EXTRAS, main
from locedit.engine.updates import Dense
from locedit.facts import bundled
from locedit.methods import METHODS
from locedit.model.architectures import ARCHITECTURES
from locedit.store import tables

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE, SUBJECT = "The capital city of {} is", "France"
PROMPT = TEMPLATE.replace("{}", SUBJECT)
NOISE = ["--noise", "0.5", "--n-noise", "3", "--seed", "2"]


@pytest.fixture(scope="module")
def pair() -> tiny.Pair:
    return tiny.pair("llama", dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory) -> Path:
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own; no text is fetched."""
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def say(capsys):
    """Run a command that succeeds; what it printed."""

    def run(*arguments: str | Path) -> str:
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def fault(capsys):
    """Run a command that fails; its status and its one sentence."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        status = main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        return status, error.strip()

    return run


def trace(folder, *more):
    return ["trace", TEMPLATE, "--subject", SUBJECT, "--model", folder, *more]


def edit(folder, *more):
    command = ["edit", TEMPLATE, "--subject", SUBJECT, "--to", "Rome", "--model", folder]
    return [*command, "--layer", "2", *more]


# ---- what cannot be imported ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "status"),
    [
        (ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib"), "optional"),
        (ModuleNotFoundError("No module named 'matplotlib.no'", name="matplotlib.no"), "bug"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "bug"),
        (ImportError("cannot import name 'edit'", name="locedit.cli.edit"), "bug"),
    ],
)
def test_a_missing_optional_package_is_named_with_its_extra_and_else_it_is_a_bug(
    folder, capsys, monkeypatch, missing, status
):
    def import_module(_name):
        raise missing

    monkeypatch.setattr("locedit.cli.main.import_module", import_module)
    assert main([str(argument) for argument in edit(folder)]) == 1
    error = capsys.readouterr().err
    if status == "optional":
        assert error.startswith("locedit edit: matplotlib is not installed, which this needs")
        assert "pip install '.[plot]'" in error
        assert error.count("\n") == 1
    else:
        assert error.startswith("Traceback")
        assert f"{missing}; this was not foreseen, so it is a bug" in error


def test_the_extras_are_those_of_the_package():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for package, extra in EXTRAS.items():
        assert any(asked.startswith(package) for asked in extras[extra])


# ---- trace ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["mlp", "attn", "hidden"])
def test_a_traces_numbers_are_the_oracles(pair, folder, say, module):
    wanted = oracle.trace(
        *pair, PROMPT, SUBJECT, "Paris", module=module, window=3, sigma=0.5, n_noise=3, seed=2
    )
    out = say(*trace(folder, "--target", "Paris", "--module", module, "--window", "3", *NOISE))
    p_clean, p_corrupted = re.search(r"p clean ([\d.]+), p corrupted ([\d.]+)", out).groups()
    assert float(p_clean) == pytest.approx(wanted["p_clean"], abs=6e-5)
    assert float(p_corrupted) == pytest.approx(wanted["p_corrupted"], abs=6e-5)
    peak, layer = re.search(r"peak: p ([\d.]+) at token .*, layer (\d+) \(layer", out).groups()
    restored = wanted["p_restored"]
    assert float(peak) == pytest.approx(restored.max(), abs=6e-5)
    # several layers may share the peak: one whose windows reach as far
    assert restored.max(axis=0)[int(layer) - 1] == pytest.approx(restored.max(), abs=1e-6)
    low, high = re.search(r"([\d.e-]+) .▁▂▃▄▅▆▇█ ([\d.e-]+)", out).groups()
    assert float(low) == pytest.approx(restored.min(), rel=0.01)
    assert float(high) == pytest.approx(restored.max(), rel=0.01)


def test_without_a_target_the_models_own_next_word_is_traced_and_said(folder, say, monkeypatch):
    monkeypatch.setattr("locedit.engine.sampling.complete", lambda *_: [" Rome. The city"])
    out = say(*trace(folder, *NOISE))
    assert 'the model continues with "Rome", so that is traced' in out
    assert f'"{PROMPT}" -> "Rome"' in out


def test_the_noise_is_the_models_multiple_of_the_bundled_subjects_deviation(pair, folder, say):
    records = bundled.build_records(ROOT / "data")[:800]
    ids = [token for record in records for token in pair.tokenizer(record["subject"])["input_ids"]]
    embeddings = pair.model.get_input_embeddings().weight.detach().numpy()[ids]
    out = say(*trace(folder, "--target", "Paris", "--n-noise", "2"))
    assert f"sigma {3 * embeddings.std():.3g} (3 sd of 800 bundled subjects' token" in out


@pytest.mark.parametrize("end", [" ", "\t", "\u00a0", " \u200b"])
def test_blanks_at_the_ends_of_texts_change_no_number_and_are_said(folder, say, end):
    clean = say(*trace(folder, "--target", "Paris", *NOISE))
    padded = [end + TEMPLATE + end, "--subject", f" {SUBJECT}{end}", "--model", folder]
    out = say("trace", *padded, "--target", f"{end}Paris ", *NOISE)
    fields = ("subject", "template", "target")
    said = "".join(f"{name}: blanks at an end left out\n" for name in fields)
    assert out == said + clean


def test_a_line_feed_at_the_end_of_a_prompt_stays_and_is_said(folder, say):
    out = say("trace", f"{TEMPLATE}\n", *trace(folder, "--target", "Paris", *NOISE)[2:])
    assert out.startswith(f'template: a line feed at the end stays\nweights: "{PROMPT}\n" -> ')


def test_a_paraphrase_and_a_neighbour_are_worded_as_the_prompt_is(folder, say):
    options = ("--method", "FT-1", "--tuned", "none")
    clean = say(
        *edit(folder, *options, "--paraphrase", "You can see {} from", "--neighbour", "Italy is")
    )
    padded = ("--paraphrase", " You can see {} from\t", "--neighbour", "Italy is ")
    out = say(*edit(folder, *options, *padded))
    said = "paraphrase: blanks at an end left out\nneighbour: blanks at an end left out\n"
    timeless = [re.sub(r"in [\d.]+ s", "", text) for text in (out, said + clean)]
    assert timeless[0] == timeless[1]


def test_the_new_object_is_worded_as_a_records_target_is(folder, say):
    options = ("--method", "FT-1", "--tuned", "none", "--neighbour", "Italy is")
    clean = say(*edit(folder, *options))
    given = [f"\u00ad{word}\u200b" if word == "Rome" else word for word in edit(folder, *options)]
    assert given != list(edit(folder, *options))
    timeless = [re.sub(r"in [\d.]+ s", "", text) for text in (say(*given), clean)]
    assert timeless[0] == f"to: blanks at an end left out\n{timeless[1]}"


def test_another_place_holder_is_told_as_a_records_is(folder, say):
    out = say("trace", f"[X] {TEMPLATE}", *trace(folder, "--target", "Paris", *NOISE)[2:])
    assert out.startswith("template: '[X]' is put to the model as it stands\n")


def test_a_picture_is_saved(folder, say, tmp_path):
    say(*trace(folder, "--target", "Paris", *NOISE, "--out", tmp_path / "map.png"))
    image = (tmp_path / "map.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) > 10_000


# ---- drawing -------------------------------------------------------------------------------------


def test_a_heat_map_has_a_row_a_token_and_a_column_a_layer():
    values = np.linspace(0, 1, 18).reshape(2, 9)
    lines = drawing.heat_map(values, ["*a", " is"], width=22)
    assert lines == [
        "     1   5",
        "*a     ▁▁▂▂▃▃▄",  # 8/17 of a shade from cell to cell, rounded
        " is  ▄▅▅▆▆▇▇██",
        "     0  ▁▂▃▄▅▆▇█ 1",
    ]


def test_cells_widen_where_there_is_room():
    lines = drawing.heat_map(np.array([[0.0, 1.0]]), ["x"], width=80, ramp=terminal.ASCII)
    assert lines[0] == "   1"
    assert lines[1] == "x     @@@"


def test_layers_that_do_not_fit_share_a_column_which_shows_the_largest():
    values = np.zeros((1, 60))
    values[0, 31] = 1.0
    lines = drawing.heat_map(values, ["x"], width=33, ramp=terminal.ASCII)
    assert lines[1] == "x  " + " " * 15 + "@" + " " * 14
    assert lines[0] == "   1   10   20   30   40   50"  # 60 has no room
    assert lines[-1] == "(each column: the largest of 2 layers)"
    values[0, 30] = np.nan  # as the logit lens has no rise at its first layer
    assert drawing.heat_map(values, ["x"], width=33, ramp=terminal.ASCII)[1] == lines[1]


@pytest.mark.parametrize("n_layers", [1, 6, 30, 48, 200])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_heat_map_fits_the_terminal(n_layers, width):
    values = np.random.default_rng(0).random((3, n_layers))
    labels = ["*Paris", " 東京東京東京東京東京東京", " is"]
    for line in drawing.heat_map(values, labels, width=width):
        assert drawing.columns(line) <= width


def test_equal_values_draw_a_flat_map():
    lines = drawing.heat_map(np.full((1, 3), 0.25), ["x"], width=20)
    assert lines[-1].endswith(" ▁▂▃▄▅▆▇█ 0.25")


def test_colours_are_backgrounds_that_end_with_the_row():
    row = drawing.heat_map(np.array([[0.0, 1.0]]), ["x"], width=8, colour=True)[1]
    assert row.startswith(f"x  \x1b[48;5;{drawing.COLOURS[0]}m")
    assert f"\x1b[48;5;{drawing.COLOURS[-1]}m" in row
    assert row.endswith("\x1b[0m")


@pytest.mark.parametrize(
    ("token", "shown"),
    [(" is", "is"), ("\n", "\\n"), ("\x1b[31m", "\\x1b[31m"), (" ", " "), ("é", "é")],
)
def test_tokens_cannot_move_the_cursor(token, shown):
    assert drawing.printable(token) == shown


def test_wide_characters_take_two_columns():
    assert drawing.padded("東京", 6) == "東京  "
    assert drawing.padded("東京東京", 6) == "東京~ "


@pytest.mark.parametrize(
    ("environment", "is_terminal", "coloured"),
    [
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, False),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, environment, is_terminal, coloured):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    assert terminal.colour() is coloured


# ---- edit ----------------------------------------------------------------------------------------


def shown_p(out, name):
    """p(Rome) before and after an edit that a paragraph of the output shows."""
    paragraph = next(part for part in out.split("\n\n") if part.startswith(f"{name}:"))
    return [float(p) for p in re.search(r"p\(Rome\) (\S+) -> (\S+),", paragraph).groups()]


def test_an_edit_shows_what_the_model_with_the_new_weights_says(pair, folder, say, monkeypatch):
    made = {}

    def remember(lm, updates, _counts):
        made.update(updates)
        return real_applied(lm, updates, _counts)

    real_applied = edit_command.applied
    monkeypatch.setattr(edit_command, "applied", remember)
    texts = {"prompt": PROMPT, "paraphrase": "You can see France from", "neighbour": "Italy is"}
    out = say(
        *edit(folder, "--method", "FT-1", "--tuned", "none"),
        *("--paraphrase", "You can see {} from", "--neighbour", "Italy is"),
    )
    (change,) = made.values()
    assert isinstance(change, Dense)
    for name, text in texts.items():
        before = np.exp(oracle.target_logprob(*pair, text, "Rome"))
        with oracle.edited(pair.model, {2: (change.weights[0], None)}):
            after = np.exp(oracle.target_logprob(*pair, text, "Rome"))
            ids = pair.tokenizer(text, return_tensors="pt").input_ids
            best = pair.model(ids).logits[0, -1].softmax(-1).max().item()
        assert shown_p(out, name) == pytest.approx([before, after], rel=2e-3)
        paragraph = next(part for part in out.split("\n\n") if part.startswith(f"{name}:"))
        assert f"{best:8.4f}" in paragraph.splitlines()[2]
    norm = float(re.search(r"norm (\S+),", out)[1])
    assert norm == pytest.approx(change.weights[0].norm().item(), rel=1e-3)


def test_an_edit_by_kn_writes_over_an_object_given_or_the_models_next_word(
    folder, say, fault, monkeypatch
):
    given = say(*edit(folder, "--method", "kn", "--true", "\u200bParis"))
    found = re.search(r"layer 2: norm \S+, (\d+) neurons that speak for \"Paris\" in ", given)
    assert found is not None, given
    assert int(found[1]) > 0
    assert "loss" not in given
    monkeypatch.setattr("locedit.engine.sampling.complete", lambda *_: [" Paris. The city"])
    assert shown_p(say(*edit(folder, "--method", "kn")), "prompt") == shown_p(given, "prompt")
    status, text = fault(*edit(folder, "--method", "kn", "--true", "Rome"))
    assert status == 1
    assert text.startswith("locedit edit: KN at layer 2: not edited, o_true and the target begin")


@pytest.mark.parametrize("method", ["ROME", "MEMIT"])
def test_an_edit_is_the_studys_edit(pair, folder, say, method, monkeypatch):
    """As the oracle makes it from the same contexts, statistics and settings."""
    contexts = {"rome": ["{}", "The river. {}"], "memit": [["{}"], ["The river. {}"]]}
    monkeypatch.setattr("locedit.engine.sampling.rome_contexts", lambda *_: contexts["rome"])
    monkeypatch.setattr("locedit.engine.sampling.memit_contexts", lambda *_: contexts["memit"])
    text = tiny.SENTENCES * 9
    tokens = sum(len(pair.tokenizer(sentence)["input_ids"]) for sentence in text)
    options = ("--tuned", "none", "--tokens", str(tokens), "--layer", "1")
    out = say(*edit(folder, "--method", method, *options))
    layers = [1] if method == "ROME" else range(4)
    statistics = oracle.key_statistics(*pair, text, layers)
    request = (*pair, TEMPLATE, SUBJECT, "Rome", "error_injection", 1)
    if method == "ROME":
        made = oracle.rome_edit(
            *request, contexts=contexts["rome"], statistics=statistics, kl_factor=1.0
        )
    else:
        made = oracle.memit_edit(
            *request, contexts=contexts["memit"], statistics=statistics, kl_factor=0.9
        )
    before = np.exp(oracle.target_logprob(*pair, PROMPT, "Rome"))
    with oracle.edited(pair.model, made.changes):
        after = np.exp(oracle.target_logprob(*pair, PROMPT, "Rome"))
    assert shown_p(out, "prompt") == pytest.approx([before, after], rel=0.02)
    norm = sum(float(w.double().norm() ** 2) for w, _ in made.changes.values()) ** 0.5
    assert float(re.search(r"norm (\S+),", out)[1]) == pytest.approx(norm, rel=0.01)


def test_key_statistics_are_computed_once_and_kept(folder, say, cache, monkeypatch):
    first = say(*edit(folder))
    assert "from 192 tokens of Wikipedia" in first  # 3 x d_ff
    (kept,) = (cache / "statistics").iterdir()
    assert kept.name.endswith("-192-of-256-layer-2.safetensors")  # `statistics.max_tokens`
    monkeypatch.setattr(inputs, "_texts", lambda _: pytest.fail("no text is needed again"))
    second = say(*edit(folder))
    assert shown_p(second, "prompt") == shown_p(first, "prompt")


def test_a_studys_statistics_and_contexts_are_used_if_there_are_any(folder, say, tmp_path):
    from safetensors.torch import save_file

    settings = {"label": "Tiny", "n_layers": 5, "noise": 0.5, "path": str(folder)}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    study = tmp_path / "results" / "own"
    study.mkdir(parents=True)
    save_file({"layer.2": torch.eye(64)}, study / "key_statistics.safetensors")
    rows = [{"method": "rome", "set": 0, "template": text} for text in ("{}", "The king. {}")]
    tables.write(study / "contexts.parquet", rows, "contexts")
    out = say(*edit(tmp_path / "own.yaml"))
    assert "contexts: results/own/contexts.parquet" in out
    assert "key statistics: results/own/key_statistics.safetensors" in out


def test_a_models_tuned_settings_are_laid_over_the_preset(folder, say, tmp_path):
    settings = {"label": "Tiny", "n_layers": 5, "noise": 0.5, "path": str(folder)}
    settings["tuned"] = {
        name: {"origin": "a test", "hyperparameters": {"FT-1": {"all": {"eps": eps}}}}
        for name, eps in (("unsaturated", 0.0125), ("saturating", 0.025))
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    command = edit(tmp_path / "own.yaml", "--method", "ft-1")
    assert "eps 0.0125," in say(*command)
    assert "eps 0.025," in say(*command, "--tuned", "saturating")
    assert "eps 0.0001," in say(*command, "--tuned", "none")


def test_a_method_of_ones_own_is_named_by_its_file(folder, say):
    with plugins_forgotten():
        out = say(
            *edit(folder, "--plugin", "plugins/ft_unconstrained.py", "--method", "ft-unconstrained")
        )
    assert "FT-unconstrained" in out
    assert "window 1, lr 0.0005, steps 25" in out


def test_a_family_of_ones_own_is_traced(folder, say, fault, tmp_path):
    (tmp_path / "family.py").write_text(
        "from locedit.model.architectures import ARCHITECTURES, register\n"
        'register("llama", ARCHITECTURES["mistral"])\n'
    )
    with plugins_forgotten():
        del ARCHITECTURES["llama"]
        command = trace(folder, "--target", "Paris", *NOISE)
        _, text = fault(*command)
        assert "llama" in text
        assert "peak: p " in say(*command, "--plugin", "family.py")


def test_every_command_that_takes_a_model_takes_plugins(fault):
    for name, command in parsing.program().commands.items():
        options = {param.name for param in command.params}
        assert ("plugin" in options) == ("model" in options), name
    status, text = fault(*trace("x", "--plugin", "none.py"))
    assert (status, text.startswith("locedit trace: --plugin: none.py: no such file in ")) == (1, 1)


def test_settings_are_told_whatever_their_type():
    told = saying.settings_words(METHODS["AlphaEdit"].hyperparameters("error_injection", "paper"))
    assert told.startswith("window 5, lr 0.5, iterations 25, ")
    assert told.endswith("l2 10, threshold 1, threshold_kind relative")


# ---- paraphrases and neighbours ------------------------------------------------------------------


def test_a_bundled_fact_gives_a_paraphrase_and_a_neighbour():
    relation, rows = prompts.relation_of(TEMPLATE, SUBJECT, "Paris", ROOT / "data")
    assert relation.id == "capital_of"
    other = prompts.paraphrase(None, TEMPLATE, SUBJECT, relation)
    assert other.text == "The national capital of France is"
    near = prompts.neighbour(None, TEMPLATE, SUBJECT, "Rome", rows)
    named = re.fullmatch("The capital city of (.+) is", near.text)[1]
    row = next(row for row in rows if row.subject == named)
    assert "Rome" not in row.true_objects
    assert named != SUBJECT


def test_a_neighbour_has_the_subjects_own_object_if_any_other_has():
    template = "The official language of {} is"
    _, rows = prompts.relation_of(template, "Austria", "anything", ROOT / "data")
    near = prompts.neighbour(None, template, "Austria", "French", rows)
    named = re.fullmatch("The official language of (.+) is", near.text)[1]
    objects = {row.subject: row.true_objects for row in rows}
    assert objects["Austria"] & objects[named]
    assert "French" not in objects[named]


def test_a_prompt_of_no_relation_has_a_sentence_before_it_and_no_neighbour():
    assert prompts.relation_of("{} likes", "Ada", "tea", ROOT / "data") is None
    other = prompts.paraphrase(None, "{} likes", "Ada", None)
    assert other.text == prompts.PREFIX + "Ada likes"
    near = prompts.neighbour(None, "{} likes", "Ada", "tea", [])
    assert near.text is None
    assert "--neighbour" in near.why


def test_a_neighbour_that_is_left_out_can_be_given(folder, say):
    command = ["edit", "{} likes", "--subject", "Ada", "--to", "tea", "--model", folder]
    command += ["--layer", "2", "--method", "FT-1", "--tuned", "none"]
    assert "neighbour: left out: the prompt is of no bundled relation; give one with --n" in say(
        *command
    )
    assert 'neighbour: "Bob likes" (given)' in say(*command, "--neighbour", "Bob likes")


def test_a_target_that_the_model_does_not_say_can_be_given(folder, say, fault, monkeypatch):
    monkeypatch.setattr("locedit.engine.sampling.complete", lambda *_: ["\n"])
    assert fault(*trace(folder, *NOISE))[1].endswith("with no word; give one with --target")
    assert '-> "Paris"' in say(*trace(folder, *NOISE, "--target", "Paris"))


# ---- provenance ----------------------------------------------------------------------------------


def test_provenance_prints_what_a_file_says(say, tmp_path):
    made = {
        "rule": "edit",
        "wildcards": {"method": "ROME", "layer": "5"},
        "fingerprint": "0123abcd",
        "hashes": {"code": "c0de", "model": "33ff", "data": "da7a"},
        "seeds": {"study": 7, "noise": 3},
        "config": {"seed": 7, "tracing": {"noise_seed": 3}, "model": "tiny"},
        "versions": {"torch": "2.0"},
    }
    tables.write(tmp_path / "a.parquet", [], "scores", made)
    out = say("provenance", tmp_path / "a.parquet")
    for text in ("edit (layer 5, method ROME)", "0123abcd", "c0de", "33ff", "da7a", "torch 2.0"):
        assert text in out
    assert "noise 3, study 7" in out
    assert "  model: tiny" in out
    assert yaml.safe_load(say("provenance", "--json", tmp_path / "a.parquet")) == made


# ---- faults, and what is not imported ------------------------------------------------------------

ARGUMENTS = {
    "no hole": (["trace", "The capital is", "--subject", "x"], "expected one {} for the subject"),
    "two holes": (["trace", "{} and {}", "--subject", "x"], "found 2"),
    "a neighbour of the subject": (
        ["edit", "{}", "--subject", "x", "--to", "y", "--layer", "1", "--neighbour", "{} is in"],
        "write that in place of {} in '{} is in'",
    ),
    "nothing but a layer": (
        ["edit", "--layer", "1"],
        "the following arguments are required: TEMPLATE, --subject, --to (see locedit edit --help)",
    ),
    "an empty subject": (["trace", "{} is", "--subject", " "], "got an empty one"),
    "an empty target": (["edit", "{}", "--subject", "x", "--to", "", "--layer", "1"], "empty"),
    "a layer that is no number": (
        ["edit", "{}", "--subject", "x", "--to", "y", "--layer", "five"],
        "locedit edit: argument --layer: expected a whole number, or embedding, got 'five' (see "
        "locedit edit",
    ),
    "a layer from the end": (
        ["edit", "{}", "--subject", "x", "--to", "y", "--layer", "-1"],
        "locedit edit: argument --layer: layers are counted from 0, got '-1'; the input embedding "
        "is embedding, the last of N layers N - 1 (see locedit edit --help)",
    ),
    "a layer from the end, of many facts": (["apply", "f.json", "--layer=-2"], "from 0, got '-2'"),
    "a layer from the end, of settings": (
        ["export", "settings", "--out", "f.yaml", "--layer", "-1"],
        "layers are counted from 0, got '-1'",
    ),
    "an unknown module": (
        ["trace", "{}", "--subject", "x", "--module", "mpl"],
        "argument --module: expected one of mlp, attn, hidden, got 'mpl'; did you mean 'mlp'? (",
    ),
    "an unknown preset": (
        ["edit", "{}", "--subject", "x", "--to", "y", "--layer", "1", "--preset", "published"],
        "argument --preset: expected one of paper, released, got 'published' (",
    ),
    "no window": (["trace", "{}", "--subject", "x", "--window", "0"], "number from 1 to"),
    "too many corrupted runs": (
        ["trace", "{}", "--subject", "x", "--n-noise", "1000000000"],
        "argument --n-noise: expected a whole number from 1 to 999999999, got '1000000000'",
    ),
    "a seed with a fraction": (
        ["trace", "{}", "--subject", "x", "--seed", "3.5"],
        "argument --seed: expected a whole number from 0 to 4294967295, got '3.5'",
    ),
    "noise of another kind": (["trace", "{}", "--subject", "x", "--noise", "loud"], "as 3sd"),
    "negative noise": (["trace", "{}", "--subject", "x", "--noise=-1"], "positive"),
    "an option misspelt": (
        ["trace", "{}", "--subjct", "x"],
        "locedit trace: no option '--subjct'; did you mean '--subject'? (see locedit trace --help)",
    ),
    "an option of another command": (["trace", "{}", "--layer", "1"], "no option '--layer' ("),
    "an option shortened": (
        ["trace", "{}", "--win=3"],
        "no option '--win'; did you mean '--window'?",
    ),
    "an option without its value": (
        ["trace", "{}", "--subject"],
        "locedit trace: option '--subject' requires an argument (see locedit trace --help)",
    ),
    "an option in place of a value": (
        ["edit", "{}", "--to", "y", "--layer", "1", "--subject", "--tuned"],
        "option '--subject' requires an argument",
    ),
    "a value that is not asked for": (
        ["provenance", "x", "--json=yes"],
        "locedit provenance: option '--json' does not take a value (see",
    ),
    "a prompt without quotation marks": (
        ["trace", "{}", "is\x1b[31m", "--subject", "x"],
        r"got unexpected extra argument(s) (is\x1b[31m)",
    ),
    "two values of an option": (
        ["recommend", "M", "--editors", "FT-1", "ROME"],
        "got unexpected extra argument(s) (ROME); an option takes one value, so give --editors "
        "FT-1 --editors ROME (see locedit recommend --help)",
    ),
    "two values of an option before the model": (
        ["recommend", "--editors", "FT-1", "ROME", "M", "--seed", "1"],
        "so give --editors FT-1 --editors ROME (",
    ),
    "an unknown command": (
        ["trase"],
        "locedit: no command 'trase'; did you mean 'trace'? (see locedit --help)",
    ),
    "an option before the command": (["--model", "x", "trace"], "locedit: no option '--model' ("),
    "no command": ([], "locedit: missing command (see locedit --help)"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_wrong_argument_is_one_sentence_and_status_2(fault, name):
    arguments, part = ARGUMENTS[name]
    status, text = fault(*arguments)
    assert (status, part in text) == (2, True), text


def test_an_unknown_method_names_the_nearest(fault, folder):
    status, text = fault(*edit(folder, "--method", "ROMEO"))
    assert status == 1
    assert text.startswith("locedit edit: --method: unknown method 'ROMEO'; did you mean 'ROME'?")


def test_an_edit_asks_for_a_layer_before_it_loads_a_model(fault):
    status, text = fault("edit", TEMPLATE, "--subject", SUBJECT, "--to", "Rome", "--model", "none")
    assert status == 1
    assert text.startswith("locedit edit: --layer: facts are written at a layer; name it, counted")


def test_a_layer_beyond_the_model(fault, folder):
    status, text = fault(*edit(folder, "--layer", "5"))
    assert status == 1
    assert "no layer 5; its 5 layers are numbered 0 to 4" in text


def test_an_unknown_model_names_the_nearest(fault):
    status, text = fault(*trace("smollm2-135m-instruc"))
    assert status == 1
    assert "did you mean 'smollm2-135m-instruct'?" in text


def test_a_folder_that_holds_no_model(fault, tmp_path):
    status, text = fault(*trace(tmp_path, "--target", "Paris"))
    assert (status, f"no model at {tmp_path}" in text) == (1, True)


def test_a_prompt_that_the_model_cannot_read_whole(fault, folder):
    long = "the city " * 200 + "{} is"
    status, text = fault("trace", long, "--subject", "x", "--target", "y", "--model", folder)
    assert (status, "the model reads 256" in text) == (1, True)


def test_a_model_without_a_next_word(fault, folder, monkeypatch):
    monkeypatch.setattr("locedit.engine.sampling.complete", lambda *_: ["  ... "])
    status, text = fault(*trace(folder))
    assert (status, "give one with --target" in text) == (1, True)


def test_an_edit_that_is_not_finite_is_one_sentence_and_saved_nowhere(
    fault, folder, tmp_path, monkeypatch
):
    real = METHODS["FT-1"]

    def diverged(*given, **more):
        found = real.edit(*given, **more)
        for change in found.updates.values():
            change.weights[0].fill_(float("nan"))
        return found

    monkeypatch.setitem(METHODS, "FT-1", replace(real, function=diverged))
    saved = tmp_path / "saved"
    how = ("--method", "FT-1", "--tuned", "none", "--save", saved)
    status, text = fault(*edit(folder, *how))
    assert status == 1
    assert "FT-1 at layer 2: the edit is not finite; try a smaller rate" in text
    assert not saved.exists()


@pytest.mark.parametrize(
    ("out", "part"), [("map.svg", "ends in .png"), ("nowhere/map.png", "no folder 'nowhere'")]
)
def test_a_picture_that_cannot_be_saved(fault, folder, out, part):
    status, text = fault(*trace(folder, "--target", "Paris", "--out", out))
    assert (status, part in text) == (1, True)


def test_too_little_text_for_the_statistics(fault, folder):
    status, text = fault(*edit(folder, "--tokens", "100000"))
    assert (status, "tokens of text for 100,000" in text) == (1, True)


@pytest.mark.parametrize("kind", ["missing", "text", "foreign"])
def test_a_file_without_provenance(fault, tmp_path, kind):
    path = tmp_path / "a.parquet"
    if kind == "text":
        path.write_text("no table")
    if kind == "foreign":
        tables.write(path, [], "scores")
    status, text = fault("provenance", path)
    said = {"missing": "no such file", "text": "not a whole Parquet", "foreign": "none of ours"}
    assert (status, said[kind] in text, str(path) in text) == (1, True, True)


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_output_without_unicode_gets_ascii(folder):
    arguments = [str(a) for a in trace(folder, "--target", "Zürich", *NOISE)]
    done = python("-m", "locedit", *arguments, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert terminal.ASCII in done.stdout
    assert '"Z?rich"' in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    tables.write(tmp_path / "a.parquet", [], "scores", {"rule": "scores"})
    command = [sys.executable, "-m", "locedit", "provenance", str(tmp_path / "a.parquet")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readmes_commands_are_understood():
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^python -m locedit (.+)$", readme, re.MULTILINE)
    assert commands_of(commands) == {"trace", "edit"}


def test_the_helps_own_examples_are_understood():
    lines = parsing.EXAMPLES.replace("\\\n", " ").splitlines()
    assert commands_of(line.removeprefix("locedit ") for line in lines) == {*parsing.COMMANDS}


def commands_of(lines) -> set[str]:
    """The commands that these lines are read as."""
    classes = {kind: name for name, kind in parsing.COMMANDS.items()}
    return {classes[type(parsing.read(shlex.split(line)))] for line in lines}


def test_defaults_are_what_is_not_given():
    given = ["{} is", "--subject", "x", "--to", "y", "--layer", "embedding"]
    options = parsing.read(["edit", *given])
    assert (options.layer, options.method, options.top) == (-1, "ROME", 5)
    assert (options.plugin, options.tuned, options.tokens) == ([], None, None)
    options = parsing.read(["edit", *given, "--plugin=a.py", "--plugin", "b.py", "--top", "2"])
    assert (options.plugin, options.top) == (["a.py", "b.py"], 2)
    noise = [parsing.read(["trace", *given[:3], "--noise", n]).noise for n in ("3sd", ".5")]
    assert noise == ["3sd", 0.5]


# ---- help ----------------------------------------------------------------------------------------

HELP = {"all": [], **{name: [name] for name in parsing.COMMANDS}}


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("name", HELP)
def test_help_fits_and_leaves_nothing_out(say, monkeypatch, name, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = say(*HELP[name], "--help")
    assert max(map(drawing.columns, text.splitlines())) <= columns
    assert "\u2026" not in text  # an ellipsis, as rich cuts words
    assert text == say(*HELP[name], "-h")
    words = " ".join(re.sub("[\u2500-\u257f]", " ", text).split())
    command = parsing.program().commands[name] if HELP[name] else parsing.program()
    assert command.help in words
    for param in command.params:
        assert param.opts[0][0] != "-" or param.opts[0] in words  # an argument has but its metavar
        assert param.metavar in words
        assert "{TEMPLATE}" not in words  # braces are the subject's


@pytest.mark.parametrize("command", parsing.COMMANDS)
def test_help_at_80_columns_wraps_little(say, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    n_params = len(parsing.program().commands[command].params)
    assert say(command, "--help").count("\n") <= 18 + 1.5 * n_params


def test_help_needs_no_model_library():
    code = """
import sys
from locedit.cli.main import main
assert main(["edit", "--help"]) == main(["--help"]) == 0
loaded = {"torch", "transformers", "numpy", "yaml"} & set(sys.modules)
assert not loaded, loaded
"""
    assert python("-c", code).stderr == ""


def test_what_is_wrong_with_arguments_needs_neither_rich_nor_a_model_library():
    code = """
import sys
from locedit.cli.main import main
assert main(["edit", "--layer", "x"]) == 2
loaded = {"torch", "transformers", "numpy", "yaml", "rich"} & set(sys.modules)
assert not loaded, loaded
"""
    assert python("-c", code).returncode == 0


@pytest.mark.parametrize("command", [["--help"], ["trace", "--help"], ["trase"]])
@pytest.mark.parametrize(
    ("is_terminal", "variables", "codes"),
    [
        (False, {}, False),
        (False, {"FORCE_COLOR": "1", "GITHUB_ACTIONS": "true"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, True),
    ],
    ids=["a file", "a file that is to have them", "NO_COLOR", "a dumb terminal", "a terminal"],
)
def test_codes_are_for_terminals_that_want_them(command, is_terminal, variables, codes):
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", **variables}
    reading, writing = pty.openpty() if is_terminal else os.pipe()
    done = subprocess.run(
        [sys.executable, "-m", "locedit", *command],
        env=environment,
        stdout=writing,
        stderr=writing,
        check=False,
    )
    os.close(writing)
    with suppress(OSError):  # at a terminal's end
        said = os.read(reading, 1 << 16)
    os.close(reading)
    assert done.returncode == (2 if command == ["trase"] else 0)
    assert said
    assert (b"\x1b" in said) == (codes and command != ["trase"])


@pytest.mark.slow
@pytest.mark.parametrize("command", [trace, edit])
def test_neither_r_nor_snakemake_is_imported(folder, command):
    more = ["--target", "Paris", "--n-noise", "2", "--out", "map.png"]
    if command is edit:
        more = ["--method", "FT-1"]
    arguments = [str(argument) for argument in command(folder, *more)]
    code = f"""
import sys
from locedit.cli.main import main
assert main({arguments!r}) == 0
assert not {{"rpy2", "snakemake"}} & set(sys.modules)
"""
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
