"""Whether an entry of the architecture table describes a model: against the model's own pass.

Run when a model is loaded whose entry is not the project's own, or by a release of transformers
that the tests have not seen.
"""

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.model import hooks
from locedit.model.architectures import ModelError
from locedit.model.language_model import LanguageModel

TEXT = "The capital city of France is Paris, and the capital city of Italy is"
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.01}  # of the largest value; others:
FINE = 1e-3


@torch.no_grad()
def check_architecture(lm: LanguageModel, text: str = TEXT) -> None:
    """Raises ModelError naming the first field whose path does something else than it should."""
    ids, lengths = passes.pad([lm.encode(text)], lm.device)
    record = passes.record(lm, ids, lengths)
    _same(
        lm,
        lm.logits(record.inputs[lm.n_layers]),
        lm.model(ids).logits,
        "the model's own pass gives other logits: embedding, positions, rotary, layers, norm or "
        "the head's logits are not as described",
    )
    if len(record.keys) < lm.n_layers:
        raise ModelError(_message(lm, "no keys and values are stored: cache_argument is wrong"))
    start = ids.shape[1] // 2
    part = passes.after(lm, record, start, range(lm.n_layers))
    _same(
        lm,
        passes.run(lm, record.inputs[0][:, start:], part),
        record.inputs[lm.n_layers][:, start:],
        "a pass against kept keys and values differs from the whole one: cache_argument, rotary or "
        "positions are not as described",
    )
    _check_mlp(lm, record)


def _check_mlp(lm: LanguageModel, record: passes.Record) -> None:
    """The first block with a vector added to its MLP's output; what the down projection does."""
    part, seen = passes.whole(lm, record.inputs[0].shape[1]), {}
    size = record.inputs[1].abs().max()  # what is smaller could hide behind rounding
    shift = size * torch.linspace(-1, 1, lm.hidden_size, device=lm.device).to(lm.dtype)

    def add(_: Tensor, output: Tensor) -> Tensor:
        seen["mlp"] = output
        return output + shift

    def see(inner: Tensor, output: Tensor) -> None:
        seen["inner"], seen["down"] = inner, output

    with hooks.hooked({lm.mlp(0): add}):
        moved = passes.step(lm, 0, record.inputs[0], part)
    _same(
        lm,
        moved,
        record.inputs[1] + lm.block_change(0, seen["mlp"], shift),
        "a vector added to the MLP's output reaches the block's in another way: mlp or mlp_norm is "
        "not as described",
    )
    with hooks.hooked({lm.down_projection(0): see}):
        passes.step(lm, 0, record.inputs[0], part)
    down = lm.down_projection(0)
    weight = lm.down_weight(0)
    if weight.shape != (lm.hidden_size, seen["inner"].shape[-1]):
        fault = "down_projection is another module, or its weight is stored the other way round"
        raise ModelError(_message(lm, f"{fault}, as `transposed` says"))
    expected = seen["inner"] @ weight.T
    expected = expected if down.bias is None else expected + down.bias
    _same(lm, seen["down"], expected, "down_projection is no linear map")


def _same(lm: LanguageModel, got: Tensor, expected: Tensor, fault: str) -> None:
    off = (got - expected).abs().max()
    if not off <= TOLERANCE.get(lm.dtype, FINE) * expected.abs().max():
        raise ModelError(_message(lm, fault))


def _message(lm: LanguageModel, fault: str) -> str:
    return f"the entry of {lm.model.config.model_type!r} in ARCHITECTURES does not fit: {fault}"
