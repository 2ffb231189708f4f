"""sigma of the tracing noise: a number, or multiples of the subjects' embedding deviation."""

import json

from locedit.engine import noise
from locedit.facts.record import KEPT
from locedit.store import files, tables
from locedit.workflow.job import load_model, running
from locedit.workflow.provenance import hashes


def main(snakemake) -> None:
    with running(snakemake) as log:
        table = tables.read(snakemake.input.facts, "facts")
        subjects = table.loc[table["status"] == KEPT, "subject"]
        sd = noise.subject_embedding_sd(load_model(snakemake), subjects)
        sigma = noise.parse_sigma(snakemake.params.noise, sd)
        # not the code's hash: the same values are the same bytes
        behind = {name: of for name, of in hashes(snakemake).items() if name != "code"}
        values = {"embedding_sd": sd, "sigma": sigma, "hashes": behind}
        log.info("embedding sd %.4f, sigma %.4f", sd, sigma)
        with files.atomic(snakemake.output[0]) as path:
            path.write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main(snakemake)
