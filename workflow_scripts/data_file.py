"""Fetch a data set that goes by its name, checked against its pinned checksum, into the cache."""

import shutil
from pathlib import Path

from locedit.errors import LoceditError
from locedit.store import assets
from locedit.store.files import atomic
from locedit.workflow.job import running


def main(snakemake) -> None:
    with running(snakemake):
        params, target = snakemake.params, Path(snakemake.output[0])
        if params.asset is None:
            raise LoceditError(
                f"no checksum of the data set {params.name!r} is pinned, so it is not downloaded; "
                f"fetch {params.url} and give the file's path as `dataset.path`"
            )
        file = assets.resolve(assets.named(params.asset), cache=target.parent)
        if file != target:
            with atomic(target) as temporary:
                shutil.copyfile(file, temporary)


if __name__ == "__main__":
    main(snakemake)
