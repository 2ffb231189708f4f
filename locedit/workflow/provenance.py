"""What a table names as its origin: hashes of the code, the model and the data behind it."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from locedit.methods import METHODS
from locedit.store import hashing, tables
from locedit.workflow import plugins

ROOT = Path(__file__).resolve().parents[2]  # the checkout: scripts, library, R


def hashes(snakemake: Any) -> dict[str, str]:
    """`code`: of the job's script, and of all that it uses; `model` and `data`: where it has them.

    A job that reads neither weights nor records takes over what the tables say that it reads.
    """
    found: dict[str, str] = {}
    for path in _tables(snakemake):
        found |= tables.provenance(path).get("hashes", {})
        if {"model", "data"} <= found.keys():
            break
    model, records = (snakemake.input.get(name) for name in ("model", "records"))
    if model is not None:
        found["model"] = hashing.weights(Path(model).parent)
    if records is not None:
        found["data"] = hashing.files([Path(records)])
    found.pop("code", None)
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
    if script.parent == ROOT / "workflow_scripts":  # not so where a test calls a script's main
        found["code"] = code(script, snakemake)
    return found


def code(script: Path, snakemake: Any) -> str:
    """A hash of a job's script, of all that it imports, and of what it takes by name."""
    return hashing.digest([hashing.code(script, ROOT), *_by_name(snakemake)])


def _by_name(snakemake: Any) -> Iterator[Any]:
    """Code that no import statement names: R files, plug-ins, the module of an editing method."""
    if sources := snakemake.params.get("sources"):
        yield hashing.files(ROOT / "analysis" / name for name in sources)
    loaded = plugins.load(snakemake.config["plugins"], [Path.cwd(), ROOT])
    if "model" in snakemake.input.keys():
        yield from (plugin.code(ROOT) for plugin in loaded if plugin.architectures)
    if method := snakemake.wildcards.get("method"):
        yield from (plugin.code(ROOT) for plugin in loaded if method in plugin.methods)
        found = find_spec(METHODS[method].module)
        if found is not None and found.origin is not None:
            yield hashing.code(Path(found.origin), ROOT)


def _tables(snakemake: Any) -> list[str]:
    return [str(path) for path in snakemake.input if str(path).endswith(".parquet")]
