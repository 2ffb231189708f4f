"""Where a subject stands in its prompt, in characters (METHODS section 0).

A template says so. A prompt that comes filled is searched, whole words first: "Niger" is not what
"Nigeria" is about.

No heavy imports: Snakemake reads this each time it starts.
"""

import unicodedata
from dataclasses import dataclass

from locedit.errors import LoceditError
from locedit.messages import shown
from locedit.text.joining import blankless

_HYPHENS = "-\u2010\u2011"
_JOINERS = "\u00ad\u200c\u200d\u2060"  # unseen within a word: soft hyphen, (non-)joiners of letters


def in_template(template: str, subject: str) -> int:
    """Characters before the subject in the filled template: where its last `{}` is.

    Raises LoceditError for a template without one.
    """
    before, hole, _ = template.rpartition("{}")
    if not hole:
        raise LoceditError(f"no {{}} for the subject {subject!r} in {template!r}")
    return len(before.replace("{}", subject))


@dataclass(frozen=True, kw_only=True)
class Place:
    """start: characters before the subject. remark: what makes the place doubtful, if anything."""

    start: int
    remark: str | None = None


def locate(prompt: str, subject: str, template: str | None = None) -> Place | None:
    """Where the subject stands in a filled prompt; None where it does not.

    template: one that the prompt begins with, filled, if such is known. Else the last whole word
    that is the subject, rather one that is no part of a longer name; without one, its last
    occurrence inside other words.
    """
    if template is not None and _begins(prompt, template, subject):
        return Place(start=in_template(template, subject))
    places = occurrences(prompt, subject)
    words = [start for start in places if _is_word(prompt, start, start + len(subject))]
    words = [start for start in words if not _in_name(prompt, start, start + len(subject))] or words
    if words:
        several = f"the subject stands {len(words)} times in the prompt; the last one is taken"
        return Place(start=words[-1], remark=several if len(words) > 1 else None)
    if not places:
        return None
    word = shown(_word_around(prompt, places[-1], places[-1] + len(subject)))
    inside = f"the subject stands only inside another word of the prompt, {word}; taken as it is"
    return Place(start=places[-1], remark=inside)


def remark(prompt: str, subject: str, template: str | None = None) -> str | None:
    """What makes the subject's place in a filled prompt doubtful; None if nothing does."""
    place = locate(prompt, subject, template)
    return None if place is None else place.remark


def occurrences(text: str, subject: str) -> list[int]:
    """Where the subject's text occurs, also inside words; nowhere if it is empty."""
    found, start = list[int](), text.find(subject) if subject else -1
    while start >= 0:
        found.append(start)
        start = text.find(subject, start + 1)
    return found


def _begins(prompt: str, template: str, subject: str) -> bool:
    return template.count("{}") == 1 and prompt.startswith(template.replace("{}", subject))


def _is_word(text: str, start: int, end: int) -> bool:
    return _may_break(text, start) and _may_break(text, end)


def _in_name(text: str, start: int, end: int) -> bool:
    """Whether a word is a part of a longer one: Guinea-Bissau, amazon.com, U.S.A., C# or C++."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    if behind[1:].isalpha() and behind[0] in _HYPHENS + ".":
        return True
    if before[:1].isalpha() and before[1:] and before[1] in _HYPHENS:
        return True
    if not behind or behind[0] in "#+":
        return bool(behind)
    return _is_of_word(behind[0]) and behind[0].isalpha() and not text[end - 1].isalpha()


def _word_around(text: str, start: int, end: int) -> str:
    while not _may_break(text, start):
        start -= 1
    while not _may_break(text, end):
        end += 1
    return text[start:end]


def _may_break(text: str, at: int) -> bool:
    """Whether a word may end before the character `at`: not between two letters, digits or marks.

    A mark belongs to what it stands on, in every script.
    """
    left, right = at - 1, at
    while right < len(text) and text[right] in _JOINERS:
        right += 1
    if left < 0 or right == len(text):
        return True
    if _is_mark(text[right]):
        return False
    while left > 0 and (text[left] in _JOINERS or _is_mark(text[left])):
        left -= 1
    return not (_is_of_word(text[left]) and _is_of_word(text[right]))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _is_of_word(character: str) -> bool:
    """Whether it is a letter, a digit or a mark of a script that puts blanks between words."""
    if not unicodedata.category(character).startswith(("L", "N", "M")):
        return False
    plain = unicodedata.normalize("NFKC", character)[0]  # a full-width letter is a Latin one
    return not blankless(plain)
