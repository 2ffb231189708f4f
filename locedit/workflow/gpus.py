"""The machine's GPU cards, one job each: a job holds a lock file for as long as it lives.

Snakemake counts cards (`--resources gpu=4`) but does not say which one a job may use.
"""

import fcntl
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_HELD: list[IO[str]] = []  # open until the process ends, however it ends


def take(asked: int, log: logging.Logger) -> None:
    """Let this process see one card that no other job holds; wait while all are held.

    asked: the job's resource `gpu`. With 0 it sees no card. On a machine without any, nothing
    happens.
    """
    if _HELD:
        return
    cards = pool()
    if cards and asked:
        card = _lock_one(cards, log)
        os.environ["CUDA_VISIBLE_DEVICES"] = card
        log.info("GPU card %s", card)
    elif cards:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pool() -> list[str]:
    """Names of the cards to choose from, as CUDA_VISIBLE_DEVICES takes them.

    $LOCEDIT_CARDS (a card that is named twice serves two jobs at once), else what
    $CUDA_VISIBLE_DEVICES allows, else all that the driver lists.
    """
    for variable in ("LOCEDIT_CARDS", "CUDA_VISIBLE_DEVICES"):
        if variable in os.environ:
            return [card for card in os.environ[variable].replace(" ", "").split(",") if card]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return listing.stdout.split()


def _lock_one(cards: Sequence[str], log: logging.Logger) -> str:
    # under Slurm, cards of the same name in two allocations are different ones
    of = os.environ.get("SLURM_JOB_ID", "here")
    folder = Path(tempfile.gettempdir()) / f"locedit-cards-{os.getuid()}-{of}"
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for index, card in enumerate(cards):
            nth = cards[:index].count(card)
            file = (folder / f"{card.replace('/', '_')}-{nth}").open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _HELD.append(file)
            return card
        if not said:
            log.info("waiting for one of %d GPU cards", len(cards))
            said = True
        time.sleep(1)
