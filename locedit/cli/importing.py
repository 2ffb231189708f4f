"""`locedit import`: other people's key statistics and settings, checked, as a study takes them."""

from pathlib import Path

import yaml

from locedit.api.look import Look, look
from locedit.cli import terminal
from locedit.cli.options import Import as Options
from locedit.cli.saying import layers_words, say
from locedit.engine import key_statistics
from locedit.errors import LoceditError
from locedit.exchange import easyedit_settings, moments_npz
from locedit.store.files import atomic
from locedit.workflow import config as configuration


def run(options: Options) -> None:
    """Read what is named, and write or print it."""
    seen = look(options.model, say=say, plugged=options.plugin)
    terminal.quieten()
    {"statistics": _statistics, "settings": _settings}[options.what](seen, options)


def _statistics(seen: Look, options: Options) -> None:
    if options.out is None:
        raise LoceditError("--out: name the file for the key statistics (.safetensors)")
    source = Path(options.source)
    found = dict(moments_npz.read_all(source, seen.lm))
    tokens = moments_npz.tokens_of(found)
    for layer, one in found.items():
        if one.singular:
            say(f"layer {layer}: no inverse without a ridge; {key_statistics.RIDGE}")
    with atomic(options.out) as temporary:
        key_statistics.write_moments(
            temporary,
            {layer: one.moment for layer, one in found.items()},
            tokens=str(tokens),
            imported=str(source),
            model=seen.weights,
        )
    say(f"{options.out}: {layers_words(len(found), tokens)}; a study takes it by")
    say(f"statistics: {{path: {options.out}}}")


def _settings(seen: Look, options: Options) -> None:
    source = Path(options.source)
    values = easyedit_settings.read(source)
    method, layer, settings = easyedit_settings.hyperparameters(seen.lm, values, source)
    editing = {
        "methods": [method],
        "layers": [layer],
        "hyperparameters": {method: {"all": settings}},
    }
    configuration.read({"editing": editing}, str(source))  # as a study would check it
    text = "".join(f"# not taken over: {what}\n" for what in easyedit_settings.left_out(values))
    text += yaml.safe_dump({"editing": editing}, sort_keys=False, default_flow_style=None)
    if options.out is None:
        say(text.rstrip())
        return
    with atomic(options.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"{options.out}: for --configfile")
