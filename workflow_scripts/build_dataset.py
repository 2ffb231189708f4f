"""The bundled facts, built from the tables under data/."""

from pathlib import Path

from locedit.facts import bundled
from locedit.store import files
from locedit.workflow.job import running

DATA = Path(__file__).resolve().parent.parent / "data"


def main(snakemake) -> None:
    with running(snakemake) as log:
        records = bundled.build_records(DATA)
        with files.atomic(snakemake.output[0]) as path:
            bundled.write_json(records, path)
        log.info("%d records", len(records))


if __name__ == "__main__":
    main(snakemake)
