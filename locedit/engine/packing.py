"""Rows of different lengths laid end to end in lines, so that little is run for padding.

A line is one row of a batch whose cells are tokens of several rows; masks keep these apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.model.language_model import LanguageModel

LINE = 16  # tokens of a line: attention, quadratic in it, stays small beside all the rest


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where the tokens of B rows lie in lines of N cells.

    row, column: [lines, N], the row and its token that a cell holds, row -1 where padding; rows
    keep their order, line by line. line, offset: [B], where a row's first token lies. starts: [B],
    that token's position.
    """

    row: Tensor
    column: Tensor
    line: Tensor
    offset: Tensor
    starts: Tensor

    @property
    def positions(self) -> Tensor:
        """[lines, N]; 0 where padding."""
        return torch.where(self.row >= 0, self.starts[self.row.clamp(min=0)] + self.column, 0)

    def gather(self, padded: Tensor) -> Tensor:
        """Cells' content [lines, N, ...] from rows [B, T, ...], right-padded, first token first."""
        return padded[self.row.clamp(min=0), self.column]

    def scatter(self, cells: Tensor) -> Tensor:
        """Rows [B, T, ...] from cells' content [lines, N, ...]; behind a row's end is anything."""
        steps = torch.arange(int(self.column.max()) + 1, device=cells.device)
        columns = (self.offset[:, None] + steps).clamp(max=cells.shape[1] - 1)
        return cells[self.line[:, None], columns]

    def share(self, counts: Sequence[int]) -> list[int]:
        """Cells of each group of counts[g] rows; padding counts with what stands before it."""
        group = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        of_cell = group.to(self.row.device)[self.row.cummax(dim=1).values].flatten()
        return torch.bincount(of_cell, minlength=len(counts)).tolist()


def pack(
    lengths: Sequence[int], device: torch.device, *, starts: Sequence[int] | None = None
) -> Packing:
    """Lay rows of the given lengths into lines of about LINE tokens, or of the longest row's."""
    starts = [0] * len(lengths) if starts is None else starts
    line = _lines(lengths)
    row, column, offset = _lay(lengths, line)
    return Packing(
        row=row.to(device),
        column=column.to(device),
        line=torch.tensor(line, device=device),
        offset=offset.to(device),
        starts=torch.tensor(starts, device=device),
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


def _lay(lengths: Sequence[int], line: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """(row, column, offset) of rows of the given lengths, row i in line[i]."""
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
    return row, column, torch.tensor(offset)


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
    lm.check_length(int(packing.positions.max()) + 1)
    row, column = packing.row, packing.column
    real = (row >= 0)[:, :, None]
    own = (row[:, :, None] == row[:, None, :]) & (column[:, :, None] >= column[:, None, :])
    visible = real & own
    visible |= torch.eye(row.shape[1], dtype=torch.bool, device=row.device)  # padding sees itself
    if record is None or not packing.starts.any():
        return passes.suffix(lm, packing.positions, visible)
    before_row, before_column, _ = _lay(packing.starts.tolist(), packing.line.tolist())
    before_row, before_column = before_row.to(row.device), before_column.to(row.device)
    seen = real & (row[:, :, None] == before_row[:, None, :])
    rows = before_row.clamp(min=0)

    def prefix(states: Tensor) -> Tensor:
        # two index tensors around a slice: [B, heads, T, d] -> [lines, P, heads, d]
        return states[rows, :, before_column].transpose(1, 2)

    frozen = {
        layer: (prefix(record.keys[layer][0]), prefix(record.keys[layer][1])) for layer in layers
    }
    return passes.suffix(lm, packing.positions, torch.cat([seen, visible], dim=2), frozen)
