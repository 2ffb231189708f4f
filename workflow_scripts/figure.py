"""Draw one figure: SVG, PNG, and its words as JSON.

Inputs: every named Parquet file is handed to the R function as the data frame of that name (a list
of files as one frame). Params: `sources`, labels and R files of analysis/; `function`, the
figure's; its other `arguments`, `study` among them. Outputs: `svg`, `png`, `json` (title, caption
and alt: what a page says beside the picture).
"""

import json
from pathlib import Path

import pandas as pd

from locedit.report import rbridge
from locedit.store import files
from locedit.workflow.job import running

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"


def read_frames(inputs) -> dict[str, pd.DataFrame]:
    """Return the Parquet inputs by name; inputs of other kinds are there for the DAG alone."""
    files = {name: [value] if isinstance(value, str) else value for name, value in inputs.items()}
    return {
        name: pd.concat([rbridge.read_frame(path) for path in paths], ignore_index=True)
        for name, paths in files.items()
        if paths and all(str(path).endswith(".parquet") for path in paths)
    }


def draw(frames, sources: list[str], function: str, arguments: dict, output) -> None:
    """Draw into temporary files and move them: a figure is whole or absent."""
    with (
        files.atomic(output.svg) as svg,
        files.atomic(output.png) as png,
        files.atomic(output.json) as words,
    ):
        row = rbridge.call(
            "render",
            frames=frames,
            arguments={**arguments, "figure": function, "svg": str(svg), "png": str(png)},
            sources=[ANALYSIS / name for name in sources],
        )
        assert row is not None, f"{function} gives no words"
        words.write_text(json.dumps(row.to_dict("records")[0], indent=1, ensure_ascii=False))


def main(snakemake) -> None:
    with running(snakemake):
        params = snakemake.params
        frames = read_frames(snakemake.input)
        draw(frames, params.sources, params.function, dict(params.arguments), snakemake.output)


if __name__ == "__main__":
    main(snakemake)
