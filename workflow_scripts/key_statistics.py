"""Key second moments of all layers, in one pass over paragraphs drawn across documents."""

from pathlib import Path

from locedit.engine import key_statistics
from locedit.errors import LoceditError
from locedit.store import files, hashing, tables
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
            raise LoceditError(
                f"{snakemake.input.corpus} has {count} tokens, and {tokens} are wanted; set "
                f"statistics.tokens to what there is, {count}, or give more text: ROME and MEMIT "
                f"want 10 x d_ff, {10 * lm.inner_size}"
            )
        log.info("%d tokens", count)
        for layer, moment in moments.items():
            if dead := key_statistics.dead_units(moment):
                log.warning("layer %d: %s", layer, key_statistics.told_dead(dead, len(moment)))
        with files.atomic(snakemake.output[0]) as path:
            key_statistics.write_moments(
                path,
                moments,
                tokens=str(count),
                fingerprint=fingerprint(snakemake),
                model=hashing.weights(Path(snakemake.input.model).parent),
            )


if __name__ == "__main__":
    main(snakemake)
