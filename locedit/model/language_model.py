"""Language models: loading, tokenising, and their parts by name, whatever the family."""

import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from locedit.errors import LoceditError
from locedit.model.architectures import (
    LAYER_TYPES,
    ModelError,
    architecture_of,
)
from locedit.model.linear import linear
from locedit.model.norms import nearest_output
from locedit.model.tokenizing import Tokenizer
from locedit.text.subjects import locate
from locedit.windows import EMBEDDING


class LanguageModel:
    """A causal language model and its tokenizer, ready for partial passes.

    Weights are frozen and dropout is off. Nothing in this project writes to the weights.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.architecture = architecture_of(model.config)
        self.config = model.config.get_text_config()
        self.text = Tokenizer(tokenizer)
        if (known := tokenizer.vocab_size) > (rows := self.embedding.weight.shape[0]):
            raise ModelError(
                f"the tokenizer has {known:,} tokens and the model embeddings for {rows:,}: it is "
                "another model's; use the one that the model was trained with"
            )

    @cached_property
    def layers(self) -> list[nn.Module]:
        return list(self.model.get_submodule(self.architecture.layers))

    @cached_property
    def embedding(self) -> Any:
        return self.model.get_submodule(self.architecture.embedding)

    @property
    def embedding_scale(self) -> Any:
        """By what the embedding's rows are multiplied on their way to the first layer (Gemma)."""
        return getattr(self.embedding, "embed_scale", 1)

    @property
    def tied(self) -> bool:
        """Whether the head's weight is the embedding's."""
        return self.head.weight is self.embedding.weight

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def windows(self) -> list[int | None]:
        """How far back each layer's attention reaches, in tokens, itself included; None: all."""
        size = getattr(self.config, "sliding_window", None)
        types = getattr(self.config, "layer_types", None) or [LAYER_TYPES[size is not None]] * (
            self.n_layers
        )
        return [size if name == LAYER_TYPES[1] else None for name in types]

    @cached_property
    def rotary_types(self) -> list[str | None]:
        """The kind of rotary positions that each layer takes; None where all take one."""
        if not self.architecture.rotary_by_type:
            return [None] * self.n_layers
        return list(self.config.layer_types)

    @cached_property
    def rotary(self) -> Any:
        """What gives all layers their rotary positions; None where there is nothing that does."""
        path = self.architecture.rotary
        if path is None or not self.takes_rotary:
            return None
        return self.model.get_submodule(path)

    @property
    def takes_rotary(self) -> bool:
        """Whether layers take rotary positions that are made for all of them."""
        return "position_embeddings" in self._taken

    @cached_property
    def cache_argument(self) -> str:
        """What a layer calls its key/value cache."""
        return "cache" if "cache" in self._taken else self.architecture.cache_argument

    @cached_property
    def _taken(self) -> frozenset[str]:
        """The arguments that a layer names, which releases of transformers rename."""
        return frozenset(inspect.signature(type(self.layers[0]).forward).parameters)

    @cached_property
    def hidden_size(self) -> int:
        return self.embedding.weight.shape[1]

    @cached_property
    def inner_size(self) -> int:
        """d_ff: the width of the down projection's input."""
        return self.down_weight(0).shape[1]

    @cached_property
    def weight_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.model.parameters())

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @property
    def trained_dtype(self) -> torch.dtype:
        """Of what Adam trains: in float16 its eps, and squares of gradients, would be 0."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    def attention(self, layer: int) -> Any:
        return self.layers[layer].get_submodule(self.architecture.attention)

    def mlp(self, layer: int) -> Any:
        return self.layers[layer].get_submodule(self.architecture.mlp)

    def down_projection(self, layer: int) -> Any:
        return self.layers[layer].get_submodule(self.architecture.down_projection)

    def down_weight(self, layer: int) -> Tensor:
        """The down projection's weight as [d, d_ff], whichever way round the family stores it."""
        weight = self.down_projection(layer).weight
        return weight.T if self.architecture.transposed else weight

    def edited_module(self, layer: int) -> Any:
        """The module whose weight edits of a layer change: its down projection, or the embedding.

        layer: EMBEDDING for the latter.
        """
        return self.embedding if layer == EMBEDDING else self.down_projection(layer)

    def edited_weight(self, layer: int) -> Tensor:
        """That module's weight: [d, d_ff] as of `down_weight`, or the embedding's, [tokens, d]."""
        return self.embedding.weight if layer == EMBEDDING else self.down_weight(layer)

    def mlp_norm(self, layer: int) -> Any:
        """The norm between the MLP and the residual stream; None where there is none."""
        path = self.architecture.mlp_norm
        return None if path is None else self.layers[layer].get_submodule(path)

    def block_change(self, layer: int, output: Tensor, change: Tensor) -> Tensor:
        """What a block's output changes by where its MLP's changes: [..., d] all.

        output: the MLP's, without the change.
        """
        norm = self.mlp_norm(layer)
        return change if norm is None else norm(output + change) - norm(output)

    def mlp_change(self, layer: int, output: Tensor, change: Tensor) -> Tensor:
        """The change of an MLP's output that asks for a change of its block's: [..., d] all.

        An RMS norm puts out g * v / rms(v), of one length. Here v becomes, its own length kept,
        what comes nearest to norm(v) + change behind the norm.
        """
        norm = self.mlp_norm(layer)
        if norm is None:
            return change
        length = output.square().mean(dim=-1, keepdim=True).sqrt()
        gain = norm(length.expand_as(output))  # at that length, so with the norm's epsilon in it
        nearest = nearest_output(gain, norm(output) + change)
        return (length * nearest - output).to(output)

    def mlp_gain(self, layer: int) -> Tensor | None:
        """By what the norm behind an MLP multiplies each entry, [d]; None where there is none."""
        norm = self.mlp_norm(layer)
        if norm is None:
            return None
        return norm(torch.full_like(self.embedding.weight[0], 1e3))  # far above its epsilon

    def module(self, kind: str, layer: int) -> nn.Module:
        """The module whose output is restored: `mlp`, `attn` or `hidden` (the whole block)."""
        if kind == "hidden":
            return self.layers[layer]
        return self.mlp(layer) if kind == "mlp" else self.attention(layer)

    def encode(self, text: str, *, bare: bool = False) -> list[int]:
        """Token ids of a prompt, with what the tokenizer puts in front (BOS) unless `bare`."""
        return self.text.encode(text, bare=bare)

    def encode_target(self, target: str, prompt: str) -> list[int]:
        """Token ids of a target as it goes on from the prompt, whose probability is measured.

        Those of " " + target in English prose; METHODS section 0 has the rest.
        """
        return self.text.encode_target(target, prompt)

    def continuation(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text that each row of tokens adds to a text, its leading space kept."""
        return self.text.continuation(tokens)

    def decode(self, ids: list[int]) -> str:
        return self.text.decode(ids)

    def token_text(self, token: int) -> str:
        """One token as it is shown."""
        return self.text.token_text(token)

    def subject_range(self, text: str, subject: str, start: int | None = None) -> tuple[int, int]:
        """[b, e): tokens that overlap the subject where it stands in `text` (METHODS section 0).

        start: characters before it, as its template says; None: where `subjects.locate` finds it.
        Raises LoceditError where the subject does not stand there.
        """
        if start is None:
            place = locate(text, subject)
            start = -1 if place is None else place.start
        if start < 0 or not subject or not text.startswith(subject, start):
            raise LoceditError(f"subject {subject!r} does not occur in prompt {text!r}")
        end = start + len(subject)
        offsets = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        inside = [i for i, (a, z) in enumerate(offsets) if a < end and z > start]
        if not inside:
            raise LoceditError(f"no token of {text!r} overlaps the subject {subject!r}")
        return inside[0], inside[-1] + 1

    def unknown(
        self, prompt: str, subject: str, start: int, targets: Sequence[str], texts: Sequence[str]
    ) -> str:
        """Which of subject and targets is no text of the tokenizer's, in words; "" if none.

        The subject stands in the prompt, behind `start` characters; the targets behind any text.
        """
        b, e = self.subject_range(prompt, subject, start)
        found = [subject] if self.text.unknown(self.encode(prompt)[b:e]) else []
        for target in targets:
            if any(self.text.unknown(self.encode_target(target, text)) for text in texts):
                found.append(target)
        if not found:
            return ""
        return (
            f"the model's tokenizer has no tokens for a part of {found[0]!r}, but its unknown one"
        )

    @cached_property
    def special_ids(self) -> list[int]:
        """Tokens that end or structure a chat, never part of running text."""
        ids = set(self.tokenizer.all_special_ids)
        eos = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids.update([eos] if isinstance(eos, int) else eos or [])
        return sorted(i for i in ids if i < self.vocabulary_size)

    @property
    def context_length(self) -> int | None:
        """Tokens that the model reads at most; None where its config names no limit."""
        return getattr(self.config, "max_position_embeddings", None)

    def check_length(self, tokens: int) -> None:
        """Raise LoceditError for a row of more tokens than the model has positions for."""
        if self.context_length is not None and tokens > self.context_length:
            raise LoceditError(
                f"a row of {tokens} tokens exceeds the model's {self.context_length}"
            )

    @cached_property
    def vocabulary_size(self) -> int:
        return self.head.weight.shape[0]

    @property
    def head(self) -> Any:
        return self.model.get_output_embeddings()

    def final_norm(self, hidden: Tensor) -> Tensor:
        """[..., d] block outputs of the last layer, as the head takes them."""
        return self.model.get_submodule(self.architecture.norm)(hidden)

    def head_logits(self, normed: Tensor, tokens: slice | Tensor) -> Tensor:
        """Logits of a part of the vocabulary alone, [..., part], from `final_norm`'s output."""
        bias = self.head.bias
        part = linear(normed, self.head.weight[tokens], None if bias is None else bias[tokens])
        return self._as_logits(part)

    def logits(self, hidden: Tensor, added: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Final norm and head: [..., d] block outputs of the last layer -> [..., vocabulary].

        added: what a changed head puts out beyond the model's own, from the final norm's output.
        """
        normed = self.final_norm(hidden)
        product = self.head(normed)
        return self._as_logits(product if added is None else product + added(normed))

    def _as_logits(self, product: Tensor) -> Tensor:
        cap = getattr(self.config, "final_logit_softcapping", None)
        if cap is not None:
            product = cap * torch.tanh(product / cap)
        return product.to(torch.promote_types(self.dtype, torch.float32))
