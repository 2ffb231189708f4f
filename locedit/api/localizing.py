"""One fact put to several localizers: what each says of it, and what that cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from locedit import outcomes
from locedit.api.inputs import localizer_inputs
from locedit.api.look import Look
from locedit.facts import bundled
from locedit.facts.record import Fact, from_row
from locedit.localizers import LOCALIZERS, Localization, Localizer, Place, SharedInputs, Unavailable
from locedit.store import shipped

STUDY = 32  # bundled facts that stand in for a study


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a localizer says of a fact; where it says nothing, `status` tells why."""

    localizer: str
    place: Place
    answer: Localization | None
    seconds: float
    status: str = outcomes.OK


def localize(
    seen: Look,
    fact: Fact,
    names: Sequence[str],
    *,
    module: str,
    window: int,
    results: Path,
) -> list[Found]:
    """Put a fact to localizers by name, each at the module and window nearest to those wanted.

    Their settings are the configuration's.

    fact: its `target_new` may be "", where there is none. results: the folder of studies, out of
    which key statistics are taken.
    """
    others = _others(fact)
    shared = SharedInputs(study=others[:STUDY], records=others, seed=seen.config.seed)
    return [
        _localize(seen, fact, LOCALIZERS[name], module, window, shared, results) for name in names
    ]


def _localize(
    seen: Look,
    fact: Fact,
    localizer: Localizer,
    module: str,
    window: int,
    shared: SharedInputs,
    results: Path,
) -> Found:
    place = localizer.places([module], [window])[0]
    start = time.perf_counter()

    def found(answer: Localization | None, status: str) -> Found:
        seconds = time.perf_counter() - start
        return Found(
            localizer=localizer.name, place=place, answer=answer, seconds=seconds, status=status
        )

    if localizer.new_target and not fact.target_new:
        return found(None, f"{outcomes.NOT_LOCALIZED}it looks at the object of an edit; give one")
    needed = localizer_inputs(seen, localizer.needs, results)
    if needed is None:
        lacking = f"{results / seen.name} has no key statistics; --results names a study that has"
        return found(None, f"{outcomes.NOT_LOCALIZED}{lacking}")
    if "noise" in localizer.needs:
        needed |= _noise(seen)
    start = time.perf_counter()
    try:
        given = seen.config.localizing.settings.get(localizer.name, {})
        settings, inputs = localizer.settings(**given), replace(shared, **needed)
        (answer,) = localizer.localize(seen.lm, [fact], place, settings, inputs)
    except Exception as error:  # of a plug-in any may come
        return found(None, outcomes.failure(error))
    if isinstance(answer, Unavailable):
        return found(None, f"{outcomes.NOT_LOCALIZED}{answer.reason}")
    return found(answer, outcomes.OK)


def _noise(seen: Look) -> dict[str, Any]:
    settings = seen.config.tracing
    sigma, _ = seen.sigma(None)
    return {"sigma": sigma, "n_noise": settings.n_noise, "noise_seed": settings.noise_seed}


def _others(fact: Fact) -> list[Fact]:
    """Bundled facts of the fact's relation where one has its template, else of all relations."""
    facts = [from_row(row) for row in bundled.build_records(shipped.root() / "data")]
    facts = [other for other in facts if other.prompt != fact.prompt]
    same = [other for other in facts if other.template == fact.template]
    return same or facts
