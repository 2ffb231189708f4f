"""Text to tokens and back, and what is taken for granted of a model's tokenizer.

METHODS section 0 puts a target's tokens behind a prompt's. That asks more of a tokenizer than that
it turns text into numbers: a `Tokenizer` checks it once, when a model is loaded.
"""

import unicodedata
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from locedit.errors import LoceditError
from locedit.messages import shown
from locedit.model.architectures import ModelError
from locedit.text.joining import join

# transformers asks on the terminal where this is not said
NO_CODE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

_WORD = "a"  # stands in for the text before a continuation
_MARKS = ("\n", '"', "(")  # stand in for a prompt behind which no blank is put

# Prompts, the word that is looked for in each, and targets of one word and of several
SAMPLES = (
    ("The capital city of France is", "France"),
    ("In which country is the river Seine? It is in", "Seine"),
    ("Microsoft developed", "Microsoft"),
)
TARGETS = ("Paris", "the government", "Windows, an operating system")
# Any data set has what is in these. Accents and other scripts it need not have: `reads` tells of
# each text that does not come back.
PLAIN = ("Of 19,370 people 2,468 (5 %) were born in 1990", "Question: 2 + 2?\nAnswer: 4")


class Tokenizer:
    """A fast tokenizer as this project uses it: prompts, targets behind them, and text again.

    Raises ModelError where the tokenizer does not do what METHODS section 0 takes for granted.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.plain = tokenizer
        if not tokenizer.is_fast:
            raise ModelError(
                f"tokenizer {type(tokenizer).__name__} gives no character offsets, which finding a "
                "subject's tokens needs; use the model's fast one: put its tokenizer.json there"
            )
        self._behind: list[int] = []  # what the tokenizer puts behind every text
        self._spaced = lru_cache(maxsize=1 << 14)(self._target_behind_a_word)
        self._unspaced = lru_cache(maxsize=1 << 14)(self._target_without_blank)
        # whether it begins a text with a blank of its own
        self._adds_blank = any(
            self._behind_text(mark, mark + target) not in (None, self.encode(target, bare=True))
            for mark in _MARKS
            for target in TARGETS
        )
        self._check()

    def encode(self, text: str, *, bare: bool = False) -> list[int]:
        """Token ids of a prompt, with whatever the tokenizer puts in front (BOS) unless `bare`.

        What it puts behind a text (EOS) is left out: a prompt goes on.
        """
        ids = self.plain(text, add_special_tokens=not bare)["input_ids"]
        end = len(ids) - len(self._behind)
        return ids[:end] if not bare and self._behind and ids[end:] == self._behind else ids

    def encode_target(self, target: str, prompt: str) -> list[int]:
        """Token ids of a target as it goes on from the prompt: of " " + target in English prose.

        `joining.join` says where no blank stands between. Tokenised behind a word or a mark: some
        tokenizers (SentencePiece) put a space of their own in front of every text. Raises
        ValueError where such a tokenizer cannot do without.
        """
        gap = join(prompt, target)
        return list(self._spaced(target) if gap else self._unspaced(target, prompt[-1]))

    def _target_behind_a_word(self, target: str) -> tuple[int, ...]:
        found = self._behind_text(_WORD, f"{_WORD} {target}")
        if found is None:
            found = self.encode(target if self._adds_blank else " " + target, bare=True)
        return tuple(found)

    def _target_without_blank(self, target: str, last: str) -> tuple[int, ...]:
        alone = self.encode(target, bare=True)
        if not self._adds_blank:
            return tuple(alone)
        for mark in (last, *_MARKS):
            found = self._behind_text(mark, mark + target)
            if found is not None:
                return tuple(found)
        raise LoceditError(
            f"the model's tokenizer puts a blank in front of {target!r}, where none belongs behind "
            f"{last!r}"
        )

    def _behind_text(self, start: str, whole: str) -> list[int] | None:
        """The tokens of `whole` behind those of `start`; None where they merge with these."""
        before, ids = self.encode(start, bare=True), self.encode(whole, bare=True)
        return ids[len(before) :] if before and ids[: len(before)] == before else None

    def merges(self, prompt: str, target: str) -> bool:
        """Whether prompt and target make other tokens as one text than one behind the other."""
        apart = self.encode(prompt) + self.encode_target(target, prompt)
        return self.encode(prompt + join(prompt, target) + target) != apart

    def continuation(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text that each row of tokens adds to a text, its leading space kept."""
        before, start = self._word
        texts = self.plain.batch_decode(
            [[*before, *row] for row in tokens], clean_up_tokenization_spaces=False
        )
        return [text.removeprefix(start) for text in texts]

    @cached_property
    def _word(self) -> tuple[list[int], str]:
        """The tokens of a word, and what they are as text."""
        ids = self.encode(_WORD, bare=True)
        return ids, self.plain.decode(ids, clean_up_tokenization_spaces=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones left out."""
        return self.plain.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def reads(self, text: str) -> str | None:
        """What the tokens of a text are as text, where that is another one; else None.

        The same text in other cases, composed otherwise (NFC) or behind a blank is no other one.
        """
        back = self.decode(self.encode(text)).strip()
        return None if _as_read(back) == _as_read(text) else back

    def changes(self, texts: Sequence[str]) -> str:
        """How the tokenizer changes the first text that it changes, in words; "" if none."""
        found = [(text, back) for text in texts if (back := self.reads(text)) is not None]
        if not found:
            return ""
        more = f", and changes {len(found) - 1} more" if found[1:] else ""
        return f"the tokenizer reads {shown(found[0][0])} as {shown(found[0][1])}{more}"

    def unknown(self, ids: Sequence[int]) -> bool:
        """Whether the token for what the tokenizer does not know is among these."""
        return not self._unknown.isdisjoint(ids)

    @cached_property
    def _unknown(self) -> set[int | None]:
        inner = self.plain.backend_tokenizer
        name = getattr(inner.model, "unk_token", None)
        own = None if name is None else inner.token_to_id(name)
        return {self.plain.unk_token_id, own} - {None}

    def token_text(self, token: int) -> str:
        """One token as it is shown, special ones too."""
        return self.plain.decode([token], clean_up_tokenization_spaces=False)

    def _check(self) -> None:
        """Raise ModelError where a tokenizer lacks what is taken for granted of it."""
        whole = {prompt: self.plain(prompt, return_offsets_mapping=True) for prompt, _ in SAMPLES}
        self._behind = self._added_behind({text: of["input_ids"] for text, of in whole.items()})
        for prompt, word in SAMPLES:
            ids = self.encode(prompt)
            self._check_read(prompt)
            start, stop = prompt.index(word), prompt.index(word) + len(word)
            offsets = whole[prompt]["offset_mapping"][: len(ids)]
            of_word = [i for i, (a, z) in zip(ids, offsets, strict=True) if a < stop and z > start]
            if word.casefold() not in (text := self.decode(of_word)).casefold():
                self._lacks(
                    f"gives character offsets that do not point to the text (for {word!r} in "
                    f"{prompt!r} to {text!r}), and a subject's tokens are found by them"
                )
            for target in TARGETS:
                self._check_target(prompt, target)
        for text in PLAIN:
            self._check_read(text)

    def _check_read(self, text: str) -> None:
        if (back := self.reads(text)) is not None:
            self._lacks(
                f"reads {text!r} as {back!r}: what the model is asked and what it answers would be "
                "other texts than they seem"
            )

    def _added_behind(self, whole: dict[str, list[int]]) -> list[int]:
        """The tokens that stand behind every text's own; those in front are the same too."""
        around = set()
        for text, ids in whole.items():
            bare = self.encode(text, bare=True)
            starts = range(len(ids) - len(bare) + 1)
            own = next((i for i in starts if bare and ids[i : i + len(bare)] == bare), None)
            if own is None:
                self._lacks(
                    f"makes other tokens of {text!r} when it adds its special tokens, which are "
                    "only known in front of a text and behind it"
                )
            around.add((tuple(ids[:own]), tuple(ids[own + len(bare) :])))
        if len(around) > 1:
            self._lacks("adds other special tokens to one text than to another")
        return list(around.pop()[1])

    def _check_target(self, prompt: str, target: str) -> None:
        if self.merges(prompt, target):
            self._lacks(
                f"makes other tokens of {f'{prompt} {target}'!r} as a whole than of the prompt and "
                f"{target!r} behind it, so that p({target!r}) is not what the model says"
            )
        (text,) = self.continuation([self.encode_target(target, prompt)])
        if text.casefold() != f" {target}".casefold():
            self._lacks(f"gives {text!r} back for the tokens of {f' {target}'!r}")

    def _lacks(self, what: str) -> NoReturn:
        name = self.plain.name_or_path or type(self.plain).__name__
        raise ModelError(
            f"the tokenizer of {name} {what}; use the tokenizer that the model was trained with, "
            "as it was published"
        )


def _as_read(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFC", composed.strip().casefold())


def load(folder: str | Path) -> Tokenizer:
    """The tokenizer in a model's folder; no network, no remote code."""
    from transformers import AutoTokenizer

    return Tokenizer(AutoTokenizer.from_pretrained(folder, **NO_CODE))
