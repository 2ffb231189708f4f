"""`import locedit`: what it gives, what it costs, and that it gives the same as everything else."""

import gc
import inspect
import logging
import math
import os
import subprocess
import sys
import tomllib
import weakref
from pathlib import Path

import numpy as np
import oracle
import pandas as pd
import pytest
import tiny
import torch
import yaml

import locedit
from locedit.api import inputs, look, one_fact
from locedit.engine.updates import total_norms
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import MODULES, restoration
from locedit.methods import METHODS, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.study import scores

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE, SUBJECT = "The capital of {} is", "France"
PROMPT = TEMPLATE.replace("{}", SUBJECT)
FACT = {"prompt": PROMPT, "subject": SUBJECT}
NOISE = {"sigma": 0.5, "n_noise": 3, "seed": 2}
PROMPTS = {
    "paraphrases": ["France's capital is", "The seat of government of France is in"],
    "neighbourhood": ["The capital of Spain is", "The capital of Italy is"],
    "texts": ["France is a country with an old city by the river."],
}


@pytest.fixture(scope="module")
def pair() -> tiny.Pair:
    return tiny.pair("llama")


@pytest.fixture(scope="module")
def folder(pair, tmp_path_factory) -> Path:
    return tiny.save(pair, tmp_path_factory.mktemp("tiny") / "weights")


@pytest.fixture(scope="module")
def lm(folder) -> LanguageModel:
    return locedit.load(folder, dtype="float64")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    """A cache of the test's own; no text is fetched."""
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
    monkeypatch.chdir(tmp_path)


# ---- the package ---------------------------------------------------------------------------------


def test_the_import_is_quick_and_brings_nothing_heavy():
    asked = (
        "import sys, time; started = time.perf_counter(); import locedit; "
        "dir(locedit), locedit.__version__; print(time.perf_counter() - started); "
        "print([m for m in ('torch', 'transformers', 'numpy', 'yaml') if m in sys.modules])"
    )
    times = []
    for _ in range(3):  # the machine may be busy
        done = subprocess.run(
            [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds, heavy = done.stdout.splitlines()
        assert heavy == "[]"
        times.append(float(seconds))
    assert min(times) < 0.2


@pytest.mark.parametrize(("given", "held"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_sleep_unless_told_otherwise(given, held):
    """Set before torch is there, whose threads read it once."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import os, locedit; print(os.environ['OMP_WAIT_POLICY'])"],
        cwd=ROOT,
        env=environment if given is None else {**environment, "OMP_WAIT_POLICY": given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [held]


def test_it_names_what_it_has_and_nothing_else():
    for name in locedit.__all__:
        assert name in dir(locedit)
        assert getattr(locedit, name) is not None
    assert locedit.trace is one_fact.trace
    with pytest.raises(AttributeError, match="has no attribute 'tracing'"):
        _ = locedit.tracing


def test_its_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "locedit.__version__"}
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == locedit.__version__


def test_its_defaults_are_the_default_studys():
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    given = {
        name: {
            key: one.default
            for key, one in inspect.signature(getattr(locedit, name)).parameters.items()
        }
        for name in ("load", "trace", "edit", "apply")
    }
    for name, section, key in (
        ("dtype", None, "dtype"),
        ("module", "analysis", "module"),
        ("window", "analysis", "window"),
        ("n_noise", "tracing", "n_noise"),
        ("seed", "tracing", "noise_seed"),
        ("preset", "editing", "preset"),
        ("tuned", "editing", "tuned"),
    ):
        wanted = config[key] if section is None else config[section][key]
        found = [signature[name] for signature in given.values() if name in signature]
        assert found
        assert set(found) == {wanted}


@pytest.mark.slow
def test_a_checker_sees_the_types(tmp_path):
    (tmp_path / "own.py").write_text(
        "import locedit\n"
        'lm = locedit.load("x")\n'
        'locedit.trace(lm, prompt="It is", subject="It", target="x", window="5")\n'
        "reveal_type(locedit.measure)\n"
    )
    # what the library itself imports is not looked into: half a minute
    alone = ["--no-site-packages", "--ignore-missing-imports", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *alone, "own.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in done.stdout.splitlines() if line.startswith("own.py")]
    assert len(own) == 2, done.stdout
    assert 'Argument "window" to "trace" has incompatible type "str"; expected "int"' in own[0]
    assert "locedit.api.one_fact.FactEdit" in own[1]
    assert "-> locedit.api.one_fact.Scores" in own[1]


# ---- the functions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt", [PROMPT, TEMPLATE, f" {PROMPT} "], ids=["filled", "{}", "blanks"]
)
@pytest.mark.parametrize("module", MODULES)
def test_a_trace_is_the_oracles(pair, lm, prompt, module):
    fact = {"prompt": prompt, "subject": SUBJECT, "target": "Paris"}
    got = locedit.trace(lm, **fact, module=module, window=3, **NOISE)
    wanted = oracle.trace(*pair, PROMPT, SUBJECT, "Paris", module=module, window=3, **NOISE)
    assert got.p_clean == pytest.approx(wanted["p_clean"], rel=1e-6)
    np.testing.assert_allclose(got.p_restored, wanted["p_restored"], rtol=1e-6)


@pytest.mark.slow
def test_the_noise_is_that_of_the_models_file_where_none_is_given(lm, folder, tmp_path):
    own = {"label": "own", "n_layers": 5, "noise": 0.7, "path": str(folder)}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    named = locedit.load(tmp_path / "own.yaml", dtype="float64")
    by_file = locedit.trace(named, **FACT, target="Paris").p_corrupted
    assert by_file == locedit.trace(lm, **FACT, target="Paris", sigma=0.7).p_corrupted
    sigma, _ = look.look(str(folder)).having(lm).sigma("3sd")
    plain = locedit.trace(lm, **FACT, target="Paris").p_corrupted
    assert plain == locedit.trace(lm, **FACT, target="Paris", sigma=sigma).p_corrupted
    assert plain != by_file


def test_a_traces_fraction_is_the_effects_tables(lm):
    largest = []
    for target in ("Paris", "Rome", "the government", "Madrid"):
        fact = Fact(
            case_id="0",
            relation_id="",
            subject=SUBJECT,
            template=TEMPLATE,
            target_true=target,
            target_new="x",
        )
        rows = restoration.trace_rows(lm, fact, module="mlp", window=3, **NOISE)
        table = restoration.effects(pd.DataFrame(rows)).sort_values("layer")
        got = locedit.trace(lm, **FACT, target=target, window=3, **NOISE).fraction
        np.testing.assert_allclose(got, table["fraction_max"], rtol=1e-12)
        largest.append(got.max())
    assert max(largest) > 0


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("FT-1", "error_injection"),
        ("ROME", "error_injection"),
        ("ROME", "fact_erasure"),
        ("MEMIT", "error_injection"),
        ("FT-5", "fact_forcing"),
        ("KN", "error_injection"),
        ("KN", "fact_erasure"),
    ],
)
def test_an_edit_and_its_scores_are_the_studys(lm, folder, method, problem):
    true = "Paris" if method == "KN" and problem == "error_injection" else None
    asked = {"method": method, "problem": problem, "true": true, "tokens": 200}
    got = locedit.edit(lm, **FACT, target="Rome", layer=1, **asked, **NOISE)
    seen = look.look(str(folder), dtype="float64").having(lm)
    shared = inputs.shared_inputs(seen, method, range(5), None, 200)
    noise = NOISE if problem == "fact_forcing" else NOISE | {"sigma": 0.0}
    shared = SharedInputs(contexts=shared.contexts, moments=shared.moments, **noise)
    own = seen.config.editing.hyperparameters.get(method, {})
    hyper = METHODS[method].hyperparameters(problem, "paper", own)
    assert got.settings == hyper
    wanted = METHODS[method].edit(lm, [got.request], 1, hyper, shared)
    assert got.norm == total_norms(wanted.updates)[0] > 0
    assert (got.steps, got.updates.keys()) == (wanted.steps[0], wanted.updates.keys())

    found = locedit.measure(lm, got, **PROMPTS)
    row = {"problem": problem, "generations_before": [], "generations_after": [], "said_after": []}
    for when, measured in (("before", found.before), ("after", found.after)):
        for kind in ("rewrite", "paraphrase", "neighbourhood"):
            row[f"{kind}_target_{when}"], row[f"{kind}_other_{when}"] = getattr(measured, kind)
        row[f"perplexity_{when}"] = measured.perplexity
        row[f"text_{when}"] = []
    by_study = scores.score_row(row, "mean")
    for name in ("rewrite", "paraphrase", "neighbourhood", "essence"):
        assert getattr(found, name) == by_study[name]
    assert found.p_after != found.p_before
    assert found.p_before == math.exp(found.before.rewrite[0])


def test_the_edited_model_says_what_is_measured(pair, lm):
    """Against the textbook: p after the edit, by a whole pass through changed weights."""
    edit = locedit.edit(lm, **FACT, target="Rome", layer=2, method="FT-1")
    with oracle.edited(pair.model, {2: (edit.updates[2].weights[0], None)}):
        p = math.exp(oracle.target_logprob(*pair, PROMPT, "Rome"))
    assert locedit.measure(lm, edit).p_after == pytest.approx(p, rel=1e-9)


def test_without_prompts_there_is_no_score(lm):
    found = locedit.measure(lm, locedit.edit(lm, **FACT, target="Rome", layer=2, method="FT-1"))
    assert found.rewrite > 0
    assert all(math.isnan(s) for s in (found.paraphrase, found.neighbourhood, found.essence))


def test_hyperparameters_are_laid_over_all_others(lm):
    more = {"layer": 2, "method": "FT-1", "hyperparameters": {"steps": 2, "eps": 1e-3}}
    edit = locedit.edit(lm, **FACT, target="Rome", **more)
    assert (edit.settings.steps, edit.settings.eps, edit.steps) == (2, 1e-3, 2)
    assert edit.updates[2].weights[0].abs().max() <= 1e-3 + 1e-12


def test_a_model_goes_when_its_user_lets_it_go(folder):
    lm = locedit.load(folder)
    locedit.trace(lm, **FACT, target="Paris", n_noise=1)
    gone = weakref.ref(lm)
    gc.disable()  # by its last reference: a GPU's memory waits for no collection
    try:
        del lm
        assert gone() is None
    finally:
        gc.enable()


def test_what_was_changed_in_a_text_is_told(lm, caplog):
    with caplog.at_level(logging.WARNING, logger="locedit.api"):
        locedit.trace(lm, prompt=f"{PROMPT} ", subject=SUBJECT, target="Paris", n_noise=1)
    assert "prompt: blanks at an end left out" in caplog.text


BAD: dict[str, tuple[dict, str]] = {
    "another subject": ({"subject": "Spain"}, "'Spain' does not occur in prompt"),
    "no subject": ({"subject": " "}, "subject: expected a text, got an empty one"),
    "no prompt": ({"prompt": ""}, "prompt: expected a text, got an empty one"),
    "no text": ({"target": None}, "target: expected text, got None"),
    "two holes": ({"prompt": "{} is {}"}, "expected one {} for the subject, found 2"),
    "too long": ({"prompt": PROMPT + " of" * 400}, "tokens, and the model reads 256"),
    "no noise": ({"n_noise": 0}, "n_noise: expected a whole number from 1 to"),
    "a seed below 0": ({"seed": -1}, "seed: expected a whole number from 0 to 4294967295, got -1"),
}
BAD_TRACE = BAD | {
    "module": ({"module": "mpl"}, "unknown module 'mpl'; did you mean 'mlp'? (known: mlp, attn"),
    "window": ({"window": 1.5}, "window: expected a whole number from 1 to 4294967295, got 1.5"),
    "sigma": ({"sigma": 0.0}, "sigma: expected a positive number, or deviations as '3sd'; got 0.0"),
    "no sigma": ({"sigma": "0sd"}, "sigma: expected a positive number, or deviations as '3sd'"),
    "sigma that is none": ({"sigma": "nansd"}, "or deviations as '3sd'; got 'nansd'"),
    "sigma that is a switch": ({"sigma": True}, "or deviations as '3sd'; got True"),
    "sigma's unit": ({"sigma": "3 cm"}, "deviations as '3sd'; got '3 cm'"),
}
BAD_EDIT = BAD | {
    "layer": ({"layer": 5}, "no layer 5; its 5 layers are numbered 0 to 4"),
    "method": ({"method": "ROMEO"}, "unknown method 'ROMEO'; did you mean 'ROME'?"),
    "problem": ({"problem": "erasure"}, "unknown problem 'erasure'"),
    "preset": ({"preset": "pape"}, "unknown preset 'pape'; did you mean 'paper'?"),
    "tuned": (
        {"tuned": True},
        "unknown tuned True (known: unsaturated, saturating, none, recommended)",
    ),
    "setting": ({"hyperparameters": {"lrr": 1}}, "unknown setting 'lrr'"),
    "tokens": ({"method": "ROME", "tokens": 100_000}, "tokens of text for 100,000"),
    "no true object": ({"method": "KN"}, "KN writes over the true object, and none is given (`tr"),
    "an empty one": ({"method": "KN", "true": " "}, "true: expected a text, got an empty one"),
    "objects that begin alike": (
        {"method": "KN", "true": "Rome"},
        "KN at layer 2: not edited, o_true and the target begin with one token, and",
    ),
}


@pytest.mark.parametrize("case", BAD_TRACE)
def test_a_trace_of_what_cannot_be_traced_is_a_sentence(lm, case):
    bad, said = BAD_TRACE[case]
    with pytest.raises(LoceditError) as caught:
        locedit.trace(lm, **FACT | {"target": "Paris"} | bad)
    assert said in str(caught.value)


@pytest.mark.parametrize("case", BAD_EDIT)
def test_an_edit_that_cannot_be_made_is_a_sentence(lm, case):
    bad, said = BAD_EDIT[case]
    with pytest.raises(LoceditError) as caught:
        locedit.edit(lm, **FACT | {"target": "Rome", "layer": 2, "method": "FT-1"} | bad)
    assert said in str(caught.value)


def test_a_prompt_that_cannot_be_measured_is_a_sentence(lm):
    edit = locedit.edit(lm, **FACT, target="Rome", layer=2, method="FT-1")
    for bad in ([""], ["It is" + " of" * 400]):
        with pytest.raises(LoceditError):
            locedit.measure(lm, edit, paraphrases=bad)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"dtype": "tf32"},
            "dtype: unknown value 'tf32' (known: auto, float32, float64, bfloat16, float16)",
        ),
        ({"device": "gpu"}, "device: unknown value 'gpu' (known: auto, cpu, cuda)"),
    ],
)
def test_a_type_or_device_that_there_is_not_is_a_sentence_before_weights_are_made(
    asked, said, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(LoceditError) as error:
        locedit.load("smollm2-135m-instruct", **asked)
    assert str(error.value) == said
    assert not (tmp_path / "cache").exists()


def test_a_card_that_there_is_not_is_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoceditError, match="torch finds no GPU"):
        locedit.load("smollm2-135m-instruct", device="cuda:0")


@pytest.mark.slow
def test_a_model_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(LoceditError, match="did you mean 'gpt2-xl'"):
        locedit.load("gpt2-xxl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoceditError, match="empty"):
        locedit.load(tmp_path / "empty")


def test_a_model_of_another_maker_needs_its_noise(pair):
    own = LanguageModel(*tiny.pair("gpt2"))
    settings = {"target": "Paris", "n_noise": 1}
    assert locedit.trace(own, **FACT, **settings, sigma=0.5).p_clean > 0
    with pytest.raises(LoceditError, match=r"sigma: this model was not loaded by `locedit\.load`"):
        locedit.trace(own, **FACT, **settings)
    with pytest.raises(LoceditError, match=r"not loaded by `locedit\.load`"):
        locedit.edit(own, **FACT, target="Rome", layer=2)
