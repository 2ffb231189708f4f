"""Wikipedia paragraphs as a table, from the pinned dump."""

from pathlib import Path

from locedit import assets, tables
from locedit.corpus import paragraphs
from workflow_scripts.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        override = snakemake.params.override
        asset = assets.named("enwiki-shortened")
        dump = assets.resolve(
            asset,
            Path(override) if override else None,
            cache=Path(snakemake.output[0]).parent,
        )
        rows = [{"title": p.title, "index": p.index, "text": p.text} for p in paragraphs(dump)]
        log.info("%d paragraphs", len(rows))
        made = provenance(snakemake, data=asset.sha256[:16])
        tables.write(snakemake.output[0], rows, "corpus", made)


if __name__ == "__main__":
    main(snakemake)
