"""What a search may cost: time, or a number of edits. No heavy imports: Snakemake reads this."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from locedit.errors import LoceditError
from locedit.messages import shown

_TIME = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_EDITS = re.compile(r"(\d+) ?edits?")
_EXPECTED = "such as 20m, 1h30m, 90s, `600 edits`, or none for as much as it takes"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An amount of seconds, or of edits. In edits it means the same on every machine."""

    amount: float
    unit: Literal["seconds", "edits"] = "seconds"

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """20m, 1h30m, 90s, 600 edits, none; LoceditError for anything else, or for nothing."""
        given = text.strip().lower()
        if given == "none":
            return cls(amount=math.inf)
        if edits := _EDITS.fullmatch(given):
            return cls(amount=_positive(text, int(edits[1])), unit="edits")
        if (time := _TIME.fullmatch(given)) and len(given) < 20:
            hours, minutes, seconds = (int(part or 0) for part in time.groups())
            return cls(amount=_positive(text, hours * 3600 + minutes * 60 + seconds))
        raise LoceditError(f"expected a time or a number of edits, {_EXPECTED}; got {shown(text)}")

    def cost(self, seconds: float, edits: int) -> float:
        """What so many seconds, in which so many edits were made, take of it."""
        return seconds if self.unit == "seconds" else float(edits)

    def words(self, amount: float | None = None) -> str:
        """An amount of its unit, its own if none is given."""
        amount = self.amount if amount is None else amount
        if math.isinf(amount):
            return "no limit"
        if self.unit == "edits":
            return f"{amount:.0f} edits"
        if amount < 99.5:
            return f"{amount:.0f} s" if amount >= 9.95 else f"{amount:.1f} s"
        return f"{amount / 60:.0f} min" if amount < 5970 else f"{amount / 3600:.1f} h"


def _positive(text: str, amount: int) -> float:
    if amount < 1:
        raise LoceditError(f"a budget of {shown(text)} buys nothing; expected more, {_EXPECTED}")
    return float(amount)


@dataclass(kw_only=True)
class Purse:
    """A budget, and what was spent of it. told: is given each amount, for a progress bar."""

    budget: Budget
    spent: float = 0.0
    told: Callable[[float], None] = lambda _: None

    def pay(self, seconds: float, edits: int = 0) -> float:
        """Spend; what that was, in the budget's unit."""
        cost = self.budget.cost(seconds, edits)
        self.spent += cost
        self.told(cost)
        return cost

    @property
    def left(self) -> float:
        return self.budget.amount - self.spent
