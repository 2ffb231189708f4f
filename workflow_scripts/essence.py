"""Texts about each subject, sampled once, with the unedited model's perplexity of them."""

from locedit import sampling, scoring, tables
from workflow_scripts.job import load_model, progress, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.read(snakemake.input.study, "facts")
        settings, seed = snakemake.params.settings, snakemake.params.seed
        lm = load_model(snakemake)
        rows = []
        with progress(log, len(study), "facts") as advance:
            for case_id, subject in zip(study["case_id"], study["subject"], strict=True):
                texts = sampling.essence_texts(
                    lm, subject, count=settings["texts"], tokens=settings["tokens"], seed=seed
                )
                perplexity = scoring.perplexities(lm, [texts])[0]
                rows.append({"case_id": case_id, "texts": texts, "perplexity": perplexity})
                advance(1)
        tables.write(snakemake.output[0], rows, "essence", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
