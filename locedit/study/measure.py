"""What an edit is judged by: log-probabilities and perplexities measured, scores derived from them.

METHODS section 6. Measuring needs the model and is stored raw; every score is a function of stored
numbers, so a new score never needs the model again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from locedit.engine import decoding, log_probs, packing, passes, sampling
from locedit.engine.noise import place
from locedit.engine.updates import Updates, applied
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel

ESSENCE_TOKENS = 100  # tokens of an essence text that count towards its perplexity


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One fact's prompts to measure, with the two objects whose probabilities are compared."""

    request: Request
    other: str
    paraphrases: Sequence[str]
    neighbourhood: Sequence[str]
    texts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """log p of the target and of the other object, per prompt; perplexity per essence text."""

    rewrite: tuple[float, float]
    paraphrase: tuple[list[float], list[float]]
    neighbourhood: tuple[list[float], list[float]]
    perplexity: list[float]


@torch.inference_mode()
def measure(
    lm: LanguageModel,
    probes: Sequence[Probe],
    updates: Updates | None = None,
    *,
    sigma: float = 0.0,
    n_noise: int = 10,
    seed: int = 1,
) -> list[Measurement]:
    """Measure each probe on the model with its own edit: updates hold one change a probe.

    A noised problem's rewrite prompt is measured under the tracing noise, its probability averaged
    over the noise rows; all other prompts are clean.
    """
    prompts = _measure_prompts(lm, probes, updates, sigma=sigma, n_noise=n_noise, seed=seed)
    texts = perplexities(lm, [probe.texts for probe in probes], updates)
    measurements = []
    for probe, pairs, perplexity in zip(probes, prompts, texts, strict=True):
        cut = 1 + len(probe.paraphrases)
        measurements.append(
            Measurement(
                rewrite=pairs[0],
                paraphrase=_unzip(pairs[1:cut]),
                neighbourhood=_unzip(pairs[cut:]),
                perplexity=perplexity,
            )
        )
    return measurements


def _unzip(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _measure_prompts(
    lm: LanguageModel,
    probes: Sequence[Probe],
    updates: Updates | None,
    *,
    sigma: float,
    n_noise: int,
    seed: int,
) -> list[list[tuple[float, float]]]:
    """Per probe and prompt, (log p(target), log p(other))."""
    rows: list[list[int]] = []
    ranges: list[tuple[int, int]] = []  # of a noised row's subject; empty for a clean one
    draws: list[int] = []
    queries: list[tuple[int, int, list[int]]] = []
    counts, groups = [], []
    for probe in probes:
        before = len(rows)
        texts = [probe.request.prompt, *probe.paraphrases, *probe.neighbourhood]
        for index, text in enumerate(texts):
            ids = lm.encode(text)
            targets = [lm.encode_target(o, text) for o in (probe.request.target, probe.other)]
            needed, row_of = _cover([ids + target[:-1] for target in targets])
            noisy = index == 0 and probe.request.problem.noised
            stands = probe.request.subject, probe.request.subject_start
            subject = lm.subject_range(text, *stands) if noisy else (0, 0)
            starts = []
            for draw in range(n_noise if noisy else 1):
                starts.append(len(rows))
                rows += needed
                ranges += [subject] * len(needed)
                draws += [draw] * len(needed)
            for target, offset in zip(targets, row_of, strict=True):
                groups.append(range(len(queries), len(queries) + len(starts)))
                queries += [(start + offset, len(ids) - 1, target) for start in starts]
        counts.append(len(rows) - before)
    padded, lengths = passes.pad(rows, lm.device)
    noise = None
    if any(probe.request.problem.noised for probe in probes):
        noise = place(lm, ranges, padded.shape[1], sigma=sigma, seed=seed, draws=draws)
    log_p = _log_probs(lm, padded, lengths, noise, counts, queries, updates)
    values = [
        (log_p[group.start : group.stop].logsumexp(dim=0) - np.log(len(group))).item()
        for group in groups
    ]
    pairs = iter(zip(values[::2], values[1::2], strict=True))
    sizes = [1 + len(probe.paraphrases) + len(probe.neighbourhood) for probe in probes]
    return [[next(pairs) for _ in range(size)] for size in sizes]


def _cover(rows: list[list[int]]) -> tuple[list[list[int]], list[int]]:
    """The rows to run so that both of two rows are run, and where each is: a prefix comes free."""
    a, b = rows
    if b[: len(a)] == a:
        return [b], [0, 0]
    if a[: len(b)] == b:
        return [a], [0, 0]
    return [a, b], [0, 1]


def _log_probs(
    lm: LanguageModel,
    ids: Tensor,
    lengths: Sequence[int],
    noise: Tensor | None,
    counts: Sequence[int],
    queries: Sequence[tuple[int, int, list[int]]],
    updates: Updates | None,
) -> Tensor:
    """log p of each query (row, position of the prompt's last token, target), [queries]."""
    packed = packing.pack(lengths, lm.device)
    hidden = packing.embed(lm, packed, ids, noise)
    with applied(lm, updates or {}, packed.share(counts)):
        hidden = passes.run(lm, hidden, packing.suffix(lm, packed))
    index, ends, targets = zip(*queries, strict=True)
    lines = [packed.line[i] for i in index]
    cells = [packed.offset[i] + end for i, end in zip(index, ends, strict=True)]
    return log_probs.target_log_probs(lm, hidden, lines, cells, targets).cpu()


@torch.inference_mode()
def perplexities(
    lm: LanguageModel, texts: Sequence[Sequence[str]], updates: Updates | None = None
) -> list[list[float]]:
    """exp(-(1/n) sum over tokens 2..n of log p) of each fact's texts, n tokens, at most 100."""
    rows = [lm.encode(text)[:ESSENCE_TOKENS] for group in texts for text in group]
    if not rows:
        return [[] for _ in texts]
    counts = [len(group) for group in texts]
    queries = [(i, 0, row[1:]) for i, row in enumerate(rows)]
    ids, lengths = passes.pad(rows, lm.device)
    log_p = _log_probs(lm, ids, lengths, None, counts, queries, updates)
    values = iter((-log_p / torch.tensor(lengths)).exp().tolist())
    return [[next(values) for _ in range(count)] for count in counts]


@torch.inference_mode()
def continuations(
    lm: LanguageModel,
    probes: Sequence[Probe],
    updates: Updates | None = None,
    *,
    steps: int,
    sigma: float = 0.0,
    n_noise: int = 10,
    seed: int = 1,
) -> list[list[str]]:
    """What the model writes greedily behind each probe's prompt, then behind each paraphrase.

    Up to the end of text, or `steps` tokens; [] for no steps. A noised problem's prompt is noised,
    and its next token the likeliest by the mean probability of the noise rows.
    """
    if steps <= 0:
        return [[] for _ in probes]
    rows: list[list[int]] = []
    ranges: list[tuple[int, int]] = []
    group: list[int] = []  # of each row; rows of a noised prompt are one
    draws: list[int] = []
    counts = []
    for probe in probes:
        before, request = len(rows), probe.request
        for index, text in enumerate([request.prompt, *probe.paraphrases]):
            noisy = index == 0 and request.problem.noised
            stands = (request.subject, request.subject_start)
            subject = lm.subject_range(text, *stands) if noisy else (0, 0)
            copies = n_noise if noisy else 1
            group += [group[-1] + 1 if group else 0] * copies
            rows += [lm.encode(text)] * copies
            ranges += [subject] * copies
            draws += range(copies)
        counts.append(len(rows) - before)
    noise = None
    if any(probe.request.problem.noised for probe in probes):
        length = max(map(len, rows))
        noise = place(lm, ranges, length, sigma=sigma, seed=seed, draws=draws)
    choose = sampling.likeliest_of_groups(group, lm.device)
    with applied(lm, updates or {}, counts):  # all rows stay, since each feels its own fact's edit
        written = decoding.decode(lm, rows, [steps] * len(rows), choose, noise=noise).tolist()
    first = [i for i, g in enumerate(group) if i == 0 or group[i - 1] != g]
    texts = iter([sampling.until_end(lm, written[i]) for i in first])
    return [[next(texts) for _ in range(1 + len(probe.paraphrases))] for probe in probes]
