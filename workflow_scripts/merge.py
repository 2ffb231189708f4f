"""Put the shards of one table together, in the order of the study's facts."""

from locedit.store import tables
from locedit.workflow.job import running


def main(snakemake) -> None:
    with running(snakemake):
        order = list(tables.read(snakemake.input.study, "facts")["case_id"])
        tables.merge(snakemake.output[0], snakemake.input.shards, order)


if __name__ == "__main__":
    main(snakemake)
