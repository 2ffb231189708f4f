"""Arguments, and errors as one sentence. Nothing heavy is imported before it is needed."""

import argparse
import gc
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from locedit import messages
from locedit.errors import LoceditError, bug
from locedit.facts import wording
from locedit.messages import one_line, shown

EPILOG = """\
examples:
  python -m locedit trace "The capital city of {} is" --subject France --target Paris
  python -m locedit edit "The capital city of {} is" --subject France --to Rome --layer 5
  python -m locedit provenance results/MODEL/DATASET/scores.parquet

`python -m locedit COMMAND --help` lists a command's options. The model is config.yaml's, unless
--model names another. Layers are counted from 0, as in config.yaml; heat maps label them from 1.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 and one sentence on stderr. Wrong arguments exit with status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # tokens may be of any script
    options = parser().parse_args(arguments)
    try:
        _word(options)
        import_module(f"locedit.cli.{options.command}").run(options)
        gc.freeze()  # all stays until the program ends, which would else take a second longer
        return 0
    except BrokenPipeError:  # whoever read our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except MemoryError as error:
        said = f"the machine's memory does not suffice ({one_line(error)}); ask for less"
    except (LoceditError, OSError, ImportError) as error:
        said = one_line(error, 2000)
    except Exception as error:
        traceback.print_exc()
        said = one_line(bug(error), 2000)
    print(f"locedit {options.command}: {said}", file=sys.stderr)
    return 1


def _word(options: argparse.Namespace) -> None:
    """The texts as a record's are put to a model, saying what that changes."""
    for name in ("subject", "template", "target", "to", "paraphrase", "neighbour"):
        given = getattr(options, name, None)
        if given is not None:
            if name in ("subject", "target", "to"):
                text, said = wording.bare(given)
            else:
                text, said = wording.prompt(given, options.subject)
            setattr(options, name, text)
            for what in said:
                print(f"{name}: {what}")


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    top = _Parser(
        prog="locedit",
        description="Look at one fact: where a model recalls it, and what an edit does to it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_trace(commands)
    _add_edit(commands)
    _add_provenance(commands)
    return top


def _add_trace(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("trace", help="causal tracing of one prompt, as a heat map")
    _add_fact(command)
    command.add_argument("--target", type=_prompt, help="default: the model's own next word")
    command.add_argument("--module", choices=("mlp", "attn", "hidden"), help="what is restored")
    command.add_argument("--window", type=_count, help="layers restored together")
    command.add_argument("--noise", type=_noise, help="sigma: a number, or 3sd (default: model's)")
    command.add_argument("--n-noise", type=_count, help="corrupted runs to average over")
    command.add_argument("--seed", type=_seed, help="of the noise")
    command.add_argument("--out", metavar="PNG", help="also save the heat map as a picture")


def _add_edit(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("edit", help="one edit, with predictions before and after")
    _add_fact(command)
    command.add_argument("--to", type=_prompt, required=True, help="the object to be edited in")
    command.add_argument("--method", default="ROME", help="an editing method (default: ROME)")
    command.add_argument("--plugin", action="append", default=[], help="a .py file of methods")
    command.add_argument("--layer", type=int, required=True, help="the edit layer, from 0")
    command.add_argument("--paraphrase", type=_prompt, help="a prompt; {} stands for the subject")
    command.add_argument("--neighbour", type=_neighbour, help="a prompt about another subject")
    command.add_argument("--preset", choices=("paper", "released"), help="of hyperparameters")
    command.add_argument("--untuned", action="store_true", help="without the model's own settings")
    command.add_argument("--tokens", type=_count, help="behind key statistics that are not there")
    command.add_argument("--top", type=_count, default=5, help="predictions shown (default: 5)")
    command.add_argument("--results", default="results", help="folder of a study to take them from")


def _add_provenance(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("provenance", help="how a Parquet file of a study was made")
    command.add_argument("file", help="the file")
    command.add_argument("--json", action="store_true", help="all of it, as it is stored")


def _add_fact(command: argparse.ArgumentParser) -> None:
    command.add_argument("template", type=_template, help="the prompt, with {} for the subject")
    command.add_argument("--subject", type=_prompt, required=True, help="the subject")
    command.add_argument(
        "--model", help="a file models/NAME.yaml, by name or path, a folder, or a GGUF file"
    )


def _prompt(text: str) -> str:
    if fault := messages.fault(text):
        raise argparse.ArgumentTypeError(
            f"expected UTF-8 text, got {shown(text)}, which holds {fault}"
        )
    if not wording.bare(text)[0]:
        raise argparse.ArgumentTypeError("expected a text, got an empty one")
    return text


def _neighbour(text: str) -> str:
    if wording.HOLE in _prompt(text):
        raise argparse.ArgumentTypeError(
            f"a neighbour is of another subject; write that in place of {{}} in {shown(text)}"
        )
    return text


def _template(text: str) -> str:
    _prompt(text)
    holes = text.count("{}")
    if holes != 1:
        raise argparse.ArgumentTypeError(
            f"expected one {{}} for the subject in {shown(text)}, found {holes}"
        )
    return text


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > 4294967295:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to 4294967295, got {shown(text)}"
        )
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 1 to 999999999, got {shown(text)}"
        )
    return int(text)


def _noise(text: str) -> float | str:
    number = text.removesuffix("sd")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"expected a positive number or, as 3sd, deviations: {shown(text)}"
        )
    return text if text.endswith("sd") else value
