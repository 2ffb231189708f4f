"""The page of single facts: heat maps, values, scores and texts of each fact of the study.

Inputs: `study`, `effects`, `scores`; `localized`, every localizer's tables; `edits`, every table of
edits that `scores` is of. Params: `model` and `dataset`, as a page names them; `places`, by
localizer where it looks, in the order of `localized`; `pairs`, of method and problem.
"""

from pathlib import Path
from typing import Any

from locedit.report import explorer
from locedit.report.labels import Labels
from locedit.store import files, tables
from locedit.workflow.job import running

LABELS = Path(__file__).resolve().parent.parent / "analysis" / "labels.yaml"


def made(inputs: Any, params: Any) -> str:
    """The page, from the files that the workflow names."""
    places = [
        (name, place["module"], place["window"])
        for name, found in params.places.items()
        for place in found
    ]
    data = explorer.collected(
        study=tables.records(inputs.study, "facts"),
        effects=tables.read(inputs.effects, "effects"),
        places={
            place: tables.read(path, None, flat=True)  # of tracing, without its single noise rows
            for place, path in zip(places, inputs.localized, strict=True)
        },
        scores=tables.read(inputs.scores, "scores"),
        edits=(tables.read(path, "editing") for path in inputs.edits),
        pairs=[tuple(pair) for pair in params.pairs],
        labels=Labels.read(LABELS),
    )
    return explorer.page(explorer.fitted(data), params.model, params.dataset)


def main(snakemake) -> None:
    with running(snakemake), files.atomic(snakemake.output[0]) as part:
        page = made(snakemake.input, snakemake.params)
        Path(part).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(snakemake)
