"""Text drawings: a heat map, predictions side by side. Numbers in, lines out."""

import math
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from locedit.cli.terminal import PLAIN

COLOURS = (17, 18, 19, 25, 31, 37, 36, 42, 77, 113, 149, 185, 221, 227)  # of 256, dark to bright
LABEL = 18  # columns for a token at most


def columns(text: str) -> int:
    """Terminal columns that a text takes: none for marks that combine, two for wide characters."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def printable(token: str) -> str:
    """A token with whatever would move the cursor written out; the space before a word dropped."""
    text = token[1:] if token.startswith(" ") and len(token) > 1 else token
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def padded(text: str, width: int) -> str:
    """The text in `width` columns, cut if it must be."""
    if columns(text) > width:
        kept = ""
        for character in text:
            if columns(kept + character) > width - 1:
                break
            kept += character
        text = kept + "~"
    return text + " " * (width - columns(text))


def heat_map(
    values: np.ndarray,
    labels: Sequence[str],
    *,
    width: int = 80,
    colour: bool = False,
    ramp: str = PLAIN,
) -> list[str]:
    """values [tokens, layers] as lines: a row a token, a column a layer, counted from 1.

    Cells are shaded from the smallest value to the largest. Where the layers do not fit `width`
    columns, neighbours share a column that shows their largest, and the last line says so.
    """
    n_layers = values.shape[1]
    label = min(LABEL, max(columns(text) for text in labels), max(4, width // 3))
    room = max(1, width - label - 2)
    share = math.ceil(n_layers / room)
    cells = np.stack(
        [np.fmax.reduce(values[:, low : low + share], axis=1) for low in range(0, n_layers, share)],
        axis=1,
    )
    size = max(1, min(3, room // cells.shape[1]))
    shades = len(COLOURS if colour else ramp)
    # as nanmin and nanmax, but without a warning where no cell has a value
    low, high = (float(f.reduce(values, axis=None)) for f in (np.fmin, np.fmax))
    lines = [" " * (label + 2) + _axis(n_layers, share, size, room)]
    for text, row in zip(labels, cells, strict=True):
        shaded = _shaded(_levels(row, low, high, shades), size, colour, ramp)
        lines.append(f"{padded(text, label)}  {shaded}")
    ends = f"{low:.3g}", f"{high:.3g}"
    indent = min(label + 2, max(0, width - len("".join(ends)) - shades - 2))
    scale = _shaded(np.arange(shades), 1, colour, ramp)
    lines.append(" " * indent + f"{ends[0]} {scale} {ends[1]}")
    if share > 1:
        lines.append(f"(each column: the largest of {share} layers)")
    return lines


def _axis(n_layers: int, share: int, size: int, room: int) -> str:
    """Layer numbers from 1 above their columns, as close as they fit."""
    needed = len(str(n_layers)) + 1
    step = next(s for s in (5, 10, 20, 50, 100, 200, 500) if s // share * size >= needed)
    line = ""
    for layer in [1, *range(step, n_layers + 1, step)]:
        at = (layer - 1) // share * size
        if at + len(str(layer)) <= room:
            line = line.ljust(at) + str(layer)
    return line


def _levels(row: np.ndarray, low: float, high: float, n: int) -> np.ndarray:
    """Which of n shades each value has."""
    share = (row - low) / (high - low) if high > low else np.zeros_like(row)
    return np.rint(np.nan_to_num(share).clip(0, 1) * (n - 1)).astype(int)


def _shaded(levels: np.ndarray, size: int, colour: bool, ramp: str) -> str:
    if not colour:
        return "".join(ramp[level] * size for level in levels)
    cells = "".join(f"\x1b[48;5;{COLOURS[level]}m{' ' * size}" for level in levels)
    return cells + "\x1b[0m"


def predictions(
    before: Sequence[tuple[str, float]], after: Sequence[tuple[str, float]], *, width: int = 80
) -> list[str]:
    """(token, p) of the likeliest next tokens before and after an edit, side by side."""
    half = max(12, min(32, (width - 6) // 2))

    def cell(pair: tuple[str, float] | None) -> str:
        if pair is None:
            return " " * half
        return f"{padded(printable(pair[0]), half - 8)}{pair[1]:8.4f}"

    lines = [f"  {padded('before', half)}    after"]
    lines += [f"  {cell(a)}    {cell(b)}".rstrip() for a, b in zip_longest(before, after)]
    return lines
