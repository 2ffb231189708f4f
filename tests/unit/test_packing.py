"""Packed rows: nothing is lost or moved, and a packed pass computes what single passes compute."""

import pytest
import tiny
import torch

from locedit.engine import log_probs, packing, passes
from locedit.model.language_model import LanguageModel

CPU = torch.device("cpu")
LENGTHS = [5, 1, 9, 3, 30, 2, 2]
TEXTS = [
    "The capital of France is",
    "Windows was",
    "The mother tongue of the king of France is",
    "I",
]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(*tiny.pair("llama"))


def test_every_token_has_one_cell_and_rows_keep_their_order():
    packed = packing.pack(LENGTHS, CPU)
    cells = torch.stack([packed.row.flatten(), packed.column.flatten()], dim=1).tolist()
    real = [tuple(cell) for cell in cells if cell[0] >= 0]
    assert real == [(i, j) for i, length in enumerate(LENGTHS) for j in range(length)]
    for i, (line, offset) in enumerate(zip(packed.line, packed.offset, strict=True)):
        assert packed.row[line, offset] == i
        assert packed.column[line, offset] == 0


def test_gathered_rows_scatter_back():
    packed = packing.pack(LENGTHS, CPU)
    rows = torch.randn(len(LENGTHS), max(LENGTHS), 3)
    back = packed.scatter(packed.gather(rows))
    for row, got, length in zip(rows, back, LENGTHS, strict=True):
        assert torch.equal(got[:length], row[:length])


def test_shares_cover_all_cells_and_hold_each_groups_rows():
    packed = packing.pack(LENGTHS, CPU)
    shares = packed.share([2, 1, 4])
    assert sum(shares) == packed.row.numel()
    groups = torch.repeat_interleave(torch.arange(3), torch.tensor(shares))
    of_row = torch.tensor([0, 0, 1, 2, 2, 2, 2])
    real = packed.row.flatten() >= 0
    assert torch.equal(groups[real], of_row[packed.row.flatten()[real]])


@pytest.mark.parametrize("line", [1, 8, 100])
def test_a_packed_pass_equals_single_passes(lm, monkeypatch, line):
    monkeypatch.setattr(packing, "LINE", line)
    rows = [lm.encode(text) for text in TEXTS]
    ids, lengths = passes.pad(rows, lm.device)
    packed = packing.pack(lengths, lm.device)
    with torch.inference_mode():
        hidden = passes.embed(lm, packed.gather(ids), packed.positions)
        got = packed.scatter(passes.run(lm, hidden, packing.suffix(lm, packed)))
        for row, found in zip(rows, got, strict=True):
            one, length = passes.pad([row], lm.device)
            alone = passes.record(lm, one, length).inputs[lm.n_layers][0]
            torch.testing.assert_close(found[: len(row)], alone)


def test_packed_suffixes_see_their_recorded_prefix_alone(lm):
    rows = [lm.encode(text) for text in TEXTS[:3]]
    ids, lengths = passes.pad(rows, lm.device)
    starts = [2, 0, 5]
    with torch.inference_mode():
        record = passes.record(lm, ids, lengths)
        rest = [len(row) - start for row, start in zip(rows, starts, strict=True)]
        packed = packing.pack(rest, lm.device, starts=starts)
        part = packing.suffix(lm, packed, record, range(lm.n_layers))
        hidden = passes.embed(lm, ids[packed.row.clamp(min=0), packed.positions], packed.positions)
        got = packed.scatter(passes.run(lm, hidden, part))
    for i, (start, row) in enumerate(zip(starts, rows, strict=True)):
        expected = record.inputs[lm.n_layers][i, start : len(row)]
        torch.testing.assert_close(got[i, : len(expected)], expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_branches_are_the_rows_that_they_are_of(family):
    """Also beside a row without a trunk, and under windows shorter than the rows."""
    lm = LanguageModel(*tiny.pair(family, **({"sliding_window": 4} if "gemma" in family else {})))
    king, capital = lm.encode(TEXTS[2]), lm.encode(TEXTS[0])
    pieces = [king[:4], king[4:], king[4:-1], lm.encode(TEXTS[1]), capital[:2], capital[2:]]
    behind, starts = [0, 1, 2, 0, 0, 1], [0, 4, 4, 0, 0, 2]
    whole = [king[:4], king, king[:-1], pieces[3], capital[:2], capital]
    ids, lengths = passes.pad(pieces, lm.device)
    packed = packing.pack(lengths, lm.device, starts=starts, behind=behind)
    assert packed.line[:3] == packed.line[:1] * 3
    with torch.inference_mode(), tiny.nothing_in_float32():
        hidden = packing.embed(lm, packed, ids)
        got = packed.scatter(passes.run(lm, hidden, packing.suffix(lm, packed)))
        for start, row, piece, found in zip(starts, whole, pieces, got, strict=True):
            one, length = passes.pad([row], lm.device)
            alone = passes.record(lm, one, length).inputs[lm.n_layers][0, start:]
            torch.testing.assert_close(found[: len(piece)], alone)


def test_long_branches_have_a_trunk_for_as_many_as_a_line_holds():
    assert packing.branches(6, 6, 10) == [10]
    assert packing.branches(6, 60, 10) == [4, 3, 3]
    assert packing.branches(60, 300, 3) == [1, 1, 1]


def test_branched_lines_are_no_longer_than_pays():
    """Trunks with their branches side by side in lines of like length, in their order."""
    lengths, behind = [6, *[6] * 10] * 8, [0, *range(1, 11)] * 8
    packed = packing.pack(lengths, CPU, starts=[0] * 88, behind=behind)
    assert packed.row.shape[1] <= packing.BRANCHED
    assert packed.row.numel() <= 1.3 * sum(lengths)
    assert packed.line == sorted(packed.line)


def test_token_log_probs_have_the_gradient_of_the_log_softmax():
    logits = torch.randn(4, 11, dtype=torch.float64, requires_grad=True)
    tokens, weights = torch.tensor([0, 10, 3, 3]), torch.tensor([1.0, -2.0, 0.0, 0.5])
    expected = logits.log_softmax(dim=1).gather(1, tokens[:, None])[:, 0]
    got = log_probs.token_log_probs(logits, tokens)
    torch.testing.assert_close(got, expected)
    (slow,) = torch.autograd.grad(expected @ weights.double(), logits, retain_graph=True)
    (fast,) = torch.autograd.grad(got @ weights.double(), logits)
    torch.testing.assert_close(fast, slow)
