"""`locedit trace`: the heat map of one prompt's causal tracing."""

from pathlib import Path
from typing import Any

import numpy as np

from locedit.api.look import Look, check_known, check_length, continued, look
from locedit.cli import drawing, terminal
from locedit.cli.options import Trace as Options
from locedit.cli.saying import say, say_joins, say_place
from locedit.errors import LoceditError
from locedit.localizers.restoration import Trace, trace
from locedit.text.joining import join
from locedit.text.subjects import in_template

NAMES = {"mlp": "MLP outputs", "attn": "attention outputs", "hidden": "hidden states"}


def run(options: Options) -> None:
    """Trace, print, and save a picture if asked to."""
    if options.out is not None:
        from locedit.cli import picture  # a missing library is known before the work, not after

        picture.check(Path(options.out))
    seen = look(options.model, say=say, plugged=options.plugin)
    terminal.quieten()
    prompt = options.template.replace("{}", options.subject)
    target = options.target or _own_target(seen, prompt)
    check_length(seen.lm, [prompt], target)
    check_known(seen.lm, options.template, options.subject, [prompt], target)
    found, sigma, settings = _traced(seen, options, prompt, target)
    heading = f'{seen.settings["label"]}: "{prompt}" -> "{target}"'
    restored = f"{NAMES[settings['module']]} restored, {_layers(settings['window'])} at a time"
    say(heading)
    say_place(options.template, options.subject)
    say_joins(seen.lm, [prompt], target)
    say(f"p clean {found.p_clean:.4f}, p corrupted {found.p_corrupted:.4f}")
    say(f"noise: {settings['n_noise']} draws, seed {settings['seed']}, {sigma}")
    say(f"{restored}; p({target}) by token and layer, counted from 1 (* subject):")
    say()
    labels = token_labels(found)
    for line in drawing.heat_map(
        found.p_restored,
        labels,
        width=terminal.width(),
        colour=terminal.colour(),
        ramp=terminal.ramp(),
    ):
        say(line)
    say()
    say(peak_sentence(found))
    if options.out is not None:
        picture.save(Path(options.out), found, labels, title=heading, subtitle=restored)
        say(f"saved {options.out}")


def _own_target(seen: Look, prompt: str) -> str:
    """The first word that the model itself says, told as it stands where that is not all of it."""
    text, target = continued(seen.lm, prompt)
    if not target:
        raise LoceditError(f"the model continues {prompt!r} with no word; give one with --target")
    traced = join(prompt, target) + target
    if text.startswith(traced):
        say(f'no --target given; the model continues with "{target}", so that is traced')
    else:
        say(f"no --target given; the model continues with {text!r}, and {traced!r} is traced")
    return target


def _traced(seen: Look, options: Options, prompt: str, target: str) -> tuple[Trace, str, dict]:
    defaults, shown = seen.config.tracing, seen.config.analysis
    sigma, how = seen.sigma(options.noise)
    settings: dict[str, Any] = {
        "module": shown.module if options.module is None else options.module,
        "window": shown.window if options.window is None else options.window,
        "n_noise": defaults.n_noise if options.n_noise is None else options.n_noise,
        "seed": defaults.noise_seed if options.seed is None else options.seed,
    }
    found = trace(
        seen.lm,
        prompt,
        options.subject,
        target,
        sigma=sigma,
        subject_start=in_template(options.template, options.subject),
        **settings,
    )
    return found, how, settings


def _layers(n: int) -> str:
    return "1 layer" if n == 1 else f"{n} layers"


def token_labels(found: Trace) -> list[str]:
    """The traced tokens, the subject's marked."""
    b, e = found.subject_range
    return [
        ("*" if index < e - b else " ") + drawing.printable(token)
        for index, token in enumerate(found.tokens)
    ]


def peak_sentence(found: Trace) -> str:
    """Where restoring brings most back, and how much of what corruption took that is."""
    token, layer = np.unravel_index(found.p_restored.argmax(), found.p_restored.shape)
    peak, lost = found.p_restored[token, layer], found.p_clean - found.p_corrupted
    where = f'token "{drawing.printable(found.tokens[token])}", layer {layer + 1}'
    text = f"peak: p {peak:.4f} at {where} (layer {layer} from 0)"
    if lost <= 0:
        return text + "; corruption took nothing from p"
    return text + f", {max(0.0, (peak - found.p_corrupted) / lost):.0%} of what corruption took"
