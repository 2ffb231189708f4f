"""Which layer to edit, and how: a search for each editor, by edits of known facts, on a budget.

Every other fact is held out of the search. What was done is kept in a folder, with what it cost, so
that the same question goes on where it ended (`trials`).
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from locedit import outcomes
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.localizers import LOCALIZERS, Place
from locedit.localizers import SharedInputs as LocalizerInputs
from locedit.messages import shown
from locedit.methods import SharedInputs
from locedit.methods.problems import Problem
from locedit.model.language_model import LanguageModel
from locedit.shards import BATCH_FACTS
from locedit.store import files, tables
from locedit.study import advice, halving
from locedit.study.advice import Advice
from locedit.study.budget import Purse
from locedit.study.edit import Cell, Measuring, Subject, batches, edit_cell, unedited
from locedit.study.localize import Cell as Looking
from locedit.study.localize import localize_cell
from locedit.study.scores import KINDS
from locedit.study.trials import Arm, Clock, Pool, Trials

LEAST_FACTS = 4  # known ones: two to search by and two held out
LOCALIZED = 4  # facts that each localizer is asked about
LOCALIZING = 0.1  # of the budget, beyond which no further localizer is asked
_PROMPTS = {"paraphrase": "paraphrases", "neighbourhood": "neighbourhood"}

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Editor:
    """A method and what is tried of it: settings as they are said, each whole in `hyper`.

    The first setting is the one at which all layers are tried.
    """

    method: str
    settings: Sequence[Mapping[str, Any]]
    hyper: Sequence[Any]
    shared: SharedInputs
    quirks: Sequence[str] = ()

    @property
    def window(self) -> int:
        return getattr(self.hyper[0], "window", 1)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked: names for tables, editors, and the facts with what the unedited model says.

    kinds: of scores that all of these facts have. peaks: the layer each localizer points at.
    """

    label: str
    dataset: str
    problem: Problem
    editors: Sequence[Editor]
    subjects: Sequence[Subject]
    how: Measuring
    kinds: Sequence[str] = KINDS
    aggregate: str = "mean"
    peaks: Mapping[str, int] = field(default_factory=dict)
    batch: int = BATCH_FACTS

    @property
    def pools(self) -> dict[Pool, list[Subject]]:
        """Every other fact is held out, so that more facts move none from one pool to the other."""
        return {"search": list(self.subjects[::2]), "held_out": list(self.subjects[1::2])}


def recommend(
    lm: LanguageModel,
    question: Question,
    folder: Path,
    purse: Purse,
    *,
    clock: Clock = time.perf_counter,
    say: Say = lambda _: None,
) -> Iterator[Advice]:
    """One editor's advice after the other; each has an equal part of what is left of the budget.

    folder: where their edits are kept, and found again. say: is told what is being done.
    """
    start = purse.spent
    for index, editor in enumerate(question.editors):
        limit = purse.left / (len(question.editors) - index)
        kept = folder / "trials" / editor.method
        trials = trials_of(lm, question, editor, question.pools, kept, purse, clock=clock)
        yield _advice(lm.n_layers, question, editor, trials, start, limit, say)


def trials_of(
    lm: LanguageModel,
    question: Question,
    editor: Editor,
    pools: Mapping[Pool, Sequence[Subject]],
    folder: Path,
    purse: Purse,
    *,
    clock: Clock = time.perf_counter,
) -> Trials:
    """One editor's edits of those facts, kept in `folder`."""
    return Trials(
        folder,
        purse,
        _editing(lm, question, editor),
        pools,
        kinds=question.kinds,
        aggregate=question.aggregate,
        batch=question.batch,
        clock=clock,
    )


def _editing(lm: LanguageModel, question: Question, editor: Editor) -> Any:
    def edit(arm: Arm, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
        cell = Cell(
            method=editor.method,
            problem=question.problem.name,
            layer=arm.layer,
            hyper=editor.hyper[arm.setting],
            quirks=editor.quirks,
        )
        together = batches(lm, subjects, question.batch)
        return list(edit_cell(lm, cell, together, editor.shared, question.how))

    return edit


def _advice(
    n_layers: int,
    question: Question,
    editor: Editor,
    trials: Trials,
    start: float,
    limit: float,
    say: Say,
) -> Advice:
    """start: what was spent before any editor's first edit."""
    before = trials.purse.spent
    made: dict[str, Any] = {
        "method": editor.method,
        "problem": question.problem.name,
        "n_layers": n_layers,
        "kinds": trials.kinds,
    }
    if limit <= 0:
        gone = trials.purse.budget.words(before)
        return Advice(**made, left_undone=[f"the budget was spent before its first edit ({gone})"])
    found = halving.search(
        trials,
        n_layers,
        len(editor.settings),
        limit=limit,
        pointed_at=sorted(set(question.peaks.values())),
        say=lambda what: say(f"{editor.method}: {what}"),
    )
    spent = trials.purse.spent - before
    made |= {"n_edits": len(trials.statuses), "spent": trials.purse.budget.words(spent)}
    made["failures"] = advice.failures(trials)
    if found.chosen is None:
        one = trials.purse.spent - before
        editors = len(question.editors)
        return Advice(**made, left_undone=[_too_little(trials, n_layers, start, one, editors)])
    try:
        outcomes.refuse_all_failed(
            trials.statuses, editor.method, "made", "mend the cause, or leave it out", "edits"
        )
    except LoceditError as error:
        return Advice(**made, left_undone=[str(error)])
    names = {
        "model": question.label,
        "dataset": question.dataset,
        "method": editor.method,
        "problem": question.problem.name,
    }
    rows = advice.rows(
        trials, found, names, editor.settings, editor.window, n_layers, question.peaks
    )
    settings = editor.settings[found.chosen.setting]
    left_undone = [*found.left_undone, *_not_followed(question.peaks, rows)]
    return Advice(**made, rows=rows, settings=settings, left_undone=left_undone)


def _not_followed(peaks: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Localizers that point where no edit was made: nothing says what they would cost."""
    tried = {row["layer"] for row in rows}
    missing = {name: layer for name, layer in peaks.items() if layer not in tried}
    if not missing:
        return []
    where = ", ".join(f"{name} at layer {layer}" for name, layer in missing.items())
    return [f"no edit was made where these localizers point: {where}"]


def _too_little(trials: Trials, n_layers: int, start: float, one: float, editors: int) -> str:
    """Why there is no screen, and what it would take, each editor having an equal part.

    start: what went before the first edit; one: what an edit takes.
    """
    purse = trials.purse
    layers = halving.least(n_layers)
    others = (layers - 1) * one  # the first edit was at one of them
    part = (one + others / halving.SCREENING) / halving.SEARCHING
    enough = start + editors * part
    return (
        f"the budget does not allow even the screen: before it {purse.budget.words(start)} went, "
        f"one edit takes {purse.budget.words(one)}, and {layers} layers are the least; give about "
        f"{purse.budget.words(math.ceil(1.2 * enough))}, or more for an answer that is worth it"
    )


# ---- what is made before the first edit ----------------------------------------------------------


class Costs:
    """What each step before the edits has cost, kept in a file, and paid again from there."""

    def __init__(self, file: Path, purse: Purse, clock: Clock = time.perf_counter) -> None:
        self._file, self._purse, self._clock = file, purse, clock
        self._seconds: dict[str, float] = _json(file) if file.is_file() else {}

    @contextmanager
    def paid(self, step: str) -> Iterator[None]:
        """What is done within is paid for: at the price it had when it was first done."""
        start = self._clock()
        yield
        if step not in self._seconds:
            self._seconds[step] = self._clock() - start
            with files.atomic(self._file) as path:
                path.write_text(json.dumps(self._seconds, indent=1))
        self._purse.pay(self._seconds[step])


def check_question(file: Path, asked: Mapping[str, Any]) -> None:
    """Write down what is asked; LoceditError where the folder holds another question's answer.

    What a folder of an older release does not tell is not compared.
    """
    told = json.loads(json.dumps(asked, default=str))
    if not file.is_file():
        with files.atomic(file) as path:
            path.write_text(json.dumps(told, indent=1))
        return
    before = _json(file)
    for key, value in told.items():
        if key in before and before[key] != value:
            raise LoceditError(
                f"{file.parent} holds a search with {key} {shown(before[key])}, and this one "
                f"has {shown(value)}; name another folder with --out, or delete that one"
            )


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoceditError(f"{file} is not whole ({error}); delete its folder") from error
    if not isinstance(found, dict):
        raise LoceditError(f"{file} is not what was written; delete its folder")
    return found


def usable(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[str], str]:
    """Rows of the facts table that have prompts of every kind that is scored, and these kinds.

    A kind that fewer than half of the rows have is not scored. With a sentence on what that leaves
    out, "" if nothing.
    """
    kinds, said = ["rewrite"], []
    for kind, prompts in _PROMPTS.items():
        if 2 * sum(bool(row[prompts]) for row in rows) >= len(rows) > 0:
            kinds.append(kind)
        else:
            said.append(f"most facts have no {prompts}, so the score is without these")
    have = [row for row in rows if all(row[_PROMPTS[kind]] for kind in kinds[1:])]
    if len(have) < len(rows):
        said.append(f"{len(rows) - len(have)} of {len(rows)} facts lack prompts and are left out")
    return have, kinds, "; ".join(said)


def subjects_of(
    lm: LanguageModel,
    problem: Problem,
    facts: Sequence[tuple[Fact, float]],
    how: Measuring,
    min_p_erase: float,
    size: int = BATCH_FACTS,
) -> list[Subject]:
    """Those facts, each with its p(o_true), that can be edited, `size` measured side by side.

    Raises LoceditError where there are fewer than `LEAST_FACTS`.
    """
    measured = unedited(lm, problem, facts, how, min_p_erase, size)
    found = [subject for subject in measured if subject.before["status"] == outcomes.OK]
    if len(found) < LEAST_FACTS:
        raise LoceditError(
            f"{len(found)} facts that the model knows can be edited, and a recommendation takes "
            f"{LEAST_FACTS} at least; give more facts"
        )
    return found


def peaks(
    lm: LanguageModel,
    names: Sequence[str],
    facts: Sequence[Fact],
    inputs: Callable[[str], LocalizerInputs | None],
    settings: Mapping[str, Mapping[str, Any]],
    folder: Path,
    purse: Purse,
    costs: Costs,
    *,
    window: int,
    say: Say = lambda _: None,
) -> tuple[dict[str, int], dict[str, str]]:
    """The layer at which each localizer is largest on average over the facts; why others have none.

    inputs: what a localizer takes, None where it cannot be had. They have `LOCALIZING` of the
    budget, in which those that come first are asked.
    """
    found: dict[str, int] = {}
    silent: dict[str, str] = {}
    start = purse.spent
    for name in names:
        if purse.spent - start > LOCALIZING * purse.budget.amount:
            silent[name] = "not asked: the budget is for edits"
            continue
        say(f"localizing: {name}")
        with costs.paid(f"localizing by {name}"):
            rows = _localized(lm, name, facts, inputs, settings.get(name, {}), folder, window)
        mean = mean_by_layer(rows, lm.n_layers)
        if np.isnan(mean).all():
            silent[name] = next((r["status"] for r in rows if r["status"] != outcomes.OK), "silent")
        else:
            found[name] = int(np.nanargmax(mean))
    return found, silent


def _localized(
    lm: LanguageModel,
    name: str,
    facts: Sequence[Fact],
    inputs: Callable[[str], LocalizerInputs | None],
    settings: Mapping[str, Any],
    folder: Path,
    window: int,
) -> list[dict[str, Any]]:
    file = folder / "localizers" / f"{name}.parquet"
    if file.is_file():
        return tables.records(file, "localizing")
    given, localizer = inputs(name), LOCALIZERS[name]
    if given is None:
        return [{"status": f"{outcomes.NOT_LOCALIZED}it needs key statistics of all layers"}]
    place: Place = localizer.places(["mlp"], [window])[0]
    cell = Looking(localizer=name, place=place, settings=localizer.settings(**settings))
    rows = list(localize_cell(lm, cell, [facts], given))
    tables.write(file, rows, "localizing")
    return tables.records(file, "localizing")


def mean_by_layer(rows: Sequence[Mapping[str, Any]], n_layers: int) -> np.ndarray:
    """A localizer's mean value over facts, [layers]; NaN where no fact has one."""
    values: list[list[float]] = [[] for _ in range(n_layers)]
    for row in rows:
        value = row.get("value")
        if row["status"] == outcomes.OK and value is not None and not math.isnan(value):
            values[row["layer"]].append(value)
    return np.array([np.mean(some) if some else math.nan for some in values])
