"""Held-out paragraphs, drawn once for a model, with its perplexity of them before any edit."""

from locedit.engine import key_statistics
from locedit.store import tables
from locedit.study.held_out import HeldOut, draw
from locedit.workflow.job import load_model, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        params = snakemake.params
        corpus = tables.read(snakemake.input.corpus, "corpus")
        lm = load_model(snakemake)
        left = not_read(lm, corpus.sort_values(["index", "title"]), params.read)
        log.info("%d of %d paragraphs are left by the key statistics", len(left), len(corpus))
        rows = draw(
            lm,
            list(left["text"]),
            count=params.settings["scores.text_paragraphs"],
            tokens=params.settings["scores.text_tokens"],
            seed=params.seed,
        )
        [perplexity] = HeldOut([*rows.values()]).perplexities(lm)
        drawn = left.iloc[[*rows]].assign(tokens=[*rows.values()], perplexity=perplexity)
        columns = ["title", "index", "tokens", "perplexity"]
        found = drawn[columns].to_dict("records")
        tables.write(snakemake.output[0], found, "held_out", provenance(snakemake))


def not_read(lm, corpus, read):
    """The paragraphs behind those that key statistics are collected from, in the same order."""
    read = key_statistics.texts_read(
        lm,
        corpus["text"],
        max_tokens=read["max_tokens"],
        tokens=read["tokens"] or 10 * lm.inner_size,
    )
    return corpus.iloc[read:]


if __name__ == "__main__":
    main(snakemake)
