"""Arguments to a command's options, by typer; help by rich; a mistake as one sentence."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from textwrap import indent
from typing import Any

from typer import Typer
from typer._click import Command
from typer._click import exceptions as mistakes  # typer itself exports but one of them
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_group

from locedit.cli import terminal
from locedit.cli.options import (
    Apply,
    Edit,
    Export,
    Import,
    Localize,
    Options,
    Provenance,
    Recommend,
    Trace,
)
from locedit.errors import LoceditError
from locedit.messages import listed, nearest, one_line, shown

COMMANDS: dict[str, type[Options]] = {
    "trace": Trace,
    "localize": Localize,
    "edit": Edit,
    "apply": Apply,
    "export": Export,
    "import": Import,
    "recommend": Recommend,
    "provenance": Provenance,
}

HELP = "Look at one fact: where a model recalls it, what an edit does; or choose a layer to edit."
EXAMPLES = """\
locedit trace "The capital city of {} is" \\
    --subject France --target Paris
locedit localize "The capital city of {} is" \\
    --subject France --target Paris --to Rome
locedit edit "The capital city of {} is" \\
    --subject France --to Rome --layer 5
locedit apply FACTS.json --layer 5 --save NEW_FOLDER
locedit export statistics --out stats
locedit import settings ROME.yaml
locedit recommend smollm2-135m-instruct --budget 20m
locedit provenance results/MODEL/DATASET/scores.parquet
"""
NOTES = (
    "The model is config.yaml's, unless --model names another. Layers are counted from 0, as "
    "there; heat maps label them from 1. `locedit COMMAND --help` lists a command's options."
)


class WrongArguments(LoceditError):
    """What is wrong with the arguments of which command, and where its help is."""


def read(arguments: Sequence[str] | None = None) -> Options | None:
    """The options of the command that the arguments (sys.argv's) name; None once help is shown.

    Raises WrongArguments.
    """
    try:
        options = program().main(arguments, prog_name="locedit", standalone_mode=False)
    except mistakes.UsageError as error:
        path = error.ctx.command_path if error.ctx else "locedit"
        raise WrongArguments(f"{path}: {_sentence(error)} (see {path} --help)") from error
    return None if isinstance(options, int) else options  # the status with which help ends


def _sentence(error: mistakes.UsageError) -> str:
    match error:
        case mistakes.MissingParameter(ctx=context) if context:
            wanted = [one for one in context.command.params if getattr(one, "required", False)]
            missing = [_name(one) for one in wanted if context.params.get(one.name) is None]
            return f"the following arguments are required: {listed(missing)}"
        case mistakes.BadParameter(param=param) if param:
            return f"argument {_name(param)}: {_plain(error.message)}"
        case mistakes.NoSuchOption(ctx=context) if context:
            known = _names(context.command, context)
            near = nearest(error.option_name, known, cutoff=0.7)  # all begin alike
            return f"no option {shown(error.option_name)}{near}"
    text = _plain(error.message)
    return text[:1].lower() + text[1:]


def _name(param: Any) -> str:
    return param.opts[0] if isinstance(param, TyperOption) else param.metavar


def _plain(text: str) -> str:
    """A library's sentence as part of ours."""
    return one_line(text).removesuffix(".")


def _names(command: Command, context: Any) -> list[str]:
    """The options of a command as they are typed."""
    return [name for one in command.get_params(context) for name in one.opts if name[:1] == "-"]


# ---- the commands --------------------------------------------------------------------------------


class _Helpful:
    """Help as typer and rich have it, but for what would mislead here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Without a terminal's codes where there is no terminal, or NO_COLOR is set."""
        from typer import rich_utils  # takes as long as all the rest

        rich_utils.COLOR_SYSTEM = "auto" if terminal.colour() else None
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Without braces around an argument: they are the subject's place in a template."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # type: ignore[misc]

    def get_help_option(self, ctx: Any) -> Any:
        """Without a kind of value, of which it takes none."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        option.metavar, option.help = "", "show this and exit"
        return option


class _Command(_Helpful, TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer, which would take an option's name for the value of the one before it."""
        options = [one for one in self.params if isinstance(one, TyperOption) and not one.is_flag]
        valued, known = {name for one in options for name in one.opts}, _names(self, ctx)
        for option, value in pairwise(args):
            if option in valued and value in known:
                ctx.fail(f"option {option!r} requires an argument")
        given = list(args)  # typer takes them out of it
        try:
            return super().parse_args(ctx, args)
        except mistakes.BadOptionUsage as error:
            error.ctx = ctx  # which typer leaves out
            raise
        except mistakes.UsageError as error:
            if type(error) is mistakes.UsageError:  # of one argument too many; others have a kind
                error.message += self._one_each(given)
            raise

    def _one_each(self, args: list[str]) -> str:
        """How several values of an option are given, where two follow it; else ""."""
        several = {
            name for one in self.params if getattr(one, "multiple", False) for name in one.opts
        }
        for option, first, second in zip(args, args[1:], args[2:], strict=False):
            if option in several and second[:1] != "-":
                return f"; an option takes one value, so give {option} {first} {option} {second}"
        return ""


class _Group(_Helpful, TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple:
        """As typer, but for the words."""
        if args[0] not in self.commands:
            ctx.fail(f"no command {shown(args[0])}{nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@cache
def program() -> TyperGroup:
    """What typer makes of the commands, each with its options."""
    app = Typer(
        cls=_Group,
        help=HELP,
        epilog=f"Examples:\n\n{indent(EXAMPLES, '  ')}\n{NOTES}",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, options in COMMANDS.items():
        app.command(name, cls=_Command)(options)
    return get_group(app)
