"""Rows of different lengths laid end to end in lines, so that little is run for padding.

A line is one row of a batch whose cells are tokens of several rows; masks keep these apart.
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


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the tokens of B rows lie in lines of N cells.

    row, column, positions: [lines, N], the row that a cell's token is of, which of its packed
    tokens, and its position; row -1 and position 0 where padding. Rows keep their order, line by
    line. line, offset: where each row's first token lies; starts: that token's position; lengths:
    the rows' tokens. The latter are the host's: asking a card for them would stop it.
    """

    row: Tensor
    column: Tensor
    positions: Tensor
    line: list[int]
    offset: list[int]
    starts: list[int]
    lengths: list[int]

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
    lengths: Sequence[int], device: torch.device, *, starts: Sequence[int] | None = None
) -> Packing:
    """Lay rows of the given lengths into lines of about LINE tokens, or of the longest row's."""
    starts = [0] * len(lengths) if starts is None else [*starts]
    line = _lines(lengths)
    row, column, offset = _lay(lengths, line)
    positions = torch.where(row >= 0, torch.tensor(starts)[row.clamp(min=0)] + column, 0)
    row, column, positions = torch.stack([row, column, positions]).to(device)
    return Packing(
        row=row,
        column=column,
        positions=positions,
        line=line,
        offset=offset,
        starts=starts,
        lengths=[*lengths],
    )


def _lines(lengths: Sequence[int]) -> list[int]:
    """A line for each row, in order: as few as LINE allows, and of like length."""
    fewest = -(-sum(lengths) // LINE)
    width = max(-(-sum(lengths) // fewest), *lengths)
    while (line := _broken(lengths, width))[-1] >= fewest and width < LINE:
        width += 1
    return line


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
