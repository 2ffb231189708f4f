"""Key statistics as ROME, MEMIT and EasyEdit cache them: an npz file for each layer's module.

`{stats_dir}/{model}/{dataset}_stats/{module}_float32_mom2_{n}.npz` holds `mom2.mom2`, the sum of
k k^T in float32 [d_ff, d_ff], over `mom2.count` tokens; C is their quotient. `sample_size`, the
number of documents, has to be what their reader asks for. Nothing is ever unpickled.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locedit.errors import LoceditError
from locedit.messages import listed, one_line
from locedit.model.language_model import LanguageModel
from locedit.store.files import atomic

CONSTRUCTOR = "util.runningstats.SecondMoment()"
NONE = np.frombuffer((0xFFF8000000000002).to_bytes(8, "little"), dtype="<f8")[0]  # their None
_NAME = re.compile(r"(?P<module>.+)_float\d+_mom2_.+\.npz")
_UNEVEN = 1e-3  # |C - C'|, of the largest entry: float32 sums of many tokens are no more even


@dataclass(frozen=True, kw_only=True)
class Moment:
    """C of a layer, [d_ff, d_ff] float32; the tokens that it is the mean over; documents if told.

    singular: whether C has no inverse, so that solving with it takes a ridge.
    """

    moment: Tensor
    tokens: int
    documents: int | None
    singular: bool


def module_of(lm: LanguageModel, layer: int) -> str:
    """The name of a layer's down projection in the model, as other people's files have it."""
    return f"{lm.architecture.layers}.{layer}.{lm.architecture.down_projection}"


def path_of(folder: Path, model: str, dataset: str, module: str, samples: int) -> Path:
    """Where their readers look for a layer's file. model: as they name it, `/` become `_`."""
    name = f"{module}_float32_mom2_{samples}.npz"
    return folder / model.replace("/", "_") / f"{dataset}_stats" / name


def write(path: Path, moment: Tensor, tokens: int, documents: int) -> None:
    """One layer's file, all or nothing. moment: C; tokens: that it is the mean over."""
    total = (moment.double() * tokens).float().cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("wb") as stream:
        values: dict[str, Any] = {
            "mom2.constructor": np.array(CONSTRUCTOR),
            "mom2.count": np.array(tokens, dtype=np.int64),
            "mom2.mom2": total,
            "sample_size": np.array(documents, dtype=np.int64),
        }
        np.savez(stream, **values)


def read(path: Path, width: int) -> Moment:
    """One layer's file, checked. width: the model's d_ff.

    Raises LoceditError where it is no such file, or no second moment of keys of that width.
    """
    values = _values(path)
    total, tokens = values["mom2.mom2"], _whole(values["mom2.count"])
    if tokens is None or tokens <= 0:
        raise LoceditError(
            f"{path}: mom2.count is {one_line(values['mom2.count'])}, and a number of tokens above "
            "0 is expected; collect these statistics again"
        )
    if total.ndim != 2 or total.shape != (width, width):
        size = " x ".join(map(str, total.shape)) or "1"
        raise LoceditError(
            f"{path}: mom2.mom2 is {size}, and the model's d_ff is {width}: it is another model's; "
            "give this model's file"
        )
    if total.dtype.kind != "f" or not np.isfinite(total).all():
        raise LoceditError(f"{path}: not all of mom2.mom2 is a finite number; collect it again")
    if not total.any():
        raise LoceditError(f"{path}: mom2.mom2 is 0 throughout; collect these statistics again")
    moment = torch.from_numpy(total.astype(np.float64)) / tokens
    uneven = float((moment - moment.T).abs().max() / moment.abs().max().clamp_min(1e-300))
    if uneven > _UNEVEN:
        raise LoceditError(
            f"{path}: mom2.mom2 is not symmetric (by {uneven:.2g} of its largest entry), as a sum "
            "of k k^T is; give the file that was collected"
        )
    moment = (moment + moment.T) / 2
    return Moment(
        moment=moment.float(),
        tokens=tokens,
        documents=_whole(values["sample_size"]) if "sample_size" in values else None,
        singular=_singular(path, moment),
    )


def _singular(path: Path, moment: Tensor) -> bool:
    """Whether C has no inverse; LoceditError where it is below 0 in some direction."""
    if not int(torch.linalg.cholesky_ex(moment)[1]):
        return False
    lifted = moment.clone()
    lifted.diagonal().add_(1e-4 * moment.diagonal().abs().mean().clamp_min(1e-300))
    if int(torch.linalg.cholesky_ex(lifted)[1]):
        raise LoceditError(
            f"{path}: mom2.mom2 is not positive definite, by more than rounding, as a sum of k k^T "
            "is; give the file that was collected"
        )
    return True


def _values(path: Path) -> dict[str, Any]:
    try:
        start = path.open("rb").read(2)
    except OSError as error:
        raise LoceditError(f"{path} cannot be read ({error.strerror or error})") from error
    if not zipfile.is_zipfile(path):
        what = "a pickle, which can run code and is never read" if start[:1] == b"\x80" else "none"
        raise LoceditError(f"{path}: expected an npz file of key statistics, and it is {what}")
    try:
        with np.load(path, allow_pickle=False) as found:
            wanted = ("mom2.mom2", "mom2.count")
            if missing := [name for name in wanted if name not in found.files]:
                raise LoceditError(
                    f"{path} lacks {listed(missing)} (found: {listed(found.files)}); expected an "
                    "npz file of key statistics, as ROME, MEMIT and EasyEdit keep them"
                )
            return {n: found[n] for n in (*wanted, "sample_size") if n in found.files}
    except LoceditError:
        raise
    except Exception as error:  # a damaged archive fails anywhere; a pickle inside is refused
        raise LoceditError(
            f"{path} cannot be read as an npz file of plain numbers ({one_line(error)}); what is "
            "pickled in it can run code and is never read"
        ) from error


def _whole(value: np.ndarray) -> int | None:
    """A whole number; None where it is none, as their own None is, a NaN of one pattern."""
    if value.size != 1:
        return None
    one = value.reshape(())[()]
    real = isinstance(one, np.integer | np.floating) and abs(one) < 2.0**63  # neither NaN nor inf
    return int(one) if real and one == int(one) else None


def found_in(source: Path, lm: LanguageModel) -> dict[int, Path]:
    """The files of a file or folder (and of folders in it) by layer.

    Raises LoceditError where there is none, one of no layer of the model, or two of one layer.
    """
    files = [source] if source.is_file() else sorted(source.rglob("*.npz"))
    if not files:
        raise LoceditError(f"{source}: no npz file of key statistics there; give their folder")
    layers = {module_of(lm, layer): layer for layer in range(lm.n_layers)}
    found: dict[int, Path] = {}
    for file in files:
        named = _NAME.fullmatch(file.name)
        module = named["module"] if named else file.name
        if module not in layers:
            raise LoceditError(
                f"{file}: of the module {module!r}, and the model's are {module_of(lm, 0)!r} to "
                f"{module_of(lm, lm.n_layers - 1)!r}; give this model's files, their names as "
                "MODULE_float32_mom2_N.npz"
            )
        if layers[module] in found:
            raise LoceditError(
                f"{file} and {found[layers[module]]} are both of layer {layers[module]}; give the "
                "folder of one of them"
            )
        found[layers[module]] = file
    return found


def read_all(source: Path, lm: LanguageModel) -> Iterator[tuple[int, Moment]]:
    """Layer by layer, lowest first, what a file or a folder holds. Errors: as the above."""
    for layer, path in sorted(found_in(source, lm).items()):
        yield layer, read(path, lm.inner_size)


def tokens_of(moments: Mapping[int, Moment]) -> int:
    """The least number of tokens behind any layer."""
    return min(one.tokens for one in moments.values())
