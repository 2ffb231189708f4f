"""Scores of every edit, derived from the stored log-probabilities."""

from locedit import outcomes
from locedit.errors import LoceditError
from locedit.messages import commonest
from locedit.store import tables
from locedit.study.edit import OK
from locedit.study.scores import score_row
from locedit.workflow.job import provenance, running

KEYS = ("case_id", "method", "problem", "layer", "target", "update_norm", "status")


def main(snakemake) -> None:
    with running(snakemake):
        study = {row["case_id"]: row for row in tables.records(snakemake.input.study, "facts")}
        names = {"model": snakemake.params.model, "dataset": snakemake.params.dataset}
        rows = []
        for path in snakemake.input.edits:
            for record in tables.records(path, "editing"):
                fact = study[record["case_id"]]
                row = {**names, **{key: record[key] for key in KEYS}}
                row |= {"relation_id": fact["relation_id"], "is_correct": fact["is_correct"]}
                if record["status"] == OK:
                    row |= score_row(record, snakemake.params.aggregate)
                rows.append(row)
        refuse_nothing_done([row["status"] for row in rows])
        tables.write(snakemake.output[0], rows, "scores", provenance(snakemake))


def refuse_nothing_done(statuses: list[str]) -> None:
    """Raises LoceditError where the whole study has no edit to score."""
    if OK in statuses:
        return
    advice = "the logs of the edits say where they failed"
    if any(status.startswith(outcomes.NOT_EDITED) for status in statuses):
        advice = (
            "study facts that the model knows better (another data set, a larger facts.study) or "
            "other problems (editing.problems), or lower facts.min_p_erase"
        )
    raise LoceditError(
        f"none of the study's {len(statuses)} edits can be scored ({commonest(statuses)}); {advice}"
    )


if __name__ == "__main__":
    main(snakemake)
