"""Search for the layer that a method should edit, on known facts, within the rule's budget."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from locedit.api import recommending as kept
from locedit.cli import picture
from locedit.errors import LoceditError
from locedit.facts import record
from locedit.facts.record import KEPT
from locedit.methods.problems import PROBLEMS
from locedit.store import tables
from locedit.study import recommending
from locedit.study.budget import Budget, Purse
from locedit.study.edit import Measuring
from locedit.study.recommending import Costs, Editor, Question
from locedit.workflow import config as configuration
from locedit.workflow.job import (
    batch_facts,
    load_model,
    load_plugins,
    provenance,
    read_sigma,
    running,
)
from locedit.workflow.provenance import fingerprint
from locedit.workflow.shared_inputs import shared_inputs


def main(snakemake) -> None:
    with running(snakemake) as log:
        load_plugins(snakemake)
        params, settings = snakemake.params, snakemake.params.settings
        folder = Path(snakemake.output.parquet).parent
        purse = Purse(budget=Budget.parse(settings["budget"]))
        asked = {"fingerprint": fingerprint(snakemake)}
        fresh(folder, asked)
        costs = Costs(folder / "costs.json", purse)
        with costs.paid("loading the model"):
            lm = load_model(snakemake)
        question, inputs = prepared(snakemake, lm, costs)
        facts = [subject.fact for subject in question.pools["search"]]
        found, silent = recommending.peaks(
            lm,
            list(params.localizing),
            facts[: recommending.LOCALIZED],
            inputs,
            params.localizing,
            folder,
            purse,
            costs,
            window=params.window,
            say=log.info,
        )
        for name, why in silent.items():
            log.info("%s: %s", name, why)
        question = replace(question, peaks=found)
        (advice,) = recommending.recommend(lm, question, folder, purse, say=log.info)
        for what in advice.left_undone:
            log.warning("not done: %s", what)
        if advice.chosen is None:
            raise LoceditError(
                f"{advice.method} has no answer: {'; '.join(advice.left_undone)}; see "
                "recommending.budget"
            )
        tables.write(snakemake.output.parquet, advice.rows, "recommended", provenance(snakemake))
        kept.write_beside(question, [advice], folder)
        picture.save_layers(Path(snakemake.output.png), [advice], title=params.label)


def fresh(folder: Path, asked: Mapping[str, Any]) -> None:
    """Forget what another question has left in the folder; go on with what this one has."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        recommending.check_question(folder / "question.json", asked)
    except LoceditError as error:
        logging.getLogger(__name__).info("from the start: %s", error)
        for path in (*folder.rglob("*.parquet"), folder / "costs.json", folder / "question.json"):
            path.unlink(missing_ok=True)
        recommending.check_question(folder / "question.json", asked)


def prepared(snakemake, lm, costs: Costs) -> tuple[Question, Any]:
    """What is asked, and what each localizer takes."""
    params, settings = snakemake.params, snakemake.params.settings
    method, problem = snakemake.wildcards.method, PROBLEMS[settings["problem"]]
    how = Measuring.from_settings(params.measuring, sigma=read_sigma(snakemake), seed=params.seed)
    how = replace(how, generations=0)
    rows = tables.records(snakemake.input.facts, "facts")
    usable, kinds, said = recommending.usable(in_order(snakemake, rows))
    logging.getLogger(snakemake.rule).info("%s", said)
    with costs.paid("measuring the unedited model"):
        facts = [(record.from_row(row), row["p_true"]) for row in usable[: settings["facts"]]]
        size = batch_facts(snakemake, lm)
        subjects = recommending.subjects_of(lm, problem, facts, how, params.min_p_erase, size)
    with costs.paid("key statistics and contexts"):
        shared = shared_inputs(snakemake, lm, method, how)
    grid, hyper = kept.choices(
        configuration.read(dict(snakemake.config)), method, settings["problem"]
    )
    question = Question(
        label=params.label,
        dataset=params.dataset,
        problem=problem,
        editors=[Editor(method=method, settings=grid, hyper=hyper, shared=shared)],
        subjects=subjects,
        how=how,
        kinds=kinds,
        aggregate=params.aggregate,
        batch=size,
    )
    others = [record.from_row(row) for row in rows if row["status"] == KEPT]
    noise = {"sigma": how.sigma, "n_noise": how.n_noise, "noise_seed": how.noise_seed}
    return question, kept.localizing(question, others, noise, params.seed)


def in_order(snakemake, rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """Known facts in a seeded order, the study's own last."""
    study = {row["case_id"] for row in tables.records(snakemake.input.study, "facts")}
    known = record.known(rows)
    order = record.study_order(known, snakemake.params.seed)
    return [known[case_id] for case_id in sorted(order, key=lambda case_id: case_id in study)]


if __name__ == "__main__":
    main(snakemake)
