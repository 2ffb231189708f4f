"""What the commands print: lines, and what is doubtful about a prompt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from locedit.text import joining, subjects

if TYPE_CHECKING:  # torch is not needed for words
    from locedit.model.language_model import LanguageModel


def say(text: str = "") -> None:
    """A line on standard output."""
    print(text, flush=True)


def facts_words(n: int, which: str = "") -> str:
    """Such as "1 fact" or "9 held-out facts"; which: a word before, with its blank."""
    return f"{n} {which}fact{'s' * (n != 1)}"


def layers_words(n: int, tokens: int) -> str:
    """How many layers key statistics are of, and how many tokens."""
    return f"{n} layer{'s' * (n != 1)} of {tokens:,} tokens"


def settings_words(hyper: Any) -> str:
    """Hyperparameters in words; a plug-in's may be text, flags or nothing."""
    settings = dataclasses.asdict(hyper).items()
    return ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings)


def say_place(template: str, subject: str) -> None:
    """Where the subject stands, if its text occurs elsewhere in the prompt too."""
    start = subjects.in_template(template, subject)
    places = subjects.occurrences(template.replace("{}", subject), subject)
    others = ", ".join(str(place + 1) for place in places if place != start)
    if others:
        where = f"character {start + 1}, where the template has it"
        say(f'subject: "{subject}" at {where}, not at {others}')


def say_joins(lm: LanguageModel, prompts: list[str], target: str) -> None:
    """Where it is doubtful how prompt and target join, or the tokenizer changes one of them."""
    for prompt in prompts:
        shown = f'"{prompt}" and "{target}"'
        if doubt := joining.doubt(prompt, target):
            say(f"{shown}: {doubt}, though text may go on the other way")
        if lm.text.merges(prompt, target):
            say(f"{shown}: as one text they have other tokens than one behind the other")
    if changed := lm.text.changes([*prompts, target]):
        say(changed)
