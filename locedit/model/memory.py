"""How much of a model's work fits in the machine's memory, and what to do where it does not."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from locedit.errors import ran_out_of_memory
from locedit.model.language_model import LanguageModel
from locedit.shards import BATCH_FACTS, Item

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

SHARE = 8  # one part in so many of what the weights leave goes to the activations of one pass
CPU_TOKENS = 8192  # more fills no cache better, and makes nothing faster

# What an edit of one fact holds: the change, its gradient and Adam's two moments of each layer that
# is fine-tuned; of ROME 21 contexts of some 14 tokens with all layers kept for a backward pass
CHANGES, EDIT_ROWS = 4, 300
FINE_TUNED = 5  # layers, at most: FT-5's
MOST_FACTS = 64  # more are no faster: a card is busy


def free_memory(lm: LanguageModel) -> int:
    """Bytes that the model's weights leave of its device's memory.

    Of all memory, not of what is free just now, so that a machine always cuts its batches in the
    same places; where something else takes of it, `fitting` makes them smaller.
    """
    if lm.device.type == "cuda":
        memory = torch.cuda.get_device_properties(lm.device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(0, memory - lm.weight_bytes)


def token_budget(lm: LanguageModel, *, layers: int = 1) -> int:
    """Token rows of one partial pass that an eighth of the memory beside the weights holds.

    layers: those whose activations are alive together; all that are run where a backward pass
    follows.
    """
    budget = max(1, free_memory(lm) // SHARE // (layers * _row(lm)))
    return budget if lm.device.type == "cuda" else min(CPU_TOKENS, budget)


def _row(lm: LanguageModel) -> int:
    """Bytes of a token in a layer at its widest: three MLP inner vectors and eight hidden ones."""
    return (3 * lm.inner_size + 8 * lm.hidden_size) * lm.dtype.itemsize


def facts_together(lm: LanguageModel, fine_tuned: int = FINE_TUNED) -> int:
    """Facts that are edited side by side where nobody says how many; it changes no result.

    On a card a power of two that it holds beside the weights and a pass; on a CPU BATCH_FACTS.
    fine_tuned: layers each weight of which the edit changes on its own.
    """
    if lm.device.type != "cuda":
        return BATCH_FACTS
    change = CHANGES * fine_tuned * lm.hidden_size * lm.inner_size * lm.trained_dtype.itemsize
    fact = max(change, EDIT_ROWS * lm.n_layers * _row(lm))
    fit = free_memory(lm) * (SHARE - 1) // SHARE // fact
    return min(MOST_FACTS, 1 << max(0, fit.bit_length() - 1))


def moments_together(lm: LanguageModel, itemsize: int) -> int:
    """Layers whose key moments are summed in one pass: those that a card holds beside the weights.

    A machine without a card has to hold all of them in the end: all layers.
    """
    if lm.device.type != "cuda":
        return lm.n_layers
    moment = lm.inner_size**2 * itemsize
    return max(1, min(lm.n_layers, free_memory(lm) * (SHARE - 1) // SHARE // moment))


def fitting(do: Callable[[int], Result], size: int, what: str) -> tuple[Result, int]:
    """What `do(size)` gives, the size halved as often as memory runs out; and the size that it had.

    what: is done so many of together, for the log. Raises what says that memory ran out for one.
    """
    while True:
        try:
            return do(size), size
        except Exception as error:
            if size < 2 or not ran_out_of_memory(error):
                raise
        # behind the block, where the error is gone and with it all that its frames held
        logger.warning(
            "memory ran out with %d %s together; going on with %d", size, what, size // 2
        )
        size //= 2
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def in_batches(
    do: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    what: str,
    size: int | None = None,
) -> list[Result]:
    """One result an item, `size` items at a time (None: all), and fewer once memory runs out."""
    found: list[Result] = []
    size = max(1, len(items) if size is None else size)
    while len(found) < len(items):
        low = len(found)

        def part(n: int, low: int = low) -> Sequence[Result]:
            return do(items[low : low + n])

        some, size = fitting(part, min(size, len(items) - low), what)
        found.extend(some)
    return found
