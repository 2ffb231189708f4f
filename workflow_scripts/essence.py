"""Texts about each subject, sampled once, with the unedited model's perplexity of them."""

from locedit.engine import sampling
from locedit.model.memory import in_batches
from locedit.store import tables
from locedit.study import measure
from locedit.workflow.job import batch_by_batch, batches_of, load_model, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = tables.records(snakemake.input.study, "facts")
        settings, seed = snakemake.params.settings, snakemake.params.seed
        lm = load_model(snakemake)

        def texts_of(records):
            texts = sampling.essence_texts(
                lm,
                [record["subject"] for record in records],
                count=settings["texts"],
                tokens=settings["tokens"],
                seed=seed,
            )
            perplexity = measure.perplexities(lm, texts)
            return [
                {"case_id": record["case_id"], "texts": of_fact, "perplexity": values}
                for record, of_fact, values in zip(records, texts, perplexity, strict=True)
            ]

        def rows_of(records):
            return in_batches(texts_of, records, "facts")

        rows = batch_by_batch(log, batches_of(snakemake, lm, study), rows_of)
        tables.write(snakemake.output[0], rows, "essence", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
