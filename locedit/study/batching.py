"""Facts that are done together, of which one bad one must not cost the others theirs."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from locedit import outcomes
from locedit.model.memory import in_batches
from locedit.shards import Item

logger = logging.getLogger(__name__)


def together_or_alone(
    do: Callable[[Sequence[Item]], list[dict[str, Any]]], items: Sequence[Item]
) -> list[dict[str, Any]]:
    """Rows of items that are done together; where that fails, one by one: only a bad one is lost.

    Its row then tells why. Where memory runs out, half as many are done together.
    """
    if not items:
        return []
    try:
        return in_batches(do, items, "facts")
    except Exception as error:  # of a plug-in any may come
        if outcomes.ends_the_job(error):
            raise
        if len(items) == 1:
            return [{"status": outcomes.failure(error)}]
        logger.info("%d facts together, now one by one: %s", len(items), outcomes.in_words(error))
    return [row for item in items for row in together_or_alone(do, [item])]
