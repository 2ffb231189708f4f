"""What the environment says of the machine: where models run. No result depends on it.

No heavy imports: Snakemake reads this each time it starts.
"""

import os

from locedit.errors import LoceditError
from locedit.messages import nearest, shown

DEVICE = "LOCEDIT_DEVICE"
DEVICES = ("auto", "cpu", "cuda")


def device() -> str:
    """$LOCEDIT_DEVICE: `auto` (CUDA where there is one), `cpu` or `cuda`; unset, `auto`.

    Raises LoceditError for another word.
    """
    given = os.environ.get(DEVICE) or "auto"
    if given not in DEVICES:
        near = nearest(given, DEVICES)
        raise LoceditError(
            f"{DEVICE}: unknown value {shown(given)}{near} (known: {', '.join(DEVICES)})"
        )
    return given
