"""The known facts that are traced and edited: a seeded sample that grows with its size."""

from locedit.errors import LoceditError
from locedit.facts import record as facts
from locedit.store import tables
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        asked = tables.records(snakemake.input[0], "facts")
        known = facts.known(asked)
        if not known:
            excluded = facts.exclusions(asked)
            usable = sum(row["status"] == facts.KEPT for row in asked)
            raise LoceditError(
                f"{snakemake.input[0]}: the model knows none of the {usable} facts"
                f"{f' ({excluded})' if excluded else ''}, so there is nothing to trace or edit; "
                "give it more records or another model"
            )
        order = facts.study_order(known, snakemake.params.settings["seed"])
        chosen = order[: snakemake.params.settings["size"]]
        log.info("%d of %d known facts", len(chosen), len(known))
        rows = [known[case_id] for case_id in chosen]
        tables.write(snakemake.output[0], rows, "facts", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
