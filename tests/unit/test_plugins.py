"""Plug-ins: what they register is known, what is wrong with one is said in a sentence."""

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import plugins_forgotten

from locedit import localizers
from locedit.cli.naming import method_named
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS
from locedit.methods import METHODS
from locedit.model.architectures import ARCHITECTURES
from locedit.model.language_model import LanguageModel
from locedit.store import hashing
from locedit.workflow import plugins
from locedit.workflow.config import read
from locedit.workflow.sections import Overlays
from locedit.workflow.validation import ConfigError, validate

ROOT = Path(__file__).resolve().parents[2]
GOOD = '''"""A method."""

from dataclasses import dataclass
from typing import Literal

from locedit.methods import Method, register
from locedit.settings import Count, Positive


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Some."""

    rate: Positive = 0.1
    rounds: Count | None = 3
    way: Literal["up", "down"] = "up"
    careful: bool = False


def edit(lm, requests, layer, hyper, shared):
    """Nothing."""
    return hyper.rate  # for now


register(Method(name="mine", function=edit, settings=Hyperparameters))
'''


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is gone after it."""
    with plugins_forgotten():
        yield


@pytest.fixture
def write(tmp_path):
    def write(text: str = GOOD, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


LOCALIZER = """from locedit.localizers import Localizer, register


def localize(lm, facts, place, settings, shared):
    return []


register(Localizer(name="mine", function=localize, modules=()))
"""


def test_a_plugin_may_bring_a_localizer(write, tmp_path):
    write(LOCALIZER, "localizer.py")
    (plugin,) = plugins.load(["localizer.py"], [tmp_path])
    assert (plugin.methods, plugin.localizers, plugin.architectures) == ((), ("mine",), ())
    assert read({"localizing": {"localizers": ["tracing", "mine"]}})


def test_a_plugin_that_fails_leaves_no_localizer_behind(write, tmp_path):
    write(LOCALIZER + "raise ValueError('later')", "localizer.py")
    said = said_of("localizer.py", folders=(tmp_path,))
    assert "cannot be imported (ValueError: later)" in said
    assert "mine" not in LOCALIZERS


def said_of(*names: str, folders: tuple[Path, ...] = (ROOT,)) -> str:
    before = list(METHODS)
    with pytest.raises(ConfigError) as caught:
        plugins.load(names, folders)
    assert list(METHODS) == before, "what it had registered is forgotten"
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- what is registered --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["a path", "an absolute path", "a module", "a module of a package"]
)
def test_a_plugin_is_a_file_or_a_module(write, tmp_path, given):
    module = {"a module": "own_method", "a module of a package": "own_package.own_method"}
    path = write(name=module.get(given, "lab/mine").replace(".", "/") + ".py")
    name = {"a path": "lab/mine.py", "an absolute path": str(path), **module}[given]
    (plugin,) = plugins.load([name], [ROOT, tmp_path])
    assert plugin.methods == ("mine",)
    assert plugin.file == path
    hyper = METHODS["mine"].settings()
    assert METHODS["mine"].function(None, [], 0, hyper, None) == 0.1


def test_a_plugin_may_bring_a_family_of_models(write, tmp_path):
    family = """from locedit.model.architectures import ARCHITECTURES, register

register("mine", ARCHITECTURES["llama"])
"""
    write(family, "family.py")
    (plugin,) = plugins.load(["family.py"], [tmp_path])
    assert (plugin.methods, plugin.architectures) == ((), ("mine",))
    assert ARCHITECTURES["mine"] == ARCHITECTURES["llama"]


def test_a_plugin_that_fails_leaves_no_family_behind(write, tmp_path):
    write(
        """from locedit.model.architectures import ARCHITECTURES, register

register("mine", ARCHITECTURES["llama"])
register("gpt2", ARCHITECTURES["llama"])
""",
        "family.py",
    )
    text = said_of("family.py", folders=(tmp_path,))
    assert "an architecture 'gpt2' is registered already" in text
    assert "mine" not in ARCHITECTURES


def test_a_plugin_is_loaded_once(write, tmp_path):
    path = write()
    first = plugins.load(["mine.py"], [tmp_path])
    assert plugins.load([str(path), "mine.py"], [tmp_path]) == first * 2


def test_the_first_folder_that_has_the_file_counts(write, tmp_path):
    for folder in ("a", "b"):
        write(GOOD.replace('"mine"', f'"of-{folder}"'), f"{folder}/mine.py")
    (plugin,) = plugins.load(["mine.py"], [tmp_path / "b", tmp_path / "a"])
    assert plugin.methods == ("of-b",)


def test_its_hyperparameters_are_checked_as_the_built_in_ones(write):
    plugins.load([str(write())], [ROOT])
    good = {"rate": 1, "rounds": None, "way": "down", "careful": True}
    validate({"mine": {"all": good, "fact_erasure": {"rounds": 2}}}, Overlays, "config")
    for bad, sentence in {
        "rat": "mine.all: unknown key 'rat'; did you mean 'rate'? "
        "(known: careful, rate, rounds, way)",
        "rate": "mine.all.rate: must be above 0, got 0",
        "way": "mine.all.way: unknown value 0 (known: up, down)",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(f"config: {sentence}")):
            validate({"mine": {"all": {bad: 0}}}, Overlays, "config")


def test_its_settings_need_no_presets(write):
    plugins.load([str(write())], [ROOT])
    for preset in ("paper", "released"):
        hyper = METHODS["mine"].hyperparameters("fact_erasure", preset, {"all": {"rate": 2.0}})
        assert (hyper.rate, hyper.rounds) == (2.0, 3)


# ---- what is said of one that cannot be used -----------------------------------------------------


def test_a_file_that_is_missing_is_said_to_be(tmp_path):
    text = said_of("methods/none.py", folders=(tmp_path, ROOT))
    assert text == f"config: plugins: methods/none.py: no such file in {tmp_path} or {ROOT}"
    assert said_of("/none.py") == "config: plugins: /none.py: no such file"


def test_a_module_that_is_missing_is_said_to_be():
    sentence = "no such module (a file's path ends in .py)"
    assert said_of("none_such") == f"config: plugins: none_such: {sentence}"
    assert said_of("locedit.none_such") == f"config: plugins: locedit.none_such: {sentence}"


FAULTS = {
    # the file's text with one thing changed, and what is said of it
    "another module is missing": (
        ("from dataclasses import", "import none_such\nfrom dataclasses import"),
        " cannot be imported (ModuleNotFoundError: No module named 'none_such')",
    ),
    "no Python": (("def edit(", "def edit"), " cannot be imported (SyntaxError: "),
    "an error of its own": (
        ("register(M", "1 / 0\nregister(M"),
        " cannot be imported (ZeroDivisionError: division by zero)",
    ),
    "an error after it registered": (
        ("settings=Hyperparameters))", "settings=Hyperparameters))\n1 / 0"),
        " cannot be imported (ZeroDivisionError: division by zero)",
    ),
    "a name that is taken": (
        ('"mine"', '"ROME"'),
        ": method 'ROME': locedit.methods.rome has registered that name; choose another",
    ),
    "a name for no folder": (
        ('"mine"', '"my/own"'),
        ": method 'my/own': its name becomes a folder's: use letters, digits, dots, dashes and "
        "underscores, 100 at most, a letter or digit first",
    ),
    "too few arguments": (
        ("(lm, requests, layer, hyper, shared)", "(lm, request, layer)"),
        ": method 'mine': its function must take (lm, requests, layer, hyper, shared); edit takes "
        "(lm, request, layer)",
    ),
    "no function": (
        ("function=edit", "function=3"),
        ": method 'mine': `function` must take (lm, requests, layer, hyper, shared); got 3",
    ),
    "no dataclass": (
        ("settings=Hyperparameters", "settings=dict"),
        ": method 'mine': `settings` must be a dataclass, the one of what it can be set to; got "
        "<class 'dict'>",
    ),
    "a type that YAML lacks": (
        ("careful: bool = False", "careful: complex = 0j"),
        ": method 'mine': its setting 'careful' is of type complex; use a single int, float, bool, "
        "str, a Literal, a union of these, or one of locedit.settings",
    ),
    "a list, which a setting is not": (
        ("rounds: Count | None", "rounds: list[float] | None"),
        ": method 'mine': its setting 'rounds' is of type list[float]; use a single int, float, "
        "bool, str, a Literal, a union of these, or one of locedit.settings",
    ),
    "a default beyond its own limit": (
        ("rate: Positive = 0.1", "rate: Positive = -4.0"),
        ": method 'mine': its setting 'rate' is -4.0 by default, which its own type refuses "
        "(Input should be greater than 0)",
    ),
    "a default of another type": (
        ("careful: bool = False", "careful: bool = None"),
        ": method 'mine': its setting 'careful' is None by default, which its own type refuses "
        "(Input should be a valid boolean)",
    ),
    "a preset's value beyond its limit": (
        (
            "settings=Hyperparameters)",
            'settings=Hyperparameters, presets={"released": {"fact_erasure": {"rate": 0}}})',
        ),
        ": method 'mine': its setting 'rate' is 0 in released.fact_erasure, which its own type "
        "refuses (Input should be greater than 0)",
    ),
    "a misspelt preset": (
        (
            "settings=Hyperparameters)",
            'settings=Hyperparameters, presets={"papr": {"all": {"rate": 3.0}}})',
        ),
        ": method 'mine': presets: unknown preset 'papr'; did you mean 'paper'? (known: paper, "
        "released)",
    ),
    "a misspelt problem in a preset": (
        (
            "settings=Hyperparameters)",
            'settings=Hyperparameters, presets={"paper": {"error_injektion": {"rate": 3.0}}})',
        ),
        ": method 'mine': presets.paper: unknown problem 'error_injektion'; did you mean "
        "'error_injection'? (known: all, error_injection, tracing_reversal, fact_erasure, "
        "fact_amplification, fact_forcing)",
    ),
    "a preset without problems": (
        (
            "settings=Hyperparameters)",
            'settings=Hyperparameters, presets={"paper": {"all": 3.0}})',
        ),
        ": method 'mine': presets.paper.all: expected a mapping by setting, got 3.0",
    ),
    "no default": (
        ("rate: Positive = 0.1", "rate: Positive"),
        ": method 'mine': hyperparameters of mine: 'rate' has no default and the preset 'paper' "
        "gives none for error_injection",
    ),
    "an unknown preset's setting": (
        (
            "settings=Hyperparameters)",
            'settings=Hyperparameters, presets={"paper": {"all": {"rat": 1}}})',
        ),
        ": method 'mine': hyperparameters of mine: unknown setting 'rat'; did you mean 'rate'? "
        "(known: rate, rounds, way, careful)",
    ),
    "contexts that nobody samples": (
        ("settings=Hyperparameters", 'settings=Hyperparameters, contexts="mine"'),
        ": method 'mine': unknown contexts 'mine' (known: rome, memit, None)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_in_one_sentence(write, name):
    (old, new), sentence = FAULTS[name]
    assert GOOD.count(old) == 1
    path = write(GOOD.replace(old, new))
    text = said_of(str(path))
    whole = f"config: plugins: {path}{sentence}"
    assert text.startswith(whole) if sentence.endswith(": ") else text == whole
    path.write_text(GOOD)
    assert plugins.load([str(path)], [ROOT])[0].methods == ("mine",), "mended, it can be loaded"


LOCALIZER_FAULTS = {
    "a module alone": (
        ("modules=()", 'modules="hidden"'),
        ": localizer 'mine': `modules` must be a list of names, got 'hidden'; for one module write "
        "['hidden']",
    ),
    "a need alone": (
        ("modules=()", 'modules=(), needs="noise"'),
        ": localizer 'mine': `needs` must be a list of names, got 'noise'; for one need write "
        "['noise']",
    ),
    "a default beyond its own limit": (
        ("modules=()", "modules=(), settings=Settings"),
        ": localizer 'mine': its setting 'share' is 2.0 by default, which its own type refuses "
        "(Input should be less than or equal to 1)",
    ),
}
SETTINGS = """from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Settings:
    share: Annotated[float, Field(le=1)] = 2.0


"""


@pytest.mark.parametrize("name", LOCALIZER_FAULTS)
def test_a_localizers_fault_is_said_in_one_sentence(write, name):
    (old, new), sentence = LOCALIZER_FAULTS[name]
    path = write(SETTINGS + LOCALIZER.replace(old, new))
    assert said_of(str(path)) == f"config: plugins: {path}{sentence}"


def test_a_plugin_that_registers_nothing_is_named_where_a_name_is_unknown(write):
    path = write(GOOD.replace("register(Method(", "print(Method("))
    loaded = plugins.load([str(path)], [ROOT])
    assert loaded[0].methods == ()
    said = f"; the plug-in {path} registers nothing: it has to call `register` when it is imported"
    for values in (
        {"editing": {"methods": ["mine"]}},
        {"editing": {"hyperparameters": {"mine": {"all": {"rate": 0.2}}}}},
        {"localizing": {"localizers": ["mine"]}},
    ):
        with pytest.raises(ConfigError, match=r"unknown (value|key) 'mine'") as caught:
            read(values)
        assert str(caught.value).endswith(said)
    with pytest.raises(LoceditError, match=r"--method: unknown method 'mine'") as named:
        method_named("mine")
    assert str(named.value).endswith(said)
    with pytest.raises(ConfigError, match="unknown value 'up'") as other:
        read({"editing": {"preset": "up"}})
    assert said not in str(other.value), "what plug-ins do not add to"


# ---- its code counts -----------------------------------------------------------------------------


def code_of(path: Path, name: str | None = None) -> list[str]:
    hashing.code.cache_clear()
    (plugin,) = plugins.load([name or str(path)], [path.parent, path.parent.parent])
    return plugin.code(ROOT)


def test_a_change_of_its_code_changes_its_hash_and_a_comment_does_not(write):
    path = write()
    before = code_of(path)
    path.write_text(GOOD.replace("# for now", "# for good").replace("Nothing", "Hardly anything"))
    assert code_of(path) == before
    path.write_text(GOOD.replace("return hyper.rate", "return -hyper.rate"))
    assert code_of(path) != before


def test_a_file_mended_within_a_second_at_its_size_is_read_anew(write):
    """By these two Python tells whether the bytecode that it keeps is old."""
    path = write(GOOD.replace('"mine"', '"ROME"'))
    assert "has registered that name" in said_of(str(path))
    seconds = path.stat().st_mtime
    path.write_text(GOOD)
    os.utime(path, (seconds, seconds))
    assert plugins.load([str(path)], [ROOT])[0].methods == ("mine",)


def test_what_it_uses_of_the_project_counts(write):
    path = write()
    before = code_of(path)
    path.write_text(GOOD.replace("    return", "    from locedit.methods import rome\n    return"))
    using = code_of(path)
    assert using != before
    hashing.code.cache_clear()
    assert using[0] != hashing.code(path, ROOT, ("locedit.methods.rome", "locedit.methods"))


def test_all_of_a_package_counts(write):
    path = write(name="lab_package/mine.py")
    beside = write("x = 1\n", "lab_package/helper.py")
    before = code_of(path, "lab_package.mine")
    beside.write_text("x = 2\n")
    assert code_of(path, "lab_package.mine") != before


@pytest.mark.parametrize("changed", ["a", "b"])
def test_every_file_of_one_name_counts(write, changed):
    package = f"lab_of_two_{changed}"
    path = write(name=f"{package}/mine.py")
    files = {part: write("x = 1\n", f"{package}/{part}/impl.py") for part in ("a", "b")}
    before = code_of(path, f"{package}.mine")
    files[changed].write_text("x = 2\n")
    assert code_of(path, f"{package}.mine") != before


def test_where_the_folders_of_a_package_lie_does_not_count(write):
    path = write(name="one/lab_in_parts/mine.py")
    package = SimpleNamespace(__path__=[str(path.parent)])
    codes = []
    for place in ("two", "far/from/two"):
        other = write("x = 1\n", f"{place}/lab_in_parts/helper.py")
        package.__path__[1:] = [str(other.parent)]
        module = SimpleNamespace(__name__="lab_in_parts.mine", __file__=str(path))
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "lab_in_parts", package)
            codes.append(plugins.Plugin("mine", module, (), (), ()).code(ROOT))
    assert codes[0] == codes[1]


# ---- the examples --------------------------------------------------------------------------------


def test_the_guide_quotes_the_examples():
    guides = [ROOT / "docs" / "how-to" / f"{name}.md" for name in ("method", "localizer")]
    texts = [guide.read_text() for guide in guides]
    quoted = [q for text in texts for q in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]
    for path in sorted((ROOT / "plugins").glob("*.py")):
        assert path.read_text() in quoted, f"no guide in docs/how-to quotes {path.name}"


def test_the_example_of_a_localizer_equals_its_textbook_form(tiny_lm):
    """One fact, a whole pass of the model itself, the layers' own inputs and outputs."""
    plugins.load(["plugins/write_norm.py"], [ROOT])
    given = LOCALIZERS["write_norm"]
    facts = [
        Fact(
            case_id=str(i),
            relation_id="",
            subject=subject,
            template=template,
            target_true="old",
            target_new="new",
        )
        for i, (subject, template) in enumerate(
            [("Rome", "The city of {} is"), ("the large house", "{} was built in the year")]
        )
    ]
    for relative in (True, False):
        settings = given.settings(relative=relative)
        place, shared = localizers.Place(module="mlp"), localizers.SharedInputs(study=facts)
        together = given.localize(tiny_lm, facts, place, settings, shared)
        for fact, found in zip(facts, together, strict=True):
            (alone,) = given.localize(tiny_lm, [fact], place, settings, shared)
            np.testing.assert_allclose(found.values, alone.values, rtol=1e-9)
            expected = written_by_hand(tiny_lm, fact, relative)
            np.testing.assert_allclose(found.values, expected, rtol=1e-9)


def written_by_hand(lm: LanguageModel, fact: Fact, relative: bool) -> list[float]:
    last = lm.subject_range(fact.prompt, fact.subject, fact.subject_start)[1] - 1
    outputs: list[torch.Tensor] = []
    hooks = [
        lm.module("mlp", layer).register_forward_hook(lambda _, args, out: outputs.append(out))
        for layer in range(lm.n_layers)
    ]
    ids = torch.tensor([lm.encode(fact.prompt)])
    inputs = lm.model(ids, output_hidden_states=True).hidden_states
    for hook in hooks:
        hook.remove()
    return [
        float(out[0, last].norm() / (into[0, last].norm() if relative else 1))
        for out, into in zip(outputs, inputs[:-1], strict=True)
    ]


def test_the_examples_register_what_they_are_and_import_nothing_heavy_for_it():
    from test_config import imports_nothing_heavy

    names = sorted(f"plugins/{path.name}" for path in (ROOT / "plugins").glob("*.py"))
    loaded = plugins.load(names, [ROOT])
    assert [plugin.methods for plugin in loaded] == [("FT-unconstrained",), ()]
    assert [plugin.localizers for plugin in loaded] == [(), ("write_norm",)]
    call = f"plugins.load({names!r}, [pathlib.Path.cwd()])"
    imports_nothing_heavy(f"import pathlib\nfrom locedit.workflow import plugins\n{call}")
