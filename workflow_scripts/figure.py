"""Draw one figure and write it as SVG and PNG.

Inputs: every named Parquet file is handed to the R function as the data frame of that name (a list
of files as one frame). Params: `function`, the figure's name; `arguments`, its other arguments,
`model_label` among them. Outputs: `svg`, `png`.
"""

from pathlib import Path

import pandas as pd

from locedit import files, rbridge
from workflow_scripts.job import running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"
SOURCES = [
    ANALYSIS / name
    for name in ("frames.R", "theme.R", "regressions.R", "figures.R", "figures_tracing.R")
]


def read_frames(inputs) -> dict[str, pd.DataFrame]:
    """Return the Parquet inputs by name; inputs of other kinds are there for the DAG alone."""
    files = {name: [value] if isinstance(value, str) else value for name, value in inputs.items()}
    return {
        name: pd.concat([rbridge.read_frame(path) for path in paths], ignore_index=True)
        for name, paths in files.items()
        if paths and all(str(path).endswith(".parquet") for path in paths)
    }


def draw(frames, function: str, arguments: dict, svg: str, png: str) -> None:
    """Draw into temporary files and move them: a figure is whole or absent."""
    with files.atomic(svg) as svg_part, files.atomic(png) as png_part:
        paths = {"svg": str(svg_part), "png": str(png_part)}
        rbridge.call(
            "render",
            frames=frames,
            arguments={**arguments, "figure": function, **paths},
            sources=SOURCES,
        )


def main(snakemake) -> None:
    with running(snakemake):
        draw(
            read_frames(snakemake.input),
            snakemake.params.function,
            dict(snakemake.params.arguments),
            str(snakemake.output.svg),
            str(snakemake.output.png),
        )


if __name__ == "__main__":
    main(snakemake)
