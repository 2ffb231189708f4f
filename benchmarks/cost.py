"""What the paper's whole grid costs on a GPU, counted: docs/explanation/cost.md is its output.

Nothing is timed here. Multiplications and additions of matrix products, two operations each; a
backward pass to activations costs as much as its forward pass. Hours are these operations over an
assumed rate, and over those at which a card ran each stage's like (gpu.json, of `make bench-gpu`).

    python benchmarks/cost.py
"""

import json
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).with_name("gpu.json")

RECORDS, FACTS, WINDOWS = 2000, 652, 4
EDITORS = ("FT-1", "FT-5", "ROME", "MEMIT")
LAYERS = (0, 4, 5, 8, 12, 16, 20, 24, 27)
PREFIX = 9  # tokens of a sampled context, the mean of 5 and 10 and a full stop
ROME_CONTEXTS, MEMIT_CONTEXTS, NOISE_ROWS = 21, 6, 10
ESSENCE_TOKENS, PROMPTS_SCORED, COMPLETION = 500, 13, 36
STATISTICS_TOKENS = 10 * 16384
RATES = {"H100, float32 at 45 TFLOP/s": 45e12, "H100, bfloat16 at 300 TFLOP/s": 300e12}


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, the first of its subject, and the subject's and the target's tokens."""

    tokens: int
    subject: int
    subject_tokens: int
    target: int = 1

    @property
    def suffix(self) -> int:
        """From the subject's last token on."""
        return self.tokens - (self.subject + self.subject_tokens) + self.target


TYPICAL = Prompt(tokens=12, subject=4, subject_tokens=3)  # of CounterFact
# Of the eight facts of `make bench-gpu` (procedures.EXAMPLES), whose tokens are words
BENCHMARK = [
    *[Prompt(tokens=6, subject=4, subject_tokens=1), Prompt(tokens=5, subject=0, subject_tokens=2)]
    * 2,
    Prompt(tokens=15, subject=12, subject_tokens=2),
    Prompt(tokens=7, subject=4, subject_tokens=2),
    Prompt(tokens=12, subject=10, subject_tokens=1),
    Prompt(tokens=9, subject=2, subject_tokens=1),
]
BENCHMARK_LAYER = 9  # of GPT-J


@dataclass(frozen=True)
class Model:
    """Operations per token of one layer and of the head."""

    layers: int
    layer: float
    head: float

    def whole(self, tokens: float, read: float | None = None) -> float:
        """A pass over tokens, `read` of them through the head."""
        return tokens * self.layers * self.layer + (tokens if read is None else read) * self.head


GPTJ = Model(layers=28, layer=2 * (4 * 4096**2 + 2 * 4096 * 16384), head=2 * 4096 * 50400)


def tracing(m: Model, p: Prompt = TYPICAL) -> tuple[float, float]:
    """(published, engine) operations of one fact and window."""
    tokens = p.tokens - p.subject
    published = (tokens * m.layers + 1) * m.whole((NOISE_ROWS + 1) * (p.tokens + p.target))
    suffixes = sum(p.tokens - t for t in range(p.subject, p.tokens))
    above = sum(m.layers - 1 - start for start in range(m.layers))
    engine = NOISE_ROWS * suffixes * above * m.layer
    engine += NOISE_ROWS * tokens * m.layers * p.target * m.head
    engine += m.whole(p.tokens + NOISE_ROWS * tokens, 0)
    return published, engine


def value(
    m: Model, layer: int, contexts: int, steps: int, p: Prompt = TYPICAL
) -> tuple[float, float]:
    """(published, engine) operations of optimising ROME's or MEMIT's vector at a layer."""
    row = PREFIX + p.tokens + p.target - 1
    above = m.layers - 1 - layer
    forward = m.whole((contexts + 1) * row)
    backward = (contexts + 1) * row * (above * m.layer + m.head)
    cells = contexts * p.suffix + 1
    step = 2 * (cells * above * m.layer + (contexts * p.target + 1) * m.head)
    return (steps + 1) * forward + steps * backward, m.whole((contexts + 1) * row, 0) + steps * step


def fine_tuning(
    m: Model, layer: int, rows: int, steps: int, p: Prompt = TYPICAL
) -> tuple[float, float]:
    """(published, engine) operations of one fact, whose rows share what precedes the subject."""
    row = p.tokens + p.target - 1
    tokens, cells = rows * row, p.subject + rows * (row - p.subject)
    above = m.layers - layer
    backward = tokens * above * m.layer
    published = steps * (m.whole(tokens) + backward + tokens * m.head)
    return published, steps * (2 * cells * above * m.layer + 2 * rows * m.head)


def scoring(m: Model, p: Prompt = TYPICAL) -> tuple[float, float]:
    """Published: essence texts sampled, then everything twice. Engine: once."""
    prompts = PROMPTS_SCORED * (p.tokens + 1)
    once = m.whole(ESSENCE_TOKENS) + m.whole(prompts, 2 * PROMPTS_SCORED)
    return m.whole(ESSENCE_TOKENS) + 2 * once, once


def once(m: Model) -> float:
    """Engine: known facts, key statistics, essence texts and their perplexity, unedited prompts."""
    prompts = m.whole(PROMPTS_SCORED * (TYPICAL.tokens + 1), 2 * PROMPTS_SCORED)
    known = m.whole(TYPICAL.tokens + COMPLETION, COMPLETION)
    of_facts = FACTS * (2 * m.whole(ESSENCE_TOKENS) + 5 * prompts)
    return RECORDS * known + m.whole(STATISTICS_TOKENS, 0) + of_facts


def add(*pairs: tuple[float, float]) -> tuple[float, float]:
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)


def scaled(pair: tuple[float, float], factor: float) -> tuple[float, float]:
    return pair[0] * factor, pair[1] * factor


def edit(
    m: Model, name: str, layer: int, *, forcing: bool, p: Prompt = TYPICAL
) -> tuple[float, float]:
    """(published, engine) operations of one edit, fact forcing or one of the other problems."""
    if name.startswith("FT"):
        first = max(0, layer - 2) if name == "FT-5" else layer
        return fine_tuning(m, first, *((NOISE_ROWS, 50) if forcing else (1, 25)), p)
    top = min(m.layers - 1, layer + 2) if name == "MEMIT" else layer
    contexts = MEMIT_CONTEXTS if name == "MEMIT" else ROME_CONTEXTS
    return value(m, top, contexts, 24 if forcing or name == "MEMIT" else 19, p)


def stages(m: Model) -> dict[str, tuple[float, float]]:
    """(published, engine) operations of each stage of the whole grid."""
    totals = {"tracing": scaled(tracing(m), FACTS * WINDOWS)}
    for name in EDITORS:
        edits = [
            edit(m, name, layer, forcing=forcing)
            for layer in LAYERS
            for forcing in (False,) * 4 + (True,)
        ]
        totals[name] = scaled(add(*edits), FACTS)
    totals["scoring"] = scaled(scoring(m), FACTS * len(LAYERS) * 4 * 5)
    return totals


def measured_pace(m: Model, dtype: str) -> dict[str, float]:
    """Operations a second of each stage's like on the card; empty where no card is on record."""
    if not MEASURED.exists():
        return {}
    found = json.loads(MEASURED.read_text())["measurements"]
    rates = {
        one["name"]: one["rate"]
        for one in found
        if (one["model"], one["dtype"]) == ("gptj-6b", dtype) and one["rate"]
    }
    facts = BENCHMARK[:2]  # that are traced
    restorations = sum((p.tokens - p.subject) * m.layers for p in facts)
    operations = {"tracing": sum(tracing(m, p)[1] for p in facts) / restorations}
    for name in EDITORS:
        some = [edit(m, name, BENCHMARK_LAYER, forcing=False, p=p)[1] for p in BENCHMARK]
        operations[f"edit.{name}"] = sum(some) / len(some)
    operations["scoring"] = sum(scoring(m, p)[1] for p in BENCHMARK) / len(BENCHMARK)
    return {
        name.removeprefix("edit."): each * rates[name]
        for name, each in operations.items()
        if name in rates
    }


def main() -> None:
    totals = stages(GPTJ)
    paces = {dtype: measured_pace(GPTJ, dtype) for dtype in ("float32", "bfloat16")}
    print("| stage | published, 10^15 | engine, 10^15 | ratio |", end="")
    print("".join(f" {name} |" for name in RATES), end="")
    print("".join(f" measured, {dtype} |" for dtype in paces))
    print("|---|---|---|---|" + "---|" * (len(RATES) + len(paces)))
    hours = [
        *(
            {stage: engine / rate / 3600 for stage, (_, engine) in totals.items()}
            for rate in RATES.values()
        ),
        *(
            {stage: totals[stage][1] / rate / 3600 for stage, rate in pace.items()}
            for pace in paces.values()
        ),
    ]
    totals["all"] = add(*totals.values())
    for column in hours:
        if len(column) == len(totals) - 1:
            column["all"] = sum(column.values())
    for stage, (published, engine) in totals.items():
        shown = "".join(
            f" {column[stage]:.1f} h |" if stage in column else " |" for column in hours
        )
        ratio = published / engine
        print(f"| {stage} | {published / 1e15:.0f} | {engine / 1e15:.0f} | {ratio:.1f} |{shown}")
    print(f"\nComputed once, by the engine: {once(GPTJ) / 1e15:.0f} x 10^15")
    for dtype, pace in paces.items():
        print(dtype, {stage: f"{rate / 1e12:.3g} TFLOP/s" for stage, rate in pace.items()})


if __name__ == "__main__":
    main()
