"""A prompt as it is put to a model: its ends, its place-holders, and letters of another form.

One policy for every reader of records and for the command line (METHODS section 1).
"""

import re
import unicodedata
from typing import Any

from locedit.messages import shown

HOLE = "{}"
LEFT_OUT, STAYS = "blanks at an end left out", "a line feed at the end stays"

# Also no-break ones, and what has no width: soft hyphens and marks of direction. The (non-)joiners
# of letters have none either, but end words of some scripts.
_BLANK = "(?:[^\\S\n\r]|[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff])"
_START, _END = re.compile(f"\\A{_BLANK}+"), re.compile(f"(?:{_BLANK}|[\n\r])+\\Z")
_OUTER = re.compile(f"\\A(?:{_BLANK}|\\s)+|(?:{_BLANK}|\\s)+\\Z")


def trimmed(prompt: str) -> tuple[str, list[str]]:
    """A prompt without blanks at its ends, and what is to be said of these; line feeds stay.

    Blanks and carriage returns among the line feeds at its end are no part of them.
    """
    text = _END.sub(lambda end: "\n" * end[0].count("\n"), _START.sub("", prompt))
    said = [LEFT_OUT] if text != prompt else []
    return text, said + ([STAYS] if text.endswith("\n") else [])


def prompt(text: str, subject: Any = None) -> tuple[str, list[str]]:
    """A prompt, `trimmed`, and all that is to be said of it: also of place-holders left in it.

    subject: what it may be about, in which nothing is a place-holder.
    """
    text, said = trimmed(text)
    own = text.replace(subject, "") if isinstance(subject, str) and subject else text
    kinds = dict.fromkeys(_OTHER_HOLES.findall(own))
    return text, said + [f"{shown(hole)} is put to the model as it stands" for hole in kinds]


def bare(text: str) -> tuple[str, list[str]]:
    """What stands inside a prompt or behind it: a subject, a target, without anything around it."""
    inner = _OUTER.sub("", text)
    return inner, [LEFT_OUT] if inner != text else []


def filled(prompt: str, subject: str) -> str:
    """A prompt about the subject, in which `{}` stands for it."""
    return prompt.replace(HOLE, subject)


_NAMES = "(?:subject|subj|sub|object|obj|entity|name|mask|blank|placeholder)"
_OTHER_HOLES = re.compile(
    # {{}}, {subject}, {0}, { }; [X], <subject>, %s
    r"\{\{[^{}\n]*\}\}|\{(?:\w+|[^\S\n]+|[^\S\n]+\w+[^\S\n]+)\}"
    rf"|\[[XYZ]\]|(?i:\[{_NAMES}\]|<{_NAMES}>)|%s\b"
)


# ---- texts that differ in form only --------------------------------------------------------------

_LIKE = {"'": "‘’ʼ′`´", '"': "“”„«»″", "-": "‐‑‒–—−"}
_PLAIN = {ord(other): plain for plain, others in _LIKE.items() for other in others}
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\u202a-\u202e\ufeff]")


def _even(text: str) -> str:
    """With one plain blank for each stretch of them."""
    return re.sub(r"\s+", " ", text)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_FORMS = {
    "composed or decomposed letters (NFC, NFD)": _composed,
    "blanks (a no-break one, U+00A0, or more than one)": _even,
    "apostrophes, quotation marks or dashes (curly or straight)": lambda t: t.translate(_PLAIN),
    "characters that cannot be seen (soft hyphens, marks without a width)": (
        lambda t: _UNSEEN.sub("", t)
    ),
    "letter case": str.casefold,
}


def differs_in(prompt: str, subject: str) -> str:
    """In what form alone the prompt's subject differs from the given one; "" if in more than that.

    As few kinds of form as explain it, with "and" between them.
    """
    needed = list(_FORMS)
    if not _holds(prompt, subject, needed):
        return ""
    for kind in _FORMS:
        rest = [other for other in needed if other != kind]
        if _holds(prompt, subject, rest):
            needed = rest
    return " and ".join(needed)


def _holds(prompt: str, subject: str, kinds: list[str]) -> bool:
    for kind in kinds:
        prompt, subject = _FORMS[kind](prompt), _FORMS[kind](subject)
    return bool(subject.strip()) and subject in prompt
