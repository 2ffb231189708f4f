"""The sweep as one table, and the chosen settings as a model's configuration has them."""

import json

import pandas as pd
import yaml

from locedit.errors import LoceditError
from locedit.store import files, tables
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake):
        table = pd.concat([tables.read(path, "sweep") for path in snakemake.input])
        tables.write(snakemake.output.parquet, table, "sweep", provenance(snakemake))
        with files.atomic(snakemake.output.csv) as path:
            table.to_csv(path, index=False)
        with files.atomic(snakemake.output.yaml) as path:
            path.write_text(yaml.safe_dump({"tuned": chosen(table, snakemake)}, sort_keys=False))


def chosen(table: pd.DataFrame, snakemake) -> dict:
    """The `tuned` section of models/<name>.yaml, with the set of this aim."""
    best = table[table["chosen"]]
    if best.empty:
        raise LoceditError(
            f"no setting of {', '.join(snakemake.input)} can be chosen, since none has both a "
            "rewrite and a neighbourhood score; give the data set neighbourhood prompts"
        )
    settings = snakemake.params.settings
    hyperparameters: dict[str, dict] = {}
    for row in best.to_dict("records"):
        # the first problem's settings serve those that are not tuned
        problem = "all" if row["problem"] == settings["problems"][0] else row["problem"]
        hyperparameters.setdefault(row["method"], {})[problem] = json.loads(row["values"])
    low, high = settings["rewrite"]
    origin = (
        f"`snakemake tune`: {int(best['n_facts'].max())} known facts of the data set "
        f"{snakemake.params.dataset!r} outside the study, layer {settings['layer']} (zero-based); "
        f"best mean of rewrite and neighbourhood score with mean rewrite from {low:g} to {high:g}"
    )
    beyond = best[~best["admissible"]].to_dict("records")
    if beyond:
        cells = [f"{row['method']} {row['problem']} {row['rewrite']:.2f}" for row in beyond]
        origin += f"; where no setting lies there, the nearest: {', '.join(cells)}"
    return {settings["aim"]: {"origin": origin, "hyperparameters": hyperparameters}}


if __name__ == "__main__":
    main(snakemake)
