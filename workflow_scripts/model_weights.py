"""Fetch the pinned model file and convert it to safetensors, in the cache."""

from pathlib import Path

from locedit import assets
from workflow_scripts.job import running


def main(snakemake) -> None:
    with running(snakemake):
        asset, folder = assets.named(snakemake.params.asset), Path(snakemake.output.folder).parent
        override = Path(snakemake.params.override) if snakemake.params.override else None
        cache = folder.parent.parent
        gguf = assets.resolve(asset, override, cache=cache)
        assets.convert_gguf(gguf, folder, assets.terms(asset, override, cache=cache))


if __name__ == "__main__":
    main(snakemake)
