"""What the unedited model says of each fact's prompts, for one problem."""

from locedit.facts.record import from_row
from locedit.methods import problems
from locedit.store import tables
from locedit.study.edit import Measuring, baseline
from locedit.workflow.job import (
    batch_by_batch,
    batches_of,
    load_model,
    provenance,
    read_sigma,
    running,
    whole_cell,
)


def main(snakemake) -> None:
    with running(snakemake) as log:
        params = snakemake.params
        study = tables.records(snakemake.input.study, "facts")
        how = Measuring.from_settings(
            params.measuring, sigma=read_sigma(snakemake), seed=params.seed
        )
        problem = problems.named(snakemake.wildcards.problem, params.quirks)
        lm = load_model(snakemake)

        def rows_of(records):
            some = [from_row(record) for record in records]
            p_true = [record["p_true"] for record in records]
            return baseline(lm, problem, some, p_true, how, params.min_p_erase)

        rows = batch_by_batch(log, batches_of(snakemake, lm, study), rows_of)
        rows = whole_cell(snakemake, rows, log, "baseline")
        tables.write(snakemake.output[0], rows, "baseline", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
