"""A model's own file, models/NAME.yaml: its type, where it is found, and what it states.

No heavy imports: Snakemake reads this each time it starts.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from locedit.facts.planted import Training
from locedit.messages import choices, one_line, shown
from locedit.registry import FOLDER_NAME, FOLDER_RULE
from locedit.settings import overlay
from locedit.stated import StatedError, check_layers
from locedit.store import folders
from locedit.workflow.config import beyond, checked_path, is_file, load_yaml
from locedit.workflow.sections import Method, Problem, Unique
from locedit.workflow.validation import ConfigError, Section, fits, said, validate

_label = fits(
    r"[^\x00-\x1f\ud800-\udfff]{1,100}", "a name for figures: one line of at most 100 characters"
)
_repository = fits(
    r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*",
    "must be a repository of the hub, such as owner/name",
)
_commit = fits(r"[0-9a-f]{40}", "must be the 40 hexadecimal digits of a commit")


def _noise(value: Any) -> Any:
    number = type(value) in (int, float) and math.isfinite(value) and value > 0
    text = isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,15})?sd", value)
    if not (number or text):
        raise said(
            f"{shown(value)} is not a number above 0, nor multiples of a deviation, such as 3sd"
        )
    return value


class Tuned(Section):
    """Hyperparameters that were found for the model by `snakemake tune`."""

    origin: str = Field(description="how they were found")
    hyperparameters: dict[str, Any] = Field(description="method: {all, or a problem: settings}")


class TunedSets(Section):
    """Sets of them, of which `editing.tuned` chooses one by its name."""

    unsaturated: Tuned | None = Field(None, description="edits succeed in part, so layers differ")
    saturating: Tuned | None = Field(None, description="as the paper tunes")


class Recommended(Section):
    """Where, and how, an editor does best for a problem, by `locedit recommend`."""

    layer: int = Field(ge=0, description="the edit layer, from 0; of a window its centre")
    hyperparameters: dict[str, Any] = Field({}, description="laid over the preset")
    overall: float = Field(ge=0, le=1, description="mean overall score on held-out facts")
    origin: str = Field(description="how it was found")


class PlantedIn(Section):
    """A variant of another model, into which invented facts are trained (facts/planted.py)."""

    base: str = Field(description="the other model: a file models/<name>.yaml, or its path")
    planted: int = Field(48, ge=1, description="facts that are each trained into one layer alone")
    placebo: int = Field(48, ge=0, description="facts that are trained into all layers")
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2), Unique] = Field(
        description="of which each planted fact's is drawn"
    )
    max_p_before: float = Field(
        0.1, gt=0, le=1, description="facts whose object is likelier before are left out"
    )
    seed: int = Field(0, ge=0, description="of names, objects and layers")
    training: overlay(Training) = Field({}, description="how they are trained")  # type: ignore[valid-type]


class ModelFile(Section):
    """One model: from where it comes, and what the study has to know of it."""

    label: Annotated[str, AfterValidator(_label)] = Field(description="its name in figures")
    n_layers: int = Field(ge=1, le=100000, description="its number of layers")
    noise: Annotated[float | str, PlainValidator(_noise, json_schema_input_type=float | str)] = (
        Field(
            description="sigma of the tracing noise: a number, or multiples of the standard "
            "deviation of the data set's subject-token embeddings, such as 3sd"
        )
    )
    asset: str | None = Field(None, description="a model that is pinned in locedit/store/pins.py")
    path: str | None = Field(None, description="a folder with its weights, or a GGUF file")
    hub: Annotated[str, AfterValidator(_repository)] | None = Field(
        None, description="a repository of the model hub"
    )
    revision: Annotated[str, AfterValidator(_commit)] | None = Field(
        None, description="the commit of that repository"
    )
    planted: PlantedIn | None = Field(None, description="a variant of another model, made here")
    tuned: TunedSets | None = Field(None, description="hyperparameters of its own")
    recommended: dict[Method, dict[Problem, Recommended]] | None = Field(
        None, description="by method and problem: where, and how, an edit does best"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "ModelFile":
        given = self.model_fields_set
        if empty := [name for name in given if getattr(self, name) is None]:
            raise said(f"{min(empty)}: give it a value, or leave the key out")
        for one, other in (("hub", "revision"), ("revision", "hub")):
            if one in given and other not in given:
                raise said(f"the key {other!r} is missing, which {one!r} needs")
        if len(given & {"asset", "path", "hub", "planted"}) != 1:
            raise said(
                "give one of `asset` (a pinned one), `path` (a folder), `hub` with `revision` (a "
                "repository of the hub) and `planted` (a variant of another model)"
            )
        return self


def find(name: str, root: Path) -> Path:
    """The file with a model's settings: models/<name>.yaml, or the path of such a file.

    Raises ConfigError where there is none, or where it is named as no folder of results can be.
    """
    as_path = Path(name)
    path = as_path if as_path.suffix in (".yaml", ".yml") else root / "models" / f"{name}.yaml"
    if not is_file(path):
        if weights := _weights_named(name):
            raise ConfigError(f"config: model: {weights}")
        known = sorted(p.stem for p in (root / "models").glob("*.yaml"))
        raise ConfigError(f"config: model: no file {one_line(path)}{choices(name, known)}")
    if not re.fullmatch(FOLDER_NAME, path.stem):
        raise ConfigError(f"config: model: the name of {path} becomes a folder's: {FOLDER_RULE}")
    return path


def load_model(name: str, root: Path) -> tuple[str, dict[str, Any]]:
    """(short name, settings) of a model: models/<name>.yaml, or the path of such a file."""
    path = find(name, root)
    settings = load_yaml(path)
    validate(settings, ModelFile, str(path))
    if "path" in settings:
        folder = checked_path(settings["path"], f"{path}: path")
        folder = checked_path(str(path.parent), f"config: model: {path}") / folder
        _check_weights(folder, f"{path}: path")
        check_stated_layers(path, settings, folder)
        settings["path"] = str(folder)
    if "planted" in settings:
        settings["planted"] = _planted(settings, path, root)
    return path.stem, settings


def _planted(settings: Mapping[str, Any], path: Path, root: Path) -> dict[str, Any]:
    """The section with its defaults, and its base's name and settings under `of`."""
    section = PlantedIn(**settings["planted"])
    base, of = load_model(section.base, root)
    if "planted" in of:
        raise ConfigError(f"{path}: planted.base: {base} is a variant itself; name a model")
    check_layers(settings["n_layers"], of["n_layers"], path, find(section.base, root))
    for layer in section.layers:
        if layer >= of["n_layers"]:
            raise ConfigError(f"{path}: planted.layers: {beyond(layer, of['n_layers'])}")
    training = vars(Training(**section.training))
    return {**section.model_dump(), "training": training, "base": base, "of": of}


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
        if not is_file(folder):
            raise ConfigError(f"{where}: no file {one_line(folder)}; give the path of a GGUF file")
        return
    try:
        fault = folders.fault(folder)
    except OSError:  # too long for a name, or behind a folder that may not be entered
        fault = None
    if fault is not None:
        raise ConfigError(f"{where}: {one_line(fault, 2000)}")
    if not is_file(folder / "config.json"):
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
