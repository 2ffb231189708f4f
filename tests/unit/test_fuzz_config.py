"""Whatever stands in a configuration or in a model's file: accepted, or refused in one sentence."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import JSON, SCALAR, TEXT, cases, damaged, one_sentence
from hypothesis import given
from hypothesis import strategies as st

from locedit.workflow import config as configuration
from locedit.workflow.model_file import ModelFile, load_model
from locedit.workflow.validation import ConfigError, validate

pytestmark = pytest.mark.slow  # hundreds of made-up inputs

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = configuration.load_yaml(ROOT / "config.yaml")
MODEL = {"label": "Tiny", "n_layers": 4, "noise": "3sd", "path": "weights"}
ODD = [float("nan"), float("inf"), -1, 0, 1e308, 2**31, 2**40, 2**64, 10**400, True, "1e-4", "3sd"]
ODD += [[], {}, [[]], [None], {1: 2, "a": 3}, "x" * 5000, "~nobody/x", "a\0b", "{x}", "../x", "a\n"]
KEY = st.one_of(st.sampled_from(["layer", "Layers", "n ", "modle", 1, None, True, ""]), TEXT)
VALUE = st.one_of(st.sampled_from(ODD), SCALAR, JSON, st.dictionaries(KEY, SCALAR, max_size=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@st.composite
def changed(draw, config: Mapping):
    """(a configuration with one to three keys of another value, new or gone; the keys)."""
    config, keys = copy.deepcopy(dict(config)), []
    for _ in range(draw(st.integers(1, 3))):
        section: Any = config
        while (inner := [v for v in section.values() if isinstance(v, dict) and v]) and draw(
            st.booleans()
        ):
            section = draw(st.sampled_from(inner))
        key = draw(st.one_of(st.sampled_from([*section]), KEY) if section else KEY)
        keys.append(key)
        if draw(st.integers(0, 5)):
            section[key] = draw(VALUE)
        else:
            section.pop(key, None)
    return config, keys


def accepts(validate) -> bool:
    """Whether a configuration is accepted; if not, in one sentence."""
    try:
        validate()
    except ConfigError as error:
        one_sentence(str(error))
        return False
    return True


@cases(150)
@given(change=changed(DEFAULT))
def test_a_configuration_is_accepted_or_refused_in_one_sentence(change):
    config, _ = change
    if accepts(lambda: configuration.read(config)):
        numbers = [value for value in _leaves(config) if isinstance(value, int | float)]
        assert all(-(2**63) < number < 2**63 and number == number for number in numbers)
        accepts(lambda: configuration.check(configuration.read(config), 30))


@cases(40)
@given(key=st.sampled_from([*DEFAULT]), value=VALUE)
def test_the_sentence_names_the_key_that_is_at_fault(key, value):
    config, said = {**DEFAULT, key: value}, f"config: {key}"
    try:
        configuration.read(config)
    except ConfigError as error:
        said = str(error)
    assert said.startswith(f"config: {key}")


def _leaves(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [leaf for one in inner for leaf in _leaves(one)] if inner else [value]


@cases(80)
@given(change=changed(MODEL), bare=st.booleans())
def test_a_models_file_is_accepted_or_refused_in_one_sentence(folder, change, bare):
    model, _ = change
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(model), encoding="utf-8", errors="replace")
    accepts(lambda: load_model(str(path), ROOT))
    if not bare:
        accepts(lambda: validate(model, ModelFile, "model"))


@cases(60)
@given(name=st.one_of(TEXT, st.sampled_from(["...yaml", "..yaml", "x" * 300, "~nobody/m.yaml"])))
def test_a_models_name_is_accepted_or_refused_in_one_sentence(name):
    accepts(lambda: load_model(name, ROOT))


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
YAML_ODDITIES = [
    "1e-4",
    "010",
    "0o10",
    "0x" + "f" * 6000,
    "1_000",
    "1:30:00",
    "2001-01-01",
    "2001-13-45",
    ".nan",
    "-.inf",
    "~",
    "yes",
    "NO",
    "!!python/object/apply:os.system [true]",
    "!!binary x",
    "!!bool 7",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "&a [*a]",
    "*nowhere",
    "{? [a] : b}",
    "{1: 2, a: 3, ~: 4}",
    "<<: 3",
    '"\\ud800"',
    '"\\0"',
    "\t3",
    "|\n  text\n  more",
    "[" * 3000,
    "[" * 100 + "]" * 100,
    "'",
    "%",
    "@",
    "---",
    "a: b: c",
]


@cases(150)
@given(data=st.data())
def test_any_yaml_is_accepted_or_refused_in_one_sentence(folder, data):
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(lines) - 1))
        head = lines[at].partition(":")[0]
        odd = data.draw(st.one_of(st.sampled_from(YAML_ODDITIES), TEXT))
        kind = data.draw(st.integers(0, 3))
        lines[at] = [f"{head}: {odd}", odd, f"{lines[at]}\n{lines[at]}", f"\t{lines[at]}"][kind]
    content = "\n".join(lines).encode("utf-8", "replace")
    if data.draw(st.booleans()):
        content = data.draw(
            st.one_of(st.binary(max_size=40), damaged(content), st.just(BOMB.encode()))
        )
    path = folder / "odd.yaml"
    path.write_bytes(content)
    try:
        config = configuration.load_yaml(path)
    except ConfigError as error:
        one_sentence(str(error), str(path))
        return
    if accepts(lambda: configuration.read(config, str(path))):
        accepts(lambda: configuration.check(configuration.read(config), 30))
