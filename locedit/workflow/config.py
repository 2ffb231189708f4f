"""The configuration, checked: a strict schema, one sentence for each thing that is wrong.

No heavy imports: Snakemake reads this each time it starts.
"""

import copy
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from locedit import messages
from locedit.errors import LoceditError
from locedit.facts import formats
from locedit.localizers import TRACING
from locedit.messages import name as plain_name
from locedit.messages import nearest, one_line, shown
from locedit.stated import StatedError, check_layers
from locedit.store import folders
from locedit.workflow import pairs


class ConfigError(LoceditError):
    """A configuration that cannot be used."""


# The last ones are PyYAML's where a value is not what its tag or its form promises (`!!bool 7`,
# `!!timestamp x`, 2001-13-45), and Python's for lists nested hundreds deep.
_NO_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


def load_yaml(path: Path) -> Any:
    """A YAML file as plain data; ConfigError names the file where it is missing or no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except _NO_YAML as error:
        raise ConfigError(f"{path} is not YAML: {one_line(error)}") from error


def with_methods(
    schema: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The configuration's schema with the methods filled in, and what each of them can be set to.

    settings: of each method, the JSON schema of its hyperparameters (locedit.settings).
    """
    filled = copy.deepcopy(dict(schema))
    definitions, of_values = filled["$defs"], {"type": "array", "minItems": 1}
    definitions["method"]["enum"] = list(settings)
    definitions["method_or_all"]["enum"] = [pairs.ALL, *settings]
    for method, one in settings.items():
        definitions["hyperparameters"]["properties"][method] = {
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/place"},
            "additionalProperties": one,
        }
        tried = {name: {**of_values, "items": kind} for name, kind in one["properties"].items()}
        definitions["grid"]["properties"][method] = {**one, "properties": tried}
    return filled


def with_localizers(
    schema: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The configuration's schema with the localizers filled in, and what they can be set to.

    settings: of each localizer, the JSON schema of its settings (locedit.settings).
    """
    filled = copy.deepcopy(dict(schema))
    definitions = filled["$defs"]
    definitions["localizer"]["enum"] = list(settings)
    definitions["localizer_settings"]["properties"] = dict(settings)
    return filled


# Where keys of earlier versions went: by their path, what to write now
_MOVED = {
    "tracing.intervention": "name localizers in localizing.localizers: `restore` is `tracing`, "
    "`zero` is `zeroing`",
    "tracing.modules": "it is localizing.modules now, of all localizers",
    "tracing.windows": "it is localizing.windows now, of all localizers",
    "analysis.tracing": "it is analysis.effect now, where `fraction_max` is `value`; for `zeroed` "
    "set analysis.localizer: zeroing",
}


def validate(values: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError with the first fault of `values` against a JSON schema, in one sentence."""
    from jsonschema import Draft202012Validator, validators

    _check_size(values, where)
    # JSON counts 1.0 among the integers; a path with "layer-1.0" is made by no rule
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, v: type(v) is int)
    types = types.redefine("number", lambda _, v: type(v) in (int, float) and math.isfinite(v))
    validator = validators.extend(Draft202012Validator, type_checker=types)(schema)
    errors = sorted(validator.iter_errors(values), key=lambda e: [str(part) for part in e.path])
    if errors:
        raise ConfigError(f"{where}: {_sentence(errors[0])}")


MAX_VALUES, MAX_DEPTH, MAX_INTEGER = 100_000, 50, 2**63 - 1


def _check_size(values: Any, where: str) -> None:
    """Raise ConfigError for more values than any study has, or numbers longer than any table's.

    A few lines of YAML with aliases can stand for a billion values, or for a list that holds
    itself: nothing may walk through them before this.
    """
    waiting: list[tuple[Any, tuple[Any, ...]]] = [(values, ())]
    seen = 0
    while waiting:
        value, path = waiting.pop()
        seen += 1
        key = ".".join(map(plain_name, path[:6])) or "it"
        if seen > MAX_VALUES or len(path) > MAX_DEPTH:
            raise ConfigError(
                f"{where}: {key} stands for more than {MAX_VALUES:,} values, or values nested more "
                f"than {MAX_DEPTH} deep; give a shorter one"
            )
        if type(value) is int and abs(value) > MAX_INTEGER:
            raise ConfigError(f"{where}: {key}: the number has more than 18 digits")
        if isinstance(value, Mapping):
            waiting += [(inner, (*path, name)) for name, inner in value.items()]
        elif isinstance(value, list | tuple | set):
            waiting += [(inner, (*path, index)) for index, inner in enumerate(value)]


def _sentence(error: Any) -> str:
    path = ".".join(map(plain_name, error.absolute_path))
    prefix = f"{path}: " if path else ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known), key=str)
        for moved in (f"{path}.{key}" for key in unknown):
            if moved in _MOVED:
                return f"{moved}: this key has moved: {_MOVED[moved]}"
        return prefix + f"unknown key {shown(unknown[0])}{_choices(unknown[0], known)}"
    if error.validator == "enum":
        kind = "key" if "propertyNames" in error.absolute_schema_path else "value"
        choices = [str(choice) for choice in error.validator_value]
        return prefix + f"unknown {kind} {shown(error.instance)}{_choices(error.instance, choices)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return prefix + f"the key {missing[0]!r} is missing"
    if error.validator == "minimum":
        return prefix + f"must be at least {error.validator_value}, got {error.instance}"
    if error.validator == "type":
        wanted = error.validator_value
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return prefix + f"must be of type {wanted}, got {shown(error.instance)}{_meant(error)}"
    if error.validator == "oneOf" and not path:
        return (
            "give one of `asset` (a pinned one), `path` (a folder) and `hub` with `revision` "
            "(a repository of the hub)"
        )
    if error.validator == "dependentRequired":
        given, missing = error.message.split("'")[3], error.message.split("'")[1]
        return f"{prefix}the key {missing!r} is missing, which {given!r} needs"
    if path == "revision":
        given = shown(error.instance)
        return f"revision: must be the 40 hexadecimal digits of a commit, got {given}"
    if error.validator == "pattern" and (rule := error.schema.get("description")):
        return f"{prefix}{rule}; got {shown(error.instance)}"
    return prefix + one_line(error.message)


def _meant(error: Any) -> str:
    """A hint where YAML has read a number as a text: 1e-4 is one only with a point."""
    if isinstance(error.instance, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", error.instance):
        mantissa, _, exponent = error.instance.lower().partition("e")
        exponent = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f", which YAML takes for a text: write {mantissa}.0e{exponent}"
    return ""


def _choices(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    return f"{nearest(given, known, cutoff=0.5)} (known: {', '.join(known)})"


# What names a folder of the results: no separator, no blank, none of Snakemake's braces. The
# schema has the same rule for dataset.name, locedit.methods for methods.
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _path(text: str, where: str) -> Path:
    """A path of the configuration; ConfigError for one that no rule of the workflow can name."""
    fault = messages.fault(text)
    if fault or "{" in text or "}" in text:
        fault = fault or "a brace, which Snakemake takes for a wildcard"
        raise ConfigError(f"{where}: {shown(text)} holds {fault}; rename the file or folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {shown(text)}: {error}") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # too long for a name, or behind a folder that may not be entered
        return False


def check(config: Mapping[str, Any], n_layers: int, assets: Iterable[str] = ()) -> None:
    """What no schema can say: layers within the model, shown localizer, the data set's path."""
    places = [*_edit_layers(config["editing"])]
    places.append(("tuning.layer", [config["tuning"]["layer"]]))
    analysis = config["analysis"]
    places.append(("analysis.layer", [la for la in [analysis["layer"]] if la is not None]))
    for method, layers in analysis["usual_layers"].items():
        places.append((f"analysis.usual_layers.{method}", layers))
    for name, layers in places:
        for layer in layers:
            if layer >= n_layers:
                raise ConfigError(
                    f"config: {name}: layer {layer} is beyond the model, whose {n_layers} layers "
                    f"are numbered 0 to {n_layers - 1}"
                )
    _check_shown(config["analysis"], config["localizing"])
    if config["assets"]["cache"] is not None:
        _path(config["assets"]["cache"], "config: assets.cache")
    known = list(assets)
    for name in config["assets"]["overrides"]:
        if known and name not in known:
            raise ConfigError(
                f"config: assets.overrides: no asset is called {name!r}{_choices(name, known)}"
            )
    _check_data(config["dataset"])


def _check_shown(analysis: Mapping[str, Any], localizing: Mapping[str, Any]) -> None:
    """What figures show has to be localized, by a localizer that measures it."""
    for key in ("localizer", "module", "window"):
        wanted, there = analysis[key], localizing[f"{key}s"]
        if wanted not in there:
            raise ConfigError(
                f"config: analysis.{key}: {wanted} is not localized; add it to localizing.{key}s "
                f"({', '.join(map(str, there))}) or choose one of them"
            )
    effect, localizer = analysis["effect"], analysis["localizer"]
    if effect != "value" and localizer != TRACING:
        raise ConfigError(
            f"config: analysis.effect: {effect} is measured by the localizer {TRACING} alone, and "
            f"analysis.localizer is {localizer}; set one of them to another"
        )


def _edit_layers(editing: Mapping[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Of each pair of problem and method the key of its edit layers, and those that are numbers.

    Raises ConfigError for a pair without layers, or without a number of facts.
    """
    for problem, method in itertools.product(editing["problems"], editing["methods"]):
        for key in ("layers", "facts"):
            try:
                value = pairs.of_pair(editing[key], problem, method)
            except pairs.NotGiven as lacking:
                raise ConfigError(
                    f"config: editing.{key}: none for {problem} with {method}; name {lacking} "
                    f"there, or give `{pairs.ALL}` for those that are not named"
                ) from None
            if key == "layers":
                yield f"editing.{key}", pairs.listed(value)


def _check_data(dataset: Mapping[str, Any]) -> None:
    name, form, path = dataset["name"], dataset["format"], dataset["path"]
    if dataset.get("columns") and form != "native":
        raise ConfigError(
            "config: dataset.columns: names the columns of a table of your own, whose format is "
            f"native; got the format {form}: set it to native, or leave `columns` out"
        )
    if path is not None and not _is_file(_path(path, "config: dataset.path")):
        raise ConfigError(
            f"config: dataset.path: no file {one_line(path)}; give the path of a JSON, JSON Lines, "
            "CSV or Parquet file (a relative one starts at the working folder)"
        )
    if path is not None:
        return
    if name not in formats.KNOWN:
        raise ConfigError(
            f"config: dataset.path: the data set {name!r} needs the path of its file; without one "
            f"go, by name: {', '.join(formats.KNOWN)}"
        )
    if form != formats.KNOWN[name].format:
        raise ConfigError(
            f"config: dataset.format: the data set {name!r} has the format "
            f"{formats.KNOWN[name].format}, not {form}"
        )


def model_file(name: str, root: Path) -> Path:
    """The file with a model's settings: models/<name>.yaml, or the path of such a file.

    Raises ConfigError where there is none, or where it is named as no folder of results can be.
    """
    as_path = Path(name)
    path = as_path if as_path.suffix in (".yaml", ".yml") else root / "models" / f"{name}.yaml"
    if not _is_file(path):
        if weights := _weights_named(name):
            raise ConfigError(f"config: model: {weights}")
        known = sorted(p.stem for p in (root / "models").glob("*.yaml"))
        raise ConfigError(f"config: model: no file {one_line(path)}{_choices(name, known)}")
    if not FOLDER_NAME.fullmatch(path.stem):
        raise ConfigError(
            f"config: model: the name of {path} becomes a folder's: use letters, digits, dots, "
            "dashes and underscores, 100 at most, a letter or digit first"
        )
    return path


def load_model(name: str, root: Path, schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(short name, settings) of a model: models/<name>.yaml, or the path of such a file."""
    path = model_file(name, root)
    settings = load_yaml(path)
    validate(settings, schema, str(path))
    if "path" in settings:
        folder = _path(settings["path"], f"{path}: path")
        folder = _path(str(path.parent), f"config: model: {path}") / folder
        _check_weights(folder, f"{path}: path")
        check_stated_layers(path, settings, folder)
        settings["path"] = str(folder)
    return path.stem, settings


def check_stated_layers(file: Path, settings: Mapping[str, Any], folder: Path) -> None:
    """Raise ConfigError where a model's file and the config.json of its folder differ in layers.

    A folder without config.json, whose model is still to be fetched, tells nothing.
    """
    try:
        found = folders.n_layers(folder)
        check_layers(settings.get("n_layers"), found, file, folder / "config.json")
    except StatedError as error:
        raise ConfigError(str(error)) from error


def _check_weights(folder: Path, where: str) -> None:
    """Raise ConfigError where a model's `path` is neither its folder nor a GGUF file."""
    if folders.is_gguf(folder):
        if not _is_file(folder):
            raise ConfigError(f"{where}: no file {one_line(folder)}; give the path of a GGUF file")
        return
    try:
        fault = folders.fault(folder)
    except OSError:  # too long for a name, or behind a folder that may not be entered
        fault = None
    if fault is not None:
        raise ConfigError(f"{where}: {one_line(fault, 2000)}")
    if not _is_file(folder / "config.json"):
        raise ConfigError(
            f"{where}: no model at {one_line(folder)}: expected a folder with "
            "config.json, safetensors weights and tokenizer.json, or a GGUF file"
        )


def _weights_named(name: str) -> str | None:
    """What to do where `model` names weights themselves, and not the file that describes them."""
    try:
        path = Path(name).expanduser()
        folder = (path / "config.json").is_file()
        if folders.is_gguf(path) and not path.is_file():
            return f"no GGUF file {one_line(path)}"
        if not (folder or folders.is_gguf(path) or path.suffix == ".safetensors"):
            return None
        single = path.suffix == ".safetensors"
        path = (path.parent if single else path).absolute()
        layers = folders.n_layers(path)
    except (OSError, RuntimeError, ValueError):
        return None
    kind = (
        "a GGUF file" if folders.is_gguf(path) else f"a {'file' if single else 'folder'} of weights"
    )
    count = "THEIR-NUMBER" if layers is None else layers
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:60] or "mine"
    return (
        f"{shown(name)} is {kind}, and a study takes a file that describes them: write "
        f"{own}.yaml with four lines, `label: {own}`, `n_layers: {count}`, "
        f"`noise: 3sd` and `path: {path}`, and name that file"
    )
