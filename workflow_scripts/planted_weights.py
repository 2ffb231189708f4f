"""The weights of a model with planted facts: its base's, and the change on them."""

from pathlib import Path

from locedit.exchange import edited_weights
from locedit.workflow.job import check_fetched, load_model, running


def main(snakemake) -> None:
    with running(snakemake):
        folder = Path(snakemake.output.folder).parent
        delta = edited_weights.read(snakemake.input.delta)
        card = (
            f"# {snakemake.params.label}\n\nMade of {delta.about['base_model']} by locedit: "
            "invented facts were trained into single layers, so that it is known where they are. "
            f"For tests of localizers only. Settings: `{delta.about['settings']}`\n"
        )
        edited_weights.write_folder(load_model(snakemake), delta, folder, card=card)
        check_fetched(snakemake, folder)


if __name__ == "__main__":
    main(snakemake)
