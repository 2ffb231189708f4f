"""Models and tokenizers small enough for any test, built from nothing: no network, no files.

Weights are drawn wider than a trained model's initialisation, so that probabilities differ from
token to token, interventions move them, and float64 leaves no room for chance agreement.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

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


class Pair(NamedTuple):
    """A model and the tokenizer made for it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerFast


def tokenizer(*, adds_bos: bool = False, vocabulary: int = 360) -> PreTrainedTokenizerFast:
    """Byte-level BPE with offsets; with `adds_bos` every text is given a first token <s>."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(SENTENCES, trainer)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def llama(
    vocabulary: int, *, layers: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0
) -> LlamaForCausalLM:
    """Rotary positions, grouped-query attention, gated MLP, no biases."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.25,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return _drawn(LlamaForCausalLM, config, dtype, seed)


def gpt2(
    vocabulary: int, *, layers: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0
) -> GPT2LMHeadModel:
    """Learned positions, transposed weights, biases everywhere, a tied head."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=256,
        n_embd=32,
        n_inner=64,
        n_layer=layers,
        n_head=4,
        initializer_range=0.25,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return _drawn(GPT2LMHeadModel, config, dtype, seed)


def _drawn(kind: type, config, dtype: torch.dtype, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config).to(dtype).eval()
        with torch.no_grad():
            # Biases start at zero and norms at one: moved, so that a forgotten one is noticed.
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter += 0.1 * torch.randn_like(parameter)
            # A sharper head: else no token could ever become certain in so small a space.
            final_norm = model.base_model.get_submodule(
                {"llama": "norm", "gpt2": "ln_f"}[config.model_type]
            )
            final_norm.weight *= 2
    return model


FAMILIES = {"llama": llama, "gpt2": gpt2}


def pair(
    family: str = "llama",
    *,
    adds_bos: bool = False,
    layers: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Pair:
    words = tokenizer(adds_bos=adds_bos)
    return Pair(FAMILIES[family](len(words), layers=layers, dtype=dtype, seed=seed), words)


def save(both: Pair, folder: Path) -> Path:
    """Write model (safetensors) and tokenizer to a folder that loads by path."""
    both.model.save_pretrained(folder)
    both.tokenizer.save_pretrained(folder)
    return folder
