"""How a result was made, from what its rule names: a fingerprint, and what tells its code apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locedit.store import hashing, tables

ROOT = Path(__file__).resolve().parents[2]  # the checkout: scripts, library, R

SHARD = "scatteritem"  # Snakemake's wildcard of one job out of several: "2-of-3"
_NAMED = ("code", "data")


def fingerprint(snakemake: Any) -> str:
    """A hash of a job's rule, wildcards and params, and of its inputs, by theirs in turn.

    A shard of a table has the whole table's. A file that is no table counts by its content; the
    model by its identity, which is a param.
    """
    params = dict(snakemake.params.items())
    return hashing.digest([snakemake.rule, wildcards(snakemake), params, [*_inputs(snakemake)]])


def wildcards(snakemake: Any) -> dict[str, str]:
    """A job's wildcards but for its shard: a merged table tells what its shards tell."""
    return {k: v for k, v in snakemake.wildcards.items() if k != SHARD}


def _inputs(snakemake: Any) -> Iterator[str]:
    model = snakemake.input.get("model")
    for path in snakemake.input:
        if path != model:
            made = tables.provenance(path) if str(path).endswith(".parquet") else {}
            yield made.get("fingerprint") or hashing.sampled(Path(path))


def hashes(snakemake: Any) -> dict[str, str]:
    """`code`: of the job's script, and of all that it uses; `model` and `data`: where it has them.

    A job that reads neither weights nor records takes over what the tables say that it reads; but
    the corpus is no data set.
    """
    found: dict[str, str] = {}
    corpus = snakemake.input.get("corpus")
    for path in snakemake.input:
        if path == corpus:
            continue
        if str(path).endswith(".parquet") and not {"model", "data"} <= found.keys():
            found |= tables.provenance(path).get("hashes", {})
    found.pop("code", None)
    if (model := snakemake.input.get("model")) is not None:
        found["model"] = hashing.weights(Path(model).parent)
    given = {name: snakemake.params.get(name) for name in _NAMED}
    return found | {name: hashing.digest(value) for name, value in given.items() if value}
