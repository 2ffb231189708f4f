"""What the environment says of the machine: where models run. No result depends on it.

No heavy imports: Snakemake reads this each time it starts.
"""

import os

from locedit.errors import LoceditError
from locedit.messages import shown

DEVICE = "LOCEDIT_DEVICE"
DEVICES = ("auto", "cpu", "cuda")


def device() -> str:
    """$LOCEDIT_DEVICE: `auto` (CUDA where there is one), `cpu` or `cuda`; unset, `auto`.

    Raises LoceditError for another word.
    """
    given = os.environ.get(DEVICE) or "auto"
    if given not in DEVICES:
        raise LoceditError(f"{DEVICE}: {unknown_device(given)}")
    return given


def unknown_device(given: str) -> str:
    """Words for a device that is none of ours; without the nearest, or "gpu" would be "cpu"."""
    return f"unknown value {shown(given)} (known: {', '.join(DEVICES)})"
