"""The configuration: what is valid, what is said of what is not, and that its copies agree."""

import copy
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import yaml

from locedit import localizers, methods, settings
from locedit.facts import formats
from locedit.facts.record import Fact
from locedit.localizers import builtin
from locedit.methods import problems
from locedit.store import assets
from locedit.study import tuning
from locedit.workflow import config as configuration
from locedit.workflow.config import fill, load_yaml, read, tuned
from locedit.workflow.model_file import ModelFile, TunedSets, load_model
from locedit.workflow.sections import MOVED, TUNED, Config, Editing, Overlays, Quirks, Tuning
from locedit.workflow.validation import ConfigError, validate

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = ("FT-1", "FT-5", "ROME", "MEMIT", "r-ROME", "FT-M", "EMMET", "AlphaEdit", "KN")
LOCALIZERS = [one.name for one in builtin.BUILTIN]
DEFAULT = load_yaml(ROOT / "config.yaml")
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
MODELS = sorted((ROOT / "models").glob("*.yaml"))
TUNED_MODELS = [path for path in MODELS if "tuned" in load_yaml(path)]
STOPPED = [  # methods that leave a fact alone once its loss is small
    name for name in BUILTIN if "enough" in settings.field_types(methods.METHODS[name].settings)
]
N_LAYERS = 30
LIBRARY = {**os.environ, "PYTHONPATH": str(ROOT)}

every_preset = pytest.mark.parametrize(
    "preset", [None, *PRESETS], ids=["config.yaml", *(p.stem for p in PRESETS)]
)


def changed(path, value):
    """config.yaml with one key, given by its dotted path, set anew."""
    config = copy.deepcopy(DEFAULT)
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[key] = value
    return config


def laid_over(base, overlay):
    """As Snakemake lays one configuration file over another."""
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = laid_over(result[key], value) if both else value
    return result


def configuration_of(preset):
    """config.yaml, or a preset laid over it."""
    return laid_over(DEFAULT, load_yaml(preset)) if preset else DEFAULT


def check(config, n_layers):
    configuration.check(read(config), n_layers)


def said_of(values, kind=Config, where="config"):
    with pytest.raises(ConfigError) as caught:
        validate(values, kind, where)
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- the files of this repository ----------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS, ids=[path.stem for path in MODELS])
def test_every_model_is_valid(model):
    settings = load_yaml(model)
    validate(settings, ModelFile, str(model))
    if "asset" in settings:
        assert assets.named(settings["asset"])
    for one in settings.get("tuned", {}).values():
        for method, of_problems in one["hyperparameters"].items():
            for problem in of_problems:
                methods.METHODS[method].hyperparameters(problem, "paper", of_problems)


@every_preset
def test_the_default_and_every_preset_is_valid(preset):
    config = configuration_of(preset)
    read(config, str(preset))
    path = Path(config["model"])
    if path.suffix not in (".yaml", ".yml"):
        path = ROOT / "models" / f"{path}.yaml"
    if path.exists():  # a preset may name a model that its reader puts in place
        check(config, load_yaml(path)["n_layers"])


def test_every_method_problem_and_grid_setting_of_the_default_exists():
    for aim in DEFAULT["tuning"]["aims"].values():
        for method, grid in aim["grid"].items():
            for name, values in grid.items():
                overlay = {"all": {name: values[0]}}
                methods.METHODS[method].hyperparameters("error_injection", "paper", overlay)


@every_preset
def test_edits_that_are_to_differ_are_not_stopped_once_they_succeed(preset):
    grid = configuration_of(preset)["tuning"]["aims"]["unsaturated"]["grid"]
    assert STOPPED
    assert all(grid[name]["enough"] == [0] for name in STOPPED)


@pytest.mark.parametrize("model", TUNED_MODELS, ids=[path.stem for path in TUNED_MODELS])
def test_a_models_unsaturated_set_alone_takes_all_steps(model):
    for name, one in load_yaml(model)["tuned"].items():
        for method in one["hyperparameters"].keys() & STOPPED:
            for problem in problems.PROBLEMS:
                overlay = one["hyperparameters"][method]
                hyper = methods.METHODS[method].hyperparameters(problem, "paper", overlay)
                assert (hyper.enough == 0) == (name == "unsaturated"), (name, method, problem)


@pytest.mark.parametrize("model", TUNED_MODELS, ids=[path.stem for path in TUNED_MODELS])
def test_a_models_settings_are_among_those_that_tune_tries_for_the_aim_that_it_names(model):
    configs = [configuration_of(preset) for preset in (None, *PRESETS)]
    aims = [one["tuning"]["aims"] for one in configs if one["model"] == model.stem]
    for name, one in load_yaml(model)["tuned"].items():
        low, high = DEFAULT["tuning"]["aims"][name]["rewrite"]
        words = f"from {low:g} to {high:g}" if low else f"<= {high:g}"
        assert words in one["origin"]
        for method, of_problems in one["hyperparameters"].items():
            grids = [aim[name]["grid"].get(method, {}) for aim in aims]
            tried = [values for grid in grids for values in tuning.settings(grid)]
            assert all(chosen in tried for chosen in of_problems.values()), (name, method)


def test_the_default_and_the_schemas_are_written_from_the_types():
    """config.yaml, key for key and comment for comment, and what editors complete keys from."""
    run = [sys.executable, "scripts/write_config.py", "--check"]
    done = subprocess.run(run, cwd=ROOT, env=LIBRARY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read(DEFAULT) == Config()


def test_every_key_says_what_it_is():
    for name, field in Config.model_fields.items():
        inner = getattr(field.default, "model_fields_set", None)
        if inner is None:
            assert field.description, name
            continue
        for key, one in type(field.default).model_fields.items():
            assert one.description, f"{name}.{key}"


def test_what_is_left_out_is_filled_in():
    config = {"seed": 3, "editing": {"layers": [1], "hyperparameters": {}}}
    fill(config, read(config))
    expected = copy.deepcopy(DEFAULT) | {"seed": 3}
    expected["editing"] |= {"layers": [1], "hyperparameters": {}}
    assert config == expected


# ---- the same names everywhere -------------------------------------------------------------------


def test_the_sections_know_the_presets_the_quirks_and_the_tuned_sets():
    assert list(Quirks.model_fields) == list(problems.QUIRKS)
    presets = {name for method in BUILTIN for name in methods.METHODS[method].presets}
    assert presets == set(get_args(Editing.model_fields["preset"].annotation))
    aims = get_args(Tuning.model_fields["aim"].annotation)
    assert list(TUNED) == [*TunedSets.model_fields, "none"] == [*aims, "none"]


def test_a_methods_presets_are_settings_of_its_dataclass():
    for name in BUILTIN:
        for preset in methods.METHODS[name].presets.values():
            validate({name: preset}, Overlays, f"preset of {name}")


def imports_nothing_heavy(code):
    heavy = "{'torch', 'pandas', 'transformers'}"
    run = [sys.executable, "-c", f"{code}\nimport sys\nprint({heavy} & {{*sys.modules}})"]
    done = subprocess.run(run, cwd=ROOT, env=LIBRARY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_rules_import_is_light():
    """Snakemake imports it each time it starts."""
    lines = re.findall(r"^from locedit.*", (ROOT / "rules/common.smk").read_text(), re.MULTILINE)
    assert len(lines) > 3
    imports_nothing_heavy("\n".join(lines))


# ---- what is said of a configuration that is not valid -------------------------------------------

FAULTS = {
    # the key, the value it is given, the sentence
    "a misspelt method": (
        "editing.methods",
        ["ROME", "MEMT"],
        "config: editing.methods.1: unknown value 'MEMT'; did you mean 'MEMIT'? "
        "(known: FT-1, FT-5, ROME, MEMIT, r-ROME, FT-M, EMMET, AlphaEdit, KN)",
    ),
    "a method unlike any": (
        "editing.methods",
        ["surgery"],
        "config: editing.methods.0: unknown value 'surgery' (known: FT-1, FT-5, ROME, "
        "MEMIT, r-ROME, FT-M, EMMET, AlphaEdit, KN)",
    ),
    "a misspelt problem": (
        "editing.problems",
        ["fact_erazure"],
        "config: editing.problems.0: unknown value 'fact_erazure'; did you mean 'fact_erasure'? "
        "(known: error_injection, tracing_reversal, fact_erasure, fact_amplification, "
        "fact_forcing)",
    ),
    "a misspelt module": (
        "localizing.modules",
        ["atn"],
        "config: localizing.modules.0: unknown value 'atn'; did you mean 'attn'? "
        "(known: mlp, attn, hidden)",
    ),
    "hyperparameters of no method": (
        "editing.hyperparameters",
        {"RoME": {}},
        "config: editing.hyperparameters: unknown key 'RoME'; did you mean 'ROME'? "
        "(known: FT-1, FT-5, ROME, MEMIT, r-ROME, FT-M, EMMET, AlphaEdit, KN)",
    ),
    "hyperparameters of no problem": (
        "editing.hyperparameters",
        {"ROME": {"al": {}}},
        "config: editing.hyperparameters.ROME: unknown key 'al'; did you mean 'all'? "
        "(known: all, error_injection, tracing_reversal, fact_erasure, fact_amplification, "
        "fact_forcing)",
    ),
    "a misspelt hyperparameter": (
        "editing.hyperparameters",
        {"ROME": {"all": {"kl_facto": 1}}},
        "config: editing.hyperparameters.ROME.all: unknown key 'kl_facto'; did you mean "
        "'kl_factor'? (known: clamp, decay, fact_token, iterations, kl_factor, lr)",
    ),
    "a hyperparameter of another method": (
        "editing.hyperparameters",
        {"FT-1": {"fact_erasure": {"clamp": 1}}},
        "config: editing.hyperparameters.FT-1.fact_erasure: unknown key 'clamp' (known: "
        "embedding_eps, embedding_lr, embedding_steps, enough, eps, lr, steps, window)",
    ),
    "a misspelt setting to be tried": (
        "tuning.aims.saturating.grid",
        {"ROME": {"lrr": [0.1]}},
        "config: tuning.aims.saturating.grid.ROME: unknown key 'lrr'; did you mean 'lr'? (known: "
        "clamp, decay, fact_token, iterations, kl_factor, lr)",
    ),
    "the former true": (
        "editing.tuned",
        True,
        "config: editing.tuned: it names a set of the model's file: write saturating for the "
        "former true, none for false, or unsaturated; got True",
    ),
    "a misspelt set": (
        "editing.tuned",
        "saturated",
        "config: editing.tuned: unknown value 'saturated'; did you mean 'unsaturated'? (known: "
        "unsaturated, saturating, none)",
    ),
    "a localizer unlike any": (
        "localizing.localizers",
        ["tracing", "zeroin"],
        "config: localizing.localizers.1: unknown value 'zeroin'; did you mean 'zeroing'? "
        f"(known: {', '.join(LOCALIZERS)})",
    ),
    "a misspelt quirk": (
        "quirks",
        {**DEFAULT["quirks"], "forcing_noise_positions": True},
        "config: quirks: unknown key 'forcing_noise_positions'; did you mean "
        "'forcing_noise_position'? (known: forcing_noise_position, reversal_prompt_in_target)",
    ),
    "no learning rate": (
        "editing.hyperparameters",
        {"ROME": {"all": {"lr": 0}}},
        "config: editing.hyperparameters.ROME.all.lr: must be above 0, got 0",
    ),
    "window 0": (
        "localizing.windows",
        [1, 0],
        "config: localizing.windows.1: must be at least 1, got 0",
    ),
    "n = 0": ("facts.n", 0, "config: facts.n: must be at least 1, got 0"),
    "a text for a number": (
        "facts.completion_tokens",
        "36",
        "config: facts.completion_tokens: must be of type integer, got '36'",
    ),
    "a layer with a point": (
        "editing.layers",
        [1.0],
        "config: editing.layers.0: must be of type integer or string, got 1.0",
    ),
    "a misspelt peak": (
        "editing.layers",
        {"all": [2, "peek"]},
        "config: editing.layers.all.1: unknown value 'peek'; did you mean 'peak'? (known: any "
        "integer, peak, embedding)",
    ),
    "layers of no problem": (
        "editing.layers",
        {"all": [2], "forcing": [2]},
        "config: editing.layers: unknown key 'forcing'; did you mean 'fact_forcing'? (known: all, "
        "error_injection, tracing_reversal, fact_erasure, fact_amplification, fact_forcing)",
    ),
    "layers of no method": (
        "editing.layers",
        {"all": [2], "fact_forcing": {"all": [2], "rome": [2]}},
        "config: editing.layers.fact_forcing: unknown key 'rome'; did you mean 'ROME'? (known: "
        "all, FT-1, FT-5, ROME, MEMIT, r-ROME, FT-M, EMMET, AlphaEdit, KN)",
    ),
    "no layers of a method": (
        "editing.layers",
        {"all": {"all": [0], "ROME": []}},
        "config: editing.layers.all.ROME: must not be empty, got []",
    ),
    "no fact": ("editing.facts", 0, "config: editing.facts: must be at least 1, got 0"),
    "no fact of a pair": (
        "editing.facts",
        {"fact_forcing": {"ROME": 0}},
        "config: editing.facts.fact_forcing.ROME: must be at least 1, got 0",
    ),
    "a text for facts": (
        "editing.facts",
        {"all": "all"},
        "config: editing.facts.all: must be of type integer or object or null, got 'all'",
    ),
    "true for a number": (
        "facts.n",
        True,
        "config: facts.n: must be of type integer or null, got True",
    ),
    "a text for a number or all": (
        "facts.study",
        "all",
        "config: facts.study: must be of type integer or null, got 'all'",
    ),
    "a negative layer": (
        "editing.layers",
        [-2],
        "config: editing.layers.0: must be at least 0, got -2",
    ),
    "too high a probability": (
        "facts.min_p_erase",
        2,
        "config: facts.min_p_erase: must be at most 1, got 2",
    ),
    "no window": (
        "localizing.windows",
        [],
        "config: localizing.windows: must not be empty, got []",
    ),
    "a window twice": (
        "localizing.windows",
        [3, 3],
        "config: localizing.windows: [3, 3] has 3 twice",
    ),
    "an aim out of reach": (
        "tuning.aims.unsaturated.rewrite",
        [0.5, 1.5],
        "config: tuning.aims.unsaturated.rewrite.1: must be at most 1, got 1.5",
    ),
    "an aim that holds no score": (
        "tuning.aims.unsaturated.rewrite",
        [0.7, 0.5],
        "config: tuning.aims.unsaturated.rewrite: no score lies within 0.7 and 0.5; give the "
        "smaller one first",
    ),
    "an empty model": ("model", "", "config: model: must not be empty, got ''"),
    "a file for a name": (
        "dataset.name",
        "contexts.parquet",
        "config: dataset.name: it names a folder: leave the ending out; got 'contexts.parquet'",
    ),
    "a log for a name": (
        "dataset.name",
        "held_out.log",
        "config: dataset.name: it names a folder: leave the ending out; got 'held_out.log'",
    ),
    "a folder for a name": ("dataset.name", "a/b", "config: dataset.name: it names a folder: use"),
    "a triple for a pair": (
        "contexts.rome",
        [[5, 10, 2]],
        "config: contexts.rome.0: must have 2 entries, got [5, 10, 2]",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_in_one_sentence(name):
    path, value, sentence = FAULTS[name]
    text = said_of(changed(path, value))
    exact = not sentence.endswith("use")
    assert text == sentence if exact else text.startswith(sentence)


def test_an_unknown_key_is_named_with_the_nearest():
    text = said_of(changed("editing.layer", [3]))
    assert text.startswith("config: editing: unknown key 'layer'; did you mean 'layers'? (known: ")
    text = said_of({**DEFAULT, "modle": "gpt2"})
    assert text.startswith("config: unknown key 'modle'; did you mean 'model'? (known: ")


def test_a_missing_key_is_named():
    model = {"label": "M", "n_layers": 2, "path": "weights"}
    assert said_of(model, ModelFile, "m.yaml") == "m.yaml: the key 'noise' is missing"


@pytest.mark.parametrize("key", MOVED)
def test_a_key_that_has_moved_is_told_with_its_new_place(key):
    *section, name = key.split(".")
    config = copy.deepcopy(DEFAULT)
    (config.setdefault(section[0], {}) if section else config)[name] = None
    said = f"config: {key}: this key has moved: {MOVED[key]}"
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(config)


def test_a_configuration_that_is_a_list_is_said_to_be_one():
    assert said_of([]) == "config: must be of type object, got []"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        pytest.param(
            {}, "give one of `asset` (a pinned one), `path` (a folder), `hub` ", id="none"
        ),
        pytest.param({"asset": "a", "path": "p"}, "give one of `asset` (a pinned ", id="two"),
        pytest.param({"hub": "a/b"}, "the key 'revision' is missing, which 'hub' needs", id="bare"),
        pytest.param(
            {"hub": "a/b", "revision": "main"},
            "revision: must be the 40 hexadecimal digits of a commit, got 'main'",
            id="branch",
        ),
        pytest.param(
            {"path": "p", "revision": "0" * 40},
            "the key 'hub' is missing, which 'revision' needs",
            id="path",
        ),
    ],
)
def test_a_model_comes_from_one_place_and_at_one_revision(given, fault):
    text = said_of({"label": "M", "n_layers": 2, "noise": 0.1, **given}, ModelFile, "m.yaml")
    assert text.startswith(f"m.yaml: {fault}")


@pytest.mark.parametrize("noise", ["3 sd", "sd", 0, -1])
def test_a_noise_that_is_none_is_named(noise):
    model = {"label": "M", "n_layers": 2, "noise": noise, "path": "gpt2"}
    assert said_of(model, ModelFile, "m.yaml").startswith(f"m.yaml: noise: {noise!r} is not")


# ---- what no schema can say ----------------------------------------------------------------------


def faulty(path, value, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check(changed(path, value), N_LAYERS)


@pytest.mark.parametrize(
    ("key", "value", "pair", "lacking"),
    [
        ("layers", {"fact_forcing": [2]}, "error_injection with FT-1", "error_injection"),
        ("facts", {"all": {"FT-1": 3}}, "error_injection with FT-5", "FT-5"),
    ],
)
def test_every_pair_of_problem_and_method_has_layers_and_facts(key, value, pair, lacking):
    sentence = f"config: editing.{key}: none for {pair}; name {lacking} there, or give `all` for"
    faulty(f"editing.{key}", value, sentence)


def test_the_last_layer_is_within_the_model_and_the_next_is_not():
    check(changed("editing.layers", [0, N_LAYERS - 1]), N_LAYERS)
    sentence = "layer 30 is beyond the model, whose 30 layers are numbered 0 to 29"
    faulty("editing.layers", [0, N_LAYERS], f"config: editing.layers: {sentence}")
    own = {"all": ["peak"], "fact_forcing": {"all": [0], "ROME": [N_LAYERS, "peak"]}}
    faulty("editing.layers", own, f"config: editing.layers (fact_forcing with ROME): {sentence}")
    faulty("tuning.layer", N_LAYERS, f"config: tuning.layer: {sentence}")
    faulty("analysis.layer", N_LAYERS, f"config: analysis.layer: {sentence}")
    usual = {"ROME": [5], "MEMIT": [3, N_LAYERS]}
    faulty("analysis.usual_layers", usual, f"config: analysis.usual_layers.MEMIT: {sentence}")


def test_groups_of_facts_are_parts_of_larger_ones_and_peak_nowhere():
    for given in (1, [10, 1, 100]):
        check(changed("editing.together", given), N_LAYERS)
    sentence = "config: editing.together: 10 is no multiple of 4, so that groups of 4 facts are no"
    faulty("editing.together", [1, 4, 10], sentence)
    faulty(
        "editing.together", 10, "config: editing.layers: peak is each fact's own layer, at which"
    )
    faulty("editing.together", [], "editing.together: must not be empty")


def test_what_figures_show_is_localized():
    said = "is not localized; add it to localizing."
    faulty(
        "analysis.localizer", "placebo", f"analysis.localizer: placebo {said}localizers (tracing"
    )
    faulty("analysis.module", "attn", f"analysis.module: attn {said}modules (mlp) or choose one of")
    faulty("analysis.window", 7, f"analysis.window: 7 {said}windows (1, 3, 5, 10) or choose one of")


def test_what_tracing_alone_measures_is_not_shown_of_another_localizer():
    config = changed("localizing.localizers", ["tracing", "zeroing"])
    config["analysis"] |= {"localizer": "zeroing", "effect": "fraction_last"}
    sentence = "config: analysis.effect: fraction_last is measured by the localizer tracing alone"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check(config, N_LAYERS)
    config["analysis"]["localizer"] = "tracing"
    check(config, N_LAYERS)


def test_a_localizers_settings_are_checked_by_its_dataclass(monkeypatch):
    mine = localizers.Localizer(name="mine", function="none:none", settings=Mine)
    monkeypatch.setitem(localizers.LOCALIZERS, "mine", mine)
    read(changed("localizing.settings", {"mine": {"steps": 1}}))
    for given, sentence in {
        "{steps: 0}": "localizing.settings.mine.steps: must be at least 1, got 0",
        "{step: 1}": "localizing.settings.mine: unknown key 'step'; did you mean 'steps'?",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(f"config: {sentence}")):
            read(changed("localizing.settings", {"mine": yaml.safe_load(given)}))


@dataclass(frozen=True)
class Mine:
    """A localizer's settings."""

    steps: settings.Count = 5


def test_a_models_own_settings_go_by_the_name_of_their_set():
    own = {"FT-1": {"all": {"eps": 0.001}}}
    model = {"tuned": {"unsaturated": {"origin": "a test", "hyperparameters": own}}}
    validate({"label": "M", "n_layers": 2, "noise": 0.1, "path": "m", **model}, ModelFile, "m")
    assert tuned(model, "unsaturated", "m.yaml") == own
    assert tuned(model, "none", "m.yaml") == {}
    for name in TUNED:
        assert tuned({}, name, "m.yaml") == {}, "never tuned: the preset is all there is"
    sentence = "m.yaml: tuned: the model has no set 'saturating', which editing.tuned asks for (it "
    with pytest.raises(ConfigError, match=re.escape(sentence + "has: unsaturated)")):
        tuned(model, "saturating", "m.yaml")


def test_a_models_settings_without_a_sets_name_are_refused():
    unnamed = {"origin": "a test", "hyperparameters": {}}
    model = {"label": "M", "n_layers": 2, "noise": 0.1, "path": "m", "tuned": unnamed}
    sentence = "m.yaml: tuned: unknown key 'origin' (known: saturating, unsaturated)"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        validate(model, ModelFile, "m.yaml")


def data_fault(sentence, **changes):
    config = {**DEFAULT, "dataset": {**DEFAULT["dataset"], **changes}}
    with pytest.raises(ConfigError, match=re.escape(f"config: dataset.{sentence}")):
        check(config, N_LAYERS)


def test_a_data_set_goes_by_its_name_or_needs_a_path(tmp_path):
    data_fault(
        "path: the data set 'mine' needs the path of its file; without one go, by name: bundled, "
        "counterfact, zsre, known_1000 (and planted, where the model has planted facts)",
        name="mine",
    )
    file = tmp_path / "mine.csv"
    file.write_text("")
    config = {**DEFAULT, "dataset": {**DEFAULT["dataset"], "name": "mine", "path": str(file)}}
    check(config, N_LAYERS)


@pytest.mark.parametrize("name", formats.KNOWN)
def test_a_data_set_that_goes_by_its_name_has_its_own_format(name):
    known = formats.KNOWN[name]
    other = next(form for form in formats.FORMATS if form != known.format)
    sentence = f"format: the data set '{name}' has the format {known.format}, not {other}"
    data_fault(sentence, name=name, format=other)
    config = {**DEFAULT, "dataset": {"name": name, "format": known.format, "path": None}}
    check(config, N_LAYERS)


def test_planted_facts_have_no_file(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("")
    sentence = "path: the data set 'planted' is the facts that were trained into the model"
    data_fault(sentence, name="planted", path=str(file))


def test_a_missing_data_file_is_named_with_what_is_wanted():
    data_fault(
        "path: no file ~/none.csv; give the path of a JSON, JSON Lines, CSV or Parquet file",
        name="mine",
        path="~/none.csv",
    )


def test_columns_are_named_of_a_table_of_ones_own_alone(tmp_path):
    data_fault(
        "columns: names the columns of a table of your own, whose format is native; got the "
        "format zsre",
        format="zsre",
        name="zsre",
        columns={"subject": "s"},
    )
    assert set(formats.FORMATS["native"].reads) == {"prompt", *Fact.__dataclass_fields__}
    text = said_of(changed("dataset.columns", {"subjct": "s"}))
    assert text.startswith("config: dataset.columns: unknown key 'subjct'; did you mean 'subject'?")


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not YAML: .+") as caught:
        load_yaml(tmp_path / "bad.yaml")
    assert "\n" not in str(caught.value)


def test_a_yaml_file_makes_no_objects(tmp_path):
    (tmp_path / "bad.yaml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_yaml(tmp_path / "bad.yaml")


def write_model(folder, **settings):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"label": "M", "n_layers": 2, "noise": "3sd", **settings}))
    return path


def test_a_model_is_found_by_name_or_by_path(tmp_path):
    name, settings = load_model(DEFAULT["model"], ROOT)
    assert (name, settings["n_layers"]) == (DEFAULT["model"], N_LAYERS)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    path = write_model(tmp_path, path="weights")
    name, settings = load_model(str(path), ROOT)
    assert name == "mine"
    assert settings["path"] == str(tmp_path / "weights")


def test_a_misspelt_model_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'smollm2-135m-instruct'"):
        load_model("smollm-135m", ROOT)


def test_a_model_folder_without_a_model_is_named(tmp_path):
    path = write_model(tmp_path, path="nowhere")
    with pytest.raises(ConfigError, match=r"mine\.yaml: path: no model at .*nowhere: expected a"):
        load_model(str(path), ROOT)


def test_a_primary_comparison_that_is_not_edited_is_remarked_before_the_run():
    default = copy.deepcopy(DEFAULT)
    assert configuration.remarks(read(default)) == []
    default["editing"]["methods"] = ["FT-1"]
    (remark,) = configuration.remarks(read(default))
    assert "error_injection by ROME" in remark
    assert "methods FT-1" in remark
    default["analysis"]["primary"]["method"] = "FT-1"
    assert configuration.remarks(read(default)) == []
