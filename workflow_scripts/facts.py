"""Read a data set, say what is wrong with each record, and ask the model which facts it knows."""

from locedit import facts, tables
from workflow_scripts.job import load_model, progress, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        settings = snakemake.params.settings
        rows = facts.read_records(
            snakemake.input.records, snakemake.params.format, settings["facts.n"]
        )
        kept = sum(row["status"] == facts.KEPT for row in rows)
        if not kept:
            reasons = sorted({row["reason"] for row in rows})
            raise ValueError(
                f"{snakemake.input.records}: no record can be used; {reasons[0] if reasons else ''}"
            )
        lm = load_model(snakemake)
        with progress(log, kept, "facts") as advance:
            facts.add_knowledge(
                lm, rows, completion_tokens=settings["facts.completion_tokens"], progress=advance
            )
        known = sum(row.get("is_correct") is True for row in rows)
        log.info("%d records, %d usable, %d known", len(rows), kept, known)
        tables.write(snakemake.output[0], rows, "facts", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
