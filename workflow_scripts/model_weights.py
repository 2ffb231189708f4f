"""Convert a model file, the pinned one or the user's own, to safetensors, in the cache."""

from pathlib import Path

from locedit.engine import gguf
from locedit.store import assets
from locedit.workflow.job import check_fetched, running


def main(snakemake) -> None:
    with running(snakemake):
        folder = Path(snakemake.output.folder).parent
        if snakemake.params.asset is None:
            gguf.unpack_file(Path(snakemake.params.gguf), folder)
        else:
            asset = assets.named(snakemake.params.asset)
            gguf.unpack(asset, folder, cache=folder.parent.parent)
        check_fetched(snakemake, folder)


if __name__ == "__main__":
    main(snakemake)
