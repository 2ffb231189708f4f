"""The bundled facts, built from the tables under data/."""

from pathlib import Path

from locedit import bundled
from workflow_scripts.job import running

DATA = Path(__file__).resolve().parent.parent / "data"


def main(snakemake) -> None:
    with running(snakemake) as log:
        records = bundled.build_records(DATA)
        bundled.write_json(records, Path(snakemake.output[0]))
        log.info("%d records", len(records))


if __name__ == "__main__":
    main(snakemake)
