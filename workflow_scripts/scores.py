"""Scores of every edit, derived from the stored log-probabilities."""

from locedit.store import tables
from locedit.study.edit import OK
from locedit.study.scores import score_row
from locedit.workflow.job import provenance, running

KEYS = ("case_id", "method", "problem", "layer", "target", "update_norm", "status")


def main(snakemake) -> None:
    with running(snakemake):
        study = tables.read(snakemake.input.study, "facts").set_index("case_id")
        names = {"model": snakemake.params.model, "dataset": snakemake.params.dataset}
        rows = []
        for path in snakemake.input.edits:
            for record in tables.read(path, "editing").to_dict("records"):
                fact = study.loc[record["case_id"]]
                row = {**names, **{key: record[key] for key in KEYS}}
                row |= {"relation_id": fact["relation_id"], "is_correct": bool(fact["is_correct"])}
                if record["status"] == OK:
                    row |= score_row(record, snakemake.params.aggregate)
                rows.append(row)
        tables.write(snakemake.output[0], rows, "scores", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
