"""Trace the heat map's fact for every kind of activation, whichever of them the study traces."""

import pandas as pd

from locedit.errors import LoceditError
from locedit.facts.record import from_row
from locedit.localizers import MODULES, restoration
from locedit.store import schemas, tables
from locedit.workflow.job import batch_tokens, load_model, provenance, read_sigma, running


def main(snakemake) -> None:
    with running(snakemake):
        params = snakemake.params
        study = tables.records(snakemake.input.study, "facts")
        record = chosen(study, params.case_id)
        sigma, lm = read_sigma(snakemake), load_model(snakemake)
        rows = [
            {**row, "module": module, "window": params.window}
            for module in MODULES
            for row in restoration.trace_rows(
                lm,
                from_row(record),
                module=module,
                window=params.window,
                sigma=sigma,
                n_noise=params.settings["tracing.n_noise"],
                seed=params.settings["tracing.noise_seed"],
                batch_tokens=batch_tokens(snakemake),
            )
        ]
        # all columns, also of a fact that cannot be traced: the figure says why
        columns = [*schemas.SCHEMAS["tracing"].names, "module", "window"]
        cells = pd.DataFrame(rows, columns=columns)
        tables.write(snakemake.output[0], cells, None, provenance(snakemake))


def chosen(records: list[dict], case_id: str | None) -> dict:
    """The record of the fact asked for, or of the study's first."""
    for record in records:
        if case_id in (None, record["case_id"]):
            return record
    known = [record["case_id"] for record in records[:10]]
    raise LoceditError(
        f"config: analysis.heatmap: fact {case_id!r} is not in the study "
        f"({', '.join(known)}{', ...' if len(records) > len(known) else ''})"
    )


if __name__ == "__main__":
    main(snakemake)
