"""Train invented facts into layers drawn at random: the change, the facts, where each was put."""

import json
from pathlib import Path

from locedit.exchange import edited_weights
from locedit.facts import planted
from locedit.store import files, tables
from locedit.study import planting
from locedit.workflow.job import load_model, progress, provenance, running

DATA = Path(__file__).resolve().parent.parent / "data"
CANDIDATES = 2  # invented facts for each that is wanted, since some are known by chance


def main(snakemake) -> None:
    with running(snakemake) as log:
        settings = snakemake.params.settings
        training = planted.Training(**settings["training"])
        texts = tables.read(snakemake.input.corpus, "corpus")["text"].tolist()
        lm = load_model(snakemake)
        facts = chosen(lm, settings, log)
        with progress(log, training.steps, "steps") as advance:
            made = planting.plant(lm, facts, texts, training, progress=advance)
        log.info("%d steps, KL %.3f per token of plain text", made.steps, made.kl)
        rows = rows_of(facts, made)
        for kind in (planted.PLANTED, planted.PLACEBO):
            known = [row["p_after"] > 0.5 for row in rows if row["kind"] == kind]
            log.info("%s: %d of %d known on held-out prompts", kind, sum(known), len(known))
        about = {"base_model": settings["base"], "settings": json.dumps(settings, default=str)}
        delta = edited_weights.of_changes(lm, made.changes, about)
        edited_weights.write(snakemake.output.delta, delta)
        with files.atomic(snakemake.output.records) as path:
            path.write_text(json.dumps([planted.record(one) for one in facts], indent=1))
        tables.write(snakemake.output.planting, rows, "planting", provenance(snakemake))


def chosen(lm, settings, log) -> list[planted.Planted]:
    """Facts of which the model knows nothing yet, with their kinds and layers."""
    wanted = settings["planted"] + settings["placebo"]
    invented = planted.invented(DATA, CANDIDATES * wanted, settings["seed"])
    before = planting.held_out(lm, invented, {})
    limit = settings["max_p_before"]
    unknown = [one for one, p in zip(invented, before, strict=True) if p <= limit]
    log.info("%d of %d invented facts are unknown", len(unknown), len(invented))
    return planted.assigned(
        unknown,
        settings["layers"],
        planted=settings["planted"],
        placebo=settings["placebo"],
        seed=settings["seed"],
    )


def rows_of(facts, made) -> list[dict]:
    """One row a fact."""
    return [
        {
            "case_id": one.fact.case_id,
            "kind": one.kind,
            "layer": one.layer,
            "p_before": before,
            "p_after": after,
        }
        for one, before, after in zip(facts, made.p_before, made.p_after, strict=True)
    ]


if __name__ == "__main__":
    main(snakemake)
