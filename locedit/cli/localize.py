"""`locedit localize`: where each cheap localizer puts one fact, in a heat map and a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from locedit.api.localizing import Found, localize
from locedit.api.look import Look, check_known, check_length, look
from locedit.cli import drawing, terminal
from locedit.cli.options import Localize as Options
from locedit.cli.saying import say, say_joins, say_place
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, NO_MODULE
from locedit.messages import shown, unknown
from locedit.registry import remark
from locedit.store import tables

SCALE = "each row from its least to its greatest value"
WINDOWS = "in brackets: layers taken together"


def run(options: Options) -> None:
    """Localize one fact, print, and save a picture and a table if asked to."""
    if options.out is not None:
        from locedit.cli import picture  # a missing library is known before the work, not after

        picture.check(Path(options.out))
    _check_table(options.table)
    seen = look(options.model, say=say, plugged=options.plugin)
    names = _names(options.localizer)
    terminal.quieten()
    fact = Fact(
        case_id="prompt",
        relation_id="",
        subject=options.subject,
        template=options.template,
        target_true=options.target,
        target_new=options.to or "",
    )
    for target in (fact.target_true, *filter(None, [fact.target_new])):
        check_length(seen.lm, [fact.prompt], target)
        check_known(seen.lm, fact.template, fact.subject, [fact.prompt], target)
    say(f'{seen.settings["label"]}: "{fact.prompt}" -> "{fact.target_true}"')
    say_place(fact.template, fact.subject)
    say_joins(seen.lm, [fact.prompt], fact.target_true)
    found = _found(seen, options, fact, names)
    done = [one for one in found if one.answer is not None]
    if done:
        _say_map(done)
    for line in table_lines(found):
        say(line)
    if options.out is not None and done:
        title = f'{seen.settings["label"]}: "{fact.prompt}" -> "{fact.target_true}"'
        labels = [brief(one) for one in done]
        picture.save_shares(
            Path(options.out), shares(done), labels, title=title, subtitle=scale(done)
        )
        say(f"saved {options.out}")
    if options.table is not None:
        tables.write(options.table, rows(seen, found), "effects")
        say(f"saved {options.table}")


def _check_table(table: str | None) -> None:
    if table is None:
        return
    path = Path(table)
    if path.suffix.lower() != ".parquet":
        raise LoceditError(f"--table: expected a name that ends in .parquet, got {shown(table)}")
    if not path.parent.is_dir():
        raise LoceditError(f"--table: there is no folder {shown(str(path.parent))}")


def _names(wanted: Sequence[str]) -> list[str]:
    """The registered localizers that are asked for; all cheap ones where none is."""
    for name in wanted:
        if name not in LOCALIZERS:
            raise LoceditError(f"--localizer: {unknown('localizer', name, LOCALIZERS)}{remark()}")
    return list(wanted) or [name for name, one in LOCALIZERS.items() if one.cheap]


def _found(seen: Look, options: Options, fact: Fact, names: Sequence[str]) -> list[Found]:
    default = seen.config.analysis
    return localize(
        seen,
        fact,
        names,
        module=default.module if options.module is None else options.module,
        window=default.window if options.window is None else options.window,
        results=Path(options.results),
    )


def shares(found: Sequence[Found]) -> np.ndarray:
    """[localizers, layers]: each one's values from 0, its least, to 1, its greatest."""
    values = np.array([one.answer.values for one in found if one.answer is not None], dtype=float)
    low = np.fmin.reduce(values, axis=1, keepdims=True)
    spread = np.fmax.reduce(values, axis=1, keepdims=True) - low
    return (values - low) / np.where(spread > 0, spread, np.nan)


def brief(one: Found) -> str:
    """A row's name: of several layers taken together, with their number."""
    return one.localizer + (f" ({one.place.window})" if one.place.window > 1 else "")


def scale(done: Sequence[Found]) -> str:
    """What the map's colours and names are."""
    return SCALE + (f"; {WINDOWS}" if any(one.place.window > 1 for one in done) else "")


def _say_map(done: Sequence[Found]) -> None:
    say(f"by layer, counted from 1, {scale(done)}:")
    say()
    for line in drawing.heat_map(
        shares(done),
        [brief(one) for one in done],
        width=terminal.width(),
        colour=terminal.colour(),
        ramp=terminal.ramp(),
    ):
        say(line)
    say()


def table_lines(found: Sequence[Found]) -> list[str]:
    """A line a localizer: where it looks, its peak, what it cost; or why it says nothing."""
    width = max(len(one.localizer) for one in found)
    header = f"{'':{width}}  {'looks at':<16}{'peak':>6}{'value':>10}{'passes':>9}{'seconds':>9}"
    return [header, *(f"{one.localizer:<{width}}  {_line(one)}" for one in found)]


def _line(one: Found) -> str:
    where = "no module" if one.place.module == NO_MODULE else one.place.module
    where += f", {one.place.window} layers" if one.place.window > 1 else ""
    if one.answer is None:
        return f"{where:<16}{one.status}"
    values = np.asarray(one.answer.values, dtype=float)
    cost = f"{one.answer.passes:>9.1f}{one.seconds:>9.2f}"
    if np.isnan(values).all():
        return f"{where:<16}{'none':>6}{'':>10}{cost}"
    peak = int(np.nanargmax(values))
    return f"{where:<16}{peak + 1:>6}{values[peak]:>10.3g}{cost}"


def rows(seen: Look, found: Sequence[Found]) -> pd.DataFrame:
    """All values under the schema of a study's effects; layers from 0."""
    parts = []
    for one in found:
        if one.answer is None:
            continue
        halves = one.answer.halves
        part = pd.DataFrame({"value": np.asarray(one.answer.values, dtype=float)})
        if halves is not None:
            part["value_half1"], part["value_half2"] = halves
        parts.append(
            part.rename_axis("layer")
            .reset_index()
            .assign(
                localizer=one.localizer,
                module=one.place.module,
                window=one.place.window,
                passes=one.answer.passes,
            )
        )
    names = tables.SCHEMAS["effects"].names
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    table = table.assign(model=seen.settings["label"], dataset="prompt", case_id="prompt")
    return table.reindex(columns=names)
