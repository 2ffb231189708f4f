"""Whether an entry of the architecture table describes a model: against the model's own pass.

Run when a model is loaded whose entry is not the project's own, or by a release of transformers
that the tests have not seen.
"""

from typing import Any

import torch
from torch import Tensor, nn

from locedit.engine import passes
from locedit.errors import ran_out_of_memory
from locedit.messages import listed, nearest, one_line, shown
from locedit.model import hooks
from locedit.model.architectures import Architecture, ModelError, architecture_of
from locedit.model.language_model import LanguageModel

TEXT = "The capital city of France is Paris, and the capital city of Italy is"
TOLERANCE = {torch.bfloat16: 0.05, torch.float16: 0.01}  # of the largest value; others:
FINE = 1e-3


_FROM_MODEL = ("layers", "embedding", "norm", "positions", "rotary")
_FROM_LAYER = ("attention", "mlp", "down_projection", "mlp_norm")
_WEIGHED = ("embedding", "down_projection")  # whose weight is read, as a matrix


def check_paths(model: Any) -> None:
    """Raises ModelError naming the first field whose path leads to no module of the model's.

    To no fitting one either: a list of blocks, a matrix.
    """
    kind, entry = model.config.model_type, architecture_of(model.config)
    for field in _FROM_MODEL:
        module = _found(model, field, getattr(entry, field), "the model", kind)
        if field == "layers" and not (isinstance(module, nn.ModuleList) and len(module)):
            raise ModelError(_message(kind, f"layers: {entry.layers!r} is no list of blocks"))
        _check_weight(module, field, entry, kind)
    blocks = model.get_submodule(entry.layers)
    for number, block in enumerate(blocks):
        for field in _FROM_LAYER:
            module = _found(block, field, getattr(entry, field), f"block {number}", kind)
            _check_weight(module, field, entry, kind)


def _found(root: nn.Module, field: str, path: str | None, where: str, kind: str) -> Any:
    """The module at a field's path; None where the field is not given."""
    try:
        return None if path is None else root.get_submodule(path)
    except AttributeError:
        known = [name for name, _ in root.named_modules() if name]
        fault = f"{field}: {where} has no module {shown(path)}{nearest(path, known)}"
        raise ModelError(_message(kind, fault)) from None


def _check_weight(module: Any, field: str, entry: Architecture, kind: str) -> None:
    weight = getattr(module, "weight", None)
    if field in _WEIGHED and (not isinstance(weight, Tensor) or weight.dim() != 2):
        path = getattr(entry, field)
        raise ModelError(_message(kind, f"{field}: {path!r} has no weight that is a matrix"))


@torch.no_grad()
def check_architecture(lm: LanguageModel, text: str = TEXT) -> None:
    """Raises ModelError naming the first field whose path does something else than it should."""
    try:
        _check_passes(lm, text)
    except ModelError:
        raise
    except Exception as error:  # of a family of anybody's any may come
        if ran_out_of_memory(error):
            raise
        said = f"a pass by layers fails, {type(error).__name__}: {one_line(error)}"
        raise ModelError(_misfit(lm, f"{_suspects(lm)} ({said})")) from error


def _suspects(lm: LanguageModel) -> str:
    if lm.takes_rotary and lm.architecture.rotary is None:
        names = [name for name, _ in lm.model.named_modules()]
        like = [name for name in names if "rotary" in name.rpartition(".")[2]]
        there = f", and the model has {listed(like)}" if like else ""
        return f"rotary is not given: blocks take what it gives{there}"
    return "rotary, rotary_by_type, positions, cache_argument or a module is not as described"


def _check_passes(lm: LanguageModel, text: str) -> None:
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
        raise ModelError(_misfit(lm, "no keys and values are stored: cache_argument is wrong"))
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
    _check_attention(lm, record)


def _check_attention(lm: LanguageModel, record: passes.Record) -> None:
    """The first block's attention, and it alone, brings one token's state to the next.

    Without it and without the MLP a block gives what it is given.
    """
    hidden, seen = record.inputs[0], []
    part = passes.whole(lm, hidden.shape[1])
    moved = hidden.clone()
    moved[:, -2] = hidden[:, -2].flip(-1)

    def see(_: Tensor, output: Tensor) -> None:
        seen.append(output[:, -1])

    def silence(_: Tensor, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    def last(*modules: nn.Module) -> list[Tensor]:
        """What the last token's state becomes, and becomes beside another neighbour."""
        with hooks.hooked(dict.fromkeys(modules, silence)):
            return [passes.step(lm, 0, state, part)[:, -1] for state in (hidden, moved)]

    with hooks.hooked({lm.attention(0): see}):
        whole = last()
    if seen[0].equal(seen[1]):
        raise ModelError(_misfit(lm, "attention is another module: it looks at one token alone"))
    fault = "attention is another module: tokens reach each other past it"
    _less(lm, last(lm.attention(0)), whole, fault)
    alone, _ = last(lm.attention(0), lm.mlp(0))
    fault = "a block whose attention and mlp are silent changes its input: one is another module"
    _less(lm, [alone, hidden[:, -1]], [whole[0], hidden[:, -1]], fault)


def _less(lm: LanguageModel, pair: list[Tensor], than: list[Tensor], fault: str) -> None:
    """A difference that should be none, against one that is there."""
    off, there = ((a - b).abs().max() for a, b in (pair, than))
    if not off <= TOLERANCE.get(lm.dtype, FINE) * there:
        raise ModelError(_misfit(lm, fault))


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
        raise ModelError(_misfit(lm, f"{fault}, as `transposed` says"))
    expected = seen["inner"] @ weight.T
    expected = expected if down.bias is None else expected + down.bias
    _same(lm, seen["down"], expected, "down_projection is no linear map")


def _same(lm: LanguageModel, got: Tensor, expected: Tensor, fault: str) -> None:
    off = (got - expected).abs().max()
    if not off <= TOLERANCE.get(lm.dtype, FINE) * expected.abs().max():
        raise ModelError(_misfit(lm, fault))


def _misfit(lm: LanguageModel, fault: str) -> str:
    return _message(lm.model.config.model_type, fault)


def _message(kind: str, fault: str) -> str:
    return f"the entry of {kind!r} in ARCHITECTURES does not fit: {fault}"
