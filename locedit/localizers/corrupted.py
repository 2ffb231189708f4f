"""Corrupted runs of a batch of facts with gradients: what attribution and its integral share.

The noise of causal tracing stands on the subject's embeddings (METHODS section 2). What precedes
the subject is the clean run's, so rows are run from its first token on, against the clean run's
keys and values.

Shapes: F facts, N noise rows of each, R = F N rows, T tokens of a row, d hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from locedit.engine import packing, passes
from locedit.engine.gradients import Metric, Observed, Rows, log_p_of, observe, parts
from locedit.engine.noise import place
from locedit.facts.record import Fact
from locedit.localizers.base import Localization, SharedInputs
from locedit.model import hooks
from locedit.model.language_model import LanguageModel


def batches(lm: LanguageModel, facts: Sequence[Fact], n_noise: int) -> list[Rows]:
    """The facts with their true objects, as many together as memory holds."""
    rows = Rows.of_facts(lm, facts, [fact.target_true for fact in facts])
    return [rows[part] for part in parts(lm, [len(ids) * n_noise for ids in rows.ids])]


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """Noised rows, fact-major, from the subject's first token on.

    clean: each layer's module's outputs in the clean runs, [F, T, d]. embedded, noise: what enters
    layer 0 in the clean runs, and sigma * z, both in the packed rows' cells, [lines, cells, d].
    """

    lm: LanguageModel
    rows: Rows
    n_noise: int
    modules: list[nn.Module]
    clean: list[Tensor]
    packed: packing.Packing
    suffix: passes.Suffix
    embedded: Tensor
    noise: Tensor

    @classmethod
    def build(
        cls, lm: LanguageModel, rows: Rows, module: str, shared: SharedInputs, n_noise: int
    ) -> "Corrupted":
        ids, lengths = passes.pad(rows.ids, lm.device)
        modules = [lm.module(module, layer) for layer in range(lm.n_layers)]
        with torch.no_grad(), _watched(modules) as clean:
            record = passes.record(lm, ids, lengths)
        index = torch.arange(len(ids) * n_noise, device=lm.device) // n_noise
        begins = [b for b, _ in rows.subjects for _ in range(n_noise)]
        long = [length for length in lengths for _ in range(n_noise)]
        sizes = [length - b for length, b in zip(long, begins, strict=True)]
        packed = packing.pack(sizes, lm.device, starts=begins)
        noise = place(
            lm,
            [pair for pair in rows.subjects for _ in range(n_noise)],
            ids.shape[1],
            sigma=shared.sigma,
            seed=shared.noise_seed,
            draws=[*range(n_noise)] * len(ids),
        )
        row = packed.row.clamp(min=0)
        return cls(
            lm=lm,
            rows=rows,
            n_noise=n_noise,
            modules=modules,
            clean=clean,
            packed=packed,
            suffix=packing.suffix(
                lm, packed, _repeated(record, index, max(begins)), range(lm.n_layers)
            ),
            embedded=record.inputs[0][index[row], packed.positions],
            noise=noise[row, packed.positions],
        )

    def metric(self, kind: Literal["log_p", "p"]) -> Metric:
        """log p(o_true), or p(o_true), of each row, [R]."""
        ends = [end - b for end, (b, _) in zip(self.rows.ends, self.rows.subjects, strict=True)]
        log_p = log_p_of(
            self.lm,
            self.packed,
            [end for end in ends for _ in range(self.n_noise)],
            [target for target in self.rows.targets for _ in range(self.n_noise)],
        )
        return log_p if kind == "log_p" else lambda hidden: log_p(hidden).exp()

    def observe(self, share: float, metric: Metric) -> Observed:
        """A forward and a backward pass, `share` of the way from corrupted embeddings to clean."""
        entering = self.embedded + (1 - share) * self.noise
        return observe(self.lm, self.modules, entering, self.suffix, metric)

    @torch.no_grad()
    def outputs(self) -> list[Tensor]:
        """The modules' outputs at the corrupted embeddings, [lines, cells, d] of each layer."""
        with _watched(self.modules) as seen:
            passes.run(self.lm, self.embedded + self.noise, self.suffix)
        return seen

    def restored(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """(clean - corrupted) . gradient of each row, token from b on and layer: [R, Q, layers]."""
        fact, positions = self.packed.row.clamp(min=0) // self.n_noise, self.packed.positions
        products = [
            ((clean[fact, positions] - output) * gradient).sum(dim=-1)
            for clean, output, gradient in zip(self.clean, outputs, gradients, strict=True)
        ]
        return self.packed.scatter(torch.stack(products, dim=-1))

    def share_of_prompt(self) -> list[float]:
        """Of each fact, the share of its row that is run: from the subject's first token on."""
        pairs = zip(self.rows.ids, self.rows.subjects, strict=True)
        return [(len(ids) - b) / len(ids) for ids, (b, _) in pairs]

    def localizations(self, restored: Tensor, passes_of: Sequence[float]) -> list[Localization]:
        """Each fact's answer. restored: [R, Q, layers], as of `restored`."""
        by_fact = restored.double().cpu().numpy().reshape(-1, self.n_noise, *restored.shape[1:])
        return [
            _localization(values[:, : end + 1 - b], e - 1 - b, n_passes)
            for values, end, (b, e), n_passes in zip(
                by_fact, self.rows.ends, self.rows.subjects, passes_of, strict=True
            )
        ]


@contextmanager
def _watched(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that the modules' outputs join as they come, layer by layer."""
    seen: list[Tensor] = []
    with hooks.hooked({module: lambda _, output: seen.append(output) for module in modules}):
        yield seen


def _repeated(record: passes.Record, index: Tensor, length: int) -> passes.Record:
    """The keys and values of rows index[i] of a record, of their first `length` tokens."""
    keys = {
        layer: (k[index, :, :length], v[index, :, :length]) for layer, (k, v) in record.keys.items()
    }
    return passes.Record(inputs={}, keys=keys, lengths=[length] * len(index))


def _localization(values: np.ndarray, last: int, n_passes: float) -> Localization:
    """values: [n_noise, tokens b .. the prompt's last, layers]; last: the subject's last of them.

    At the best token, as causal tracing takes it, of the mean over noise rows.
    """
    mean, middle = values.mean(axis=0), len(values) // 2
    halves = [
        part.mean(axis=0).max(axis=0) for part in (values[:middle], values[middle:]) if middle
    ]
    return Localization(
        values=mean.max(axis=0),
        halves=np.stack(halves) if halves else None,
        further={"last": mean[last], "sum": mean.sum(axis=0)},
        passes=n_passes,
    )
