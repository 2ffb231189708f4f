"""What the unedited model says of each fact's prompts, for one problem."""

from locedit import editing, facts, problems, tables
from workflow_scripts.job import load_model, progress, provenance, read_sigma, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.read(snakemake.input.study, "facts")
        how = editing.Measuring.from_settings(
            snakemake.params.measuring, sigma=read_sigma(snakemake), seed=snakemake.params.seed
        )
        problem = problems.named(snakemake.wildcards.problem, snakemake.params.quirks)
        lm = load_model(snakemake)
        rows = []
        with progress(log, len(study), "facts") as advance:
            for record in study.to_dict("records"):
                fact = facts.from_row(record)
                rows.append(
                    editing.baseline(
                        lm, problem, fact, how, snakemake.params.min_p_erase, record["p_true"]
                    )
                )
                advance(1)
        tables.write(snakemake.output[0], rows, "baseline", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
