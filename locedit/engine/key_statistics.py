"""Key second moments C_l = E[k k^T] of every layer in one streaming pass (METHODS section 5)."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from locedit.engine import passes
from locedit.errors import LoceditError
from locedit.messages import listed
from locedit.model import hooks
from locedit.model.language_model import LanguageModel
from locedit.model.linear import linear
from locedit.model.memory import in_batches, moments_together
from locedit.shards import batches
from locedit.stated import AGAIN, check_stated

SORTED = 16  # batches whose rows are put in the order of their lengths


@torch.inference_mode()
def key_moments(
    lm: LanguageModel,
    texts: Iterable[str],
    *,
    layers: Iterable[int] | None = None,
    max_tokens: int = 256,
    tokens: int | None = None,
    batch: int = 8,
    progress: Callable[[int], None] = lambda _done: None,
) -> tuple[dict[int, Tensor], int]:
    """C_l for all layers at once, [d_ff, d_ff] each, and the number of tokens behind them.

    k is the input of layer l's down projection. Each text is tokenised alone and cut to
    `max_tokens`; texts are read until `tokens` tokens (all, by default). Sums are float32 or the
    model's dtype, whichever is finer. Layers that a card does not hold together take a pass over
    the text each in turn, and wait in the machine's own memory.
    """
    layers = list(range(lm.n_layers) if layers is None else layers)
    dtype = torch.promote_types(lm.dtype, torch.float32)
    passed, left = 0.0, iter(texts)

    def of_layers(some: Sequence[int]) -> list[tuple[Tensor, int]]:
        def advance(n: int) -> None:
            nonlocal passed
            before, passed = int(passed), passed + n * len(some) / len(layers)
            progress(int(passed) - before)

        nonlocal left
        left, own = itertools.tee(left)  # each pass reads the text from its beginning
        found = _batches(lm, own, max_tokens, tokens, batch)
        sums, count = _key_moments(lm, found, some, dtype, advance)
        kept = sums if len(some) == len(layers) else {la: c.cpu() for la, c in sums.items()}
        return [(kept[layer], count) for layer in some]

    at_once = moments_together(lm, dtype.itemsize)
    found = in_batches(of_layers, layers, "layers' key moments", at_once)
    return {la: moment for la, (moment, _) in zip(layers, found, strict=True)}, found[0][1]


def _key_moments(
    lm: LanguageModel,
    batches: Iterable[tuple[Tensor, list[int]]],
    layers: Sequence[int],
    dtype: torch.dtype,
    progress: Callable[[int], None],
) -> tuple[dict[int, Tensor], int]:
    """C_l of these layers in one pass over batches of token rows, and the tokens of these."""
    sums = {
        layer: torch.zeros(lm.inner_size, lm.inner_size, dtype=dtype, device=lm.device)
        for layer in layers
    }
    count = 0
    for ids, lengths in batches:
        width = ids.shape[1]
        cells = [row * width + i for row, length in enumerate(lengths) for i in range(length)]
        real = torch.tensor(cells, device=lm.device)  # not padding

        def add(layer: int, real: Tensor = real) -> hooks.Hook:
            def hook(inner: Tensor, _: Tensor) -> None:
                keys = inner.flatten(0, 1).index_select(0, real).to(dtype)
                sums[layer].add_(linear(keys.T, keys.T))

            return hook

        with hooks.hooked({lm.down_projection(layer): add(layer) for layer in layers}):
            part = passes.whole(lm, width)
            passes.run(lm, passes.embed(lm, ids), part, last=max(layers) + 1)
        count += len(cells)
        progress(len(cells))
    if count == 0:
        raise LoceditError("key statistics need text, and there was none")
    for total in sums.values():
        total.div_(count)  # in place: all layers of a large model nearly fill a card
    return sums, count


def texts_read(
    lm: LanguageModel, texts: Iterable[str], *, max_tokens: int, tokens: int | None
) -> int:
    """How many of the texts `key_moments` reads."""
    return sum(1 for _ in _rows(lm, texts, max_tokens, tokens))


def _rows(
    lm: LanguageModel, texts: Iterable[str], max_tokens: int, tokens: int | None
) -> Iterator[list[int]]:
    """The tokens that are read of each text, until there are enough."""
    left = float("inf") if tokens is None else tokens
    for text in texts:
        row = lm.encode(text)[: int(min(max_tokens, left))]
        left -= len(row)
        yield row
        if left <= 0:
            return


def _batches(
    lm: LanguageModel,
    texts: Iterable[str],
    max_tokens: int,
    tokens: int | None,
    batch: int,
) -> Iterator[tuple[Tensor, list[int]]]:
    """Rows of much the same length together: in the texts' order, half of a pass is padding."""
    rows = (row for row in _rows(lm, texts, max_tokens, tokens) if row)
    while some := sorted(itertools.islice(rows, SORTED * batch), key=len):
        for alike in batches(some, batch):
            yield passes.pad(alike, lm.device)


class KeyMoments:
    """C_l by layer, loaded and factored on first use: what editing methods solve with.

    tokens: how many C is the mean over, where that is known. ridge: added to C's diagonal, as a
    share of its mean; 0 leaves C as it is.
    """

    def __init__(
        self, load: Callable[[int], Tensor], *, tokens: int | None = None, ridge: float = 0.0
    ) -> None:
        self._load, self._tokens, self._ridge = load, tokens, ridge
        self._factors: dict[int, Tensor] = {}
        self._spectra: dict[int, tuple[Tensor, Tensor]] = {}

    def solve(self, layer: int, keys: Tensor) -> Tensor:
        """C_l^-1 k for each key [facts, d_ff], solved in float64, returned in the keys' dtype.

        Raises LoceditError, with what leads out, where C is not positive definite: too few tokens
        went into it, a unit is never active, or some depend on each other.
        """
        if layer not in self._factors:
            moment = self._moment(layer, keys.shape[-1])
            if self._ridge:
                moment = moment.clone()  # float64 moments are still the loader's own
                moment.diagonal().add_(self._ridge * moment.diagonal().mean())
            factor, failed = torch.linalg.cholesky_ex(moment)
            if failed:
                raise LoceditError(_singular(layer, moment, self._tokens))
            self._factors[layer] = factor
        return torch.cholesky_solve(keys.double().T, self._factors[layer]).T.to(keys)

    def spectrum(self, layer: int, width: int) -> tuple[Tensor, Tensor]:
        """C_l's singular values [d_ff], smallest first, and its directions [d_ff, d_ff], columns.

        Of the d_ff = `width` given, in float64. The ridge is left out: it is there for what
        inverts C, and here C may be singular. Raises LoceditError where C is not finite.
        """
        if layer not in self._spectra:
            moment = self._moment(layer, width)
            if not moment.isfinite().all():
                raise LoceditError(f"the key moment of layer {layer}: {_NOT_FINITE}")
            values, directions = torch.linalg.eigh(moment)
            values, order = values.abs().sort()  # those that are 0 come out on both sides of it
            self._spectra[layer] = values, directions[:, order]
        return self._spectra[layer]

    def moment(self, layer: int) -> Tensor:
        """C_l itself, as it is stored."""
        return self._load(layer)

    def _moment(self, layer: int, width: int) -> Tensor:
        moment = self._load(layer).double()
        if moment.shape[0] != width:
            raise OSError(_other_width(layer, moment.shape[0], width))
        return moment


_NOT_FINITE = "not all of it is finite; set dtype to float32 and collect it again"

RIDGE = "set statistics.ridge, to 1e-6 say, which holds for every layer"


def dead_units(moment: Tensor) -> list[int]:
    """Units of a layer's MLP that were never active: C has nothing on its diagonal there."""
    return torch.nonzero(moment.diagonal() == 0).flatten().tolist()


def told_dead(units: Sequence[int], size: int) -> str:
    """Units that were never active, in words: how many of `size`, and the first."""
    return f"{len(units)} of its {size} units were never active ({listed(units)})"


def _singular(layer: int, moment: Tensor, tokens: int | None) -> str:
    """Why a key moment is not positive definite, and what to do about it."""
    d_ff, dead = len(moment), dead_units(moment)
    said = f"the key moment of layer {layer} is not positive definite: "
    if not moment.isfinite().all():
        return said + _NOT_FINITE
    if tokens is not None and tokens < d_ff:
        said += f"{tokens} tokens are fewer than its d_ff = {d_ff}; "
    elif dead:
        return f"{said}{told_dead(dead, d_ff)}, and more text changes that hardly ever; {RIDGE}"
    elif tokens is not None:
        return f"{said}some units depend on others, of {tokens} tokens; {RIDGE}"
    return f"{said}collect it over more tokens, at least 10 x d_ff"


def _other_width(layer: int, found: int, wanted: int) -> str:
    return (
        f"the key moment of layer {layer} is {found} wide, and the model's d_ff is {wanted}: it is "
        "another model's; delete its file so that it is made again"
    )


def write_moments(path: Path, moments: Mapping[int, Tensor], **about: str) -> None:
    """Key moments as a safetensors file: a tensor and its SHA-256 a layer; and what is told."""
    tensors = {f"layer.{layer}": moment.cpu() for layer, moment in moments.items()}
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    # one text, since safetensors writes several in any order: the same moments are the same bytes
    save_file(tensors, path, metadata={"made": json.dumps({**about, **checksums})})


def _checksum(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().data).hexdigest()


def moments_from_file(path: Path, device: torch.device, *, ridge: float = 0.0) -> KeyMoments:
    """Key moments in a file of `write_moments`, one tensor a layer, read on demand and checked.

    ridge: as of `KeyMoments`.

    Raises OSError, naming the file, where it is truncated or no safetensors file (at once), or
    where a layer is missing or not what was written: no fact's fault, so no ValueError.
    """

    def load(layer: int) -> Tensor:
        name = f"layer.{layer}"
        with _opened(path) as tensors:
            there = sorted(int(one.removeprefix("layer.")) for one in tensors.keys())
            moment = tensors.get_tensor(name) if layer in there else None
            if moment is not None and _made(tensors).get(name) not in (None, _checksum(moment)):
                raise SafetensorError(f"{name} is not what was written")
        if moment is None:  # an import may be of some layers
            raise OSError(
                f"{path} has no key moment of layer {layer} (it has: {listed(there)}); edit where "
                "it has them, or give a file that has this one, too"
            )
        return moment.to(device)

    tokens = made_of(path).get("tokens")
    return KeyMoments(load, tokens=None if tokens is None else int(tokens), ridge=ridge)


def moments_of(path: Path) -> tuple[Iterator[tuple[int, Tensor]], int | None]:
    """(layer, C) of a file of `write_moments`, lowest first, and the tokens behind them, if told.

    Raises OSError as `moments_from_file` does.
    """
    with _opened(path) as tensors:
        layers = sorted(int(name.removeprefix("layer.")) for name in tensors.keys())
        tokens = _made(tensors).get("tokens")
    moments = moments_from_file(path, torch.device("cpu"))
    found = ((layer, moments.moment(layer)) for layer in layers)
    return found, None if tokens is None else int(tokens)


def made_of(path: Path) -> dict[str, str]:
    """What a file of `write_moments` tells of itself. OSError: as of `moments_from_file`."""
    with _opened(path) as tensors:
        return _made(tensors)


def _made(tensors: Any) -> dict[str, str]:
    made = json.loads((tensors.metadata() or {}).get("made", "{}"))
    if not isinstance(made, dict):
        raise SafetensorError("what it tells of itself is no mapping")
    return made


def check_size(path: Path, lm: LanguageModel) -> None:
    """Raise StatedError where a file's key moments are of other layers or widths than the model."""
    with _opened(path) as tensors:
        names = [(int(name.removeprefix("layer.")), name) for name in tensors.keys()]
        widths = {layer: tensors.get_slice(name).get_shape()[0] for layer, name in names}
    comparing: dict[str, Any] = {"where": path, "source": "the model", "remedy": AGAIN}
    layers = max([lm.n_layers, *(layer + 1 for layer in widths)])
    check_stated("the number of layers", layers, lm.n_layers, **comparing)
    for layer, width in widths.items():
        check_stated(f"d_ff of layer {layer}", width, lm.inner_size, **comparing)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise OSError(
            f"{path}: no readable key moments ({error}); delete the file so that it is made again"
        ) from error
