"""Scores of every edit, derived from the stored log-probabilities.

Inputs: `edits`, at the layers that every fact is edited at; `peaks`, at each fact's own; `again`,
some of the first, made once more with other contexts and draws.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from locedit import outcomes
from locedit.errors import LoceditError
from locedit.messages import commonest
from locedit.store import tables
from locedit.study import peaks
from locedit.study.edit import OK
from locedit.study.scores import REPEATED, score_row
from locedit.workflow.job import provenance, running

KEYS = (
    *("case_id", "method", "problem", "layer", "together"),
    *("target", "update_norm", "steps", "status"),
)

# What study.edit.baseline says of a fact that is too improbable to be erased
TOO_UNLIKELY = f"{outcomes.NOT_EDITED}p(o_true) = "


def main(snakemake) -> None:
    with running(snakemake):
        study = {row["case_id"]: row for row in tables.records(snakemake.input.study, "facts")}
        listed, own, again = (
            [scored(record, study, snakemake.params) for record in edits_of(paths)]
            for paths in (snakemake.input.edits, snakemake.input.peaks, snakemake.input.again)
        )
        rows = list(peaks.marked(with_repeats(listed, again), own))
        refuse_nothing_done([row["status"] for row in rows])
        tables.write(snakemake.output[0], rows, "scores", provenance(snakemake))


def edits_of(paths: Iterable[str]) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from tables.records(path, "editing")


def scored(record: dict[str, Any], study: dict[str, dict[str, Any]], params) -> dict[str, Any]:
    """An edit's row of the scores table; one that was not made has its keys and its status."""
    fact = study[record["case_id"]]
    row = {"model": params.model, "dataset": params.dataset, **{key: record[key] for key in KEYS}}
    row |= {"relation_id": fact["relation_id"], "is_correct": fact["is_correct"]}
    return row | score_row(record, params.aggregate) if record["status"] == OK else row


def with_repeats(
    rows: Iterable[dict[str, Any]], again: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each edit's row, with the scores of the same edit where it was made again."""
    keys = ("method", "problem", "layer", "case_id")
    repeats = {tuple(row[key] for key in keys): row for row in again if row["status"] == OK}
    empty: dict[str, Any] = {}
    return [
        row | {f"{name}_again": repeat[name] for name in REPEATED if repeat}
        for row in rows
        for repeat in [repeats.get(tuple(row[key] for key in keys), empty)]
    ]


def refuse_nothing_done(statuses: list[str]) -> None:
    """Raises LoceditError where the whole study has no edit to score."""
    if OK in statuses:
        return
    passed_over = [status for status in statuses if status.startswith(outcomes.NOT_EDITED)]
    advice = "the logs of the edits say where they failed"
    if any(status.startswith(TOO_UNLIKELY) for status in passed_over):
        advice = (
            "study facts that the model knows better (another data set, a larger facts.study) or "
            "other problems (editing.problems), or lower facts.min_p_erase"
        )
    elif passed_over:
        advice = (
            "choose other methods or layers (editing.methods, editing.layers), more facts "
            "(facts.study, editing.facts) or fewer of them together (editing.together)"
        )
    raise LoceditError(
        f"none of the study's {len(statuses)} edits can be scored ({commonest(statuses)}); {advice}"
    )


if __name__ == "__main__":
    main(snakemake)
