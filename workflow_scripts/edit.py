"""Edit and measure every fact of the study, for one method, problem and layer."""

import logging
from collections.abc import Iterator
from typing import Any

from locedit.facts.record import from_row
from locedit.methods import METHODS
from locedit.store import tables
from locedit.study.edit import OK, Cell, Measuring, Subject, batches, edit_cell
from locedit.workflow.job import (
    load_model,
    load_plugins,
    progress,
    provenance,
    read_sigma,
    running,
    shard_of,
)
from locedit.workflow.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        study = tables.read(snakemake.input.study, "facts").to_dict("records")
        baseline = tables.read(snakemake.input.baseline, "baseline").set_index("case_id")
        essence = tables.read(snakemake.input.essence, "essence").set_index("case_id")
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
                before=baseline.loc[row["case_id"]],
                texts=list(essence.loc[row["case_id"], "texts"]),
                perplexity=list(essence.loc[row["case_id"], "perplexity"]),
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
            rows = list(logged(edit_cell(lm, cell, together, shared, how, progress=advance), log))
        position = {row["case_id"]: index for index, row in enumerate(study)}
        rows.sort(key=lambda row: position[row["case_id"]])
        tables.write(snakemake.output[0], rows, "editing", provenance(snakemake))


def logged(rows: Iterator[dict[str, Any]], log: logging.Logger) -> Iterator[dict[str, Any]]:
    """The rows, a failed one also as a line of the log."""
    for row in rows:
        if row["status"] != OK:
            log.warning("fact %s: %s", row["case_id"], row["status"])
        yield row


if __name__ == "__main__":
    main(snakemake)
