"""Context templates of ROME and MEMIT, sampled once from the model."""

from locedit.engine import sampling
from locedit.store import tables
from locedit.workflow.job import load_model, provenance, running


def main(snakemake) -> None:
    with running(snakemake):
        settings, seed = snakemake.params.settings, snakemake.params.seed
        lm = load_model(snakemake)
        sets = {
            "rome": [sampling.rome_contexts(lm, settings["rome"], seed)],
            "memit": sampling.memit_contexts(lm, settings["memit_tokens"], seed),
        }
        rows = [
            {"method": method, "set": index, "template": template}
            for method, groups in sets.items()
            for index, group in enumerate(groups)
            for template in group
        ]
        tables.write(snakemake.output[0], rows, "contexts", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
