"""A model by its name, and one fact of it: traced, edited, measured.

The same functions as the workflow's and the command line's, with the default study's settings. Each
function's errors are `locedit.errors.LoceditError`: one sentence that says what to do.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from locedit.api.inputs import shared_inputs
from locedit.api.look import Look, check_length, look
from locedit.engine import noise
from locedit.engine.updates import Updates, felt, total_norms
from locedit.errors import LoceditError
from locedit.facts import wording
from locedit.localizers import MODULES, restoration
from locedit.messages import shown, unknown
from locedit.methods import METHODS, Edit, SharedInputs
from locedit.methods.base import PRESETS
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.study import measure as measuring
from locedit.study import scores
from locedit.text import subjects
from locedit.windows import EMBEDDING, layer_words, window_layers
from locedit.workflow import config as configuration
from locedit.workflow.sections import RECOMMENDED, TUNED

logger = logging.getLogger(__name__)

# What each model that is in use was loaded as. Not holding the models: they go when the user's do.
_LOADED: WeakKeyDictionary[LanguageModel, Look] = WeakKeyDictionary()


def load(
    model: str | Path | None = None, *, device: str = "auto", dtype: str = "auto"
) -> LanguageModel:
    """A language model: fetched or unpacked if need be, once, and kept in the cache.

    model: a name of `models/` ("smollm2-135m-instruct"), the path of such a YAML file, of a folder
    (config.json, safetensors weights, tokenizer.json) or of a GGUF file; None: config.yaml's.
    device: "auto" (a GPU where there is one), "cpu" or "cuda". dtype: "auto" (float32), "float32",
    "float64", "bfloat16" or "float16".

    Raises LoceditError where there is no such model or its weights cannot be read, OSError where
    they cannot be fetched.
    """
    seen = look(None if model is None else str(model), device=device, dtype=dtype)
    lm = seen.lm
    _LOADED[lm] = seen.without()
    return lm


def trace(
    lm: LanguageModel,
    *,
    prompt: str,
    subject: str,
    target: str,
    module: str = "mlp",
    window: int = 5,
    sigma: float | str | None = None,
    n_noise: int = 10,
    seed: int = 1,
) -> restoration.Trace:
    """Causal tracing of one fact (Meng et al. 2022, section 2; Methods, section 2).

    prompt: with the subject in it, or `{}` in the subject's place; without the target. target: the
    object, without the blank before it. module: whose outputs are restored, "mlp", "attn" or
    "hidden". window: layers restored together, centred at each layer. sigma: standard deviation of
    the noise on the subject's embeddings, in the embeddings' unit; "3sd": so many times that of the
    bundled subjects' token embeddings; None: what the model's file says. n_noise: corrupted runs.
    seed: of their noise.

    Returns probabilities of the target: `p_clean`, `p_corrupted` (mean of the noise rows),
    `p_restored` [tokens from the subject's first on, layers], and `fraction` [layers], the share of
    what corruption took that the best token brings back. Layers count from 0.

    Raises LoceditError where the subject is not in the prompt, a text is empty or too long for the
    model, there is no such module, a number is out of range, or `sigma` is None and the model is
    not one of `load`.
    """
    template, subject, target = _texts(prompt, subject, target)
    text = wording.filled(template, subject)
    check_length(lm, [text], target)
    check_one_of("module", module, MODULES)
    _check_numbers(1, window=window, n_noise=n_noise)
    _check_numbers(0, seed=seed)
    return restoration.trace(
        lm,
        text,
        subject,
        target,
        module=module,
        window=window,
        sigma=_sigma(lm, sigma),
        n_noise=n_noise,
        seed=seed,
        subject_start=subjects.in_template(template, subject),
    )


@dataclass(frozen=True, kw_only=True)
class FactEdit:
    """One fact's edit, as data: the model's weights stay as they are.

    request: what was asked for. settings: the method's hyperparameters. updates: layer -> change of
    its down projection, or -1 -> of the embedding, for a batch of one fact. steps: of the
    optimiser. losses: first and last, where the method has any. sigma, n_noise, seed: the noise of
    fact forcing.
    """

    request: Request
    settings: Any
    updates: Updates
    steps: int
    losses: tuple[float, float] | None
    sigma: float
    n_noise: int
    seed: int

    @property
    def norm(self) -> float:
        """Frobenius norm of the change over all edited layers."""
        return total_norms(self.updates)[0]


def edit(
    lm: LanguageModel,
    *,
    prompt: str,
    subject: str,
    target: str,
    layer: int,
    method: str = "ROME",
    problem: str = "error_injection",
    true: str | None = None,
    preset: str = "paper",
    tuned: str = "unsaturated",
    hyperparameters: Mapping[str, Any] | None = None,
    sigma: float | str | None = None,
    n_noise: int = 10,
    seed: int = 1,
    results: str | Path | None = None,
    tokens: int | None = None,
) -> FactEdit:
    """Edit one fact at one layer (Hase et al. 2023, section 5; Methods, sections 3 to 5).

    prompt, subject: as `trace` takes them. target: the object that the edit makes likelier, or, in
    fact erasure, less likely. layer: from 0; a method with a window edits the layers around it;
    -1: the embedding, of which FT-1, FT-5 and FT-M change the rows of the subject's tokens. method:
    a registered one (`locedit.methods.METHODS`). problem: one of
    `locedit.methods.problems.PROBLEMS`. true: the object that the edit replaces, which KN alone has
    to know. preset: "paper" or "released", of hyperparameters; over it are laid those of the
    model's file that `tuned` names ("unsaturated": the edit moves p some way; "saturating": as far
    as it can; "recommended": as `recommend` found best; "none"), then config.yaml's, then
    `hyperparameters`. sigma, n_noise, seed: the noise of fact forcing, as `trace` takes it. ROME
    and MEMIT also take context prompts and key statistics: those of a study, where the folder
    `results` has one of this model; else sampled, and computed from `tokens` tokens of Wikipedia
    (None: 3 for each unit of the MLP), once. A logger, `locedit.api`, tells which.

    Raises LoceditError as `trace` does, and for a layer, method, problem or hyperparameter that
    does not exist, a fact that the method does not edit, an edit that is not finite, or a model
    that is not one of `load`; OSError where the text behind the key statistics cannot be fetched.
    """
    seen = seen_as(lm)
    template, subject, target = _texts(prompt, subject, target)
    check_one_of("method", method, METHODS)
    check_one_of("problem", problem, PROBLEMS)
    _check_numbers(1, n_noise=n_noise)
    _check_numbers(0, seed=seed)
    check_layer(lm, layer, method)
    known = target if PROBLEMS[problem].target == "true" else true
    request = Request(
        case_id="prompt",
        template=template,
        subject=subject,
        target=target,
        problem=PROBLEMS[problem],
        true=None if known is None else _inner("true", known),
    )
    check_length(lm, [request.prompt], target)
    hyper, shared = prepared(
        *(seen, method, problem, layer),
        preset=preset,
        tuned=tuned,
        hyperparameters=hyperparameters,
        results=results,
        tokens=tokens,
    )
    noise: dict[str, Any] = {
        "sigma": _sigma(lm, sigma) if request.problem.noised else 0.0,
        "n_noise": n_noise,
        "seed": seed,
    }
    shared = dataclasses.replace(shared, **noise)
    found = METHODS[method].edit(lm, [request], layer, hyper, shared)
    check_edited(found, method, layer)
    return FactEdit(
        request=request,
        settings=hyper,
        updates=found.updates,
        steps=found.steps[0],
        losses=found.losses[0] if found.losses else None,
        **noise,
    )


def check_layer(lm: LanguageModel, layer: int, method: str | None, said: str = "layer") -> None:
    """Raise LoceditError, beginning with `said`, for a layer that the model does not have.

    method: the editor; with one, the embedding is as good as a layer where that writes to it.
    """
    if layer == EMBEDDING and method is not None:
        reason = METHODS[method].unfit(layer)
        if reason is not None:
            able = ", ".join(name for name, one in METHODS.items() if one.embedding)
            raise LoceditError(f"{said}: {reason}; name a layer, or a method that has ({able})")
    elif not 0 <= layer < lm.n_layers:
        raise LoceditError(
            f"{said}: the model has no layer {layer}; its {lm.n_layers} layers are numbered 0 to "
            f"{lm.n_layers - 1}"
        )


def prepared(
    seen: Look,
    method: str,
    problem: str,
    layer: int,
    *,
    preset: str,
    tuned: str,
    hyperparameters: Mapping[str, Any] | None,
    results: str | Path | None,
    tokens: int | None,
) -> tuple[Any, SharedInputs]:
    """A method's hyperparameters and what it takes of contexts and key statistics, for a layer.

    The arguments are those of `edit`, and so is what is raised.
    """
    check_one_of("preset", preset, PRESETS)
    check_one_of("tuned", tuned, (*TUNED, RECOMMENDED))
    _check_numbers(1, **({} if tokens is None else {"tokens": tokens}))
    hyper = hyperparameters_of(seen, method, problem, preset, tuned, hyperparameters)
    folder = None if results is None else Path(results)
    return hyper, inputs_of(seen, method, layer, hyper, folder, tokens)


def hyperparameters_of(
    seen: Look,
    method: str,
    problem: str,
    preset: str | None,
    tuned: str | None,
    own: Mapping[str, Any] | None = None,
) -> Any:
    """The preset's, then the model's own by the name `tuned`, then config.yaml's, then `own`.

    preset, tuned: None as config.yaml says. Raises LoceditError for a setting that the method does
    not have, or where the model's file has none by that name.
    """
    editing = seen.config.editing
    over = overlays(seen, method, problem, tuned=tuned or editing.tuned)
    preset = editing.preset if preset is None else preset
    return METHODS[method].hyperparameters(problem, preset, *over, {"all": own or {}})


def inputs_of(
    seen: Look, method: str, layer: int, hyper: Any, results: Path | None, tokens: int | None
) -> SharedInputs:
    """What a method takes of contexts and key statistics, for the layers that it edits at one."""
    layers = window_layers(layer, getattr(hyper, "window", 1), seen.lm.n_layers)
    return shared_inputs(seen, method, layers, results, tokens)


def check_edited(found: Edit, method: str, layer: int) -> None:
    """Raise LoceditError where a method has no edit of its one fact, or none that is finite."""
    if found.not_edited:
        raise LoceditError(f"{method} at {layer_words(layer)}: not edited, {found.not_edited[0]}")
    if not math.isfinite(total_norms(found.updates)[0]):
        raise LoceditError(
            f"{method} at {layer_words(layer)}: the edit is not finite; try a smaller rate"
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an edit did (Methods, section 6). Each score is at most 1; NaN without prompts for it.

    p_before, p_after: p(target) after the prompt, without and with the edit. rewrite, paraphrase:
    how far that moved as wanted, as a share of how far it could, of the prompt and on average of
    the paraphrases. neighbourhood: how little it moved after the neighbours' prompts, on average.
    essence: how little the texts' perplexity rose. before, after: the log-probabilities (natural
    logarithm) and perplexities behind them.
    """

    p_before: float
    p_after: float
    rewrite: float
    paraphrase: float
    neighbourhood: float
    essence: float
    before: measuring.Measurement
    after: measuring.Measurement


def measure(
    lm: LanguageModel,
    edit: FactEdit,
    *,
    paraphrases: Sequence[str] = (),
    neighbourhood: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Scores:
    """Measure the model without and with an edit, and score it (Hase et al. 2023; section 6).

    edit: one of `edit`, of this model. paraphrases: prompts that should change as the edited one
    does. neighbourhood: prompts about other subjects, that should not change. texts: about the
    subject, whose perplexity should not rise; their first 100 tokens count.

    Raises LoceditError for a prompt that is empty or too long for the model.
    """
    request = edit.request
    probe = measuring.Probe(
        request=request,
        other=request.target,
        paraphrases=[_prompt("paraphrases", text) for text in paraphrases],
        neighbourhood=[_prompt("neighbourhood", text) for text in neighbourhood],
        texts=[_prompt("texts", text) for text in texts],
    )
    check_length(lm, [*probe.paraphrases, *probe.neighbourhood], request.target)
    noise: dict[str, Any] = {"sigma": edit.sigma, "n_noise": edit.n_noise, "seed": edit.seed}
    [before] = measuring.measure(lm, [probe], **noise)
    with felt(lm, edit.updates) as updates:
        [after] = measuring.measure(lm, [probe], updates, **noise)
    return scores_of(before, after, maximise=request.problem.maximise)


def scores_of(
    before: measuring.Measurement, after: measuring.Measurement, *, maximise: bool
) -> Scores:
    """Scores of a fact from what was measured without and with its edit."""

    def moved(kind: str) -> list[tuple[float, float]]:
        """(p, p after) of the target, of each prompt."""
        pairs = zip(getattr(before, kind)[0], getattr(after, kind)[0], strict=True)
        return [(math.exp(a), math.exp(b)) for a, b in pairs]

    p_before, p_after = math.exp(before.rewrite[0]), math.exp(after.rewrite[0])
    paraphrase = [scores.rewrite_score(*p, maximise=maximise) for p in moved("paraphrase")]
    kept = [scores.neighbourhood_score(*p) for p in moved("neighbourhood")]
    return Scores(
        p_before=p_before,
        p_after=p_after,
        rewrite=scores.rewrite_score(p_before, p_after, maximise=maximise),
        paraphrase=scores.aggregate(paraphrase, "mean"),
        neighbourhood=scores.aggregate(kept, "mean"),
        essence=scores.essence_score(before.perplexity, after.perplexity),
        before=before,
        after=after,
    )


def overlays(seen: Look, method: str, problem: str, *, tuned: str) -> list[Mapping[str, Any]]:
    """Settings laid over the method's preset: the model's own of that name, then config.yaml's."""
    own: Mapping[str, Any]
    if tuned == RECOMMENDED:
        own = {method: {problem: advised(seen, method, problem)["hyperparameters"]}}
    else:
        own = configuration.tuned(seen.settings, tuned, f"model {seen.name}")
    return [overlay.get(method, {}) for overlay in (own, seen.config.editing.hyperparameters)]


def advised(seen: Look, method: str, problem: str) -> Mapping[str, Any]:
    """What the model's file recommends: `layer`, `hyperparameters`. LoceditError where nothing."""
    return configuration.recommended(seen.settings, method, problem, f"model {seen.name}")


# ---- arguments -----------------------------------------------------------------------------------


def seen_as(lm: LanguageModel) -> Look:
    """What the model was loaded as, with it; LoceditError where it is not one of `load`."""
    seen = _LOADED.get(lm)
    if seen is None:
        raise LoceditError(
            "this model was not loaded by `locedit.load`, so nothing is known of its file and its "
            "cache; load it with that"
        )
    return seen.having(lm)


def _sigma(lm: LanguageModel, given: float | str | None) -> float:
    if not isinstance(given, str) and given is not None:
        return noise.parse_sigma(given, 1.0)
    if lm not in _LOADED:
        raise LoceditError(
            "sigma: this model was not loaded by `locedit.load`, so its file's noise is not known; "
            "give a number"
        )
    return seen_as(lm).sigma(given)[0]


def _texts(prompt: str, subject: str, target: str) -> tuple[str, str, str]:
    """(template, subject, target) as a record's are put to a model."""
    subject, target = _inner("subject", subject), _inner("target", target)
    prompt = _prompt("prompt", prompt)
    holes = prompt.count(wording.HOLE)
    if holes > 1:
        raise LoceditError(f"prompt: expected one {{}} for the subject, found {holes}")
    if holes:
        return prompt, subject, target
    place = subjects.locate(prompt, subject)
    if place is None:
        raise LoceditError(
            f"subject {shown(subject)} does not occur in prompt {shown(prompt)}; write it as it "
            "stands there, or {} in its place"
        )
    if place.remark:
        logger.warning("prompt: %s", place.remark)
    end = place.start + len(subject)
    return prompt[: place.start] + wording.HOLE + prompt[end:], subject, target


def _prompt(name: str, text: str) -> str:
    """Without blanks at its ends, which would cost the target its probability."""
    return _worded(name, text, wording.trimmed)


def _inner(name: str, text: str) -> str:
    return _worded(name, text, wording.bare)


def _worded(name: str, text: str, how: Any) -> str:
    if not isinstance(text, str):
        raise LoceditError(f"{name}: expected text, got {shown(text)}")
    kept, said = how(text)
    if not wording.bare(kept)[0]:
        raise LoceditError(f"{name}: expected a text, got an empty one")
    for what in said:
        logger.warning("%s: %s", name, what)
    return kept


def check_one_of(name: str, given: str, known: Any) -> None:
    """Raise LoceditError for an argument that is none of those known, with the nearest."""
    if given not in known:
        raise LoceditError(f"{name}: {unknown(name, given, known)}")


def _check_numbers(least: int, **numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or not least <= value < 2**32:
            raise LoceditError(
                f"{name}: expected a whole number from {least} to {2**32 - 1}, got {shown(value)}"
            )
