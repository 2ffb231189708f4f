"""Localize every fact of the study, by one localizer that looks at one module and window."""

from locedit.facts.record import from_row
from locedit.localizers import LOCALIZERS, Place
from locedit.store import tables
from locedit.study.localize import Cell, localize_cell
from locedit.workflow.job import (
    batches_of,
    load_model,
    load_plugins,
    progress,
    provenance,
    running,
    whole_cell,
)
from locedit.workflow.localizer_inputs import localizer_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        study = [from_row(row) for row in tables.records(snakemake.input.study, "facts")]
        name, wanted = snakemake.wildcards.localizer, snakemake.wildcards
        cell = Cell(
            localizer=name,
            place=Place(module=wanted.module, window=int(wanted.window)),
            settings=LOCALIZERS[name].settings(**snakemake.params.settings),
        )
        log.info("%s", cell)
        lm = load_model(snakemake)
        shared = localizer_inputs(snakemake, lm, study)
        together = batches_of(snakemake, lm, study)
        with progress(log, sum(map(len, together)), "facts") as advance:
            found = localize_cell(lm, cell, together, shared, progress=advance)
            rows = whole_cell(snakemake, found, log, "localize")
            tables.write(snakemake.output[0], rows, "localizing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
