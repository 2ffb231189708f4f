"""How a target is put behind a prompt: with a blank, or as text goes on without one.

METHODS section 0. The blank of English prose is the rule; `join` knows where text has none, and
`doubt` says where either could be meant. Both see text alone: no model, no tokenizer.
"""

import re
import unicodedata
from collections.abc import Sequence

BLANK = " "
PART = "\ufffd"  # what a tokenizer makes of some of a letter's bytes

# Quotation marks and backticks that open and close with the same character
_STRAIGHT = "\"'`"
_APOSTROPHES = "'\u2019"
_JOINTS = ":=,;"  # in data and code a quotation begins behind them without a blank
_SPANISH = "\u00bf\u00a1"  # the question and exclamation marks that open a sentence
_LEADING = "#@"  # and currency signs: they open a word, but not always
_EITHER = "/\\*_~=+<>|^&"  # and dashes: text has a blank behind them or has none
_CLOSING = ",.;:!?)]}%"

# Scripts that part words by no blank, with their punctuation: Thai, Lao, Tibetan, Burmese, Khmer,
# four Tai scripts, Balinese, Javanese, Chinese and Japanese. Korean has blanks.
_BLANKLESS = (
    (0x0E01, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19FF),
    (0x1A20, 0x1AAF),
    (0x1B00, 0x1B7F),
    (0x3001, 0x30FF),
    (0x3100, 0x312F),
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA980, 0xA9FF),
    (0xAA60, 0xAADF),
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF01, 0xFF9F),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_WITHIN_WORDS = "\u30fb\u0f0b\u0f0c"  # marks of theirs between the parts of a name, or syllables


def join(prompt: str, target: str) -> str:
    """What stands between a prompt and its target: a blank, or nothing."""
    return _joined(prompt, target)[0]


def doubt(prompt: str, target: str) -> str:
    """Why text could also go on the other way, in words; "" where it could not."""
    return _joined(prompt, target)[1]


def doubts(prompts: Sequence[str], targets: Sequence[str]) -> str:
    """The doubts of each prompt with each target, each said once; "" if there are none."""
    found = (doubt(prompt, target) for prompt in prompts for target in targets)
    return "; ".join(dict.fromkeys(said for said in found if said))


def gaps(prompt: str) -> tuple[str, str]:
    """`join` for a target of a script with blanks between words, and of one without."""
    return join(prompt, "a"), join(prompt, "\u4e2d")


def first_word(text: str) -> str:
    """The first word of a continuation, without the marks that close or part it; "" if none.

    Where words have no blanks between them, all up to the first mark.
    """
    word = next(iter(text.split()), "")
    for i, character in enumerate(word):
        if blankless(character) and _is_mark(character) and character not in _WITHIN_WORDS:
            word = word[:i]
            break
    while word and _closes(word[-1]):
        word = word[:-1]
    return word


def blankless(character: str) -> bool:
    """Whether a character is of a script without blanks between words, or of its punctuation."""
    code = ord(character)
    return any(low <= code <= high for low, high in _BLANKLESS)


def _joined(prompt: str, target: str) -> tuple[str, str]:
    """(what stands between, why it could be otherwise)."""
    if not prompt or not target:
        return BLANK, ""
    last, kind = prompt[-1], unicodedata.category(prompt[-1])
    if last.isspace():
        return "", ""
    if last in _STRAIGHT or kind in ("Pi", "Pf"):
        return _behind_quotation_mark(prompt, target)
    if kind == "Ps" or last in _SPANISH:
        return "", ""
    gap, said = _by_script(prompt, target)
    if said or not gap:
        return gap, said
    if last in _LEADING or kind == "Sc":
        gap = "" if _begins_word(prompt[:-1]) else BLANK
        return gap, f"behind {last!r} {'a' if gap else 'no'} blank is put"
    if last in _EITHER or kind == "Pd":
        return BLANK, f"behind {last!r} a blank is put"
    if target[0] in _CLOSING:
        return BLANK, f"before {target[0]!r} a blank is put"
    return BLANK, ""


def _begins_word(before: str) -> bool:
    """Whether a mark behind this text, or behind further quotation marks, begins a word."""
    before = before.rstrip(_STRAIGHT)
    return not before or before[-1].isspace() or unicodedata.category(before[-1]) in ("Ps", "Pi")


def _behind_quotation_mark(prompt: str, target: str) -> tuple[str, str]:
    """Whether the mark at the prompt's end opens a quotation or closes one."""
    last, before = prompt[-1], prompt.rstrip(prompt[-1])
    kind, opened = unicodedata.category(last), _open_quotations(before, last)
    opens, odd = _begins_word(before), bool(opened)
    if kind == "Pf" and opened:
        opens = False  # French has a blank in front of it
    elif not opens and (kind == "Pi" or blankless(before[-1])):
        opens = not opened
    elif not opens and not opened and _opens_within(before, last):
        opens, odd = True, before[-1] not in _JOINTS
    if opens:
        return "", f"{last!r} is taken to open a quotation, not to close one" if odd else ""
    gap, said = _by_script(before, target)
    if not said and not opened and last in _APOSTROPHES:
        said = f"behind the apostrophe {last!r} a blank is put" if gap else ""
    elif not said and not opened:
        said = f"{last!r} is taken to close a quotation, not to open one"
    return gap, said


def _opens_within(before: str, mark: str) -> bool:
    """Whether a straight mark that has nothing to close opens, though no word begins there.

    Not behind a digit (inches, feet); an apostrophe's only where text is data or code.
    """
    if mark not in _STRAIGHT:
        return False
    return before[-1] in _JOINTS or not (mark in _APOSTROPHES or before[-1].isnumeric())


# What opens a quotation that this mark may close; German's low marks, Danish's turned ones
_OPENERS = {
    "\u201c": "\u201e\u201a",
    "\u2018": "\u201a",
    "\u201d": "\u201c\u201e",
    "\u2019": "\u2018\u201a",
    "\u00bb": "\u00ab",
    "\u00ab": "\u00bb",
    "\u203a": "\u2039",
    "\u2039": "\u203a",
}


def _open_quotations(text: str, mark: str) -> int:
    """How many quotations that `mark` could close are open at the end of a text."""
    if mark not in _STRAIGHT:
        openers = sum(text.count(opener) for opener in _OPENERS.get(mark, ""))
        return max(0, openers - text.count(mark))
    opened = 0
    for found in re.finditer(re.escape(mark) + "+", text):
        before, behind = text[: found.start()], text[found.end() : found.end() + 1]
        if found[0] == '""' and behind:  # an empty text, or doubled marks
            continue
        if _begins_word(before):
            opened += 1
        elif before[-1].isalpha() and behind.isalpha() and not blankless(before[-1]):
            continue  # an apostrophe within a word
        elif opened:
            opened -= 1
        elif _opens_within(before, mark):
            opened = 1
    return opened


def _by_script(prompt: str, target: str) -> tuple[str, str]:
    """By the scripts on both sides of the join; a blank where neither parts words without one."""
    run = next(iter(prompt.split()[-1:]), "")
    letters = [c for c in run if c.isalpha() or blankless(c)]
    ends, begins = bool(letters) and blankless(letters[-1]), blankless(target[0])
    if ends and begins:
        return "", ""
    if ends or (begins and any(map(blankless, letters))):
        return "", f"no blank is put between {letters[-1]!r} and {target[0]!r}, of another script"
    return BLANK, ""


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P"


def _closes(character: str) -> bool:
    """Whether a mark behind a word belongs to the text, and not to the word."""
    kind = unicodedata.category(character)
    return (
        character in ".,;:!?\"'" or kind in ("Pe", "Pf") or (kind == "Po" and ord(character) > 127)
    )
