"""Zero one module's windows for every fact of the study."""

from functools import partial

from locedit.facts.record import from_row
from locedit.localizers import zeroing
from locedit.store import tables
from locedit.workflow.job import fact_by_fact, load_model, provenance, running, shard_of, whole_cell


def main(snakemake) -> None:
    with running(snakemake) as log:
        records = tables.records(snakemake.input.study, "facts")
        study = shard_of(snakemake).part(records)
        zero_rows = partial(
            zeroing.zero_rows,
            load_model(snakemake),
            module=snakemake.wildcards.kind,
            window=int(snakemake.wildcards.window),
            batch_tokens=snakemake.config["tracing"]["batch_tokens"],
        )
        rows = fact_by_fact(log, study, lambda record: zero_rows(from_row(record)))
        rows = whole_cell(snakemake, rows, log, "zero")
        tables.write(snakemake.output[0], rows, "zeroing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
