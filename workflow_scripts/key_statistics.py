"""Key second moments of all layers, in one pass over paragraphs drawn across documents."""

from locedit.engine import key_statistics
from locedit.store import files, tables
from locedit.workflow.job import load_model, progress, running
from locedit.workflow.provenance import fingerprint


def main(snakemake) -> None:
    with running(snakemake) as log:
        corpus = tables.read(snakemake.input.corpus, "corpus")
        settings = snakemake.params.settings
        lm = load_model(snakemake)
        tokens = settings["tokens"] or 10 * lm.inner_size
        # first paragraphs of all articles, then second ones, ...: sampled across documents
        texts = corpus.sort_values(["index", "title"])["text"]
        with progress(log, tokens, "tokens") as advance:
            moments, count = key_statistics.key_moments(
                lm, texts, max_tokens=settings["max_tokens"], tokens=tokens, progress=advance
            )
        if count < tokens:
            raise ValueError(
                f"{snakemake.input.corpus} has {count} tokens, and {tokens} are wanted; set "
                "statistics.tokens to what there is, at least 10 x d_ff"
            )
        log.info("%d tokens", count)
        with files.atomic(snakemake.output[0]) as path:
            key_statistics.write_moments(
                path, moments, tokens=str(count), fingerprint=fingerprint(snakemake)
            )


if __name__ == "__main__":
    main(snakemake)
