"""Edit and measure every fact of the study, for one method, problem and layer."""

from locedit import editing, facts, tables
from locedit.methods import METHODS
from workflow_scripts.job import load_model, progress, provenance, read_sigma, running
from workflow_scripts.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.read(snakemake.input.study, "facts").to_dict("records")
        baseline = tables.read(snakemake.input.baseline, "baseline").set_index("case_id")
        essence = tables.read(snakemake.input.essence, "essence").set_index("case_id")
        method, problem = snakemake.wildcards.method, snakemake.wildcards.problem
        how = editing.Measuring.from_settings(
            snakemake.params.measuring, sigma=read_sigma(snakemake), seed=snakemake.params.seed
        )
        cell = editing.Cell(
            method=method,
            problem=problem,
            layer=int(snakemake.wildcards.layer),
            hyper=METHODS[method].hyperparameters(
                problem, snakemake.params.preset, *snakemake.params.overlays
            ),
        )
        log.info("%s", cell)
        subjects = [
            editing.Subject(
                fact=facts.from_row(row),
                before=baseline.loc[row["case_id"]],
                texts=list(essence.loc[row["case_id"], "texts"]),
                perplexity=list(essence.loc[row["case_id"], "perplexity"]),
            )
            for row in study
        ]
        lm = load_model(snakemake)
        shared = shared_inputs(snakemake, lm, method, how)
        with progress(log, len(subjects), "facts") as advance:
            rows = list(
                editing.edit_cell(
                    lm,
                    cell,
                    subjects,
                    shared,
                    how,
                    batch=snakemake.config["editing"]["batch_facts"],
                    progress=advance,
                )
            )
        for row in rows:
            if row["status"] != editing.OK:
                log.warning("fact %s: %s", row["case_id"], row["status"])
        tables.write(snakemake.output[0], rows, "editing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
