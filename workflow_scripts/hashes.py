"""What a table names as its origin: hashes of the code, the model and the data behind it."""

import sys
from pathlib import Path
from typing import Any

from locedit import fingerprints, tables

ROOT = Path(__file__).resolve().parents[1]


def hashes(snakemake: Any) -> dict[str, str]:
    """`code`: the job's script and all that it imports; `model` and `data`: where it has them.

    A job that reads neither weights nor records takes over what the tables say that it reads.
    """
    found: dict[str, str] = {}
    for path in _tables(snakemake):
        found |= tables.provenance(path).get("hashes", {})
        if {"model", "data"} <= found.keys():
            break
    model, records = (snakemake.input.get(name) for name in ("model", "records"))
    if model is not None:
        found["model"] = fingerprints.weights(Path(model).parent)
    if records is not None:
        found["data"] = fingerprints.files([Path(records)])
    found.pop("code", None)
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
    if script.parent == ROOT / "workflow_scripts":  # not so where a test calls a script's main
        found["code"] = fingerprints.code(script, ROOT)
    return found


def _tables(snakemake: Any) -> list[str]:
    return [str(path) for path in snakemake.input if str(path).endswith(".parquet")]
