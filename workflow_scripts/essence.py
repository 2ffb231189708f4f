"""Texts about each subject, sampled once, with the unedited model's perplexity of them."""

from locedit import sampling, scoring, tables
from workflow_scripts.job import fact_by_fact, load_model, provenance, running, shard_of


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.read(snakemake.input.study, "facts").to_dict("records")
        study = shard_of(snakemake).part(study)
        settings, seed = snakemake.params.settings, snakemake.params.seed
        lm = load_model(snakemake)

        def rows_of(record):
            texts = sampling.essence_texts(
                lm, record["subject"], count=settings["texts"], tokens=settings["tokens"], seed=seed
            )
            perplexity = scoring.perplexities(lm, [texts])[0]
            return [{"case_id": record["case_id"], "texts": texts, "perplexity": perplexity}]

        rows = fact_by_fact(log, study, rows_of)
        tables.write(snakemake.output[0], rows, "essence", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
