"""The facts that are traced and edited: a seeded sample that grows with its size.

Of the known ones, or of all that can be used.
"""

from collections.abc import Mapping
from typing import Any

from locedit.errors import LoceditError
from locedit.facts import record as facts
from locedit.store import tables
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        asked = tables.records(snakemake.input[0], "facts")
        settings = snakemake.params.settings
        known = facts.known(asked)
        kept = {row["case_id"]: row for row in asked if row["status"] == facts.KEPT}
        candidates: Mapping[str, Mapping[str, Any]] = kept if settings["known"] == "any" else known
        if not candidates:
            excluded = facts.exclusions(asked)
            usable = sum(row["status"] == facts.KEPT for row in asked)
            raise LoceditError(
                f"{snakemake.input[0]}: the model knows none of the {usable} facts"
                f"{f' ({excluded})' if excluded else ''}, so there is nothing to trace or edit; "
                "give it more records or another model"
            )
        order = facts.study_order(candidates, settings["seed"])
        chosen = order[: settings["size"]]
        log.info("%d of %d facts, %d known", len(chosen), len(candidates), len(known))
        rows = [candidates[case_id] for case_id in chosen]
        tables.write(snakemake.output[0], rows, "facts", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
