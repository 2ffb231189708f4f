"""Facts edited together, by any method: one update that all of them share.

A method that can edits them in one update. Of any other the facts are edited one after another in
their order, each on the model as those before it left it. A fact that fails costs no other its
edit: its group is edited without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from locedit import outcomes
from locedit.engine.updates import Updates, joined, total_norms, writing
from locedit.errors import LoceditError
from locedit.methods.base import Edit, Method, SharedInputs
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.model.memory import fitting
from locedit.windows import EMBEDDING

WITHOUT = "; its group was edited without it"

# An edit, or why there is none: of a fact on its own, of several in one update
Alone = Callable[[Request], Edit | str]
Jointly = Callable[[Sequence[Request]], Edit | str]


@dataclass(frozen=True, kw_only=True)
class Together:
    """What became of a group's facts. updates: of one fact, which all share; none where no fact is
    edited. edits: of each fact, the edit that it is part of and its place there, or its status.
    """

    updates: Updates
    edits: list[tuple[Edit, int] | str]


def edit(
    lm: LanguageModel,
    method: Method,
    requests: Sequence[Request],
    layer: int,
    hyper: Any,
    shared: SharedInputs,
    *,
    side_by_side: int,
    told: Callable[[Request, str], None] = lambda _request, _status: None,
) -> Together:
    """One update of the facts requested, in their order.

    side_by_side: those run in one pass. told: of each fact's status, once that is known.
    """

    unfit = method.unfit(layer)
    if unfit is not None:
        status = outcomes.NOT_EDITED + unfit
        for request in requests:
            told(request, status)
        return Together(updates={}, edits=[status for _ in requests])

    def alone(request: Request) -> Edit | str:
        return _tried(lambda: method.edit(lm, [request], layer, hyper, shared))

    def jointly(some: Sequence[Request]) -> Edit | str:
        def made(size: int) -> Edit:
            return method.edit(lm, some, layer, hyper, replace(shared, jointly=size))

        return _tried(lambda: fitting(made, side_by_side, "facts")[0])

    if not method.jointly or layer == EMBEDDING:
        return _in_turn(lm, requests, alone, told)
    made = _at_once(requests, jointly, alone) if requests else Together(updates={}, edits=[])
    for request, found in zip(requests, made.edits, strict=True):
        told(request, _status(found))
    return made


def _status(found: tuple[Edit, int] | str) -> str:
    return found if isinstance(found, str) else outcomes.OK


def _in_turn(
    lm: LanguageModel,
    requests: Sequence[Request],
    alone: Alone,
    told: Callable[[Request, str], None],
) -> Together:
    made: list[Updates] = []
    edits: list[tuple[Edit, int] | str] = []
    with writing(lm) as write:
        for request in requests:
            found = alone(request)
            if isinstance(found, Edit) and 0 not in found.not_edited:
                made.append(found.updates)
                write(found.updates)
            edits.append(_told(found, 0))
            told(request, _status(edits[-1]))
    return Together(updates=joined(made), edits=edits)


def _at_once(requests: Sequence[Request], jointly: Jointly, alone: Alone) -> Together:
    """Where the update fails, facts that fail alone too are left out of it."""
    found = jointly(requests)
    if isinstance(found, Edit):
        edits = [_told(found, i) for i in range(len(requests))]
        return Together(updates=found.updates, edits=edits)
    tries = [alone(request) for request in requests]
    bad = {i: one for i, one in enumerate(tries) if isinstance(one, str)}
    good = [request for i, request in enumerate(requests) if i not in bad]
    if not bad or not good:  # then no group is left to be edited without them
        return Together(updates={}, edits=[bad.get(i, found) for i in range(len(requests))])
    rest = _at_once(good, jointly, alone)
    others = iter(rest.edits)
    edits = [_told(bad[i], 0) if i in bad else next(others) for i in range(len(requests))]
    return Together(updates=rest.updates, edits=edits)


def _tried(make: Callable[[], Edit]) -> Edit | str:
    """The edit, or the status of facts that it fails for."""
    try:
        found = make()
        norms = [] if 0 in found.not_edited else total_norms(found.updates)
        if not all(torch.tensor(norms).isfinite()):
            raise LoceditError("the edit is not finite")
    except Exception as error:  # of a plug-in any may come
        return outcomes.failure(error)
    return found


def _told(found: Edit | str, fact: int) -> tuple[Edit, int] | str:
    if isinstance(found, str):
        return found + WITHOUT
    if fact in found.not_edited:
        return f"{outcomes.NOT_EDITED}{found.not_edited[fact]}{WITHOUT}"
    return found, fact
