"""EasyEdit's settings of an editor (YAML), out and in, with what is usually wrong in them.

Keys as their hyperparameter files have them; module paths are templates, `{}` for the layer.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from locedit.errors import LoceditError
from locedit.messages import listed, nearest, one_line, shown
from locedit.methods import METHODS
from locedit.methods.builtin import FactToken
from locedit.model.language_model import LanguageModel
from locedit.windows import window_layers

# Our settings' names to theirs
_VALUE = {
    "iterations": "v_num_grad_steps",
    "lr": "v_lr",
    "decay": "v_weight_decay",
    "clamp": "clamp_norm_factor",
    "kl_factor": "kl_factor",
}
_FT = {"steps": "num_steps", "lr": "lr", "eps": "norm_constraint"}
# Ours -> (theirs, names of settings)
_METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "ROME": ("ROME", _VALUE),
    "r-ROME": ("R-ROME", _VALUE),
    "MEMIT": ("MEMIT", _VALUE | {"moment_weight": "mom2_update_weight"}),
    "EMMET": ("EMMET", _VALUE | {"ridge": "emmet_lambda"}),
    "AlphaEdit": ("AlphaEdit", _VALUE | {"l2": "L2", "threshold": "nullspace_threshold"}),
    "FT-1": ("FT", _FT),
    "FT-5": ("FT", _FT),
    "FT-M": ("FT", {"steps": "num_steps", "lr": "lr"}),
}
_NUMBERS = {*_VALUE.values(), *_FT.values(), "mom2_update_weight", "L2", "nullspace_threshold"}
_NUMBERS |= {"emmet_lambda", "weight_decay", "v_loss_layer", "mom2_n_samples"}
# What their dataclasses have beside, and want: a key that is not theirs is an error there
_WINDOWED: dict[str, Any] = {"layer_selection": "all", "mom2_update_weight": 1}
_OF_THEIRS: dict[str, dict[str, Any]] = {
    "ROME": {"context_template_length_params": [[5, 10], [10, 10]]},
    "R-ROME": {"context_template_length_params": [[5, 10], [10, 10]]},
    "MEMIT": {"layer_selection": "all"},
    "EMMET": {**_WINDOWED, "update_norm_lambda": 0},
    "AlphaEdit": {**_WINDOWED, "P_loc": "./null_space_project.pt"},  # the weight goes unused
}
_MODULES = ("rewrite_module_tmp", "layer_module_tmp", "mlp_module_tmp", "attn_module_tmp")
_PLAIN_MODULES = ("ln_f_module", "lm_head_module")


def settings(
    lm: LanguageModel, method: str, layer: int, hyper: Any, *, model_name: str, stats_dir: str
) -> dict[str, Any]:
    """What their file of an editor holds, of our hyperparameters at a layer.

    Raises LoceditError for a method that they do not have, or settings that they cannot say.
    """
    if method not in _METHODS:
        raise LoceditError(f"{method}: EasyEdit has no such editor (known: {listed(_METHODS)})")
    theirs, names = _METHODS[method]
    ours = dataclasses.asdict(hyper)
    if method == "AlphaEdit" and ours["threshold_kind"] != "absolute":
        raise LoceditError(
            f"AlphaEdit: EasyEdit's nullspace_threshold is absolute, and threshold_kind is "
            f"{ours['threshold_kind']}; set it to absolute with a threshold that fits (locedit "
            "export projection tells ranks)"
        )
    found: dict[str, Any] = {
        "alg_name": theirs,
        "model_name": model_name,
        "device": 0,
        "layers": [*window_layers(layer, ours.get("window", 1), lm.n_layers)],
        **{their: _plain(ours[own]) for own, their in names.items()},
        **modules(lm),
    }
    if theirs == "FT":
        masked = method == "FT-M"
        found |= {"weight_decay": 0, "kl_factor": 0}
        found |= {"norm_constraint": False} if masked else {}
        found["objective_optimization"] = "target_new" if masked else "prompt_last"
        return found
    found |= {
        "stats_dir": stats_dir,
        "fact_token": ours["fact_token"],
        "v_loss_layer": lm.n_layers - 1,
        "mom2_adjustment": True,
        "mom2_dataset": "wikipedia",
        "mom2_n_samples": 100000,
        "mom2_dtype": "float32",
    }
    return found | _OF_THEIRS[theirs]


def modules(lm: LanguageModel) -> dict[str, str]:
    """The templates and names of the model's parts."""
    own = lm.architecture
    named = {module: name for name, module in lm.model.named_modules()}
    templates = dict(zip(_MODULES, (own.down_projection, "", own.mlp, own.attention), strict=True))
    paths = {
        key: f"{own.layers}.{{}}{f'.{inner}' if inner else ''}" for key, inner in templates.items()
    }
    return paths | {"ln_f_module": own.norm, "lm_head_module": named.get(lm.head, "lm_head")}


def text(values: Mapping[str, Any]) -> str:
    """As YAML that their reader takes numbers for numbers in."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """Small numbers with a point before the exponent, as YAML 1.1 wants them."""


def _written(value: float) -> str:
    said = repr(value)
    return said.replace("e", ".0e") if "e" in said and "." not in said else said


_Dumper.add_representer(
    float,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", _written(value)),
)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value == int(value) else value


# ---- in ------------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """What a file holds. Raises LoceditError where it is no YAML mapping of settings."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise LoceditError(f"{path} cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(found, dict) or "alg_name" not in found:
        raise LoceditError(f"{path}: expected a mapping with alg_name, as EasyEdit's settings are")
    return found


def faults(lm: LanguageModel, values: Mapping[str, Any]) -> list[str]:
    """What is wrong in settings for this model, a clause each."""
    return [*_faults(lm, values)]


def _faults(lm: LanguageModel, values: Mapping[str, Any]) -> Iterator[str]:
    known = sorted({theirs for theirs, _ in _METHODS.values()})
    if values["alg_name"] not in known:
        near = nearest(values["alg_name"], known)
        yield f"alg_name: {shown(values['alg_name'])} is none of {listed(known)}{near}"
    for key in sorted(_NUMBERS & values.keys()):
        value = values[key]
        if key == "norm_constraint" and value is False:  # none
            continue
        if isinstance(value, str):
            yield f"{key}: {shown(value)} is read as text; write {_as_number(value)}"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{key}: expected a number, got {shown(value)}"
    token = values.get("fact_token")
    if token is not None and token not in get_args(FactToken):
        yield f"fact_token: {shown(token)} is none of {listed(get_args(FactToken))}"
    last, given = lm.n_layers - 1, values.get("v_loss_layer")
    if given is not None and not isinstance(given, str) and given != last:
        yield f"v_loss_layer: {shown(given)}, and the model's last layer is {last}"
    yield from _layer_faults(lm, values.get("layers"))
    yield from _module_faults(lm, values)


def _module_faults(lm: LanguageModel, values: Mapping[str, Any]) -> Iterator[str]:
    named, own = {name for name, _ in lm.model.named_modules()}, modules(lm)
    for key in (*_MODULES, *_PLAIN_MODULES):
        value = values.get(key)
        if value is None:
            continue
        path = str(value)
        if values["alg_name"] == "FT" and key == "rewrite_module_tmp":
            path = path.removesuffix(".weight")  # which part of a weight's name it is, there
        if path.replace("{}", "0") not in named:
            yield f"{key}: the model has no module {shown(value)}; write {own[key]}"
        elif key in _MODULES and "{}" not in path:
            yield f"{key}: {shown(value)} is of one layer, whatever layers says; write {own[key]}"
        elif key == "rewrite_module_tmp" and path != own[key]:
            yield f"{key}: {shown(value)} is not what is edited here; write {own[key]}"


def _layer_faults(lm: LanguageModel, layers: Any) -> Iterator[str]:
    plain = isinstance(layers, list) and layers and all(type(one) is int for one in layers)
    if not plain:
        yield f"layers: expected a list of whole numbers, got {shown(layers)}"
    elif beyond := [one for one in layers if not 0 <= one < lm.n_layers]:
        yield f"layers: {listed(beyond)} beyond the model's, 0 to {lm.n_layers - 1}"
    elif layers != [*range(layers[0], layers[0] + len(layers))]:
        yield f"layers: {listed(layers)} are no window of neighbouring layers, lowest first"


def _as_number(text: str) -> str:
    try:
        return _written(float(text))
    except ValueError:
        return "a number"


def hyperparameters(
    lm: LanguageModel, values: Mapping[str, Any], source: object
) -> tuple[str, int, dict[str, Any]]:
    """Method, edit layer and our hyperparameters of settings without faults.

    Raises LoceditError, in one sentence, with all that is wrong in them. What they set beside (a
    file's places, contexts, statistics) is a study's own; see `left_out` for what that changes.
    """
    if found := faults(lm, values):
        raise LoceditError(f"{source}: {'; '.join(found)}")
    layers = values["layers"]
    method = _method(values, layers)
    _, names = _METHODS[method]
    settings = {own: values[their] for own, their in names.items() if their in values}
    fields = {field.name for field in dataclasses.fields(METHODS[method].settings)}
    if "window" in fields:
        settings["window"] = len(layers)
    if "fact_token" in fields & values.keys():
        settings["fact_token"] = values["fact_token"]
    if method == "AlphaEdit":
        settings["threshold_kind"] = "absolute"
    centre = [
        layer
        for layer in layers
        if [*window_layers(layer, settings.get("window", 1), lm.n_layers)] == layers
    ]
    if not centre:
        raise LoceditError(
            f"{source}: layers {listed(layers)} are no window around one layer; an editor of "
            f"{method} edits {settings.get('window', 1)} around its layer"
        )
    return method, centre[0], settings


def left_out(values: Mapping[str, Any]) -> list[str]:
    """What settings without faults ask for that an edit here does not do, a clause each."""
    name, found = values["alg_name"], []
    if name in ("ROME", "R-ROME") and values.get("mom2_adjustment") is False:
        found.append("mom2_adjustment false: keys are multiplied by C^-1 here, always")
    if name in ("MEMIT", "EMMET", "AlphaEdit") and values.get("layer_selection", "all") != "all":
        found.append(
            f"layer_selection {shown(values['layer_selection'])}: all layers are edited here"
        )
    neutral = {"FT": {"weight_decay": 0, "kl_factor": 0}}
    neutral["EMMET"] = {"mom2_update_weight": 1, "update_norm_lambda": 0}
    for key, without in neutral.get(name, {}).items():
        if values.get(key, without) != without:
            found.append(f"{key} {shown(values[key])}: there is no such setting here")
    return found


def _method(values: Mapping[str, Any], layers: Sequence[int]) -> str:
    if values["alg_name"] != "FT":
        return next(own for own, (theirs, _) in _METHODS.items() if theirs == values["alg_name"])
    if not values.get("norm_constraint"):
        return "FT-M"
    return "FT-1" if len(layers) == 1 else "FT-5"
