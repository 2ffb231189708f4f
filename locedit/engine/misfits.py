"""What speaks against a model while it is loaded, in sentences whose advice leads out.

Of the folder, before; of its configuration and weights, which are compared; and what a library says
where its own advice does not hold here.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from locedit.messages import listed
from locedit.model.architectures import ARCHITECTURES, ModelError, architecture_of
from locedit.store import folders


def check_folder(path: Path) -> None:
    """Raise ModelError where a folder is none of a model's, before anything of it is loaded."""
    if (fault := folders.fault(path)) is not None:
        raise ModelError(fault)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"no model at {path}: expected a directory with config.json, safetensors weights and "
            "tokenizer.json; check the model's `path` in its configuration"
        )


def check_complete(path: Path) -> None:
    """Raise ModelError where a folder lacks weights or a tokenizer: after its kind is known."""
    if (lacks := folders.lacking(path)) is not None:
        raise ModelError(lacks)


def check_kind(config: Any, path: Path) -> None:
    """Raise ModelError for a model that continues no text, which no table of paths could mend."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    made_for = getattr(config, "architectures", None) or []
    if config.is_encoder_decoder:
        why = "it is an encoder-decoder model"
    elif made_for and all(name.endswith("ForMaskedLM") for name in made_for):
        why = f"it is an encoder, {listed(made_for)}"
    elif type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        why = "transformers has no causal language model of that type"
    else:
        return
    raise ModelError(
        f"the model at {path}, of type {config.model_type!r}, cannot be studied: {why}; choose a "
        f"decoder-only language model, of a type among {', '.join(sorted(ARCHITECTURES))}"
    )


def check_stated(model: Any, config: Any, unexpected: Iterable[str], path: Path) -> None:
    """Raise ModelError where config.json and the weights beside it tell of different models."""
    layers = architecture_of(config).layers
    present = len(model.get_submodule(layers))
    parts = layers.split(".")
    names = "|".join(re.escape(".".join(parts[i:])) for i in range(len(parts)))
    found = (re.match(rf"(?:{names})\.(\d+)\.", key) for key in unexpected)
    if beyond := [int(match[1]) for match in found if match and int(match[1]) >= present]:
        raise ModelError(
            f"{path / 'config.json'} tells of {present} layers, and the weights beside it have "
            f"{max(beyond) + 1}; write that number there, or fetch the model again"
        )
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if config.tie_word_embeddings and head.weight is not embedding.weight:
        raise ModelError(
            f"{path / 'config.json'} says that the head is the token embedding "
            "(tie_word_embeddings), and the weights beside it have a head of its own; write "
            "false there if that head is meant, else take it out of the weights"
        )


def check_finite(model: Any, path: Path) -> None:
    """Raise ModelError where a weight holds NaN or infinity, which no number after it would tell.

    One pass over the weights and one wait, on whatever devices they lie.
    """
    named = {name: weight.detach() for name, weight in model.named_parameters() if weight.numel()}
    # the extremes carry a NaN on, and are read as fast as the memory gives them
    flags = [torch.stack(weight.aminmax()).isfinite().all() for weight in named.values()]
    first = flags[0].device
    finite = torch.stack([flag.to(first) for flag in flags]).tolist()
    bad = [name for name, fine in zip(named, finite, strict=True) if not fine]
    if not bad:
        return
    narrow = named[bad[0]].dtype == torch.float16
    raise ModelError(
        f"the weights at {path} hold NaN or infinity in {len(bad)} of {len(named)} tensors: "
        f"{listed(bad)}; "
        + ("load them in float32 (`dtype: auto`), or " if narrow else "")
        + "fetch the model again, whole; if it is so where it comes from, choose another"
    )


def remedy_of_missing(model: Any, missing: Iterable[str]) -> str:
    """What leads out where tensors are missing: a head may be the embedding, unsaid."""
    head = model.get_output_embeddings()
    own = {name for name, module in model.named_modules() if module is head}
    if {name.rpartition(".")[0] for name in missing} <= own:
        return "if the head is the token embedding, write tie_word_embeddings: true in config.json"
    return "fetch the model again, whole"


def own_words(error: Exception, path: Path) -> str | None:
    """What a library says of a folder, where its advice does not lead out here; None elsewhere."""
    said = str(error)
    if "contains custom code" in said:
        return (
            f"the model at {path} contains custom code, and code of a checkpoint is never run "
            "here; " + _remedy_of_code(path)
        )
    if "does not recognize this architecture" in said:
        kind = folders.own_config(path).get("model_type")
        return (
            f"the model at {path} is of type {kind!r}, which transformers does not have built in; "
            + _remedy_of_code(path)
        )
    if any(name in said.lower() for name in ("backend tokenizer", "tiktoken", "sentencepiece")):
        return (
            f"the tokenizer at {path} has no tokenizer.json, and none can be made from the other "
            "files there; put the tokenizer.json there that belongs to the model"
        )
    if "size mismatch" in said or "ignore_mismatched_sizes" in said:
        return (
            f"{path / 'config.json'} states other sizes than the weights beside it have; fetch "
            "both again, from one place"
        )
    return None


def _remedy_of_code(path: Path) -> str:
    if "AutoTokenizer" in folders.tokenizer_config(path).get("auto_map", {}) and (
        folders.own_config(path).get("model_type") in ARCHITECTURES
    ):
        return (
            "where tokenizer.json is there, write `tokenizer_class: PreTrainedTokenizerFast` in "
            "tokenizer_config.json and take `auto_map` out of it"
        )
    return (
        "choose a model of a family that transformers has built in, or read that code and put it "
        "into a plug-in, as docs/how-to/model.md shows"
    )
