"""README.md of what is kept of edits: the base, the facts, how they were written, what they did."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from locedit.messages import one_line

NAN = float("nan")
BAR = "\\|"  # within a cell


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of one fact. p: of the target, after the prompt; scores as in METHODS, section 6.

    Numbers are NaN where there was nothing to measure, or no edit.
    """

    prompt: str
    target: str
    status: str = "ok"
    p_before: float = NAN
    p_after: float = NAN
    rewrite: float = NAN
    paraphrase: float = NAN
    neighbourhood: float = NAN


def card(
    kind: str, about: Mapping[str, str], base: Mapping[str, str], lines: Sequence[Line], said: str
) -> str:
    """The page as Markdown.

    kind: what the folder holds, in words. about, base: as of a difference of weights
    (`edited_weights.Delta`). said: of the weights' dtype and rounding.
    """
    settings = json.loads(about.get("settings", "{}"))
    rows = {
        "base model": about.get("base_model", "not told"),
        "hash of its folder": about.get("base_weights", "not told"),
        "method": about.get("editor", "not told"),
        "layer": f"{about['layer']} (counted from 0)" if "layer" in about else "not told",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items()) or "not told",
    }
    parts = [
        f"# {rows['base model']}, with facts edited by {rows['method']}",
        f"{kind}, made by locedit. {said}",
        _table(("", ""), [*rows.items()]),
        "## Facts",
        _facts(lines) if lines else f"`{about.get('facts', 'not told')}`",
        "## Changed tensors",
        "SHA-256 of each one's values in float32 in the base model, before the change:",
        _table(("tensor", "SHA-256"), [(f"`{name}`", f"`{one}`") for name, one in base.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(lines: Sequence[Line]) -> str:
    header = ("prompt", "target", "p before", "p after", *_SCORES, "status")
    rows = [
        (
            line.prompt,
            line.target,
            *(_number(getattr(line, name)) for name in ("p_before", "p_after", *_SCORES)),
            line.status,
        )
        for line in lines
    ]
    note = (
        "p: of the target, after the prompt. Scores compare it before and after all edits, at most "
        "1, of the prompt, of paraphrases, and of prompts about other subjects, which should stay."
    )
    return f"{_table(header, rows)}\n\n{note}"


_SCORES = ("rewrite", "paraphrase", "neighbourhood")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(one_line(cell).replace('|', BAR) for cell in cells)} |"

    return "\n".join(map(line, [header, ["---"] * len(header), *rows]))
