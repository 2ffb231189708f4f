"""`locedit edit`: one edit, and what the model says before and after it."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from locedit.api import keeping
from locedit.api.keeping import Edited, Targets
from locedit.api.look import Look, check_known, check_length, look, next_word
from locedit.api.one_fact import check_edited, check_layer, hyperparameters_of, inputs_of
from locedit.cli import drawing, terminal
from locedit.cli.naming import check_layer_named, edit_layer, method_named
from locedit.cli.options import Edit as Options
from locedit.cli.prompts import Prompt, neighbour, paraphrase, relation_of
from locedit.cli.saying import say, say_joins, say_place, settings_words
from locedit.engine import passes
from locedit.engine.updates import Updates, applied, felt, total_norms
from locedit.exchange import edited_weights
from locedit.exchange.model_card import Line
from locedit.facts import wording
from locedit.methods import METHODS, Edit
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.store import shipped
from locedit.study import measure
from locedit.study.scores import neighbourhood_score, rewrite_score
from locedit.windows import EMBEDDING, layer_words

PROBLEM = PROBLEMS["error_injection"]

Predictions = list[list[tuple[str, float]]]


def run(options: Options) -> None:
    """Edit one fact and print predictions and probabilities before and after."""
    targets = Targets(folder=options.save, delta=options.save_delta, adapter=options.save_lora)
    targets.check()
    check_layer_named(options.layer, options.tuned)
    seen = look(options.model, say=say, plugged=options.plugin)
    method = method_named(options.method)
    layer = edit_layer(seen, method, PROBLEM.name, options.layer)
    terminal.quieten()
    check_layer(seen.lm, layer, method, "--layer")
    text = wording.filled(options.template, options.subject)
    known = next_word(seen.lm, text)
    request = Request(
        case_id="prompt",
        template=options.template,
        subject=options.subject,
        target=options.to,
        problem=PROBLEM,
        true=options.true or known or None,
    )
    prompts = _prompts(options, text, known)
    texts = [prompt.text for prompt in prompts.values() if prompt.text is not None]
    check_length(seen.lm, texts, options.to)
    check_known(seen.lm, options.template, options.subject, texts, options.to)
    hyper = hyperparameters_of(seen, method, PROBLEM.name, options.preset, options.tuned)
    _say_what(seen, request, method, layer, hyper)
    say_joins(seen.lm, texts, options.to)
    shared = inputs_of(seen, method, layer, hyper, Path(options.results), options.tokens)
    started = time.perf_counter()
    edit = METHODS[method].edit(seen.lm, [request], layer, hyper, shared)
    seconds = time.perf_counter() - started
    check_edited(edit, method, layer)
    before, p_before = _look(seen.lm, request, texts, {}, options.top)
    with felt(seen.lm, edit.updates) as updates:
        after, p_after = _look(seen.lm, request, texts, updates, options.top)
    shift = p_before, p_after
    _say_prompts(prompts, options.to, before, after, shift)
    _say_edit(edit, request, seconds)
    if targets:
        about = keeping.about(seen, method, layer, hyper, [request])
        delta = edited_weights.of_updates(seen.lm, edit.updates, about)
        edited = Edited(delta=delta, lines=[_line(request, prompts, shift)])
        for sentence in keeping.save(seen, edited, targets):
            say(sentence)


def _line(
    request: Request, prompts: Mapping[str, Prompt], p: tuple[list[float], list[float]]
) -> Line:
    """What the card says of the fact. p: before and after, of each prompt that has a text."""
    names = [name for name, prompt in prompts.items() if prompt.text is not None]
    was, becomes = (dict(zip(names, values, strict=True)) for values in p)
    scores = {"rewrite": "prompt", "paraphrase": "paraphrase"}
    found: dict[str, Any] = {
        score: rewrite_score(was[of], becomes[of]) for score, of in scores.items()
    }
    if "neighbour" in names:
        found["neighbourhood"] = neighbourhood_score(was["neighbour"], becomes["neighbour"])
    return Line(
        prompt=request.prompt,
        target=request.target,
        p_before=was["prompt"],
        p_after=becomes["prompt"],
        **found,
    )


def _prompts(options: Options, text: str, known: str) -> dict[str, Prompt]:
    """The prompt, its paraphrase and its neighbour, given or found.

    text: the prompt; known: the model's next word.
    """
    fits = relation_of(options.template, options.subject, known, shipped.root() / "data")
    relation, rows = (None, []) if fits is None else fits
    return {
        "prompt": Prompt(text=text, why="edited"),
        "paraphrase": paraphrase(options.paraphrase, options.template, options.subject, relation),
        "neighbour": neighbour(
            options.neighbour, options.template, options.subject, options.to, rows
        ),
    }


@torch.inference_mode()
def top_predictions(
    lm: LanguageModel, texts: Sequence[str], updates: Updates | None, k: int
) -> Predictions:
    """The k likeliest next tokens of each text with their probabilities, under an edit if given."""
    ids, lengths = passes.pad([lm.encode(text) for text in texts], lm.device)
    with applied(lm, updates or {}, [len(texts)]):
        hidden = passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
    ends = torch.tensor(lengths, device=lm.device)[:, None] - 1
    logits = lm.logits(passes.at(hidden, ends)[:, 0])
    p, tokens = logits.softmax(dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return [
        [(lm.token_text(token), value) for token, value in zip(*row, strict=True)]
        for row in zip(tokens.tolist(), p.tolist(), strict=True)
    ]


def measured(
    lm: LanguageModel, request: Request, texts: Sequence[str], updates: Updates | None
) -> list[float]:
    """p(target) after each text, the prompt first, under an edit if given."""
    probe = measure.Probe(
        request=request, other=request.target, paraphrases=texts[1:], neighbourhood=()
    )
    found = measure.measure(lm, [probe], updates)[0]
    return [math.exp(log_p) for log_p in (found.rewrite[0], *found.paraphrase[0])]


def _look(
    lm: LanguageModel, request: Request, texts: Sequence[str], updates: Updates, k: int
) -> tuple[Predictions, list[float]]:
    return top_predictions(lm, texts, updates, k), measured(lm, request, texts, updates)


def _say_what(seen: Look, request: Request, method: str, layer: int, hyper: Any) -> None:
    place = layer_words(layer)
    if layer != EMBEDDING:
        place += f" (number {layer + 1} of {seen.lm.n_layers})"
    say(f'{seen.settings["label"]}: {method} at {place}: "{request.prompt}" -> "{request.target}"')
    say_place(request.template, request.subject)
    say(f"settings: {settings_words(hyper)}")


def _say_prompts(
    prompts: Mapping[str, Prompt],
    target: str,
    before: Predictions,
    after: Predictions,
    p: tuple[list[float], list[float]],
) -> None:
    shown = zip(before, after, *p, strict=True)
    for name, prompt in prompts.items():
        say()
        if prompt.text is None:
            say(f"{name}: {prompt.why}")
            continue
        say(f'{name}: "{prompt.text}" ({prompt.why})')
        was, becomes, p_before, p_after = next(shown)
        for line in drawing.predictions(was, becomes, width=terminal.width()):
            say(line)
        if name == "neighbour":
            score = neighbourhood_score(p_before, p_after)
        else:
            score = rewrite_score(p_before, p_after)
        label = "rewrite" if name == "prompt" else name
        say(f"  p({target}) {p_before:.4g} -> {p_after:.4g}, {label} score {score:.3f}")


def _say_edit(edit: Edit, request: Request, seconds: float) -> None:
    norm = total_norms(edit.updates)[0]
    changed = sorted(edit.updates)
    where = (
        layer_words(changed[0]) if len(changed) == 1 else f"layers {changed[0]} to {changed[-1]}"
    )
    say()
    what = f"{edit.steps[0]} steps"
    if edit.neurons is not None:
        what = f'{edit.neurons[0]} neurons that speak for "{request.true}"'
    text = f"update of {where}: norm {norm:.4g}, {what} in {seconds:.1f} s"
    if edit.losses:
        text += ", loss {:.4g} -> {:.4g}".format(*edit.losses[0])
    if edit.null_space_rank is not None:
        text += f", within {', '.join(map(str, edit.null_space_rank))} dimensions"
    say(text)
