"""Run a command; errors as one sentence. Nothing heavy is imported before it is needed."""

import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from locedit.cli import parsing
from locedit.cli.options import Options
from locedit.errors import LoceditError, bug
from locedit.facts import wording
from locedit.messages import one_line

MODULES = {"import": "importing", "export": "exporting"}  # a module's name is no word of Python's
EXTRAS = {"matplotlib": "plot"}  # packages that commands do without until asked; of which extra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or one sentence on stderr and 1, or 2 where the arguments are wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # tokens may be of any script
    try:
        options = parsing.read(arguments)
    except parsing.WrongArguments as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if options is None else _run(type(options).__name__.lower(), options)


def _run(command: str, options: Options) -> int:
    try:
        import_module(f"locedit.cli.{MODULES.get(command, command)}").run(_worded(options))
        gc.freeze()  # all stays until the program ends, which would else take a second longer
        return 0
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except MemoryError as error:
        said = f"the machine's memory does not suffice ({one_line(error)}); ask for less"
    except (LoceditError, OSError) as error:
        said = one_line(error, 2000)
    except Exception as error:
        said = _not_installed(error)
        if not said:
            traceback.print_exc()
            said = one_line(bug(error), 2000)
    print(f"locedit {command}: {said}", file=sys.stderr)
    return 1


def _not_installed(error: Exception) -> str:
    """What to install where an optional package as a whole is missing; "" for any other error."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in EXTRAS:
        return ""
    extra = EXTRAS[error.name]
    return (
        f"{error.name} is not installed, which this needs; install the extra `{extra}` "
        f"(pip install '.[{extra}]' in a checkout), or {error.name} itself"
    )


def _worded(options: Options) -> Options:
    """The texts as a record's are put to a model, saying what that changes."""
    changed: dict[str, Any] = {}
    for name in ("subject", "template", "target", "to", "true", "paraphrase", "neighbour"):
        given = getattr(options, name, None)
        if given is not None:
            if name in ("subject", "target", "to", "true"):
                changed[name], said = wording.bare(given)
            else:
                changed[name], said = wording.prompt(given, changed["subject"])
            for what in said:
                print(f"{name}: {what}")
    return replace(options, **changed)
