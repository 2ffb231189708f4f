"""The traced cells of the fact that the heat map shows."""

from locedit import tables
from workflow_scripts.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake):
        study = list(tables.read(snakemake.input.study, "facts")["case_id"])
        case_id = snakemake.params.case_id or study[0]
        if case_id not in study:
            raise ValueError(
                f"config: analysis.heatmap: fact {case_id!r} is not in the study "
                f"({', '.join(study[:10])}, ...)"
            )
        cells = tables.read(snakemake.input.trace, "tracing")
        cells = cells[cells["case_id"] == case_id].assign(
            module=snakemake.params.module, window=snakemake.params.window
        )
        tables.write(snakemake.output[0], cells, None, provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
