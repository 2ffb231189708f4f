"""Edit the study's facts by one method for one problem: at one layer, or each at its own peak.

Each fact has an edit of its own, or groups of facts share one.
"""

from functools import partial
from typing import Any

from locedit.facts.record import from_row
from locedit.methods import METHODS
from locedit.stated import check_facts
from locedit.store import tables
from locedit.study import peaks
from locedit.study.edit import Cell, Measuring, Subject, batches, edit_cell, groups
from locedit.study.held_out import HeldOut
from locedit.workflow.job import (
    batch_facts,
    load_model,
    load_plugins,
    progress,
    provenance,
    read_sigma,
    running,
    shard_of,
    whole_cell,
)
from locedit.workflow.pairs import PEAK, number, placed
from locedit.workflow.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        study = tables.records(snakemake.input.study, "facts")[: snakemake.params.facts]
        subjects = subjects_of(snakemake, study)
        how = Measuring.from_settings(
            snakemake.params.measuring,
            sigma=read_sigma(snakemake),
            seed=snakemake.params.seed,
            held_out=held_out(snakemake),
        )
        method = snakemake.wildcards.method
        at, n = placed(snakemake.wildcards.layer)
        hyper = METHODS[method].settings(**snakemake.params.hyperparameters)
        cell = partial(
            Cell,
            method=method,
            problem=snakemake.wildcards.problem,
            hyper=hyper,
            quirks=snakemake.params.quirks,
            together=n,
        )
        log.info("layer %s, %s", at, cell.keywords)
        lm = load_model(snakemake)
        shared = shared_inputs(snakemake, lm, method, how)
        # whole batches of all facts at a layer, so that no number depends on the shards
        size = batch_facts(snakemake, lm, fine_tuned=METHODS[method].fine_tuned(hyper))
        together = [
            (layer, batch)
            for layer, some in by_layer(snakemake, at, subjects)
            for batch in (batches(lm, some, size) if n == 1 else groups(some, n))
        ]
        mine = shard_of(snakemake).part(together)
        with progress(log, sum(len(batch) for _, batch in mine), "facts") as advance:
            edited = (
                row
                for layer, batch in mine
                for row in edit_cell(
                    *(lm, cell(layer=layer), [batch], shared, how),
                    side_by_side=size,
                    progress=advance,
                )
            )
            rows = list(whole_cell(snakemake, edited, log, "edit"))
        position = {row["case_id"]: index for index, row in enumerate(study)}
        rows.sort(key=lambda row: position[row["case_id"]])
        tables.write(snakemake.output[0], rows, "editing", provenance(snakemake))


def subjects_of(snakemake, study: list[dict[str, Any]]) -> list[Subject]:
    """The study's facts with what was measured of each before any edit."""
    baseline = by_fact(snakemake.input.baseline, "baseline")
    essence = by_fact(snakemake.input.essence, "essence")
    for table, name in ((baseline, "baseline"), (essence, "essence")):
        file = getattr(snakemake.input, name)
        check_facts([row["case_id"] for row in study], table, file, snakemake.input.study)
    return [
        Subject(
            fact=from_row(row),
            before=baseline[row["case_id"]],
            texts=essence[row["case_id"]]["texts"],
            perplexity=essence[row["case_id"]]["perplexity"],
        )
        for row in study
    ]


def held_out(snakemake) -> HeldOut | None:
    """The paragraphs whose perplexity is taken under each edit, if the study asks for it."""
    path = snakemake.input.get("held_out")
    if path is None:
        return None
    rows = tables.records(path, "held_out")
    return HeldOut([row["tokens"] for row in rows], [row["perplexity"] for row in rows])


def by_layer(
    snakemake, layer: str, subjects: list[Subject]
) -> list[tuple[int | None, list[Subject]]]:
    """The subjects by the layer at which they are edited: the job's, or each one's own."""
    if layer != PEAK:
        return [(number(layer), subjects)]
    peaked = tables.records(snakemake.input.peaks, "peaks")
    return peaks.grouped(subjects, {row["case_id"]: row["layer"] for row in peaked})


def by_fact(path: str, schema: str) -> dict[str, dict[str, Any]]:
    """The rows of a table that has one a fact."""
    return {row["case_id"]: row for row in tables.records(path, schema)}


if __name__ == "__main__":
    main(snakemake)
