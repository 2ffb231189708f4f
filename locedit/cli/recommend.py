"""`locedit recommend`: which layer to edit in a model, with how good that is, and how sure."""

import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from locedit.api import recommending
from locedit.api.look import Look, look
from locedit.api.recommending import Answer, Wanted
from locedit.cli import terminal
from locedit.cli.naming import columns_named, method_named
from locedit.cli.options import Recommend as Options
from locedit.cli.saying import facts_words, say
from locedit.errors import LoceditError
from locedit.facts.records import COMMAND
from locedit.study.advice import Advice, certainty, is_number, together
from locedit.study.budget import Purse

SHOWN = 8  # layers in the terminal's table; the file has all


def run(options: Options) -> None:
    """Search, print the answer, and keep it: tables, settings, a picture."""
    from locedit.cli import picture  # a missing library is known before the work, not after

    seen = look(options.model, say=lambda _: None, plugged=options.plugin)
    terminal.quieten()
    wanted = _wanted(options, seen)
    purse = Purse(budget=wanted.budget)
    advice: list[Advice] = []
    try:
        with _progress(purse) as told:
            answer = recommending.recommend(seen, wanted, purse, say=told)
            _say_question(seen, wanted, answer)
            for one in answer.advice:
                advice.append(one)
                for line in lines(one, answer, terminal.width()):
                    say(line)
    except KeyboardInterrupt:
        print(
            f"\nwhat was done is kept in {wanted.folder}; the same command goes on from there",
            file=sys.stderr,
        )
        raise
    _say_localizers(answer)
    say()
    say(f"spent {purse.budget.words(purse.spent)} of {purse.budget.words()}")
    if not any(one.chosen for one in advice):
        raise LoceditError("no editor has an answer: " + "; ".join(_undone(one) for one in advice))
    _keep(wanted.folder, answer, advice, picture)


def _undone(one: Advice) -> str:
    return f"{one.method}: {'; '.join(one.left_undone)}"


def _wanted(options: Options, seen: Look) -> Wanted:
    named = [name for given in options.editors for name in given.split(",") if name]
    editors = [method_named(name, "--editors") for name in named]
    return Wanted(
        facts=None if options.facts is None else Path(options.facts),
        format=options.format,
        columns=columns_named(options.column),
        separator=options.separator,
        asker=COMMAND,
        editors=list(dict.fromkeys(editors)) or seen.config.recommending.methods,
        problem=options.problem,
        budget=options.budget,
        folder=Path("results") / seen.name / "recommended"
        if options.out is None
        else Path(options.out),
        seed=options.seed,
        results=Path(options.results),
        tokens=options.tokens,
    )


@contextmanager
def _progress(purse: Purse) -> Iterator[Any]:
    """A bar of what is spent, on a terminal's standard error; elsewhere a line a step."""
    if not sys.stderr.isatty():
        yield lambda what: print(f"{purse.budget.words(purse.spent):>9}  {what}", file=sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    amount = purse.budget.amount
    total = None if amount == float("inf") else amount
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[spent]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, spent="")

        def paid(cost: float) -> None:
            bar.update(task, advance=cost, spent=purse.budget.words(purse.spent))

        purse.told = paid
        yield lambda what: bar.update(task, description=what)


def _say_question(seen: Look, wanted: Wanted, answer: Answer) -> None:
    pools = answer.question.pools
    say(f"{answer.question.label}: {wanted.problem.replace('_', ' ')}, {seen.lm.n_layers} layers")
    say(
        f"{len(pools['search'])} known facts to search by, {len(pools['held_out'])} held out; "
        f"budget {wanted.budget.words()}"
    )
    for sentence in answer.said:
        say(sentence)


def lines(one: Advice, answer: Answer, width: int = 80) -> list[str]:
    """An editor's answer: what to do, how good it is, what else would cost, how sure that is."""
    said = ["", *_headline(one)]
    own = one.chosen
    if own is not None:
        said += _wrapped(_scores(one, own), width)
        said += ["", *_table(one, width), ""]
        for sentence in certainty(one):
            said += _wrapped(sentence, width)
    for what in (*one.left_undone, one.failures):
        if what:
            said += _wrapped(f"Not done: {what}." if what in one.left_undone else what, width)
    return said


def _headline(one: Advice) -> list[str]:
    own = one.chosen
    if own is None:
        return [f"{one.method}: no answer"]
    where = f"layer {own['layer']} (number {own['layer'] + 1} of {one.n_layers})"
    if len(own["layers"]) > 1:
        where = f"layers {together(own['layers'])}, the window of {where}"
    text = f"{one.method}: edit {where}"
    return [text, *([f"  with {own['setting']}"] if own["setting"] else [])]


def _scores(one: Advice, own: dict[str, Any]) -> str:
    if not own["n_held_out"]:
        chosen_by = f"{facts_words(own['n_searched'])} it was chosen by"
        return f"  on {chosen_by}: overall {_interval(own, 'searched')}"
    parts = [f"{kind} {_interval(own, kind)}" for kind in one.kinds]
    return f"  on {facts_words(own['n_held_out'], 'held-out ')}: {', '.join(parts)}"


def _interval(row: dict[str, Any], name: str) -> str:
    mean, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not is_number(mean):
        return "none"
    text = _short(mean)
    return f"{text} ({_short(low)} to {_short(high)})" if is_number(low) else text


def _short(value: Any) -> str:
    """A score with three digits and no zero in front."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _table(one: Advice, width: int) -> list[str]:
    """The layers of interest: measured on held-out facts or pointed at, then the best others."""
    wanted = [row for row in one.rows if row["n_held_out"] or row["localizers"]]
    others = sorted((r for r in one.rows if r not in wanted), key=lambda r: -r["searched"])
    rows = wanted + others[: max(0, SHOWN - len(wanted))]
    rows.sort(key=lambda row: (row["role"] != "chosen", row["role"] != "runner-up", row["layer"]))
    lines = [f"  {'layer':<6}{'overall':<8}{'facts':<14}{'would cost':<24}"]
    for row in rows:
        held_out = bool(row["n_held_out"])
        score = row["overall"] if held_out else row["searched"]
        facts = f"{row['n_held_out']} held out" if held_out else f"{row['n_searched']} searched"
        cost = _interval(row, "cost") if is_number(row.get("cost")) else "-"
        line = f"  {row['layer']:<6}{_short(score):<8}{facts:<14}{cost:<24}{_role(row)}"
        lines += textwrap.wrap(line, width, subsequent_indent=" " * 52) if line else []
    if len(one.rows) > len(rows):
        lines.append(f"  ({len(one.rows) - len(rows)} more layers in the table)")
    return [line.rstrip() for line in lines]


def _role(row: dict[str, Any]) -> str:
    named = [row["role"]] if row["role"] != "other" else []
    return ", ".join([*named, *row["localizers"]])


def _say_localizers(answer: Answer) -> None:
    if answer.silent:
        silent = [f"{name} ({why})" for name, why in answer.silent.items()]
        say()
        for line in _wrapped("Localizers that say nothing: " + "; ".join(silent), terminal.width()):
            say(line)


def _wrapped(text: str, width: int) -> list[str]:
    indent = "  " if text.startswith("  ") else ""
    return textwrap.wrap(text, width, subsequent_indent=indent + "  " if indent else "")


def _keep(folder: Path, answer: Answer, advice: Sequence[Advice], picture: Any) -> None:
    table = recommending.keep(folder, answer, advice)
    say(f"saved {table} and .csv")
    say(f"saved {folder / 'recommended.yaml'}, for the model's file in models/")
    path = folder / "scores_by_layer.png"
    picture.save_layers(path, [one for one in advice if one.chosen], title=answer.question.label)
    say(f"saved {path}")
