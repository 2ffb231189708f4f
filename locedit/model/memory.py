"""How much of a model's work fits in the machine's memory."""

import os

import torch

from locedit.model.language_model import LanguageModel

SHARE = 8  # one part in so many of all memory goes to the activations of one pass
CPU_TOKENS = 8192  # more fills no cache better, and makes nothing faster


def token_budget(lm: LanguageModel, *, layers: int = 1) -> int:
    """Token rows of one partial pass that an eighth of the device's memory holds.

    layers: those whose activations are alive together; all that are run where a backward pass
    follows.

    A row is counted as three MLP inner vectors and eight hidden ones, what a layer has alive at
    its widest. All memory is counted, not what is free just now, so that a machine always cuts its
    batches in the same places.
    """
    row = layers * (3 * lm.inner_size + 8 * lm.hidden_size) * lm.dtype.itemsize
    if lm.device.type == "cuda":
        memory = torch.cuda.get_device_properties(lm.device).total_memory
        return max(1, memory // SHARE // row)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(CPU_TOKENS, memory // SHARE // row))
