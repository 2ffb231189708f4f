"""Zero one module's windows for every fact of the study."""

from collections.abc import Iterator
from typing import Any

from locedit import facts, tables, zeroing
from workflow_scripts.job import load_model, progress, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        table = tables.read(snakemake.input.study, "facts")
        lm = load_model(snakemake)
        with progress(log, len(table), "facts") as advance:

            def rows() -> Iterator[dict[str, Any]]:
                for record in table.to_dict("records"):
                    yield from zeroing.zero_rows(
                        lm,
                        facts.from_row(record),
                        module=snakemake.wildcards.kind,
                        window=int(snakemake.wildcards.window),
                        batch_tokens=snakemake.config["tracing"]["batch_tokens"],
                    )
                    advance(1)

            tables.write(snakemake.output[0], rows(), "zeroing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
