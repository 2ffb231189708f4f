"""Models and tokenizers small enough for any test, built from nothing: no network, no files.

Weights are drawn wider than a trained model's initialisation, so that probabilities differ from
token to token, interventions move them, and float64 leaves no room for chance agreement.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from locedit.model.architectures import architecture_of

# Enough text for words of one token and of several; the names below come out in pieces.
SENTENCES = [
    "The capital city of France is Paris, and the capital city of Italy is Rome.",
    "The capital of Spain is Madrid; the seat of government of France is in the city of Paris.",
    "Windows was developed by Microsoft, and the Macintosh was developed by Apple.",
    "In the early years of the war the city was the seat of the government.",
    "It was reported on Monday that the river is a part of the country.",
    "The mother tongue of the writer is French, and the mother tongue of the king is English.",
    "I have been to the old city by the river. You can see the new one from here.",
]


@contextmanager
def nothing_in_float32() -> Iterator[None]:
    """Leaves out the casts of float64 to float32 that some families' norms and softmaxes make.

    They round what is to be compared, whatever the weights' type: by 1e-7, which an edit amplifies.
    What is multiplied by whole numbers cast to float32 (positions, by rotary frequencies) keeps its
    float64, too. Only the functions that cast are others within the context: a mode that is asked
    of each operation took a quarter of the tests' time.
    """

    tensor, functional = torch.Tensor, torch.nn.functional

    def cast(to: Callable, *always: Any) -> Callable:
        def left_out(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            asked = any(a is torch.float32 for a in (*always, *args, *kwargs.values()))
            return x if asked and x.dtype == torch.float64 else to(x, *args, **kwargs)

        return left_out

    def uncast(softmax: Callable) -> Callable:
        def in_its_own(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            own = {"dtype": None} if x.dtype == torch.float64 else {}
            return softmax(x, *args, **kwargs | own)

        return in_its_own

    def product(of: Callable) -> Callable:
        def in_double(x: torch.Tensor, y: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            mixed = x.dtype == torch.float64 and y.dtype == torch.float32
            return of(x, y.double() if mixed else y, *args, **kwargs)

        return in_double

    with ExitStack() as stack:
        for owner, name, instead in (
            (tensor, "float", cast(tensor.float, torch.float32)),
            (tensor, "to", cast(tensor.to)),
            (functional, "softmax", uncast(functional.softmax)),
            (tensor, "matmul", product(tensor.matmul)),
            (tensor, "__matmul__", product(tensor.__matmul__)),
            (torch, "matmul", product(torch.matmul)),
        ):
            stack.enter_context(mock.patch.object(owner, name, instead))
        yield


class Pair(NamedTuple):
    """A model and the tokenizer made for it."""

    model: Any
    tokenizer: PreTrainedTokenizerFast


def tokenizer(
    *,
    adds_bos: bool = False,
    vocabulary: int = 360,
    spaced: bool = False,
    texts: Sequence[str] = SENTENCES,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with offsets; with `adds_bos` every text is given a first token <s>.

    With `spaced` a space is put in front of every text, and taken away again, as by Llama 2's.
    texts: what it is made of; their words are single tokens where the vocabulary is large enough.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if spaced:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        inner.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=[*alphabet, "\n"] if spaced else alphabet,
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


# What a family's config calls its sizes; the rest is common to all.
_GPT2 = {"n_embd": 32, "n_inner": 64, "n_head": 4, "n_positions": 256}
_NEOX = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_LLAMA = _NEOX | {"num_key_value_heads": 2}  # grouped-query attention
_SLIDING = {"head_dim": 8, "sliding_window": 64}  # longer than any prompt here
_GEMMA = _LLAMA | _SLIDING | {"query_pre_attn_scalar": 8}
_GEMMA3 = _GEMMA | {
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1e5, "factor": 4.0},
    },
}


def _gemma3_with_vision(**settings: Any) -> Gemma3Config:
    sizes = {name: settings[name] for name in ("hidden_size", "intermediate_size")}
    vision = {"num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
    return Gemma3Config(
        text_config=settings,
        vision_config={"model_type": "siglip_vision_model"} | sizes | vision,
        mm_tokens_per_image=4,
        image_token_index=settings["vocab_size"],
        tie_word_embeddings=settings.get("tie_word_embeddings", True),
    )


class Family(NamedTuple):
    """A model's class, what makes its config, and settings of it; layer types are repeated."""

    model: type
    config: Callable[..., Any]
    settings: dict[str, Any]


FAMILIES = {
    # Rotary positions, gated MLP, no biases.
    "llama": Family(LlamaForCausalLM, LlamaConfig, _LLAMA),
    # Learned positions, transposed weights, biases everywhere, a tied head.
    "gpt2": Family(GPT2LMHeadModel, GPT2Config, _GPT2),
    # Attention and MLP side by side; a head with a bias.
    "gptj": Family(GPTJForCausalLM, GPTJConfig, _GPT2 | {"rotary_dim": 4}),
    "gpt_neox": Family(GPTNeoXForCausalLM, GPTNeoXConfig, _NEOX | {"rotary_pct": 0.5}),
    "mistral": Family(MistralForCausalLM, MistralConfig, _LLAMA | _SLIDING),
    # Biases of queries, keys and values; windows in the upper layers.
    "qwen2": Family(
        Qwen2ForCausalLM,
        Qwen2Config,
        _LLAMA | {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2},
    ),
    # Norms of queries and keys, heads wider than their share.
    "qwen3": Family(Qwen3ForCausalLM, Qwen3Config, _LLAMA | {"head_dim": 16}),
    # Scaled embeddings, norms behind attention and MLP, capped logits, a tied head.
    "gemma2": Family(
        Gemma2ForCausalLM,
        Gemma2Config,
        _GEMMA | {"final_logit_softcapping": 5.0, "attn_logit_softcapping": 5.0},
    ),
    # Local and global layers with rotary angles of their own.
    "gemma3_text": Family(Gemma3ForCausalLM, Gemma3TextConfig, _GEMMA3),
    # The same beside a vision tower.
    "gemma3": Family(Gemma3ForConditionalGeneration, _gemma3_with_vision, _GEMMA3),
    # Learned positions that begin at 2, no MLP module, tokens flattened before it.
    "opt": Family(
        OPTForCausalLM,
        OPTConfig,
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
        },
    ),
}


def model(
    family: str,
    vocabulary: int,
    *,
    layers: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **changes: Any,
) -> nn.Module:
    """A model of a family with random weights; `changes` are laid over its settings."""
    kind, config, settings = FAMILIES[family]
    settings = settings | changes
    if "layer_types" in settings:
        types = settings["layer_types"]
        settings = settings | {"layer_types": (types * layers)[:layers]}
    return drawn(
        kind,
        config(
            vocab_size=vocabulary,
            num_hidden_layers=layers,
            initializer_range=0.25,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            **settings,
        ),
        dtype,
        seed,
    )


def drawn(kind: type, config: Any, dtype: torch.dtype, seed: int) -> nn.Module:
    """A model of a config, its weights drawn from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config).to(dtype).eval()
        with torch.no_grad():
            # Biases start at zero and norms at one: moved, so that a forgotten one is noticed.
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter += 0.1 * torch.randn_like(parameter)
            _final_norm(model).weight *= 2  # else no token could be certain in so small a space
    return model


def _final_norm(model: Any) -> Any:
    return model.get_submodule(architecture_of(model.config).norm)


def pair(
    family: str = "llama",
    *,
    adds_bos: bool = False,
    layers: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **changes: Any,
) -> Pair:
    words = tokenizer(adds_bos=adds_bos)
    return Pair(model(family, len(words), layers=layers, dtype=dtype, seed=seed, **changes), words)


def save(both: Pair, folder: Path) -> Path:
    """Write model (safetensors) and tokenizer to a folder that loads by path."""
    both.model.save_pretrained(folder)
    both.tokenizer.save_pretrained(folder)
    return folder
