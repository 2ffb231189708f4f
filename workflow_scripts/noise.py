"""sigma of the tracing noise: a number, or multiples of the subjects' embedding deviation."""

import json

from locedit.engine import noise
from locedit.facts.record import KEPT
from locedit.store import files, tables
from locedit.workflow.job import load_model, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        table = tables.read(snakemake.input.facts, "facts")
        subjects = table.loc[table["status"] == KEPT, "subject"]
        sd = noise.subject_embedding_sd(load_model(snakemake), subjects)
        sigma = noise.parse_sigma(snakemake.params.noise, sd)
        log.info("embedding sd %.4f, sigma %.4f", sd, sigma)
        with files.atomic(snakemake.output[0]) as path:
            path.write_text(json.dumps({"embedding_sd": sd, "sigma": sigma}) + "\n")


if __name__ == "__main__":
    main(snakemake)
