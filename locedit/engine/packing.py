"""Rows of different lengths laid end to end in lines, so that little is run for padding.

A line is one row of a batch whose cells are tokens of several rows; masks keep these apart. Rows
that begin alike are branches of one row, their trunk, which stands once before them in their line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.model.language_model import LanguageModel

LINE = 16  # tokens of a line: attention, quadratic in it, stays small beside all the rest
BRANCHED = 256  # of a trunk with its branches at most: beyond, several have a trunk each
WIDE = 1000  # of a line in which attention takes about as long as all the rest


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the tokens of B rows lie in lines of N cells.

    row, column, positions: [lines, N], the row that a cell's token is of, which of its packed
    tokens, and its position; row -1 and position 0 where padding. Rows keep their order, line by
    line. line, offset: where each row's first token lies; starts: that token's position; lengths:
    the rows' tokens. The latter are the host's: asking a card for them would stop it. trunk:
    [lines, N], the row that a cell's row is a branch of, -1 for none; None where there are none.
    """

    row: Tensor
    column: Tensor
    positions: Tensor
    line: list[int]
    offset: list[int]
    starts: list[int]
    lengths: list[int]
    trunk: Tensor | None = None

    @property
    def longest(self) -> int:
        """Tokens up to the last position."""
        return max(map(sum, zip(self.starts, self.lengths, strict=True)))

    def gather(self, padded: Tensor) -> Tensor:
        """Cells' content [lines, N, ...] from rows [B, T, ...], right-padded, first token first."""
        return padded[self.row.clamp(min=0), self.column]

    def scatter(self, cells: Tensor) -> Tensor:
        """Rows [B, T, ...] from cells' content [lines, N, ...]; behind a row's end is anything."""
        return cells[self._cells_of_rows]

    @cached_property
    def _cells_of_rows(self) -> tuple[Tensor, Tensor]:
        """Line and cell of each row's tokens, [B, 1] and [B, T]."""
        device, last = self.row.device, self.row.shape[1] - 1
        line, offset = torch.tensor([self.line, self.offset], device=device)[:, :, None]
        steps = torch.arange(max(self.lengths), device=device)
        return line, (offset + steps).clamp(max=last)

    def share(self, counts: Sequence[int]) -> list[int]:
        """Cells of each group of counts[g] rows; padding counts with what stands before it."""
        width = self.row.shape[1]
        first = [la * width + o for la, o in zip(self.line, self.offset, strict=True)]
        ends = [*accumulate(counts)]
        cells = [first[end] if end < len(first) else self.row.numel() for end in ends]
        return [end - start for start, end in pairwise([0, *cells])]


def pack(
    lengths: Sequence[int],
    device: torch.device,
    *,
    starts: Sequence[int] | None = None,
    behind: Sequence[int] | None = None,
) -> Packing:
    """Lay rows of the given lengths into lines of about LINE tokens, or of the longest row's.

    behind: how many rows before each row its trunk stands, 0 for a row of its own; a trunk's
    branches follow it, lie in its line and see all of it.
    """
    starts = [0] * len(lengths) if starts is None else [*starts]
    behind = behind if behind is not None and any(behind) else None
    line = _lines(lengths) if behind is None else _branched_lines(lengths, behind)
    row, column, offset = _lay(lengths, line)
    positions = torch.where(row >= 0, torch.tensor(starts)[row.clamp(min=0)] + column, 0)
    told = [row, column, positions]
    if behind is not None:
        trunks = [i - back if back else -1 for i, back in enumerate(behind)]
        told.append(torch.where(row >= 0, torch.tensor(trunks)[row.clamp(min=0)], -1))
    row, column, positions, *trunk = torch.stack(told).to(device)
    return Packing(
        row=row,
        column=column,
        positions=positions,
        line=line,
        offset=offset,
        starts=starts,
        lengths=[*lengths],
        trunk=trunk[0] if trunk else None,
    )


def branches(trunk: int, length: int, count: int) -> list[int]:
    """How many of `count` branches of so many tokens each stand behind one trunk of `trunk` tokens.

    As few trunks as BRANCHED allows, of like numbers of branches; of one each nothing is saved.
    """
    most = max(1, (BRANCHED - trunk) // length)
    groups = -(-count // most)
    return [count // groups + (i < count % groups) for i in range(groups)]


def _lines(lengths: Sequence[int]) -> list[int]:
    """A line for each row, in order: as few as LINE allows, and of like length."""
    fewest = -(-sum(lengths) // LINE)
    width = max(-(-sum(lengths) // fewest), *lengths)
    while (line := _broken(lengths, width))[-1] >= fewest and width < LINE:
        width += 1
    return line


def _branched_lines(lengths: Sequence[int], behind: Sequence[int]) -> list[int]:
    """The same of rows that lie in their trunk's line: as many lines as are run fastest.

    Few long ones have dear attention, many short ones much padding.
    """
    own = [i for i, back in enumerate(behind) if not back]
    ends = [*own[1:], len(lengths)]
    sizes = [sum(lengths[i:end]) for i, end in zip(own, ends, strict=True)]
    least, steps = max(sizes), range(len(sizes) + 1)
    sums = {sum(sizes[i:j]) for i in steps for j in steps}  # the widths that lines can fill
    widths = {width for width in sums if least <= width <= max(least, BRANCHED)} | {least}

    def cost(width: int) -> float:
        lines = _broken(sizes, width)[-1] + 1
        return lines * width * (1 + width / WIDE)

    line = _broken(sizes, min(sorted(widths), key=cost))
    return [of for of, i, end in zip(line, own, ends, strict=True) for _ in range(i, end)]


def _broken(lengths: Sequence[int], width: int) -> list[int]:
    """Each row's line, where a new one begins when the row would not fit any more."""
    line: list[int] = []
    filled = 0
    for length in lengths:
        fits = bool(line) and filled + length <= width
        filled = filled + length if fits else length
        line.append(line[-1] + (not fits) if line else 0)
    return line


def _lay(lengths: Sequence[int], line: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
    """(row, column, offset) of rows of the given lengths, row i in line[i]; on the CPU."""
    filled, offset = [0] * (max(line) + 1), []
    for index, length in zip(line, lengths, strict=True):
        offset.append(filled[index])
        filled[index] += length
    row = torch.full((len(filled), max(filled)), -1)
    column = torch.zeros_like(row)
    for index, length in enumerate(lengths):
        cells = slice(offset[index], offset[index] + length)
        row[line[index], cells] = index
        column[line[index], cells] = torch.arange(length)
    return row, column, offset


def embed(lm: LanguageModel, packing: Packing, ids: Tensor, noise: Tensor | None = None) -> Tensor:
    """Input of layer 0 in each cell, [lines, N, d]. ids, noise: of the rows, [B, T] and [B, T, d].

    Raises LoceditError for rows longer than the model has positions for.
    """
    lm.check_length(packing.longest)
    noise = None if noise is None else packing.gather(noise)
    return passes.embed(lm, packing.gather(ids), packing.positions, noise)


def suffix(
    lm: LanguageModel,
    packing: Packing,
    record: passes.Record | None = None,
    layers: range = range(0),
) -> passes.Suffix:
    """The lines as a Suffix: a token sees its own row up to itself.

    record: of whole rows, whose first starts[i] tokens row i sees too; `layers` are those whose
    keys and values of them are needed.
    """
    lm.check_length(packing.longest)
    row, column = packing.row, packing.column
    real = (row >= 0)[:, :, None]
    own = (row[:, :, None] == row[:, None, :]) & (column[:, :, None] >= column[:, None, :])
    if packing.trunk is not None:  # where it is -1, padding must not be seen
        own |= (packing.trunk[:, :, None] == row[:, None, :]) & real.mT
    visible = real & own
    visible |= torch.eye(row.shape[1], dtype=torch.bool, device=row.device)  # padding sees itself
    if record is None or not any(packing.starts):
        return passes.suffix(lm, packing.positions, visible)
    before_row, before_column, _ = _lay(packing.starts, packing.line)
    before_row, before_column = torch.stack([before_row, before_column]).to(row.device)
    seen = real & (row[:, :, None] == before_row[:, None, :])
    rows = before_row.clamp(min=0)

    def prefix(states: Tensor) -> Tensor:
        # two index tensors around a slice: [B, heads, T, d] -> [lines, P, heads, d]
        return states[rows, :, before_column].transpose(1, 2)

    frozen = {
        layer: (prefix(record.keys[layer][0]), prefix(record.keys[layer][1])) for layer in layers
    }
    return passes.suffix(lm, packing.positions, torch.cat([seen, visible], dim=2), frozen)
