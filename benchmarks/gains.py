"""What each saving of the engine gains by itself: the engine with it and without it, in turn.

    python benchmarks/gains.py [--threads 1] [--repeats 1]

Prints one JSON line a saving; the ratio is the time without it over the time with it.
"""

import argparse
import functools
import json
import os
import statistics as st
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench
import torch
from transformers.utils.logging import disable_progress_bar

from locedit.engine import loading, log_probs, packing, sampling
from locedit.engine.key_statistics import KeyMoments, key_moments
from locedit.facts.corpus import paragraphs
from locedit.localizers import restoration
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS
from locedit.model import hooks, linear
from locedit.store import assets
from locedit.study import measure


@contextmanager
def changed(where: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute with another value."""
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


@contextmanager
def copied_keys() -> Iterator[None]:
    """Keys and values copied for every query head, as transformers does by default."""
    name = "TRANSFORMERS_SDPA_FORCE_GQA"
    before = os.environ[name]
    os.environ[name] = "0"
    try:
        yield
    finally:
        os.environ[name] = before


@contextmanager
def mlps_run_everywhere() -> Iterator[None]:
    """MLPs run also where their output is replaced."""

    def replaced(module, _keep, spare, value):
        def put(_, output):
            return output.flatten(0, 1).index_copy(0, spare, value).view_as(output)

        return hooks.hooked({module: put})

    with changed(hooks, "spared", replaced):
        yield


def padded_rows() -> AbstractContextManager:
    """A line of its own for each row, padded to the longest."""
    return changed(packing, "LINE", 1)


def torchs_products() -> AbstractContextManager:
    """Matrix products by torch's BLAS."""
    return torch.backends.mkldnn.flags(enabled=False)


def weights_put_in_order_each_time() -> AbstractContextManager:
    """oneDNN puts a layer's weights into its order at each product."""
    return changed(linear, "_packed", lambda _layer, _x, weight: weight)


def rows_of_their_own() -> AbstractContextManager:
    """Each noise row whole, what stands before the subject in every one of them."""
    return changed(packing, "branches", lambda _trunk, _length, count: [1] * count)


def whole_vocabulary() -> AbstractContextManager:
    """The head's logits of all tokens at once, also where no gradient is asked for."""
    return changed(log_probs, "HEAD_BLOCK", 1 << 30)


def compared(
    name: str, function: Callable[[], Any], without: Callable[[], Any], *, repeats: int
) -> None:
    """Time the engine with a saving and without it, in turn."""
    function()
    times = [(bench.timed(function)[0], bench.timed(without)[0]) for _ in range(repeats)]
    gain, seconds = st.median(b / a for a, b in times), st.median(a for a, _ in times)
    line = {"saving": name, "gain": round(gain, 2), "on_s": round(seconds, 2)}
    print(json.dumps(line), flush=True)


SAVINGS = {
    "mlps": ("no MLP where its output is put in", mlps_run_everywhere),
    "keys": ("keys shared by query heads", copied_keys),
    "products": ("products by oneDNN", torchs_products),
    "order": ("weights kept in oneDNN's order", weights_put_in_order_each_time),
    "vocabulary": ("vocabulary in parts", whole_vocabulary),
    "rows": ("rows packed, not padded", padded_rows),
    "branches": ("noise rows share what precedes the subject", rows_of_their_own),
}


def switched_off(
    name: str, function: Callable[[], Any], savings: Sequence[str], *, repeats: int
) -> None:
    """Compare with each of these savings switched off."""
    for key in savings:
        saving, switch = SAVINGS[key]

        def without(switch=switch) -> None:
            with switch():
                function()

        compared(f"{name}: {saving}", function, without, repeats=repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, help="processor cores to use (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="times that each is switched off")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    compare = functools.partial(compared, repeats=options.repeats)
    switch = functools.partial(switched_off, repeats=options.repeats)
    disable_progress_bar()
    lm = loading.load(bench.model_folder())
    dump = assets.resolve(assets.named("enwiki-shortened"))
    read = [p.text for p, _ in zip(paragraphs(dump), range(120), strict=False)]
    layers = range(bench.LAYER - 2, bench.LAYER + 3)
    moments = KeyMoments(key_moments(lm, read, layers=layers)[0].__getitem__)
    example = bench.EXAMPLES[2]
    fact = (example.prompt, example.subject, example.true)

    def trace(**settings: Any) -> None:
        restoration.trace(lm, *fact, module="mlp", window=5, sigma=bench.SIGMA, **settings)

    compare("tracing: all layers of a token together", trace, lambda: trace(batch_tokens=1))
    switch("tracing", trace, ["mlps", "keys", "products", "order", "vocabulary"])

    contexts = {
        None: [["{}"]],
        "rome": [sampling.rome_contexts(lm, [(5, 10), (10, 10)], seed=0)],
        "memit": sampling.memit_contexts(lm, 10, seed=0),
    }
    requests = [bench.request_of(example) for example in bench.EXAMPLES]
    for method, entry in METHODS.items():
        shared = SharedInputs(contexts=contexts[entry.contexts], moments=moments, sigma=bench.SIGMA)
        hyper = entry.hyperparameters("error_injection", "released")

        def edit(facts=requests, entry=entry, hyper=hyper, shared=shared) -> None:
            entry.edit(lm, facts, bench.LAYER, hyper, shared)

        def alone(edit=edit) -> None:
            for request in requests:
                edit([request])

        switch(method, edit, ["rows", "keys", "products", "order"])
        compare(f"{method}: six facts side by side", edit, alone)

    forcing = [replace(one, problem=PROBLEMS["fact_forcing"]) for one in requests]
    for method in ("FT-1", "FT-5"):
        hyper = METHODS[method].hyperparameters("fact_forcing", "released", {"all": {"steps": 4}})
        noised = SharedInputs(sigma=bench.SIGMA)
        force = functools.partial(METHODS[method].edit, lm, forcing, bench.LAYER, hyper, noised)
        switch(f"{method}, fact forcing", force, ["branches"])

    def texts_alone() -> None:
        for example in bench.EXAMPLES:
            bench.essence_texts(lm, [example])

    texts = functools.partial(bench.essence_texts, lm, bench.EXAMPLES)
    compare("essence texts: six facts side by side", texts, texts_alone)
    switch("essence texts", texts, ["order"])
    texts_about = bench.essence_texts(lm, bench.EXAMPLES[:2])
    probes = bench.probes_of(bench.EXAMPLES[:2], texts_about)

    def score() -> None:
        measure.measure(lm, probes)

    switch("scoring", score, ["rows", "products", "order", "vocabulary"])


if __name__ == "__main__":
    main()
