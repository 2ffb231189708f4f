"""Fetch the pinned model file and convert it to safetensors, in the cache."""

from pathlib import Path

from locedit.engine import gguf
from locedit.store import assets
from locedit.workflow.job import running


def main(snakemake) -> None:
    with running(snakemake):
        override, folder = snakemake.params.override, Path(snakemake.output.folder).parent
        gguf.unpack(
            assets.named(snakemake.params.asset),
            Path(override) if override else None,
            folder,
            cache=folder.parent.parent,
        )


if __name__ == "__main__":
    main(snakemake)
