"""What the unedited model says of each fact's prompts, for one problem."""

from locedit import editing, facts, problems, tables
from workflow_scripts.job import fact_by_fact, load_model, provenance, read_sigma, running, shard_of


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.read(snakemake.input.study, "facts").to_dict("records")
        study = shard_of(snakemake).part(study)
        params = snakemake.params
        how = editing.Measuring.from_settings(
            params.measuring, sigma=read_sigma(snakemake), seed=params.seed
        )
        problem = problems.named(snakemake.wildcards.problem, params.quirks)
        lm = load_model(snakemake)

        def rows_of(record):
            fact, p_true = facts.from_row(record), record["p_true"]
            return [editing.baseline(lm, problem, fact, how, params.min_p_erase, p_true)]

        rows = fact_by_fact(log, study, rows_of)
        tables.write(snakemake.output[0], rows, "baseline", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
