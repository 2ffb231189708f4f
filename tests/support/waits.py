"""Where the host waits for a card, seen without one: on the card that is none of `elsewhere`.

A card works through what is launched on it while the host goes on. The host stops where it asks for
a number (`int`, `bool`, `tolist`, a copy), where the size of a result hangs on numbers (boolean
masks, `nonzero`), and where it copies a tensor of its own to the card. Once a pass that costs
nothing; in each layer of each pass it leaves the card idle.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_stack
from typing import Any
from unittest import mock

import torch
from elsewhere import OnCard, aten
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from locedit.engine import passes

ROOT = Path(__file__).resolve().parents[2]
MASKED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}
SIZED_BY_NUMBERS = {
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten._local_scalar_dense,
    aten.equal,
}
VIEWS = {aten.view, aten._unsafe_view, aten.alias, aten.detach, aten.expand, aten.slice}
VIEWS |= {aten.transpose, aten.t, aten.permute, aten.unsqueeze, aten.squeeze, aten.select}
VIEWS |= {aten.split, aten.split_with_sizes, aten.unbind}


@dataclass
class Waits:
    """What was seen. in_loops: places in the code where the host waited within a layer loop, with
    how often; others: everywhere else. operations: launches, by kind, views aside.
    """

    in_loops: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)


class _Watching(TorchDispatchMode):
    """Notes each operation on the card, and each wait with the place that it comes from.

    What comes between two layers that follow each other belongs to the loop over them, as does what
    a layer itself and a backward pass do; it is known once the next layer begins.
    """

    def __init__(self, found: Waits) -> None:
        super().__init__()
        self.found, self.inside = found, False
        self.last: tuple[int, Any] = (0, None)  # layer, and the part of the rows that walks
        self.between: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kind = func.overloadpacket
        leaves = tree_leaves((args, kwargs))
        if any(isinstance(x, OnCard) for x in (*leaves, out)) and kind not in VIEWS:
            self.found.operations[str(kind)] += 1
        if waits(func, args, leaves, out):
            if self.inside or torch._C._current_graph_task_id() != -1:
                self.found.in_loops[place(kind)] += 1
            else:
                self.between[place(kind)] += 1
        return out

    def begin(self, layer: int, part: Any) -> None:
        before, walking = self.last
        follows = part is not None and part is walking and layer == before + 1
        (self.found.in_loops if follows else self.found.others).update(self.between)
        self.between.clear()
        self.last = layer, part


def waits(func: Any, args: Any, leaves: list[Any], out: Any) -> bool:
    """Whether the host stops here for the card."""
    kind = func.overloadpacket
    there = [x for x in leaves if isinstance(x, OnCard)]
    if kind in COPIES:
        places = {isinstance(x, OnCard) for x in (*leaves, out) if isinstance(x, Tensor)}
        return places == {True, False}
    if kind is aten.repeat_interleave and there:
        return func is aten.repeat_interleave.Tensor  # without its size
    if kind in MASKED and there:
        index = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
        return any(x.dtype == torch.bool or not isinstance(x, OnCard) for x in index)
    return bool(there) and kind in SIZED_BY_NUMBERS


def place(kind: Any) -> str:
    """The operation, and the innermost line of the library that led to it."""
    for frame in reversed(extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(ROOT / "locedit"):
            return f"{kind} at {file.relative_to(ROOT)}:{frame.lineno} ({frame.line})"
    return f"{kind} at {extract_stack()[0]}"


@contextmanager
def watched() -> Iterator[Waits]:
    """What happens within the context, inside `elsewhere.card`."""
    found = Waits()
    watching = _Watching(found)
    step: Callable[..., Tensor] = passes.step

    def stepped(lm: Any, layer: int, hidden: Tensor, part: Any, *keep: Any) -> Tensor:
        watching.begin(layer, part)
        watching.inside = True
        try:
            return step(lm, layer, hidden, part, *keep)
        finally:
            watching.inside = False

    with mock.patch.object(passes, "step", stepped), watching:
        yield found
    watching.begin(0, None)
