"""The study, noise, key statistics and context templates, from files to what localizers take."""

from collections.abc import Sequence
from typing import Any

from locedit.facts.record import KEPT, Fact, from_row
from locedit.localizers import LOCALIZERS, SharedInputs
from locedit.model.language_model import LanguageModel
from locedit.store import tables
from locedit.workflow.job import read_sigma
from locedit.workflow.key_moments import key_moments


def localizer_inputs(snakemake: Any, lm: LanguageModel, study: Sequence[Fact]) -> SharedInputs:
    """The shared inputs of the job's localizer; those that it does not take stay at their defaults.

    Contexts are ROME's, whose first set begins with the bare prompt.
    """
    needs, given = LOCALIZERS[snakemake.wildcards.localizer].needs, snakemake.input
    found: dict[str, Any] = {}
    if "noise" in needs:
        found["sigma"] = read_sigma(snakemake)
        found |= {key.partition(".")[2]: value for key, value in snakemake.params.noise.items()}
    if "key_statistics" in needs:
        found["moments"] = key_moments(snakemake, lm)
    if "contexts" in needs:
        found["contexts"] = tables.context_sets(given.contexts, "rome")
    if "records" in needs:
        rows = tables.records(given.records, "facts")
        found["records"] = [from_row(row) for row in rows if row["status"] == KEPT]
    if "planting" in needs:
        rows = tables.records(given.planting, "planting")
        found["planting"] = {r["case_id"]: r["layer"] for r in rows if r["layer"] is not None}
    return SharedInputs(study=study, seed=snakemake.params.seed, **found)
