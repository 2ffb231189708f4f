"""Edit and measure every fact of the study, for one method, problem and layer."""

from typing import Any

from locedit.facts.record import from_row
from locedit.methods import METHODS
from locedit.stated import check_facts
from locedit.store import tables
from locedit.study.edit import Cell, Measuring, Subject, batches, edit_cell
from locedit.workflow.job import (
    load_model,
    load_plugins,
    progress,
    provenance,
    read_sigma,
    running,
    shard_of,
    whole_cell,
)
from locedit.workflow.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        study = tables.records(snakemake.input.study, "facts")
        baseline = by_fact(snakemake.input.baseline, "baseline")
        essence = by_fact(snakemake.input.essence, "essence")
        for table, name in ((baseline, "baseline"), (essence, "essence")):
            file = getattr(snakemake.input, name)
            check_facts([row["case_id"] for row in study], table, file, snakemake.input.study)
        method, problem = snakemake.wildcards.method, snakemake.wildcards.problem
        how = Measuring.from_settings(
            snakemake.params.measuring, sigma=read_sigma(snakemake), seed=snakemake.params.seed
        )
        cell = Cell(
            method=method,
            problem=problem,
            layer=int(snakemake.wildcards.layer),
            hyper=METHODS[method].settings(**snakemake.params.hyperparameters),
            quirks=snakemake.params.quirks,
        )
        log.info("%s", cell)
        subjects = [
            Subject(
                fact=from_row(row),
                before=baseline[row["case_id"]],
                texts=essence[row["case_id"]]["texts"],
                perplexity=essence[row["case_id"]]["perplexity"],
            )
            for row in study
        ]
        lm = load_model(snakemake)
        shared = shared_inputs(snakemake, lm, method, how)
        # whole batches of all facts, so that no number depends on the shards
        together = shard_of(snakemake).part(
            batches(lm, subjects, snakemake.config["editing"]["batch_facts"])
        )
        with progress(log, sum(map(len, together)), "facts") as advance:
            edited = edit_cell(lm, cell, together, shared, how, progress=advance)
            rows = list(whole_cell(snakemake, edited, log, "edit"))
        position = {row["case_id"]: index for index, row in enumerate(study)}
        rows.sort(key=lambda row: position[row["case_id"]])
        tables.write(snakemake.output[0], rows, "editing", provenance(snakemake))


def by_fact(path: str, schema: str) -> dict[str, dict[str, Any]]:
    """The rows of a table that has one a fact."""
    return {row["case_id"]: row for row in tables.records(path, schema)}


if __name__ == "__main__":
    main(snakemake)
