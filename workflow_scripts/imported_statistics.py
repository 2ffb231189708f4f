"""Key statistics that others collected (`statistics.path`), checked, with where they are from."""

from pathlib import Path

from locedit.engine import key_statistics
from locedit.store import files
from locedit.workflow.job import load_model, running
from locedit.workflow.provenance import fingerprint


def main(snakemake) -> None:
    with running(snakemake) as log:
        file = Path(snakemake.input.imported)
        key_statistics.check_size(file, load_model(snakemake))
        moments, tokens = key_statistics.moments_of(file)
        made = key_statistics.made_of(file)
        about = {name: made[name] for name in ("model", "imported") if name in made}
        log.info("%s: %s tokens, imported from %s", file, tokens, about.get("imported", "a study"))
        with files.atomic(snakemake.output[0]) as path:
            key_statistics.write_moments(
                path,
                dict(moments),
                fingerprint=fingerprint(snakemake),
                taken_from=str(file),
                **about,
                **({} if tokens is None else {"tokens": str(tokens)}),
            )


if __name__ == "__main__":
    main(snakemake)
