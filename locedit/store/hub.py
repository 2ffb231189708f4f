"""Models of the Hugging Face hub: one revision, named by its commit, into a folder of the cache.

Weights are safetensors alone, and nothing that comes with them is run. huggingface_hub does the
fetching and checks what it fetched.
"""

import json
import shutil
from pathlib import Path

from locedit.errors import unwritable
from locedit.store.files import atomic_folder, exclusive_lock
from locedit.store.pins import AssetError

FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "LICENSE*",
    "NOTICE*",
)
NOT = ("*/*", "consolidated*")  # other formats, and the same weights a second time


def download(repository: str, revision: str, folder: Path) -> Path:
    """The repository's files at a revision, in `folder`, which appears only when it is complete.

    A folder that is there is left as it is: another run made it. Raises AssetError where the files
    cannot be had, or are no model that can be loaded.
    """
    with exclusive_lock(folder):
        if not (folder / "config.json").is_file():
            with atomic_folder(folder) as temporary:
                _fetch(repository, revision, temporary)
                _check(temporary, f"{repository} at revision {revision}")
    return folder


def _fetch(repository: str, revision: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            repository,
            revision=revision,
            local_dir=folder,
            allow_patterns=list(FILES),
            ignore_patterns=list(NOT),
        )
    except Exception as error:
        if unwritable(error, folder):
            raise
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise AssetError(
            f"{repository} at revision {revision} could not be had from the hub "
            f"({type(error).__name__}: {reason}); fetch its files elsewhere and give their "
            "folder as the model's `path`, in place of `hub` and `revision`."
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's own notes


def _check(folder: Path, what: str) -> None:
    if not (folder / "config.json").is_file():
        raise AssetError(f"{what} has no config.json, so it is no model for transformers.")
    if not any(folder.glob("*.safetensors")):
        raise AssetError(
            f"{what} has no safetensors weights, and no other format is read; choose a revision or "
            "a repository that has them."
        )
    for index in folder.glob("*.safetensors.index.json"):
        shards = _shards(index, what)
        missing = sorted(name for name in shards if not (folder / name).is_file())
        if missing:
            raise AssetError(f"{what}: {index.name} names {missing[0]}, which is not there.")


def _shards(index: Path, what: str) -> set[str]:
    """The files that an index of sharded weights names; each lies beside it."""
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        inside = all(Path(name).name == name for name in shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{what}: {index.name} is no index of weights ({error!r}).") from error
    if not inside:
        raise AssetError(f"{what}: {index.name} names files of other folders, which is refused.")
    return shards
