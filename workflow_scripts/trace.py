"""Trace every fact of the study for one module and window."""

from collections.abc import Iterator
from typing import Any

from locedit import facts, tables, tracing
from workflow_scripts.job import load_model, progress, provenance, read_sigma, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        table = tables.read(snakemake.input.study, "facts")
        settings, sigma = snakemake.params.settings, read_sigma(snakemake)
        lm = load_model(snakemake)
        with progress(log, len(table), "facts") as advance:

            def rows() -> Iterator[dict[str, Any]]:
                for record in table.to_dict("records"):
                    yield from tracing.trace_rows(
                        lm,
                        facts.from_row(record),
                        module=snakemake.wildcards.kind,
                        window=int(snakemake.wildcards.window),
                        sigma=sigma,
                        n_noise=settings["tracing.n_noise"],
                        seed=settings["tracing.noise_seed"],
                        batch_tokens=snakemake.config["tracing"]["batch_tokens"],
                    )
                    advance(1)

            tables.write(snakemake.output[0], rows(), "tracing", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
