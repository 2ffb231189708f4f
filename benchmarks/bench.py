"""Time the engine against the published procedure, alternating in one process, same numbers.

The published procedure is tests/support/oracle.py on the model as transformers loads it: the whole
network, one (token, layer) per eleven-row pass, whole-network optimisation steps; for every edit
the essence texts are sampled and the unedited model is scored anew. Each measurement checks that
both give the same numbers before it prints one JSON line; a table follows, and both are stored
under benchmarks/results/. `cheap_localizers` compares otherwise: causal tracing of one window, by
the engine too, with all localizers together that the registry calls cheap. `tracing.batched` has in
the published procedure's place what an engineer writes in an afternoon: all layers' noise rows of a
token in one hooked pass of the same model, by the same matrix products, window 5; each fact has a
line, with the ratio of the operations that both need.

    python benchmarks/bench.py            tracing of each fact, edits of all six side by side
    python benchmarks/bench.py --quick    one fact traced, two edited; within five minutes
    python benchmarks/bench.py --only edit.ROME
    python benchmarks/bench.py --only tracing.batched --study results/MODEL/DATASET
                                          on the facts of a study
"""

import argparse
import functools
import json
import statistics as st
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import oracle  # noqa: E402
import oracle_editors  # noqa: E402
from procedures import (  # noqa: E402
    EXAMPLES,
    SIGMA,
    Example,
    batched_trace,
    counted,
    probes_of,
    published_edit,
    published_scores,
    request_of,
    timed,
)

from locedit.engine import loading, sampling  # noqa: E402
from locedit.engine.gguf import convert_gguf  # noqa: E402
from locedit.engine.key_statistics import KeyMoments, key_moments  # noqa: E402
from locedit.facts.corpus import paragraphs  # noqa: E402
from locedit.facts.record import Fact, from_row  # noqa: E402
from locedit.localizers import LOCALIZERS, TRACING, Unavailable, restoration  # noqa: E402
from locedit.localizers import SharedInputs as LocalizerInputs  # noqa: E402
from locedit.methods import METHODS, SharedInputs  # noqa: E402
from locedit.model import language_model  # noqa: E402
from locedit.model.linear import linear  # noqa: E402
from locedit.model.tokenizing import NO_CODE  # noqa: E402
from locedit.store import assets, tables  # noqa: E402
from locedit.study import measure  # noqa: E402

MODEL = "smollm2-135m-instruct"
LAYER = 10
# The paper's grid: 4 methods, 5 problems, 9 layers. Essence texts serve all edits of a fact, the
# unedited scores those of one problem.
EDITS_OF_A_FACT, EDITS_OF_A_BASELINE = 4 * 5 * 9, 4 * 9


@dataclass(frozen=True)
class Measurement:
    """One line of the results; times are medians in seconds, of each procedure alone.

    share_of_peak_flops: the multiplications and additions of the engine's matrix products by its
    time, over the rate of one large product on this machine; null where they were not counted.
    """

    name: str
    speedup: float | None
    published_s: float | None
    engine_s: float
    max_abs_diff: float | None
    share_of_peak_flops: float | None
    cases: int


def compare(
    name: str,
    pairs: Sequence[tuple[Callable[..., np.ndarray], Callable[[], np.ndarray]]],
    tolerance: float,
    *,
    once_s: float = 0.0,
    named: Sequence[str] = (),
) -> Measurement:
    """Run (published, engine) of each case in turn; the ratio is the median over cases.

    once_s: a case's share of what the engine computes once, added to its time. named: what to call
    each case in a line of its own, with the ratio of operations; for it the published procedure is
    asked for one token's alone, which every other's equal.
    """
    ratios, slow_times, fast_times, differences, shares = [], [], [], [], []
    for case, (slow, fast) in enumerate(pairs):
        with counted() as counter:
            fast()  # also warms up: the published procedure runs so long that its start is nothing
        slow_s, expected = timed(slow)
        fast_s, found = timed(fast)
        fast_s += once_s
        differences.append(float(np.abs(expected - found).max()))
        if not differences[-1] <= tolerance:
            raise SystemExit(f"{name}: the numbers differ by {differences[-1]}, over {tolerance}")
        shares.append(counter.get_total_flops() / fast_s / peak_flops())
        ratios.append(slow_s / fast_s)
        slow_times.append(slow_s)
        fast_times.append(fast_s)
        if named:
            with counted() as token:
                slow(tokens=1)
            operations = token.get_total_flops() * len(expected) / counter.get_total_flops()
            times = {"published_s": round(slow_s, 2), "engine_s": round(fast_s, 2)}
            both = {"speedup": round(ratios[-1], 2), "operations": round(operations, 2)}
            print(json.dumps({"case": named[case], **times, **both}), flush=True)
    result = Measurement(
        name=name,
        speedup=round(st.median(ratios), 2),
        published_s=round(st.median(slow_times), 3),
        engine_s=round(st.median(fast_times), 3),
        max_abs_diff=max(differences),
        share_of_peak_flops=round(st.median(shares), 2),
        cases=len(pairs),
    )
    print(json.dumps(asdict(result)), flush=True)
    return result


@functools.cache
def peak_flops() -> float:
    """Floating-point operations a second of a float32 product of 2048 x 2048 matrices."""
    a = torch.randn(2048, 2048)
    times = [timed(lambda: linear(a, a).numpy())[0] for _ in range(7)]
    return 2 * 2048**3 / min(times)


def start_up() -> Measurement:
    """Seconds until a new process has imported the library and loaded model and tokenizer."""
    imports = "from locedit.engine import loading; import locedit.study.edit"
    load = f"{imports}; loading.load({str(model_folder())!r})"
    command = [sys.executable, "-c", f"{load}; print('ready', flush=True); input()"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    pipes["stderr"] = subprocess.DEVNULL
    times = []
    for _ in range(5):
        start = time.perf_counter()
        with subprocess.Popen(command, text=True, **pipes) as process:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit(f"start_up: {load} failed")
            times.append(time.perf_counter() - start)
            process.communicate("\n")
    return Measurement(
        name="start_up",
        speedup=None,
        published_s=None,
        engine_s=round(st.median(times), 2),
        max_abs_diff=None,
        share_of_peak_flops=None,
        cases=len(times),
    )


@functools.cache
def model_folder() -> Path:
    gguf = assets.resolve(assets.named(MODEL))
    folder = gguf.with_name(f"{gguf.name}-for-benchmarks")
    return folder if folder.exists() else convert_gguf(gguf, folder)


def published_model(tokenizer) -> language_model.LanguageModel:
    """The same weights as transformers loads them, for the published procedure."""
    model = AutoModelForCausalLM.from_pretrained(model_folder(), dtype=torch.float32, **NO_CODE)
    return language_model.LanguageModel(model, tokenizer)


def of_study(results: Path) -> list[Example]:
    """The facts of a study, to be traced."""
    return [
        Example(fact.template, fact.subject, fact.target_true, fact.target_new, (), ())
        for fact in map(from_row, tables.records(results / "study.parquet", "facts"))
    ]


def tracing_case(
    lm: language_model.LanguageModel,
    plain: language_model.LanguageModel,
    example: Example,
    window: int,
):
    arguments: dict[str, Any] = {"module": "mlp", "window": window, "sigma": SIGMA}
    fact = (example.prompt, example.subject, example.true)
    return (
        lambda: oracle.trace(plain.model, plain.tokenizer, *fact, **arguments)["p_restored"],
        lambda: restoration.trace(lm, *fact, **arguments).p_restored,
    )


def batched_case(lm: language_model.LanguageModel, example: Example, window: int):
    """As `tracing_case`; in the published procedure's place what is quickly written."""
    _, engine = tracing_case(lm, lm, example, window)
    return functools.partial(batched_trace, lm, example, window=window), engine


def essence_texts(lm, examples: list[Example]) -> list[list[str]]:
    subjects = [example.subject for example in examples]
    return sampling.essence_texts(lm, subjects, count=5, tokens=100, seed=0)


def edit_case(
    lm, plain, examples: list[Example], method: str, shared: SharedInputs, moments, texts
):
    """Edit for error injection, then score: what one cell of the paper's sweep costs these facts.

    The published procedure takes one fact at a time, and for each edit samples the essence texts
    and scores the unedited model again; the engine has both from the tables of earlier stages.
    texts: essence texts of each fact, on which both are compared.
    """
    hyper = METHODS[method].hyperparameters("error_injection", "released")
    if method == "AlphaEdit":
        how = (hyper.threshold, hyper.threshold_kind)
        project = oracle_editors.null_space_projection
        moments = {la: project(moment, *how) for la, moment in moments.items()}
    requests = [request_of(example) for example in examples]
    probes = probes_of(examples, texts)

    def published() -> np.ndarray:
        found = []
        for example, essence in zip(examples, texts, strict=True):
            published_essence_texts(plain, example.subject, len(essence))
            published_scores(plain, example, essence)
            changes = published_edit(plain, example, method, LAYER, hyper, shared, moments).changes
            with oracle.edited(plain.model, changes):
                found.append(published_scores(plain, example, essence))
        return np.hstack(found)

    def engine() -> np.ndarray:
        edit = METHODS[method].edit(lm, requests, LAYER, hyper, shared)
        return np.hstack([flat(after) for after in measure.measure(lm, probes, edit.updates)])

    return published, engine


def flat(after: measure.Measurement) -> np.ndarray:
    kinds = (after.rewrite, after.paraphrase, after.neighbourhood)
    log_p = [np.atleast_1d(kind[side]) for side in (0, 1) for kind in kinds]
    return np.hstack([*log_p, np.log(after.perplexity)])


def published_essence_texts(lm, subject: str, count: int) -> None:
    """Five samples of 100 tokens, with the key/value cache that the released code uses too."""
    prompt = lm.tokenizer(f"{subject} is a", return_tensors="pt")
    settings = {"do_sample": True, "top_k": 5, "num_return_sequences": count}
    length = measure.ESSENCE_TOKENS
    lm.model.generate(**prompt, **settings, max_length=length, min_length=length, pad_token_id=0)


def cheap_localizers(lm, examples: list[Example], contexts, moments) -> Measurement:
    """Seconds a fact of tracing in one window, and of all cheap localizers in turn, alternating."""
    facts = [
        Fact(
            case_id=str(number),
            relation_id="",
            subject=example.subject,
            template=example.template,
            target_true=example.true,
            target_new=example.false,
        )
        for number, example in enumerate(examples)
    ]
    shared = LocalizerInputs(
        study=facts, sigma=SIGMA, contexts=contexts, moments=KeyMoments(moments.__getitem__)
    )

    def localized(names: list[str]) -> None:
        for name in names:
            localizer = LOCALIZERS[name]
            (place,) = localizer.places(["mlp"], [5])
            for answer in localizer.localize(lm, facts, place, localizer.settings(), shared):
                if isinstance(answer, Unavailable):
                    raise SystemExit(f"cheap_localizers: {name}: {answer.reason}")

    cheap = [name for name, localizer in LOCALIZERS.items() if localizer.cheap]
    localized(cheap)  # warms up
    pairs = [
        (timed(lambda: localized([TRACING]))[0], timed(lambda: localized(cheap))[0])
        for _ in range(3)
    ]
    tracing, together = (st.median(times) / len(facts) for times in zip(*pairs, strict=True))
    result = Measurement(
        name="cheap_localizers",
        speedup=round(tracing / together, 2),
        published_s=round(tracing, 3),
        engine_s=round(together, 3),
        max_abs_diff=None,
        share_of_peak_flops=None,
        cases=len(facts),
    )
    print(json.dumps(asdict(result)), flush=True)
    return result


def statistics_case(lm, plain, texts: list[str]):
    """All layers: the published code makes one whole pass over the text for each."""

    def published() -> np.ndarray:
        both = (plain.model, plain.tokenizer)
        moments = [oracle.key_statistics(*both, texts, [la])[la] for la in range(lm.n_layers)]
        return scaled(moments)

    def engine() -> np.ndarray:
        moments, _ = key_moments(lm, texts)
        return scaled([moments[la] for la in range(lm.n_layers)])

    return published, engine


def scaled(moments: list[torch.Tensor]) -> np.ndarray:
    """Layers differ in scale by orders of magnitude: each in units of its largest entry."""
    return torch.stack([moment / moment.abs().max() for moment in moments]).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one fact, fewer measurements")
    parser.add_argument("--only", help="measurements whose names begin so, as in edit.ROME")
    parser.add_argument(
        "--study", type=Path, help="results of a study whose facts are to be traced"
    )
    options = parser.parse_args()
    quick = options.quick
    disable_progress_bar()

    def wanted(name: str) -> bool:
        return options.only is None or name.startswith(options.only)

    results = [start_up()] if wanted("start_up") else []
    for result in results:
        print(json.dumps(asdict(result)), flush=True)
    lm = loading.load(model_folder())
    plain = published_model(lm.tokenizer)
    methods = [method for method in METHODS if wanted(f"edit.{method}")]
    need_moments = bool(methods) or wanted("cheap_localizers")
    texts = texts_of_wikipedia() if need_moments or wanted("key_statistics") else []
    if need_moments:
        around = range(lm.n_layers) if wanted("cheap_localizers") else range(LAYER - 2, LAYER + 3)
        moments, _ = key_moments(lm, texts, layers=around)
        lengths = [(5, 2), (10, 2)] if quick else [(5, 10), (10, 10)]
        contexts = {
            None: [["{}"]],
            "rome": [sampling.rome_contexts(lm, lengths, seed=0)],
            "memit": sampling.memit_contexts(lm, 10, seed=0),
        }
    traced = of_study(options.study) if options.study else EXAMPLES[:1] if quick else EXAMPLES
    edited = EXAMPLES[:2] if quick else EXAMPLES
    for window in (5,) if quick else (1, 3, 5, 10):
        if not wanted(f"tracing.window{window}"):
            continue
        cases = [tracing_case(lm, plain, example, window) for example in traced]
        results.append(compare(f"tracing.window{window}", cases, 1e-5))
    if wanted("tracing.batched"):
        cases = [batched_case(lm, example, 5) for example in traced]
        names = [example.prompt for example in traced]
        results.append(compare("tracing.batched", cases, 1e-5, named=names))
    if wanted("cheap_localizers"):
        results.append(cheap_localizers(lm, traced, [contexts["rome"]], moments))
    if methods:
        sampling_s, texts_about = timed(lambda: essence_texts(lm, edited))
        scoring_s, _ = timed(lambda: measure.measure(lm, probes_of(edited, texts_about)))
        once_s = sampling_s / EDITS_OF_A_FACT + scoring_s / EDITS_OF_A_BASELINE
    for method in methods:
        shared = SharedInputs(
            contexts=contexts[METHODS[method].contexts],
            moments=KeyMoments(moments.__getitem__),
            sigma=SIGMA,
        )
        cases = [edit_case(lm, plain, edited, method, shared, moments, texts_about)]
        results.append(compare(f"edit.{method}", cases, 1e-3, once_s=once_s))
    if wanted("key_statistics"):
        cases = [statistics_case(lm, plain, texts[: 2 if quick else 20])]
        results.append(compare("key_statistics", cases, 1e-5))
    report(results, options.only or ("quick" if quick else "full"))


def texts_of_wikipedia() -> list[str]:
    dump = assets.resolve(assets.named("enwiki-shortened"))
    return [p.text for p, _ in zip(paragraphs(dump), range(120), strict=False)]


def report(results: list[Measurement], name: str) -> None:
    heads = f"{'published':>12}{'engine':>10}{'ratio':>7}{'of peak':>9}{'difference':>12}"
    print(f"\n{'measurement':<18}{heads}")

    def cell(value: float | None, form: str, width: int) -> str:
        return f"{'' if value is None else format(value, form):>{width}}"

    for r in results:
        print(
            f"{r.name:<18}{cell(r.published_s, '.2f', 10)} s{r.engine_s:>8.2f} s"
            f"{cell(r.speedup, '.1f', 7)}{cell(r.share_of_peak_flops, '.0%', 9)}"
            f"{cell(r.max_abs_diff, '.1e', 12)}"
        )
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({**asdict(r), "threads": torch.get_num_threads()}) for r in results]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
