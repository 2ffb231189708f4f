"""Read a data set, say what is wrong with each record, and ask the model which facts it knows."""

from locedit.errors import LoceditError
from locedit.facts.record import EXCLUDED, KEPT, exclusions, left_out, read_records
from locedit.store import tables
from locedit.study.knowledge import add_knowledge
from locedit.workflow.job import load_model, progress, provenance, running, tell


def main(snakemake) -> None:
    with running(snakemake) as log:
        settings = snakemake.params.settings
        rows = read_records(
            snakemake.input.records,
            n=settings["facts.n"],
            say=lambda sentence: tell(log, sentence),
            **snakemake.params.reading,
        )
        kept = usable(rows, snakemake.input.records)
        tell_left_out(rows, len(rows), snakemake, log)
        readable = [row for row in rows if row["status"] == KEPT]
        lm = load_model(snakemake)
        with progress(log, kept, "facts") as advance:
            add_knowledge(
                lm, rows, completion_tokens=settings["facts.completion_tokens"], progress=advance
            )
        kept = usable(rows, snakemake.input.records)
        tell_left_out(readable, len(rows), snakemake, log)
        known = sum(row.get("is_correct") is True for row in rows)
        log.info("%d records, %d usable, %d known", len(rows), kept, known)
        tables.write(snakemake.output[0], rows, "facts", provenance(snakemake))


def usable(rows, path) -> int:
    """How many rows are kept; none is an error that says why."""
    kept = sum(row["status"] == KEPT for row in rows)
    if not kept:
        raise LoceditError(
            f"{path}: no record of {len(rows)} can be used ({exclusions(rows)}); check the "
            "file, or `dataset.format`"
        )
    return kept


def tell_left_out(rows, total, snakemake, log) -> None:
    """Those of the rows that are not used: how many and why in the terminal, each in the log."""
    for row in rows:
        if row["status"] == EXCLUDED:
            log.info("record %s: left out, %s", row["case_id"], row["reason"])
    if said := left_out(rows, total):
        tell(log, f"{snakemake.input.records}: {said}; {snakemake.log[0]} has each")


if __name__ == "__main__":
    main(snakemake)
