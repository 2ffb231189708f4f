"""Fetch a model's pinned revision from the hub, into the cache."""

from pathlib import Path

from locedit.store import hub
from locedit.workflow.job import check_fetched, running


def main(snakemake) -> None:
    with running(snakemake):
        folder = Path(snakemake.output.folder).parent
        hub.download(snakemake.params.hub, snakemake.params.revision, folder)
        check_fetched(snakemake, folder)


if __name__ == "__main__":
    main(snakemake)
