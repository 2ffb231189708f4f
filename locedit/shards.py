"""Shards: one stage's facts dealt out to several jobs, whose tables together are the whole one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

BATCH_FACTS = 8  # facts side by side, where nobody says how many; it bounds memory, not the result


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The `index`-th of `count` jobs, counted from 1; the only one where nothing is sharded.

    Whatever is computed together (a batch of facts) has to be dealt out as one item: then no number
    depends on how many shards there are.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"there is no shard {self.index} of {self.count}")

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """This job's items: every `count`-th, since neighbours tend to cost the same."""
        return items[self.index - 1 :: self.count]


WHOLE = Shard()


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items as they are computed together, `size` at a time, in their order."""
    return [items[low : low + size] for low in range(0, len(items), size)]
