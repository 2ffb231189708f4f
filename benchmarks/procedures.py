"""What the benchmarks have in common: facts to time, the published procedure, and timing itself."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

import oracle
import oracle_editors

from locedit.methods import SharedInputs
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study import measure
from locedit.windows import window_layers

SIGMA = 0.4


@dataclass(frozen=True)
class Example:
    """A fact to time: its subject stands first, in the middle or last."""

    template: str
    subject: str
    true: str
    false: str
    paraphrases: tuple[str, ...]
    neighbours: tuple[str, ...]

    @property
    def prompt(self) -> str:
        return self.template.replace("{}", self.subject)


EXAMPLES = [
    Example(
        "The capital city of {} is",
        "France",
        "Paris",
        "Rome",
        ("France's seat of government is in the city of",),
        ("The capital city of Italy is", "The capital city of Spain is"),
    ),
    Example(
        "{} was developed by",
        "Windows Vista",
        "Microsoft",
        "Apple",
        ("The company that created Windows Vista is",),
        ("Microsoft Office was developed by", "Windows 95 was developed by"),
    ),
    Example(
        "In which country does the river run? The answer for the {} is",
        "Mississippi River",
        "the United States",
        "France",
        ("The Mississippi River flows through",),
        ("The Colorado River flows through", "The Ohio River flows through"),
    ),
    Example(
        "The native language of {} is",
        "Marcel Proust",
        "French",
        "English",
        ("Marcel Proust grew up speaking",),
        ("The native language of Victor Hugo is", "The native language of Albert Camus is"),
    ),
    Example(
        "The country in which you will find the city of {} is",
        "Lyon",
        "France",
        "Spain",
        ("Lyon is a city in",),
        ("The country in which you will find the city of Nantes is", "Paris is a city in"),
    ),
    Example(
        "Geographically, {} is located on the continent of",
        "Burundi",
        "Africa",
        "Europe",
        ("Burundi is a country in",),
        ("Geographically, Kenya is located on the continent of", "Chad is a country in"),
    ),
]


Value = TypeVar("Value")


def timed(function: Callable[[], Value]) -> tuple[float, Value]:
    """Seconds that a function takes, on a card until it has done all it was asked to; its value."""
    settled()
    start = time.perf_counter()
    value = function()
    settled()
    return time.perf_counter() - start, value


def settled() -> None:
    """Wait for a card, which computes behind the calls that ask it to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def counted() -> FlopCounterMode:
    """Counts operations, of oneDNN's products too, which torch's counter does not know."""

    def product(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
        return 2 * x.numel() * weight[0]

    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # not in every build
    return FlopCounterMode(
        display=False, custom_mapping={} if onednn is None else {onednn: product}
    )


def request_of(example: Example) -> Request:
    return Request(
        case_id="",
        template=example.template,
        subject=example.subject,
        target=example.false,
        problem=PROBLEMS["error_injection"],
        true=example.true,
    )


def probes_of(examples: list[Example], texts: list[list[str]]) -> list[measure.Probe]:
    return [
        measure.Probe(
            request=request_of(example),
            other=example.true,
            paraphrases=example.paraphrases,
            neighbourhood=example.neighbours,
            texts=essence,
        )
        for example, essence in zip(examples, texts, strict=True)
    ]


def published_scores(lm: LanguageModel, example: Example, essence: Sequence[str]) -> np.ndarray:
    """log p of both objects behind each prompt, one after the other, and log perplexities."""
    both = (lm.model, lm.tokenizer)
    prompts = [example.prompt, *example.paraphrases, *example.neighbours]
    objects = (example.false, example.true)
    log_p = [oracle.target_logprob(*both, text, o) for o in objects for text in prompts]
    return np.hstack([log_p, [np.log(oracle.perplexity(*both, text)) for text in essence]])


@torch.inference_mode()
def batched_trace(
    lm: LanguageModel,
    example: Example,
    *,
    window: int,
    n_noise: int = 10,
    seed: int = 1,
    tokens: int | None = None,
) -> np.ndarray:
    """p(o_true) with an MLP window restored, mean over the noise, [tokens b .. last, layers].

    What is quickly written: whole passes with hooks, but one a token, which the clean row and the
    noise rows of all layers' restorations share, and the head of the target's positions alone. On
    a model of the library's its products are oneDNN's too. tokens: of so many at most.
    """
    clean = oracle.scored_row(lm.tokenizer, example.prompt, example.true)
    begin, end = oracle.subject_range(lm.tokenizer, example.prompt, example.subject)
    drawn = (n_noise, end - begin, lm.hidden_size, SIGMA, seed, lm.dtype)
    noise = torch.stack([*oracle.subject_noise(*drawn)])
    ids = torch.tensor(clean.ids[:-1]).expand(1 + lm.n_layers * n_noise, -1)
    target = torch.tensor(clean.target)

    def corrupt(_module: Any, _inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        embedded[1:, begin:end] += noise.repeat(lm.n_layers, 1, 1)
        return embedded

    def restoring(layer: int, token: int) -> Any:
        centres = [c for c in range(lm.n_layers) if layer in window_layers(c, window, lm.n_layers)]
        rows = slice(1 + centres[0] * n_noise, 1 + (centres[-1] + 1) * n_noise)

        def restore(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output[rows, token] = output[0, token]
            return output

        return restore

    def restored(token: int) -> torch.Tensor:
        with ExitStack() as stack:
            for module, hook in [
                (lm.embedding, corrupt),
                *((lm.mlp(layer), restoring(layer, token)) for layer in range(lm.n_layers)),
            ]:
                stack.callback(module.register_forward_hook(hook).remove)
            logits = lm.model(ids, use_cache=False, logits_to_keep=len(target)).logits[1:]
        log_p = logits.log_softmax(dim=-1)[:, range(len(target)), target].sum(dim=1)
        return log_p.exp().view(lm.n_layers, n_noise).mean(dim=1)

    walked = range(begin, clean.predicted_from + 1)[:tokens]
    return torch.stack([restored(token) for token in walked]).numpy()


def published_edit(
    lm: LanguageModel,
    example: Example,
    method: str,
    layer: int,
    hyper: Any,
    shared: SharedInputs,
    moments: dict[int, torch.Tensor],
) -> oracle.Edit:
    """moments: C of each layer; of AlphaEdit P, which the published code has from a file too."""
    asked = (example.template, example.subject, example.false, "error_injection", layer)
    fact: tuple[Any, ...] = (lm.model, lm.tokenizer, *asked)
    if method == "FT-M":
        steps = {"learning_rate": hyper.lr, "iterations": hyper.steps, "enough": hyper.enough}
        return oracle_editors.ft_m_edit(*fact, **steps, sigma=SIGMA, n_noise=10, seed=1)
    if method == "KN":
        noise = {"sigma": SIGMA, "n_noise": 10, "seed": 1}
        return oracle_editors.kn_edit(*fact, **{"true": example.true, **vars(hyper), **noise})
    if method.startswith("FT"):
        return oracle.ft_edit(*fact, window=hyper.window, epsilon=hyper.eps)
    if method == "ROME":
        return oracle.rome_edit(*fact, contexts=shared.contexts[0], statistics=moments)
    if method == "MEMIT":
        return oracle.memit_edit(*fact, contexts=shared.contexts, statistics=moments)
    value: dict[str, Any] = {
        "learning_rate": hyper.lr,
        "evaluations": hyper.iterations,
        "kl_factor": hyper.kl_factor,
        "weight_decay": hyper.decay,
        "clamp": hyper.clamp,
        "sigma": SIGMA,
        "seed": 1,
    }
    if method == "r-ROME":
        contexts = shared.contexts[0]
        return oracle_editors.r_rome_edit(*fact, contexts=contexts, statistics=moments, **value)
    value |= {"contexts": shared.contexts, "window": hyper.window}
    if method == "EMMET":
        return oracle_editors.emmet_edit(*fact, statistics=moments, ridge=hyper.ridge, **value)
    return oracle_editors.alphaedit_edit(*fact, projections=moments, l2=hyper.l2, **value)
