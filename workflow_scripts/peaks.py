"""Where each fact peaks by the localizer that is shown: what edits at the facts' peaks go by."""

from locedit.store import tables
from locedit.study import effects, peaks
from locedit.workflow.job import provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        path, shown = snakemake.input.localized, snakemake.params.shown
        reference = snakemake.params.reference
        rows, without = effects.of_table(path, shown["localizer"], reference=reference)
        found = peaks.layers(peaks.measured(rows, shown["effect"]))
        nowhere = sorted({*rows["case_id"], *without} - set(found))
        if nowhere:
            log.warning("%s: facts %s peak nowhere", path, ", ".join(nowhere))
        made = [{"case_id": case_id, "layer": layer} for case_id, layer in found.items()]
        tables.write(snakemake.output[0], made, "peaks", provenance(snakemake))


if __name__ == "__main__":
    main(snakemake)
