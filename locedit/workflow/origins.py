"""What the files of a study state of the model and the data that they were made with, compared.

Snakemake makes again what its records say is out of date. Files that came without those records,
copied or kept from another study of the same name, are found here before they are used.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from locedit.stated import AGAIN, check_model, check_stated
from locedit.store import hashing, tables


def of_job(snakemake: Any) -> list[Path]:
    """The inputs of a job that a study made of its model: tables, sigma, key statistics.

    Not so what a variant is made of, which its base made.
    """
    others = {snakemake.input.get(name) for name in ("model", "records", "planting", "delta")}
    paths = [Path(path) for path in snakemake.input if path not in others]
    return [path for path in paths if path.suffix in (".parquet", ".json", ".safetensors")]


def stated(file: Path) -> dict[str, str]:
    """Hashes of the `model` and the `data` behind a file, where it states them.

    A file that cannot be read states nothing: whoever takes values from it says so.
    """
    try:
        if file.suffix == ".parquet":
            found = tables.provenance(file).get("hashes", {})
        elif file.suffix == ".json":
            found = json.loads(file.read_text(encoding="utf-8")).get("hashes", {})
        else:
            with safe_open(file, framework="pt") as tensors:
                made = json.loads((tensors.metadata() or {}).get("made", "{}"))
            found = {name: made[name] for name in ("model",) if name in made}
        return {name: found[name] for name in ("model", "data") if name in found}
    except (OSError, ValueError, AttributeError, TypeError, SafetensorError):
        return {}


def check(files: Iterable[Path], folder: Path) -> None:
    """Raise StatedError where a file was made with another model, or two with other data.

    files: of one study; folder: the model's, with which they are used now.
    """
    model, first = hashing.weights(folder), None
    for file in files:
        said = stated(file)
        check_model(said.get("model"), model, file, folder)
        if "data" not in said:
            continue
        if first is None:
            first = file, said["data"]
        check_stated(
            "the data's hash", said["data"], first[1], where=file, source=first[0], remedy=AGAIN
        )
