"""Try every setting of a method's grid for one problem, on known facts outside the study."""

import json
from collections.abc import Mapping
from typing import Any

from locedit import outcomes
from locedit.errors import LoceditError
from locedit.facts import record as facts
from locedit.methods import METHODS, problems
from locedit.methods.problems import PROBLEMS
from locedit.store import tables
from locedit.study import tuning
from locedit.study.edit import Cell, Measuring, batches, edit_cell, unedited
from locedit.workflow.job import (
    batch_facts,
    load_model,
    load_plugins,
    progress,
    provenance,
    read_sigma,
    running,
)
from locedit.workflow.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        params, settings = snakemake.params, snakemake.params.settings
        method, problem = snakemake.wildcards.method, snakemake.wildcards.problem
        how = Measuring.from_settings(
            params.measuring, sigma=read_sigma(snakemake), seed=params.seed
        )
        records = outside_study(snakemake, params, problem)
        aim = problems.named(problem, params.quirks)
        lm = load_model(snakemake)
        size = batch_facts(snakemake, lm)
        known = [(facts.from_row(record), record["p_true"]) for record in records]
        subjects = unedited(lm, aim, known, how, params.min_p_erase, size)
        shared = shared_inputs(snakemake, lm, method, how)
        together = batches(lm, subjects, size)
        grid = list(tuning.settings(params.grid))
        low, high = settings["rewrite"]
        rows, statuses = [], []
        with progress(log, len(grid) * len(subjects), "edits") as advance:
            for values in grid:
                hyper = METHODS[method].hyperparameters(problem, params.preset, {"all": values})
                cell = Cell(
                    method=method,
                    problem=problem,
                    layer=settings["layer"],
                    hyper=hyper,
                    quirks=params.quirks,
                )
                edits = list(edit_cell(lm, cell, together, shared, how, progress=advance))
                statuses += [edit["status"] for edit in edits]
                rows.append(
                    {
                        "model": params.label,
                        "method": method,
                        "problem": problem,
                        "aim": settings["aim"],
                        "aim_low": low,
                        "aim_high": high,
                        "layer": settings["layer"],
                        "setting": tuning.in_words(values),
                        "values": json.dumps(values),
                        **tuning.summarise(edits, params.aggregate),
                    }
                )
                log.info("%s", rows[-1])
        advice = "mend the cause, and run again"
        what = f"tuning {method} for {problem}, all {len(grid)} settings"
        log_file = str(snakemake.log[0])
        outcomes.refuse_all_failed(statuses, what, "made", advice, "edits", log_file)
        rows = tuning.choose(rows, (low, high))
        if not any(row["admissible"] for row in rows):
            log.warning(
                "no setting of %s for %s has a mean rewrite score within %g and %g: chosen is the "
                "nearest; widen tuning.aims.%s.grid",
                *(method, problem, low, high, settings["aim"]),
            )
        tables.write(snakemake.output[0], rows, "sweep", provenance(snakemake))


def outside_study(snakemake, params, problem: str) -> list[Mapping[str, Any]]:
    """Known facts that the study does not use: of its order the last, as a larger one has them."""
    study = {row["case_id"] for row in tables.records(snakemake.input.study, "facts")}
    known = facts.known(tables.records(snakemake.input.facts, "facts"))
    others = {case_id: row for case_id, row in known.items() if case_id not in study}
    if not others:
        raise LoceditError(
            f"{snakemake.input.facts}: the study uses every known fact, and tuning needs others; "
            "make facts.study smaller"
        )
    if not PROBLEMS[problem].maximise:
        least = params.min_p_erase
        others = {case_id: row for case_id, row in others.items() if row["p_true"] >= least}
        if not others:
            raise LoceditError(
                f"{snakemake.input.facts}: no known fact outside the study has p(o_true) >= "
                f"{least:g}, as tuning {problem} needs; make facts.study or facts.min_p_erase "
                f"smaller, or take {problem} out of tuning.problems"
            )
    order = facts.study_order(others, params.seed)[::-1]
    return [others[case_id] for case_id in order[: params.settings["facts"]]]


if __name__ == "__main__":
    main(snakemake)
