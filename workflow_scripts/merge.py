"""Put the shards of one table together, in the order of the study's facts."""

from locedit.store import tables
from locedit.workflow.job import refuse_failed_cell, running


def main(snakemake) -> None:
    with running(snakemake):
        stage, shards = snakemake.rule.removeprefix("merge_"), list(snakemake.input.shards)
        parts = [tables.read(shard, None, flat=True) for shard in shards]
        if stage != "essence":  # which has no status
            statuses = [status for part in parts for status in part["status"]]
            advice = f"mend the cause, delete {', '.join(shards)}"
            refuse_failed_cell(snakemake, statuses, stage, advice, "the shards' logs")
        study = tables.read(snakemake.input.study, "facts")["case_id"]
        order = list(study)[: snakemake.params.get("facts")]
        tables.merge(snakemake.output[0], snakemake.input.shards, order)


if __name__ == "__main__":
    main(snakemake)
