"""`locedit apply`: facts of a file, or a difference that was kept, into a model to take home."""

import math
from collections.abc import Sequence
from pathlib import Path

from locedit import outcomes
from locedit.api import keeping
from locedit.api.keeping import Edited, Targets
from locedit.api.look import Look, look
from locedit.api.many_facts import facts_of
from locedit.api.one_fact import check_layer, hyperparameters_of, inputs_of
from locedit.cli import terminal
from locedit.cli.naming import check_layer_named, columns_named, edit_layer, method_named
from locedit.cli.options import Apply as Options
from locedit.cli.saying import facts_words, say, settings_words
from locedit.errors import LoceditError
from locedit.exchange import edited_weights
from locedit.exchange.model_card import Line
from locedit.facts.record import Fact
from locedit.facts.records import COMMAND
from locedit.windows import layer_words


def run(options: Options) -> None:
    """Write what the file holds into the model, say what that did, and keep what is wanted."""
    file = Path(options.file).expanduser()
    targets = Targets(folder=options.save, delta=options.save_delta, adapter=options.save_lora)
    targets.check()
    if file.suffix == ".safetensors":
        _check_of_facts(options)
        delta = edited_weights.read(file)
        seen = look(options.model, say=say, plugged=options.plugin)
        terminal.quieten()
        edited = Edited(delta=delta, lines=[])
        edited_weights.check_base(seen.lm, delta)
        of = delta.about.get("editor", "an editor that it does not name")
        say(f"{file}: by {of}, {len(delta.names)} tensors of {delta.about.get('base_model')}")
    else:
        check_layer_named(options.layer, options.tuned)
        facts, left_out = facts_of(
            file,
            say,
            format=options.format,
            columns=columns_named(options.column),
            separator=options.separator,
            asker=COMMAND,
        )
        seen = look(options.model, say=say, plugged=options.plugin)
        edited = _applied(seen, options, facts, left_out)
    for sentence in keeping.save(seen, edited, targets):
        say(sentence)
    if not targets:
        say("nothing is kept: give --save, --save-delta or --save-lora")


def _check_of_facts(options: Options) -> None:
    """Raise LoceditError for an option that says how facts are edited, beside a difference."""
    given = [
        name
        for name in ("layer", "together", "format", "column", "preset", "tuned")
        if getattr(options, name) not in (None, False, [])
    ]
    if given:
        raise LoceditError(
            f"--{given[0]}: {options.file} is a difference of weights, made as it says itself; "
            "leave the option out, or give a file of facts"
        )


def _applied(
    seen: Look, options: Options, facts: Sequence[Fact], left_out: Sequence[Line]
) -> Edited:
    method = method_named(options.method)
    layer = edit_layer(seen, method, keeping.PROBLEM.name, options.layer)
    terminal.quieten()
    check_layer(seen.lm, layer, method, "--layer")
    problem = keeping.PROBLEM.name
    hyper = hyperparameters_of(seen, method, problem, options.preset, options.tuned)
    many = facts_words(len(facts))
    say(f"{seen.settings['label']}: {many} by {method} at {layer_words(layer)}")
    say(f"settings: {settings_words(hyper)}")
    shared = inputs_of(seen, method, layer, hyper, Path(options.results), options.tokens)
    done = 0

    def progress(line: Line) -> None:
        nonlocal done
        done += 1
        failed = "" if line.status == outcomes.OK else f": {line.status}"
        say(f'{done} of {len(facts)}: "{line.prompt}" -> "{line.target}"{failed}')

    made = keeping.written(
        *(seen, facts, method, layer, hyper, shared),
        together=options.together,
        progress=progress,
    )
    say()
    for line in made.lines:
        if line.status == outcomes.OK:
            scores = _scores(line)
            p = f"p({line.target}) {line.p_before:.4g} -> {line.p_after:.4g}"
            say(f'"{line.prompt}": {p}, {scores}')
    return Edited(delta=made.delta, lines=[*made.lines, *left_out])


def _scores(line: Line) -> str:
    """Those that the fact's prompts allow."""
    named = {name: getattr(line, name) for name in ("rewrite", "paraphrase", "neighbourhood")}
    return ", ".join(f"{name} {x:.3f}" for name, x in named.items() if not math.isnan(x))
