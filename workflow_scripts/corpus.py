"""Wikipedia paragraphs as a table, from the pinned dump."""

import logging
from pathlib import Path

from locedit.facts.corpus import paragraphs
from locedit.store import assets, files, tables
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        target = Path(snakemake.output[0])
        with files.exclusive_lock(target):
            if target.exists():
                log.info("another run has made it")
            else:
                write(target, snakemake, log)


def write(target: Path, snakemake, log: logging.Logger) -> None:
    dump = assets.resolve(assets.named("enwiki-shortened"), cache=target.parent)
    rows = [{"title": p.title, "index": p.index, "text": p.text} for p in paragraphs(dump)]
    log.info("%d paragraphs", len(rows))
    tables.write(target, rows, "corpus", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
