"""Edits of a search for a layer: made once, kept in small Parquet files, paid for out of a purse.

An interrupted search does the same again and finds what it had made, at the price that it was made
for. So it decides again as it did, and goes on where it ended.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from locedit import outcomes
from locedit.shards import batches
from locedit.store import tables
from locedit.study.budget import Purse
from locedit.study.edit import Subject
from locedit.study.scores import KINDS, score_row

logger = logging.getLogger(__name__)

Pool = Literal["search", "held_out"]
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True, order=True)
class Arm:
    """What can be chosen: a setting, by its place among those that are tried, and an edit layer."""

    setting: int
    layer: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One fact edited at one arm. scores: of each kind, and `overall`, their mean; cost: seconds.

    A failed edit scores 0.
    """

    scores: Mapping[str, float]
    seconds: float
    status: str


EditFacts = Callable[[Arm, Sequence[Subject]], list[dict[str, Any]]]


class Trials:
    """One editor's edits. pools: the facts to search by, and those that are held out, in order.

    edit: rows of the editing table, one a fact. kinds: of scores that every fact has. aggregate:
    of a fact's several prompts.
    """

    def __init__(
        self,
        folder: Path,
        purse: Purse,
        edit: EditFacts,
        pools: Mapping[Pool, Sequence[Subject]],
        *,
        kinds: Sequence[str] = KINDS,
        aggregate: str = "mean",
        batch: int = 8,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.purse, self.pools = purse, pools
        self._folder, self._edit, self._clock, self._batch = folder, edit, clock, batch
        self._aggregate = aggregate
        self.kinds = ("overall", *kinds)
        self._kept = dict(self._read())
        self._paid: dict[tuple[Pool, Arm, str], Trial] = {}

    def run(self, arm: Arm, pool: Pool, upto: int) -> None:
        """Have the first `upto` facts of a pool edited at an arm, and pay for the new ones."""
        facts = [
            s for s in self.pools[pool][:upto] if (pool, arm, s.fact.case_id) not in self._paid
        ]
        for batch in batches(facts, self._batch):
            keys = [(pool, arm, subject.fact.case_id) for subject in batch]
            missing = [s for s, key in zip(batch, keys, strict=True) if key not in self._kept]
            if missing:
                self._make(arm, pool, missing)
            self._paid |= {key: self._kept[key] for key in keys}
            self.purse.pay(sum(self._kept[key].seconds for key in keys), len(keys))

    def _make(self, arm: Arm, pool: Pool, subjects: Sequence[Subject]) -> None:
        start = self._clock()
        edited = self._edit(arm, subjects)
        seconds = (self._clock() - start) / len(subjects)
        place = {"pool": pool, "setting": arm.setting, "seconds": seconds}
        rows = [{**row, **place, "layer": arm.layer} for row in edited]
        first = subjects[0].fact.case_id
        number = 1 + [s.fact.case_id for s in self.pools[pool]].index(first)
        name = f"{pool}-setting-{arm.setting}-layer-{arm.layer}-from-{number}.parquet"
        tables.write(self._folder / name, rows, "trials")
        self._kept |= {self._key(row): self._trial(row) for row in rows}

    def _read(self) -> Iterator[tuple[tuple[Pool, Arm, str], Trial]]:
        for path in sorted(self._folder.glob("*.parquet")):
            for row in tables.records(path, "trials"):
                yield self._key(row), self._trial(row)

    @staticmethod
    def _key(row: Mapping[str, Any]) -> tuple[Pool, Arm, str]:
        return row["pool"], Arm(setting=row["setting"], layer=row["layer"]), row["case_id"]

    def _trial(self, row: Mapping[str, Any]) -> Trial:
        if row["status"] != outcomes.OK:
            scores = dict.fromkeys(self.kinds, 0.0)
            return Trial(scores=scores, seconds=row["seconds"], status=row["status"])
        scored = score_row(row, self._aggregate)
        scores = {kind: scored[kind] for kind in self.kinds[1:]}
        overall = sum(scores.values()) / len(scores)
        return Trial(
            scores={"overall": overall, **scores}, seconds=row["seconds"], status=row["status"]
        )

    # ---- what they say ---------------------------------------------------------------------------

    @property
    def statuses(self) -> list[str]:
        """Of all edits that were paid for."""
        return [trial.status for trial in self._paid.values()]

    def expected(self, arms: Sequence[Arm], pool: Pool, upto: int) -> float:
        """What `run` of these arms would cost, by what edits have cost so far.

        NaN before the first.
        """
        total = 0.0
        for arm in arms:
            new = max(0, min(upto, len(self.pools[pool])) - self.count(arm, pool))
            total += self.purse.budget.cost(new * self._seconds(arm.layer), new) if new else 0.0
        return total

    def _seconds(self, layer: int) -> float:
        """Of an edit at a layer; where there was none yet, of any."""
        own = [trial.seconds for (_, arm, _), trial in self._paid.items() if arm.layer == layer]
        all_of_them = own or [trial.seconds for trial in self._paid.values()]
        return sum(all_of_them) / len(all_of_them) if all_of_them else math.nan

    def count(self, arm: Arm, pool: Pool) -> int:
        """How many of a pool's facts were edited at an arm, from the first on."""
        ids = (subject.fact.case_id for subject in self.pools[pool])
        return next(
            (i for i, case_id in enumerate(ids) if (pool, arm, case_id) not in self._paid),
            len(self.pools[pool]),
        )

    def of(self, arm: Arm, pool: Pool, upto: int) -> list[Trial]:
        """The trials of a pool's first facts at an arm; those that there are."""
        ids = [subject.fact.case_id for subject in self.pools[pool][:upto]]
        found = (self._paid.get((pool, arm, case_id)) for case_id in ids)
        return [trial for trial in found if trial is not None]

    def scores(self, arm: Arm, pool: Pool, upto: int, kind: str = "overall") -> list[float]:
        """Their scores of one kind."""
        return [trial.scores[kind] for trial in self.of(arm, pool, upto)]

    def arms(self) -> list[Arm]:
        """All that were tried while searching."""
        return sorted({arm for pool, arm, _ in self._paid if pool == "search"})
