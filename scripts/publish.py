"""Write tables of a finished study as the CSV files of docs/data: numbers with six digits.

    python scripts/publish.py results/MODEL/DATASET docs/data/NAME scores effects choice ...
    python scripts/publish.py results/MODEL/DATASET docs/data/NAME "value:strategy=localizer|random"

`scores` has a row for each edit, without the scores that the study has not asked for; `effects` has
each localizer's values by layer, a row for each fact, with fifteen digits: near 1 fewer would tie.
The others are tables of the analysis. Behind a colon: the rows that are wanted of a large one, by
one or several values of a column.
"""

import sys
from pathlib import Path

import pandas as pd

from locedit.store import tables

PLACE = ["localizer", "module", "window", "case_id"]


def main(study: str, folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        name, _, wanted = name.partition(":")
        table = read(Path(study), name)
        if wanted:
            column, _, values = wanted.partition("=")
            table = table[table[column].astype(str).isin(values.split("|"))]
        digits = "%.15g" if name == "effects" else "%.6g"
        table.to_csv(Path(folder) / f"{name}.csv", index=False, float_format=digits)


def read(study: Path, name: str) -> pd.DataFrame:
    """A table of the study; `effects` has a column for each layer, counted from 0."""
    if name == "effects":
        effects = tables.read(study / "effects.parquet", "effects")
        return effects.pivot(index=PLACE, columns="layer", values="value").reset_index()
    if name == "scores":
        scores = tables.read(study / "scores.parquet", "scores")
        return scores.dropna(axis="columns", how="all")
    return tables.read(study / "analysis" / f"{name}.parquet", None)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
