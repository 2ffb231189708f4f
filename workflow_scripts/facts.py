"""Read a data set, say what is wrong with each record, and ask the model which facts it knows."""

from locedit.errors import LoceditError
from locedit.facts.record import KEPT, exclusions, read_records
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
        lm = load_model(snakemake)
        with progress(log, kept, "facts") as advance:
            add_knowledge(
                lm, rows, completion_tokens=settings["facts.completion_tokens"], progress=advance
            )
        kept = usable(rows, snakemake.input.records)
        known = sum(row.get("is_correct") is True for row in rows)
        log.info("%d records, %d usable, %d known", len(rows), kept, known)
        log.info("%s", exclusions(rows) or "none excluded")
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


if __name__ == "__main__":
    main(snakemake)
