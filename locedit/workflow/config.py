"""A study's configuration, read and checked: one sentence for what is wrong with it.

No heavy imports: Snakemake reads this each time it starts.
"""

import itertools
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from locedit import messages
from locedit.facts import formats
from locedit.localizers import TRACING
from locedit.messages import one_line, shown
from locedit.registry import ALL
from locedit.settings import mapping
from locedit.workflow import pairs
from locedit.workflow.sections import (
    MOVED,
    Analysis,
    Config,
    Dataset,
    Editing,
    Localizing,
    Overlays,
    PluginNames,
)
from locedit.workflow.validation import ConfigError, validate

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


def plugin_names(values: Mapping[str, Any]) -> list[str]:
    """The plug-ins of a configuration, which have to be loaded before the rest is read."""
    given = {"plugins": values.get("plugins", [])}
    return validate(given, mapping("Plugins", {"plugins": PluginNames}), "config")["plugins"]


def read(values: Any, where: str = "config") -> Config:
    """The configuration that these values are, with the defaults of keys that they leave out.

    Raises ConfigError with the first fault, which may be a key that has gone elsewhere.
    """
    for key, instead in MOVED.items():
        if _has(values, key.split(".")):
            raise ConfigError(f"{where}: {key}: this key has moved: {instead}")
    return validate(values, Config, where)


def _has(values: Any, path: list[str]) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def fill(values: MutableMapping[str, Any], config: BaseModel) -> None:
    """Put what the values leave out, and the configuration has, among them."""
    for name in type(config).model_fields:
        own = getattr(config, name)
        if isinstance(own, BaseModel):
            fill(values.setdefault(name, {}), own)
        else:
            values.setdefault(name, own)


def check_tuned(settings: Mapping[str, Any], model: str) -> None:
    """The hyperparameters in a model's settings, once all methods are registered."""
    for name, one in settings.get("tuned", {}).items():
        validate(one["hyperparameters"], Overlays, f"model {model}: tuned.{name}.hyperparameters")


def tuned(settings: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    """A model's own hyperparameters, by method and problem: one of its `tuned` sets, by its name.

    Nothing for "none", or where the model was never tuned. Raises ConfigError where it has another
    set alone, since its presets are then no match for the rest of the study; where: the file.
    """
    sets = settings.get("tuned", {})
    if name == "none" or not sets:
        return {}
    if name not in sets:
        raise ConfigError(
            f"{where}: tuned: the model has no set {name!r}, which editing.tuned asks for (it has: "
            f"{', '.join(sets)}); choose one of these, or none: `snakemake tune` then finds another"
        )
    return sets[name]["hyperparameters"]


def recommended(
    settings: Mapping[str, Any], method: str, problem: str, where: str
) -> Mapping[str, Any]:
    """What a model's file keeps of `locedit recommend`: `layer`, `hyperparameters`, `overall`.

    Raises ConfigError where it has nothing for the method and the problem; where: the file.
    """
    kept = settings.get("recommended", {})
    if problem not in kept.get(method, {}):
        has = [f"{one} for {' and '.join(problems)}" for one, problems in kept.items()]
        raise ConfigError(
            f"{where}: recommended: the model has nothing for {method} and {problem} (it has: "
            f"{', '.join(has) or 'none'}); `locedit recommend` finds it, and leaves a section "
            "for the model's file"
        )
    return kept[method][problem]


def checked_path(text: str, where: str) -> Path:
    """A path of the configuration; ConfigError for one that no rule of the workflow can name."""
    fault = messages.fault(text)
    if fault or "{" in text or "}" in text:
        fault = fault or "a brace, which Snakemake takes for a wildcard"
        raise ConfigError(f"{where}: {shown(text)} holds {fault}; rename the file or folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {shown(text)}: {error}") from error


def is_file(path: Path) -> bool:
    """Whether it is one; not so where the system cannot tell."""
    try:
        return path.is_file()
    except OSError:  # too long for a name, or behind a folder that may not be entered
        return False


def check(config: Config, n_layers: int) -> None:
    """What no type can say: layers within the model, shown localizer, the data set's path."""
    places = [*_edit_layers(config.editing)]
    places.append(("tuning.layer", [config.tuning.layer]))
    analysis = config.analysis
    places.append(("analysis.layer", [la for la in [analysis.layer] if la is not None]))
    for method, layers in analysis.usual_layers.items():
        places.append((f"analysis.usual_layers.{method}", layers))
    for name, layers in places:
        for layer in layers:
            if layer >= n_layers:
                raise ConfigError(f"config: {name}: {beyond(layer, n_layers)}")
    _check_together(config.editing)
    _check_shown(config.analysis, config.localizing)
    _check_data(config.dataset)
    _check_statistics(config.statistics.path)
    _check_planted(config.analysis.planted)


def beyond(layer: int, n_layers: int) -> str:
    """What is said of a layer that the model does not have."""
    return (
        f"layer {layer} is beyond the model, whose {n_layers} layers are numbered 0 to "
        f"{n_layers - 1}"
    )


def remarks(config: Config) -> list[str]:
    """What a run that may go on should be told before it starts."""
    primary, editing = config.analysis.primary, config.editing
    if primary.problem in editing.problems and primary.method in editing.methods:
        return []
    named = f"{primary.problem} by {primary.method}"
    edits = f"methods {', '.join(editing.methods)}; problems {', '.join(editing.problems)}"
    return [
        f"config: analysis.primary: {named}, the comparison that the report answers, is not among "
        f"the edits ({edits}): name one that is, or the report has no answer"
    ]


def together(editing: Mapping[str, Any]) -> list[int]:
    """How many facts share an update, ascending, from the configuration's section `editing`."""
    given = editing["together"]
    return sorted(given) if isinstance(given, list) else [given]


def _check_together(editing: Editing) -> None:
    """Groups have to be parts of larger ones, and a fact's own peak is no layer of a group."""
    counts = together(dict(editing))
    for small, large in itertools.pairwise(counts):
        if large % small:
            raise ConfigError(
                f"config: editing.together: {large} is no multiple of {small}, so that groups of "
                f"{small} facts are no parts of those of {large}; give multiples, as [1, 10, 100]"
            )
    at_peaks = any(
        pairs.PEAK in pairs.of_pair(editing.layers, problem, method)
        for problem, method in itertools.product(editing.problems, editing.methods)
    )
    if at_peaks and 1 not in counts:
        raise ConfigError(
            f"config: editing.layers: {pairs.PEAK} is each fact's own layer, at which no group of "
            f"{counts[0]} facts can be edited; take it out, or add 1 to editing.together"
        )


def _check_shown(analysis: Analysis, localizing: Localizing) -> None:
    """What figures show has to be localized, by a localizer that measures it."""
    for key in ("localizer", "module", "window"):
        wanted, there = getattr(analysis, key), getattr(localizing, f"{key}s")
        if wanted not in there:
            raise ConfigError(
                f"config: analysis.{key}: {wanted} is not localized; add it to localizing.{key}s "
                f"({', '.join(map(str, there))}) or choose one of them"
            )
    effect, localizer = analysis.effect, analysis.localizer
    if effect != "value" and localizer != TRACING:
        raise ConfigError(
            f"config: analysis.effect: {effect} is measured by the localizer {TRACING} alone, and "
            f"analysis.localizer is {localizer}; set one of them to another"
        )


def _edit_layers(editing: Editing) -> Iterator[tuple[str, list[int]]]:
    """Of each pair of problem and method the key of its edit layers, and those that are numbers.

    Raises ConfigError for a pair without layers, or without a number of facts.
    """
    for problem, method in itertools.product(editing.problems, editing.methods):
        for key in ("layers", "facts"):
            given = getattr(editing, key)
            try:
                value = pairs.of_pair(given, problem, method)
            except pairs.NotGiven as lacking:
                raise ConfigError(
                    f"config: editing.{key}: none for {problem} with {method}; name {lacking} "
                    f"there, or give `{ALL}` for those that are not named"
                ) from None
            if key == "layers":  # of a mapping, the pair is told: it may be the default's
                pair = f" ({problem} with {method})" if isinstance(given, Mapping) else ""
                yield f"editing.{key}{pair}", pairs.listed(value)


def _check_statistics(path: str | None) -> None:
    if path is not None and not is_file(checked_path(path, "config: statistics.path")):
        raise ConfigError(
            f"config: statistics.path: no file {one_line(path)}; `locedit import statistics` makes "
            "it of others' npz files (a relative one starts at the working folder)"
        )


def _check_planted(path: str | None) -> None:
    if path is not None and not is_file(checked_path(path, "config: analysis.planted")):
        raise ConfigError(
            f"config: analysis.planted: no file {one_line(path)}; presets/smollm2-planted.yaml "
            "makes it, results/MODEL/planted/analysis/hits.parquet in its folder"
        )


def _check_data(dataset: Dataset) -> None:
    name, form, path = dataset.name, dataset.format, dataset.path
    if dataset.columns and form != "native":
        raise ConfigError(
            "config: dataset.columns: names the columns of a table of your own, whose format is "
            f"native; got the format {form}: set it to native, or leave `columns` out"
        )
    if path is not None and not is_file(checked_path(path, "config: dataset.path")):
        raise ConfigError(
            f"config: dataset.path: no file {one_line(path)}; give the path of a JSON, JSON Lines, "
            "CSV or Parquet file (a relative one starts at the working folder)"
        )
    if path is not None and name == formats.PLANTED:
        raise ConfigError(
            f"config: dataset.path: the data set {name!r} is the facts that were trained into the "
            "model, and has no file; leave the path out, or give the file's facts another "
            "dataset.name"
        )
    if path is not None:
        return
    if name not in formats.KNOWN:
        anywhere = [known for known in formats.KNOWN if known != formats.PLANTED]
        raise ConfigError(
            f"config: dataset.path: the data set {name!r} needs the path of its file; without one "
            f"go, by name: {', '.join(anywhere)} (and {formats.PLANTED}, where the model has "
            "planted facts)"
        )
    if form != formats.KNOWN[name].format:
        raise ConfigError(
            f"config: dataset.format: the data set {name!r} has the format "
            f"{formats.KNOWN[name].format}, not {form}"
        )
