"""Are the engine's numbers right on a device? The CPU's tests, with their tolerances, there.

The textbook algorithms on a tiny model of each family, in float64 and float32, and where the
reference's golden numbers and the model's weights are at hand, those too.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "unit")]

import oracle  # noqa: E402
import test_architectures as families  # noqa: E402
import test_engine as engine  # noqa: E402
import tiny  # noqa: E402

from locedit.engine import loading  # noqa: E402
from locedit.engine.key_statistics import KeyMoments, key_moments  # noqa: E402
from locedit.engine.updates import Updates  # noqa: E402
from locedit.localizers import MODULES, restoration  # noqa: E402
from locedit.methods import METHODS, SharedInputs  # noqa: E402
from locedit.methods.problems import PROBLEMS, Request  # noqa: E402
from locedit.model.language_model import LanguageModel  # noqa: E402
from locedit.store import assets, pins  # noqa: E402
from locedit.study import measure  # noqa: E402

GOLDEN = ROOT.parent / "shared" / "golden"
GOLDEN_MODEL = "smollm2-135m-instruct"
LAYER, WINDOW = 1, 3
# In float32: p of more tokens under noise is 1e-37 here, and KN multiplies it by gradients
SHORT = ("The capital city of {} is", "Madrid", "Rome")
# float64, as tests/unit/test_engine.py: of each number; of a layer's largest entry
RELATIVE = 1e-6
# float32, as came with the golden numbers: of p, of log p before and after an edit, of norms
P, BEFORE, AFTER, NORM = 1e-4, 1e-3, {"MEMIT": 0.05}, 0.01
AFTER_OTHERS = 0.02


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was compared, and the largest difference in units of its tolerance; or why not.

    failed: an error came instead of a number.
    """

    name: str
    dtype: str
    difference: float | None = None
    skipped: str | None = None
    failed: str | None = None

    @property
    def passed(self) -> bool:
        return self.failed is None and (self.difference is None or self.difference <= 1)


Compared = tuple[str, str, Callable[[], float]]  # name, dtype, what gives the difference


def worst(got: Any, expected: Any, *, relative: float = 0.0, absolute: float = 0.0) -> float:
    """The largest difference over what is allowed of each number; infinite where one is NaN."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    if got.shape != expected.shape:
        raise ValueError(f"shapes {got.shape} and {expected.shape}")
    shares = np.abs(got - expected) / (absolute + relative * np.abs(expected))
    return float(np.nan_to_num(shares, nan=np.inf).max(initial=0.0))


# ---- the textbook, on tiny models ----------------------------------------------------------------


def textbook_checks(device: torch.device, names: list[str]) -> Iterator[Compared]:
    """Tracing, key statistics and every editor, family by family."""
    for family in names:
        for dtype in (torch.float64, torch.float32):
            yield from of_family(family, dtype, device)


def of_family(family: str, dtype: torch.dtype, device: torch.device) -> Iterator[Compared]:
    lm = families.build(family, dtype=dtype)
    moments = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(lm.n_layers))
    lm.model.to(device)
    exact = dtype == torch.float64
    kind = str(dtype).removeprefix("torch.")
    # OPT's ReLU lets some units say nothing in so little text
    moments = {la: (c + 1e-3 * torch.eye(len(c))).to(device) for la, c in moments.items()}
    for module in MODULES:
        yield f"{family} tracing {module}", kind, partial(traced, lm, module, exact)
    if exact:
        yield f"{family} key statistics", kind, lambda: statistics(lm)
    for method in METHODS:
        for problem in ("error_injection", "fact_forcing"):
            compare = partial(edited, lm, method, problem, moments, exact)
            yield f"{family} {method} {problem}", kind, compare


def exactly(exact: bool) -> Any:
    """Float64 through and through, where some families' norms would cast to float32."""
    return tiny.nothing_in_float32() if exact else torch.no_grad()


def traced(lm: LanguageModel, module: str, exact: bool) -> float:
    prompt, subject, target = engine.TRACED["subject in the middle"]
    fact = (prompt, subject, target if exact else "Rome")  # single precision has no p of 1e-39
    settings: dict[str, Any] = {"module": module, "window": WINDOW, **engine.NOISE}
    with exactly(exact):
        got = restoration.trace(lm, *fact, **settings)
        expected = oracle.trace(lm.model, lm.tokenizer, *fact, **settings)
    pairs = [
        (getattr(got, name), expected[name]) for name in ("p_clean", "p_corrupted", "p_restored")
    ]
    if not exact:
        logs = [(np.log(a), np.log(b)) for a, b in pairs]
        return max(
            *(worst(a, b, absolute=P) for a, b in pairs),
            *(worst(a, b, absolute=BEFORE) for a, b in logs),
        )
    return max(
        worst(a, b, relative=RELATIVE, absolute=1e-3 * RELATIVE * np.max(b)) for a, b in pairs
    )


def statistics(lm: LanguageModel) -> float:
    with exactly(True):
        got, _ = key_moments(lm, tiny.SENTENCES)
        expected = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, list(got))
    return max(of_largest(got[layer], expected[layer]) for layer in got)


def of_largest(got: Tensor, expected: Tensor) -> float:
    """The largest difference in units of a millionth of the largest entry."""
    largest = expected.abs().max().item()
    return worst(got.cpu(), expected.cpu(), absolute=RELATIVE * largest)


def edited(
    lm: LanguageModel, method: str, problem: str, moments: dict[int, Tensor], exact: bool
) -> float:
    """Float64: the weights' changes. Float32: what the edited model says, and their norms."""
    (fact, *_) = engine.requests(problem, engine.FACTS if exact else [SHORT])
    with tiny.nothing_in_float32() if exact else torch.enable_grad():
        expected = engine.textbook(lm, method, fact, LAYER, moments)
        updates = engine.edit(lm, method, [fact], LAYER, moments).updates
    changes = engine.change_of(updates, 0)
    if list(changes) != list(expected.changes):
        raise ValueError(f"layers {list(changes)} and {list(expected.changes)}")
    if exact:
        return max(
            of_largest(a, b)
            for layer in changes
            for a, b in zip(changes[layer], expected.changes[layer], strict=True)
            if b is not None
        )
    norms = [expected.changes[layer][0].norm().item() for layer in updates]
    what = (lm.model, lm.tokenizer, fact.prompt, fact.target)
    with oracle.edited(lm.model, expected.changes):
        log_p = oracle.target_logprob(*what)
    with oracle.edited(lm.model, changes):
        written = oracle.target_logprob(*what)
    return max(
        worst(norms_of(updates), norms, relative=NORM),
        worst(written, log_p, absolute=AFTER.get(method, AFTER_OTHERS)),
    )


def norms_of(updates: Updates) -> list[float]:
    return [update.norms()[0].item() for update in updates.values()]


# ---- the golden numbers --------------------------------------------------------------------------


class NotAtHand(Exception):
    """What a check needs is not on this machine."""


def golden_model() -> Path:
    """The folder of the model's float32 weights: $LOCEDIT_SMOLLM2, or made of the cached file."""
    if named := os.environ.get("LOCEDIT_SMOLLM2"):
        return Path(named)
    asset = assets.named(GOLDEN_MODEL)
    try:
        there = assets.brought(asset) or assets.cached_path(asset, assets.cache_dir()).exists()
        if not there:
            raise NotAtHand(
                f"the weights of {GOLDEN_MODEL} are not here: name their folder in LOCEDIT_SMOLLM2"
            )
        gguf = assets.resolve(asset)
    except pins.AssetError as error:
        raise NotAtHand(str(error)) from error
    try:
        from locedit.engine.gguf import convert_gguf

        folder = gguf.with_name(f"{gguf.name}-for-benchmarks")
        return folder if folder.exists() else convert_gguf(gguf, folder)
    except ImportError as error:  # gguf is no package that the rest needs
        raise NotAtHand(f"{error}; carry its wheel, or name a folder in LOCEDIT_SMOLLM2") from error


def golden_checks(device: torch.device, folder: Path = GOLDEN) -> Iterator[Compared]:
    """Every golden trace and edit on a device, as tests/reference/test_golden.py has them.

    Raises NotAtHand where the numbers or the weights are not on this machine.
    """
    if not (folder / "public.json").exists():
        raise NotAtHand(f"the golden numbers are not at {folder}")
    golden = json.loads((folder / "public.json").read_text())
    lm = loading.load(golden_model(), device=device.type, dtype="float32")
    for entry in golden["tracing"]:
        name = f"golden tracing {entry['fact']} {entry['kind']} {entry['window']}"
        yield name, "float32", partial(golden_trace, lm, golden, entry)
    texts = json.loads((folder / "corpus.json").read_text())
    edits = [e for e in golden["edits"] if e["problem"] != "fact_forcing"]  # drawn anew there
    solved = {la for e in edits if METHODS[e["method"]].statistics for la in e["layers"]}
    moments, _ = key_moments(lm, texts, layers=sorted(solved))
    for entry in edits:
        name = " ".join(str(entry[key]) for key in ("method", "fact", "layer", "problem"))
        yield f"golden {name}", "float32", partial(golden_edit, lm, golden, entry, moments)


def golden_trace(lm: LanguageModel, golden: dict, expected: dict) -> float:
    fact = golden["facts"][expected["fact"]]
    prompt = fact["prompt"].replace("{}", fact["subject"])
    got = restoration.trace(
        lm,
        prompt,
        fact["subject"],
        fact["target_true"],
        module=expected["kind"],
        window=expected["window"],
        sigma=golden["noise_sd"],
    )
    return max(
        worst(got.p_clean, expected["clean_prob"], absolute=P),
        worst(got.p_corrupted, expected["corrupted_prob"], absolute=P),
        worst(got.p_restored, expected["restored_prob"], absolute=P),
    )


def golden_edit(
    lm: LanguageModel, golden: dict, expected: dict, moments: dict[int, Tensor]
) -> float:
    method, fact = METHODS[expected["method"]], golden["facts"][expected["fact"]]
    request = Request(
        case_id="",
        template=fact["prompt"],
        subject=fact["subject"],
        target=expected["target"],
        problem=PROBLEMS[expected["problem"]],
    )
    contexts = {"rome": [golden["rome_contexts"]], "memit": golden["memit_contexts"]}
    shared = SharedInputs(
        contexts=contexts.get(str(method.contexts), [["{}"]]),
        moments=KeyMoments(moments.__getitem__),
        sigma=golden["noise_sd"],
    )
    hyper = method.hyperparameters(expected["problem"], "released")
    updates = method.edit(lm, [request], expected["layer"], hyper, shared).updates
    after = AFTER.get(method.name, AFTER_OTHERS)
    norms = list(expected["delta_frobenius"].values())
    return max(
        said(lm, request, expected, "pre", None, BEFORE),
        said(lm, request, expected, "post", updates, after),
        worst(norms_of(updates), norms, relative=NORM),
    )


def said(
    lm: LanguageModel,
    request: Request,
    expected: dict,
    when: str,
    updates: Updates | None,
    absolute: float,
) -> float:
    """log p of target and baseline behind each of the entry's prompts."""
    _, *others = expected["prompts"]
    probe = measure.Probe(
        request=request, other=expected["baseline"], paraphrases=others, neighbourhood=[]
    )
    (got,) = measure.measure(lm, [probe], updates)
    return max(
        worst([a, *b], expected[f"{when}_logprob_{name}"], absolute=absolute)
        for name, a, b in zip(("target", "baseline"), got.rewrite, got.paraphrase, strict=True)
    )
