"""Rates on randomly initialised models of published shapes, made on the device: no file is read.

The engine's, and beside them the published procedure's (tests/support/oracle.py) in the same run.
"""

import gc
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPTJConfig, LlamaConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import cost
import oracle
import tiny
from procedures import (
    EXAMPLES,
    SIGMA,
    Example,
    counted,
    probes_of,
    published_edit,
    published_scores,
    request_of,
    timed,
)

from locedit.engine.key_statistics import KeyMoments, key_moments
from locedit.engine.updates import LowRank, Updates
from locedit.errors import ran_out_of_memory
from locedit.localizers import restoration
from locedit.methods import METHODS, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.model.linear import speed_up
from locedit.model.memory import MOST_FACTS
from locedit.study import measure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FACTS, TRACED, WINDOW = 8, 2, 5  # edited side by side; traced one after the other
RESTORED = 5  # restorations by the published procedure
STATISTICS_TOKENS, TEXT_TOKENS = 4096, 256


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a measurement found. rate: units a second, of the engine; published: of the procedure.

    share_of_peak: of the engine's matrix products. peak_memory_gb: of the engine, weights included.
    difference: of log p, the largest between both.
    """

    rate: float
    peak_memory_gb: float | None = None
    published: float | None = None
    share_of_peak: float | None = None
    difference: float | None = None
    remark: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A measurement to make. operations: of its matrix products, roughly."""

    name: str
    unit: str
    operations: float
    run: Callable[[], Rates]


# ---- models --------------------------------------------------------------------------------------


def shapes(small: bool) -> dict[str, Any]:
    """Configurations by name; small ones of the same families for a CPU."""
    if small:
        sizes = {"vocab_size": 2048, "num_hidden_layers": 3, "bos_token_id": 0, "eos_token_id": 1}
        some = {name: tiny.FAMILIES[name] for name in ("gptj", "llama")}
        return {f"{name}-tiny": one.config(**one.settings, **sizes) for name, one in some.items()}
    return {
        "gptj-6b": GPTJConfig(),
        "llama-8b": LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
        ),
    }


def words() -> list[str]:
    """What the tokenizer is made of: each word is a token, as most are to a large vocabulary."""
    own = [(e.prompt, e.true, e.false, *e.paraphrases, *e.neighbours) for e in EXAMPLES]
    return [*itertools.chain(*own), *(f" {o}" for e in EXAMPLES for o in (e.true, e.false))] * 3


def drawn(config: Any, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """A model with random weights, made where and as they are to be."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    speed_up(model)
    texts = [*tiny.SENTENCES, *words()]
    return LanguageModel(model, tiny.tokenizer(vocabulary=2000, texts=texts))


def weights_of(config: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())


def free_memory(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def free_up() -> None:
    """Give a card back what nothing holds any more, and count the peak from here on."""
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: torch.device) -> float | None:
    """GB since the measurement began; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None


def peak_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a product of two matrices size x size, the best of some."""
    a = torch.randn(size, size, device=device).to(dtype)
    timed(lambda: a @ a)
    return 2 * size**3 / min(timed(lambda: a @ a)[0] for _ in range(10))


# ---- rates -------------------------------------------------------------------------------------


class MadeUp(KeyMoments):
    """Positive definite moments of random diagonals: what their numbers are changes no rate.

    Their spectrum is known, for a decomposition takes longer than all else here: `spectrum` below.
    """

    def __init__(self, lm: LanguageModel) -> None:
        generator = torch.Generator().manual_seed(0)
        spread = torch.randn(lm.inner_size, generator=generator).exp()
        values, order = spread.sort()
        self.matrix = torch.diag(spread.to(lm.device))
        super().__init__(lambda _layer: self.matrix)
        self._known = values.to(lm.device).double(), order.to(lm.device)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        values, order = self._known
        directions = torch.zeros(self.matrix.shape, dtype=torch.float64, device=values.device)
        directions[order, torch.arange(len(order), device=order.device)] = 1
        return values, directions

    def spectrum(self, layer: int, width: int) -> tuple[Tensor, Tensor]:
        return self._sorted


def contexts() -> dict[str | None, list[list[str]]]:
    """As many and as long as a study's: 20 of 5 and of 10 words for ROME, 5 of 10 for MEMIT."""
    text = " ".join(tiny.SENTENCES).replace(".", "").split()
    starts = [" ".join(text[i : i + n]) + ". {}" for n in (5, 10) for i in range(10)]
    return {None: [["{}"]], "rome": [["{}", *starts]], "memit": [["{}"], starts[-5:]]}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measurements of one model. peak: of its dtype, operations a second.

    facts: edited side by side; most: of one method, where more are faster. known: operations that
    were counted of this model, by what was done and of how much.
    """

    lm: LanguageModel
    peak: float
    known: dict[tuple[str, int], float] = field(default_factory=dict)
    facts: int = FACTS
    most: int = MOST_FACTS
    tokens: int = STATISTICS_TOKENS

    @cached_property
    def model(self) -> cost.Model:
        lm = self.lm
        layer = sum(w.numel() for w in lm.layers[0].parameters() if w.dim() == 2)
        return cost.Model(layers=lm.n_layers, layer=2 * layer, head=2 * lm.head.weight.numel())

    @property
    def layer(self) -> int:
        return self.lm.n_layers // 3

    @property
    def fine(self) -> bool:
        """Float32, in which the published procedures of all editors run."""
        return self.lm.dtype == torch.float32

    def tasks(self) -> list[Task]:
        """The most important first."""
        published, engine = cost.tracing(self.model)
        each = published / ((cost.TYPICAL.tokens - cost.TYPICAL.subject) * self.model.layers + 1)
        operations = 2 * TRACED * engine + (RESTORED + 4) * each
        found = [Task(name="tracing", unit="restorations", operations=operations, run=self.tracing)]
        for method in METHODS:
            published, engine = self.edit_operations(method)
            operations = (self.facts + 1) * engine + published * self.fine
            run = self.edits_of(method)
            found.append(Task(name=f"edit.{method}", unit="edits", operations=operations, run=run))
        published, engine = cost.scoring(self.model)
        operations = (self.facts + 1) * engine + 2 * engine * self.fine
        found.append(Task(name="scoring", unit="edits", operations=operations, run=self.scoring))
        moments = self.model.layers * 2 * self.lm.inner_size**2
        operations = 2 * self.tokens * (self.model.whole(1, 0) + moments)
        found.append(
            Task(name="key_statistics", unit="tokens", operations=operations, run=self.statistics)
        )
        return found

    def edit_operations(self, method: str) -> tuple[float, float]:
        """(published, engine) operations of one edit, as docs/explanation/cost.md counts them."""
        kind = METHODS[method].contexts
        if kind is None:
            return cost.fine_tuning(self.model, max(0, self.layer - 2), 1, 25)
        number = cost.ROME_CONTEXTS if kind == "rome" else cost.MEMIT_CONTEXTS
        return cost.value(self.model, self.layer, number, 24)

    def tracing(self) -> Rates:
        lm, some = self.lm, EXAMPLES[:TRACED]
        settings: dict[str, Any] = {"module": "mlp", "window": WINDOW, "sigma": SIGMA}

        def engine(count: int) -> list[restoration.Trace]:
            return [
                restoration.trace(lm, e.prompt, e.subject, e.true, **settings) for e in some[:count]
            ]

        engine(1)  # warms up
        seconds, traces = timed(lambda: engine(TRACED))
        memory = peak_memory(lm.device)
        begin, _ = traces[0].subject_range
        cells = [(begin, layer) for layer in range(min(RESTORED, lm.n_layers))]
        fact = (some[0].prompt, some[0].subject, some[0].true)

        def published(cells: Sequence[tuple[int, int]]) -> np.ndarray:
            return oracle.trace(lm.model, lm.tokenizer, *fact, **settings, cells=cells)[
                "p_restored"
            ]

        published(cells[:1])  # warms up
        published_s, expected = timed(lambda: published(cells))
        known = ~np.isnan(expected)
        difference = np.abs(np.log(expected[known] / traces[0].p_restored[known])).max()
        return Rates(
            rate=sum(trace.p_restored.size for trace in traces) / seconds,
            published=(len(cells) + 1) / published_s,  # the unrestored pass is one more
            share_of_peak=self.operations("tracing", engine, TRACED) / seconds / self.peak,
            peak_memory_gb=memory,
            difference=min(float(np.nan_to_num(difference, nan=np.inf)), sys.float_info.max),
        )

    def edits_of(self, method: str) -> Callable[[], Rates]:
        return lambda: self.edits(method)

    def edits(self, method: str) -> Rates:
        """With the released settings, and every step of them: no fact is done before its last."""
        entry, lm = METHODS[method], self.lm
        hyper = entry.hyperparameters("error_injection", "released")
        if hasattr(hyper, "enough"):
            hyper = entry.hyperparameters("error_injection", "released", {"all": {"enough": 0.0}})
        moments = MadeUp(lm) if entry.statistics else None
        shared = SharedInputs(contexts=contexts()[entry.contexts], moments=moments, sigma=SIGMA)
        examples = list(itertools.islice(itertools.cycle(EXAMPLES), max(self.facts, self.most)))
        requests = [request_of(example) for example in examples]

        def edit(count: int) -> None:
            entry.edit(lm, requests[:count], self.layer, hyper, shared)

        edit(1)  # warms up, and factors the moments, which a study does once
        # contexts fill a card; the single rows of fine-tuning do not
        most = self.facts if entry.contexts else self.most
        count, seconds, memory = most_that_fit(edit, self.facts, lm.device, most=most)
        published = self.published(examples[0], method, hyper, shared) if self.fine else None
        return Rates(
            rate=count / seconds,
            published=published,
            share_of_peak=self.operations(method, edit, count) / seconds / self.peak,
            peak_memory_gb=memory,
            remark=f"{count} side by side",
        )

    def operations(self, name: str, do: Callable[[int], Any], size: int) -> float:
        """Of `do(size)`, counted once for all types of numbers: counting takes longest."""
        key = name, size
        if key not in self.known:
            with counted() as counter:
                do(size)
            self.known[key] = counter.get_total_flops()
        return self.known[key]

    def published(self, example: Example, method: str, hyper: Any, shared: SharedInputs) -> float:
        """Edits a second of the published procedure, as if it too took all of its steps."""
        lm, made_up = self.lm, shared.moments
        moments: dict[int, Tensor] = {}
        if isinstance(made_up, MadeUp):
            matrix = made_up.matrix
            if method == "AlphaEdit":
                values, directions = made_up.spectrum(0, lm.inner_size)
                small = directions[:, values < hyper.threshold * values.quantile(0.5)]
                matrix = small @ small.T
            moments = dict.fromkeys(range(lm.n_layers), matrix)
        seconds, made = timed(
            lambda: published_edit(lm, example, method, self.layer, hyper, shared, moments)
        )
        if hasattr(hyper, "enough"):
            seconds *= hyper.steps / len(made.losses)
        return 1 / seconds

    def scoring(self) -> Rates:
        """Prompts and essence texts of edits that are there, as many as the paper scores.

        The published procedure scores the unedited model again for each edit; it samples the texts
        anew, too, which is left out here.
        """
        lm, facts = self.lm, self.facts
        neighbours = tuple(text for example in EXAMPLES for text in example.neighbours)
        examples = [
            replace(example, neighbours=neighbours)
            for example in itertools.islice(itertools.cycle(EXAMPLES), facts)
        ]
        words = " ".join(tiny.SENTENCES * 20).split()
        texts = [" ".join(words[i : i + 2 * measure.ESSENCE_TOKENS]) for i in range(5)]
        left, right = (
            torch.randn(facts, size, device=lm.device, dtype=lm.dtype) / size
            for size in (lm.hidden_size, lm.inner_size)
        )
        probes = probes_of(examples, [texts] * facts)

        def engine(count: int) -> None:
            updates: Updates = {self.layer: LowRank(left=left[:count], right=right[:count])}
            measure.measure(lm, probes[:count], updates)

        engine(1)  # warms up
        count, seconds, memory = most_that_fit(engine, facts, lm.device)
        published = None
        if self.fine:
            published_s, _ = timed(lambda: published_scores(lm, examples[0], texts))
            published = 1 / (2 * published_s)
        return Rates(
            rate=count / seconds,
            published=published,
            share_of_peak=self.operations("scoring", engine, count) / seconds / self.peak,
            peak_memory_gb=memory,
            remark=f"{count} side by side",
        )

    def statistics(self) -> Rates:
        """Of all layers whose moments the card holds beside the weights."""
        lm = self.lm
        of_layer = 4 * lm.inner_size**2
        layers = range(int(min(lm.n_layers, 0.8 * free_memory(lm.device) // of_layer)))
        if not layers:
            raise torch.OutOfMemoryError("no layer's key moment fits beside the weights")
        text = " ".join(tiny.SENTENCES * 20)
        texts = [text] * (self.tokens // TEXT_TOKENS)

        def engine(tokens: int) -> None:
            key_moments(lm, texts, layers=layers, max_tokens=TEXT_TOKENS, tokens=tokens)

        engine(TEXT_TOKENS)  # warms up
        seconds, _ = timed(lambda: engine(self.tokens))
        memory = peak_memory(lm.device)
        published_s, _ = timed(
            lambda: oracle.key_statistics(lm.model, lm.tokenizer, texts[:2], [self.layer])
        )
        # of these layers: which ones a card holds depends on the type of numbers
        each = self.operations(f"statistics of {len(layers)}", engine, TEXT_TOKENS)
        operations = each * self.tokens / TEXT_TOKENS
        return Rates(
            rate=self.tokens / seconds,
            published=2 * TEXT_TOKENS / published_s / len(layers),  # a whole pass for each
            share_of_peak=operations / seconds / self.peak,
            peak_memory_gb=memory,
            remark=f"{len(layers)} of {lm.n_layers} layers at once",
        )


def decomposition(device: torch.device, size: int) -> Task:
    """What AlphaEdit needs of each layer, once a study; on a card it takes longest of all."""

    def spectrum() -> Rates:
        a = torch.randn(size, size, device=device)
        moments = KeyMoments(lambda _layer: a @ a.T / size)
        seconds, _ = timed(lambda: moments.spectrum(0, size))
        return Rates(rate=1 / seconds, peak_memory_gb=peak_memory(device))

    return Task(name="spectrum", unit="layers", operations=60 * size**3, run=spectrum)


def most_that_fit(
    edit: Callable[[int], None], facts: int, device: torch.device, *, most: int = 0
) -> tuple[int, float, float | None]:
    """Facts side by side, seconds, and peak memory: of so many, or of half as many, or of fewer.

    most: to which twice as many are tried, and twice again, while that is faster by a tenth.
    """
    found = _tried(edit, facts, device)
    while found is None:
        facts //= 2
        found = _tried(edit, facts, device)
    while 2 * found[0] <= most:
        twice = _tried(edit, 2 * found[0], device)
        if twice is None or twice[0] / twice[1] < 1.1 * found[0] / found[1]:
            break
        found = twice
    return found


def _tried(
    edit: Callable[[int], None], facts: int, device: torch.device
) -> tuple[int, float, float | None] | None:
    """None where memory runs out, unless for a single fact."""
    free_up()
    try:
        seconds, _ = timed(partial(edit, facts))
    except Exception as error:
        if facts == 1 or not ran_out_of_memory(error):
            raise
        return None
    return facts, seconds, peak_memory(device)
