"""What a localizer's function gives back, held to what tables are made of."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from locedit.errors import LoceditError
from locedit.localizers.base import Localization, Unavailable
from locedit.messages import shown

HALVES = ("value_half1", "value_half2")
OWN = ("value", *HALVES)  # columns of `values` and `halves`, whose names no other measure may take


def check(answers: Any, localizer: str, facts: int, layers: int) -> None:
    """Raise LoceditError, naming the localizer, for what is no answer for each of so many facts."""
    if not isinstance(answers, Sequence) or isinstance(answers, str):
        raise LoceditError(
            f"the localizer {localizer} gives {shown(answers)}; expected a list of a Localization "
            "or Unavailable for each fact"
        )
    if len(answers) != facts:
        raise LoceditError(
            f"the localizer {localizer} gives {len(answers)} answers for {facts} facts; "
            "it has to give one a fact"
        )
    for answer in answers:
        fault = _fault(answer, layers)
        if fault is not None:
            raise LoceditError(f"the localizer {localizer} gives {fault}")


def _fault(answer: Any, layers: int) -> str | None:
    if isinstance(answer, Unavailable):
        return None
    if not isinstance(answer, Localization):
        return f"{shown(answer)} for a fact; expected a Localization or Unavailable"
    each = f"expected one number for each of the {layers} layers"
    taken = sorted(set(answer.further) & set(OWN))
    if taken:
        return f"a further measure named {taken[0]!r}, which is a column's already; rename it"
    for name, values in {"value": answer.values, **answer.further}.items():
        fault = _shapes_fault(values, name, (layers,), each)
        if fault is not None:
            return fault
    if answer.halves is not None:
        wanted = f"expected two rows, each of one number for each of the {layers} layers"
        fault = _shapes_fault(answer.halves, "halves", (2, layers), wanted)
        if fault is not None:
            return fault
    passes = answer.passes
    if not isinstance(passes, Real) or not 0 <= passes < math.inf:
        return f"passes {shown(passes)}; expected how many forward passes it took, a number"
    return None


def _shapes_fault(values: Any, name: str, shape: tuple[int, ...], expected: str) -> str | None:
    try:
        given = np.asarray(values, dtype=float).shape
    except (TypeError, ValueError, RuntimeError):  # texts, rows of unlike lengths, a card's tensor
        return f"{name} {shown(values)}, which is no array of numbers; {expected}"
    return None if given == shape else f"{name} of shape {list(given)}; {expected}"
