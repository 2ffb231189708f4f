"""Model folders that transformers 5 writes, so that releases before it read them right too.

Those look for rotary angles under other names and, where these are missing, take defaults without a
word: another model. And they do not know the class that a plain tokenizer has now.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_TYPE = "full_attention"  # of the layers that the older names speak of, where angles go by type
_LOCAL = "sliding_attention"
_NOW, _BEFORE = "TokenizersBackend", "PreTrainedTokenizerFast"
_OF_THE_MACHINE = ("is_local", "local_files_only")  # how the writer's own tokenizer was loaded


def make_readable(folder: Path, *, dtype: str | None = None) -> None:
    """Rewrite a folder's config.json and tokenizer_config.json for both kinds of releases.

    What newer ones read stays as it is; they are told the same thing twice. Rotary angles for which
    there are no older names are put where older releases refuse them. dtype: of the weights, where
    it is another one than the model had that the folder was written from.
    """
    _rewrite(folder / "config.json", lambda values: _config(values, dtype))
    _rewrite(folder / "tokenizer_config.json", _tokenizer)


def _rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if file.is_file():
        values = change(json.loads(file.read_text(encoding="utf-8")))
        text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")


def _config(values: dict[str, Any], dtype: str | None) -> dict[str, Any]:
    inner = {
        name: _config(one, dtype)
        for name, one in values.items()
        if name.endswith("_config") and isinstance(one, dict)
    }
    found = values | inner | rotary(values.get("rope_parameters"), values.get("model_type"))
    return found | {"dtype": dtype} if dtype and "dtype" in values else found


def rotary(parameters: Mapping[str, Any] | None, model_type: str | None) -> dict[str, Any]:
    """`rope_parameters` under the names that transformers 4 looks for."""
    if not parameters:
        return {}
    if any(isinstance(one, Mapping) for one in parameters.values()):
        local = parameters.get(_LOCAL) or {}
        plain = set(parameters) == {_TYPE, _LOCAL} and local.get("rope_type") == "default"
        if not (plain and str(model_type).startswith("gemma3")):
            return {"rope_scaling": dict(parameters)}  # without a `rope_type`, which they ask for
        return rotary(parameters[_TYPE], None) | {"rope_local_base_freq": local["rope_theta"]}
    given = dict(parameters)
    theta, share = given.pop("rope_theta", None), given.pop("partial_rotary_factor", None)
    names = ("rope_theta", "partial_rotary_factor")
    if model_type == "gpt_neox":
        names = ("rotary_emb_base", "rotary_pct")
    found = dict(zip(names, (theta, share), strict=True))
    if given.get("rope_type", "default") != "default":
        found["rope_scaling"] = given
    return {name: value for name, value in found.items() if value is not None}


def _tokenizer(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in _OF_THE_MACHINE}
    if kept.get("tokenizer_class") == _NOW:
        kept["tokenizer_class"] = _BEFORE
    return kept
