"""The configuration, checked: a strict schema, one sentence for each thing that is wrong.

No heavy imports: Snakemake reads this each time it starts.
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from locedit import datasets


class ConfigError(ValueError):
    """A configuration that cannot be used."""


def load_yaml(path: Path) -> Any:
    """A YAML file as plain data; ConfigError names the file where it is missing or no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def with_methods(
    schema: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The configuration's schema with the methods filled in, and what each of them can be set to.

    settings: of each method, the JSON schema of its hyperparameters (locedit.methods.settings).
    """
    filled = copy.deepcopy(dict(schema))
    definitions, of_values = filled["$defs"], {"type": "array", "minItems": 1}
    definitions["method"]["enum"] = list(settings)
    for method, one in settings.items():
        definitions["hyperparameters"]["properties"][method] = {
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/place"},
            "additionalProperties": one,
        }
        tried = {name: {**of_values, "items": kind} for name, kind in one["properties"].items()}
        definitions["grid"]["properties"][method] = {**one, "properties": tried}
    return filled


def validate(values: Any, schema: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError with the first fault of `values` against a JSON schema, in one sentence."""
    from jsonschema import Draft202012Validator, validators

    # JSON counts 1.0 among the integers; a path with "layer-1.0" is made by no rule
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, v: type(v) is int)
    validator = validators.extend(Draft202012Validator, type_checker=types)(schema)
    errors = sorted(validator.iter_errors(values), key=lambda e: list(e.path))
    if errors:
        raise ConfigError(f"{where}: {_sentence(errors[0])}")


def _sentence(error: Any) -> str:
    path = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{path}: " if path else ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        return prefix + f"unknown key {unknown[0]!r}{_choices(unknown[0], known)}"
    if error.validator == "enum":
        kind = "key" if "propertyNames" in error.absolute_schema_path else "value"
        choices = [str(choice) for choice in error.validator_value]
        return prefix + f"unknown {kind} {error.instance!r}{_choices(error.instance, choices)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return prefix + f"the key {missing[0]!r} is missing"
    if error.validator == "minimum":
        return prefix + f"must be at least {error.validator_value}, got {error.instance}"
    if error.validator == "type":
        wanted = error.validator_value
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return prefix + f"must be of type {wanted}, got {error.instance!r}"
    if error.validator == "oneOf" and not path:
        return (
            "give one of `asset` (a pinned one), `path` (a folder) and `hub` with `revision` "
            "(a repository of the hub)"
        )
    if error.validator == "dependentRequired":
        given, missing = error.message.split("'")[3], error.message.split("'")[1]
        return f"{prefix}the key {missing!r} is missing, which {given!r} needs"
    if path == "revision":
        return f"revision: must be the 40 hexadecimal digits of a commit, got {error.instance!r}"
    return prefix + error.message


def _choices(given: Any, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (known: {', '.join(known)})"


def check(config: Mapping[str, Any], n_layers: int, assets: Iterable[str] = ()) -> None:
    """What no schema can say: layers within the model, traced windows, the data set's path."""
    places = [("editing.layers", config["editing"]["layers"])]
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
    for key, listed in (("module", "modules"), ("window", "windows")):
        wanted, traced = config["analysis"][key], config["tracing"][listed]
        if wanted not in traced:
            raise ConfigError(
                f"config: analysis.{key}: {wanted} is not traced; add it to tracing.{listed} "
                f"({', '.join(map(str, traced))}) or choose one of them"
            )
    effect, made = config["analysis"]["tracing"], config["tracing"]["intervention"]
    needed = "zero" if effect == "zeroed" else "restore"
    if needed not in ([made] if isinstance(made, str) else made):
        raise ConfigError(
            f"config: analysis.tracing: {effect} is measured by tracing.intervention: {needed}, "
            f"which is not configured; add it, or choose another effect"
        )
    known = list(assets)
    for name in config["assets"]["overrides"]:
        if known and name not in known:
            raise ConfigError(
                f"config: assets.overrides: no asset is called {name!r}{_choices(name, known)}"
            )
    _check_data(config["dataset"])


def _check_data(dataset: Mapping[str, Any]) -> None:
    name, form, path = dataset["name"], dataset["format"], dataset["path"]
    if dataset.get("columns") and form != "native":
        raise ConfigError(
            "config: dataset.columns: names the columns of a table of your own, whose format is "
            f"native; got the format {form}"
        )
    if path is not None and not Path(path).expanduser().is_file():
        raise ConfigError(
            f"config: dataset.path: no file {path}; give the path of a JSON, JSON Lines, CSV or "
            "Parquet file (a relative one starts at the working folder)"
        )
    if path is not None:
        return
    if name not in datasets.KNOWN:
        raise ConfigError(
            f"config: dataset.path: the data set {name!r} needs the path of its file; without one "
            f"go, by name: {', '.join(datasets.KNOWN)}"
        )
    if form != datasets.KNOWN[name].format:
        raise ConfigError(
            f"config: dataset.format: the data set {name!r} has the format "
            f"{datasets.KNOWN[name].format}, not {form}"
        )


def load_model(name: str, root: Path, schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(short name, settings) of a model: models/<name>.yaml, or the path of such a file."""
    as_path = Path(name)
    path = as_path if as_path.suffix in (".yaml", ".yml") else root / "models" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / "models").glob("*.yaml"))
        raise ConfigError(f"config: model: no file {path}{_choices(name, known)}")
    settings = load_yaml(path)
    validate(settings, schema, str(path))
    if "path" in settings:
        folder = Path(settings["path"]).expanduser()
        folder = folder if folder.is_absolute() else (path.parent / folder)
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{path}: path: no model at {folder}: expected a folder with config.json, "
                "safetensors weights and tokenizer.json"
            )
        settings["path"] = str(folder)
    return path.stem, settings
