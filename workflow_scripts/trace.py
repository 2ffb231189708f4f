"""Trace every fact of the study for one module and window."""

from functools import partial

from locedit.facts.record import from_row
from locedit.localizers import restoration
from locedit.store import tables
from locedit.workflow.job import (
    batch_tokens,
    fact_by_fact,
    load_model,
    provenance,
    read_sigma,
    running,
    shard_of,
    whole_cell,
)


def main(snakemake) -> None:
    with running(snakemake) as log:
        records = tables.records(snakemake.input.study, "facts")
        study = shard_of(snakemake).part(records)
        settings, sigma = snakemake.params.settings, read_sigma(snakemake)
        trace_rows = partial(
            restoration.trace_rows,
            load_model(snakemake),
            module=snakemake.wildcards.kind,
            window=int(snakemake.wildcards.window),
            sigma=sigma,
            n_noise=settings["tracing.n_noise"],
            seed=settings["tracing.noise_seed"],
            batch_tokens=batch_tokens(snakemake),
        )
        rows = fact_by_fact(log, study, lambda record: trace_rows(from_row(record)))
        rows = whole_cell(snakemake, rows, log, "trace")
        tables.write(snakemake.output[0], rows, "tracing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
