"""What the paper's whole grid costs on a GPU, counted: docs/explanation/cost.md is its output.

Nothing is timed here. Multiplications and additions of matrix products, two operations each; a
backward pass to activations costs as much as its forward pass.

    python benchmarks/cost.py
"""

from dataclasses import dataclass

RECORDS, FACTS, WINDOWS = 2000, 652, 4
LAYERS = (0, 4, 5, 8, 12, 16, 20, 24, 27)
# A typical CounterFact prompt: tokens, first of the subject, tokens of subject and target
PROMPT, SUBJECT, SUBJECT_TOKENS, TARGET = 12, 4, 3, 1
SUFFIX = PROMPT - (SUBJECT + SUBJECT_TOKENS) + TARGET  # from the subject's last token on
PREFIX = 9  # tokens of a sampled context, the mean of 5 and 10 and a full stop
ROME_CONTEXTS, MEMIT_CONTEXTS, NOISE_ROWS = 21, 6, 10
ESSENCE_TOKENS, PROMPTS_SCORED, COMPLETION = 500, 13, 36
STATISTICS_TOKENS = 10 * 16384
RATES = {"H100, float32 at 45 TFLOP/s": 45e12, "H100, bfloat16 at 300 TFLOP/s": 300e12}


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


def tracing(m: Model) -> tuple[float, float]:
    """(published, engine) operations of one fact and window."""
    tokens = PROMPT - SUBJECT
    published = (tokens * m.layers + 1) * m.whole((NOISE_ROWS + 1) * (PROMPT + TARGET))
    suffixes = sum(PROMPT - t for t in range(SUBJECT, PROMPT))
    above = sum(m.layers - 1 - start for start in range(m.layers))
    engine = NOISE_ROWS * suffixes * above * m.layer
    engine += NOISE_ROWS * tokens * m.layers * TARGET * m.head
    engine += m.whole(PROMPT + NOISE_ROWS * tokens, 0)
    return published, engine


def value(m: Model, layer: int, contexts: int, steps: int) -> tuple[float, float]:
    """(published, engine) operations of optimising ROME's or MEMIT's vector at a layer."""
    row = PREFIX + PROMPT + TARGET - 1
    above = m.layers - 1 - layer
    forward = m.whole((contexts + 1) * row)
    backward = (contexts + 1) * row * (above * m.layer + m.head)
    cells = contexts * SUFFIX + 1
    step = 2 * (cells * above * m.layer + (contexts * TARGET + 1) * m.head)
    return (steps + 1) * forward + steps * backward, m.whole((contexts + 1) * row, 0) + steps * step


def fine_tuning(m: Model, layer: int, rows: int, steps: int) -> tuple[float, float]:
    """(published, engine) operations of one fact, whose rows share what precedes the subject."""
    row = PROMPT + TARGET - 1
    tokens, cells = rows * row, SUBJECT + rows * (row - SUBJECT)
    above = m.layers - layer
    backward = tokens * above * m.layer
    published = steps * (m.whole(tokens) + backward + tokens * m.head)
    return published, steps * (2 * cells * above * m.layer + 2 * rows * m.head)


def scoring(m: Model) -> tuple[float, float]:
    """Published: essence texts sampled, then everything twice. Engine: once."""
    once = m.whole(ESSENCE_TOKENS) + m.whole(PROMPTS_SCORED * (PROMPT + 1), 2 * PROMPTS_SCORED)
    return m.whole(ESSENCE_TOKENS) + 2 * once, once


def once(m: Model) -> float:
    """Engine: known facts, key statistics, essence texts and their perplexity, unedited prompts."""
    prompts = m.whole(PROMPTS_SCORED * (PROMPT + 1), 2 * PROMPTS_SCORED)
    known = m.whole(PROMPT + COMPLETION, COMPLETION)
    of_facts = FACTS * (2 * m.whole(ESSENCE_TOKENS) + 5 * prompts)
    return RECORDS * known + m.whole(STATISTICS_TOKENS, 0) + of_facts


def add(*pairs: tuple[float, float]) -> tuple[float, float]:
    return sum(a for a, _ in pairs), sum(b for _, b in pairs)


def scaled(pair: tuple[float, float], factor: float) -> tuple[float, float]:
    return pair[0] * factor, pair[1] * factor


def stages(m: Model) -> dict[str, tuple[float, float]]:
    """(published, engine) operations of each stage of the whole grid."""
    totals = {"tracing": scaled(tracing(m), FACTS * WINDOWS)}
    for name in ("FT-1", "FT-5", "ROME", "MEMIT"):
        per_fact = (0.0, 0.0)
        for layer in LAYERS:
            if name.startswith("FT"):
                first = max(0, layer - 2) if name == "FT-5" else layer
                plain = fine_tuning(m, first, 1, 25)
                forcing = fine_tuning(m, first, NOISE_ROWS, 50)
            else:
                top = min(m.layers - 1, layer + 2) if name == "MEMIT" else layer
                contexts = MEMIT_CONTEXTS if name == "MEMIT" else ROME_CONTEXTS
                plain = value(m, top, contexts, 24 if name == "MEMIT" else 19)
                forcing = value(m, top, contexts, 24)
            per_fact = add(per_fact, scaled(plain, 4), forcing)
        totals[name] = scaled(per_fact, FACTS)
    totals["scoring"] = scaled(scoring(m), FACTS * len(LAYERS) * 4 * 5)
    return totals


def main() -> None:
    totals = stages(GPTJ)
    totals["all"] = add(*totals.values())
    print("| stage | published, 10^15 | engine, 10^15 | ratio |", end="")
    print("".join(f" {name} |" for name in RATES))
    print("|---|---|---|---|" + "---|" * len(RATES))
    for stage, (published, engine) in totals.items():
        hours = "".join(f" {engine / rate / 3600:.1f} h |" for rate in RATES.values())
        ratio = published / engine
        print(f"| {stage} | {published / 1e15:.0f} | {engine / 1e15:.0f} | {ratio:.1f} |{hours}")
    print(f"\nComputed once, by the engine: {once(GPTJ) / 1e15:.0f} x 10^15")


if __name__ == "__main__":
    main()
