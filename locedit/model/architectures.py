"""Where each family of decoder-only transformers keeps its parts: one table of module paths.

What a family does differently from the others beyond names has a field here, so that no other
module asks "which model is it?". docs/how-to/model.md adds an entry from outside this project.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from locedit.errors import LoceditError
from locedit.registry import remark


class ModelError(LoceditError):
    """A model that cannot be loaded or used; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Module paths of a family, dotted, and its differences from the others.

    From the model: `layers`, `embedding`, `norm` (the final one), `positions` (learned position
    embeddings, their first `position_offset` rows unused) and `rotary` (shared by all layers:
    (hidden, position ids) -> (cos, sin)); where a layer does not take what `rotary` gives, as in
    GPT-J up to transformers 5.23, attention rotates by itself. `rotary_by_type`: `rotary` also
    takes the layer's type.

    From a layer: `attention`, `mlp`, `down_projection`, and `mlp_norm`, an RMS norm between the
    MLP and the residual stream. The MLP may be the down projection itself, and may see its tokens
    flattened, [B * Q, d]. `transposed` marks down projections that store W^T (Conv1D).

    `cache_argument` is the layer's name for its key/value cache, unless that is `cache`, as
    transformers calls it in ever more families from 5.24 on. `requires`: what an entry takes
    for granted of the model's config.
    """

    layers: str
    embedding: str
    norm: str
    attention: str
    mlp: str
    down_projection: str
    mlp_norm: str | None = None
    positions: str | None = None
    position_offset: int = 0
    rotary: str | None = None
    rotary_by_type: bool = False
    transposed: bool = False
    cache_argument: str = "past_key_values"
    requires: Mapping[str, Any] = field(default_factory=dict)


_LLAMA = Architecture(
    layers="model.layers",
    embedding="model.embed_tokens",
    norm="model.norm",
    attention="self_attn",
    mlp="mlp",
    down_projection="mlp.down_proj",
    rotary="model.rotary_emb",
)
_GPT2 = Architecture(
    layers="transformer.h",
    embedding="transformer.wte",
    norm="transformer.ln_f",
    attention="attn",
    mlp="mlp",
    down_projection="mlp.c_proj",
    positions="transformer.wpe",
    transposed=True,
)
_GEMMA2 = replace(_LLAMA, mlp_norm="post_feedforward_layernorm")
_GEMMA3 = replace(_GEMMA2, rotary_by_type=True, requires={"use_bidirectional_attention": False})

# By the `model_type` of the model's config.json
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,  # SmolLM and SmolLM2 too
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA3,
    "gemma3": replace(  # with a vision tower, which text does not pass
        _GEMMA3,
        layers="model.language_model.layers",
        embedding="model.language_model.embed_tokens",
        norm="model.language_model.norm",
        rotary="model.language_model.rotary_emb",
    ),
    "gpt2": _GPT2,
    "gptj": replace(
        _GPT2,
        down_projection="mlp.fc_out",
        positions=None,
        transposed=False,
        rotary="transformer.rotary_emb",
        cache_argument="layer_past",
    ),
    "gpt_neox": Architecture(  # Pythia
        layers="gpt_neox.layers",
        embedding="gpt_neox.embed_in",
        norm="gpt_neox.final_layer_norm",
        attention="attention",
        mlp="mlp",
        down_projection="mlp.dense_4h_to_h",
        rotary="gpt_neox.rotary_emb",
        cache_argument="layer_past",
    ),
    "opt": Architecture(
        layers="model.decoder.layers",
        embedding="model.decoder.embed_tokens",
        norm="model.decoder.final_layer_norm",
        attention="self_attn",
        mlp="fc2",
        down_projection="fc2",
        positions="model.decoder.embed_positions",
        position_offset=2,
        # OPT-350M alone has it otherwise: norms behind the residual sum, embeddings projected
        requires={"do_layer_norm_before": True, "_remove_final_layer_norm": False},
    ),
}

LAYER_TYPES = ("full_attention", "sliding_attention")
_OWN = dict(ARCHITECTURES)
_TESTED = "5.23."  # releases of transformers on which the tests run


def register(model_type: str, architecture: Architecture) -> None:
    """Add a family of one's own.

    A model of it is checked when it is loaded (`locedit.engine.architecture_check`).
    Raises ModelError where the table has another entry of that name.
    """
    if ARCHITECTURES.setdefault(model_type, architecture) != architecture:
        raise ModelError(f"an architecture {model_type!r} is registered already")


def is_tested(model_type: str, release: str) -> bool:
    """Whether a family's entry is the one above, and this release of transformers the tests' own.

    Releases rename what a block takes: 5.24 did.
    """
    return ARCHITECTURES[model_type] is _OWN.get(model_type) and release.startswith(_TESTED)


def architecture_of(config: Any) -> Architecture:
    """The entry of a transformers config; ModelError where there is none, or none that fits."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ModelError(
            f"model type {kind!r} is not supported (known: {known}); "
            f"register its module paths, as docs/how-to/model.md shows{remark()}"
        )
    entry = ARCHITECTURES[kind]
    text = config.get_text_config()
    for name, wanted in entry.requires.items():
        given = getattr(text, name, None)
        if given != wanted:
            raise ModelError(
                f"a model of type {kind!r} with {name} = {given!r} is not supported, only those "
                f"with {wanted!r}; choose another model of the family"
            )
    for name in getattr(text, "layer_types", None) or ():
        if name not in LAYER_TYPES:
            raise ModelError(
                f"layers of type {name!r} are not supported (known: {', '.join(LAYER_TYPES)})"
            )
    return entry
