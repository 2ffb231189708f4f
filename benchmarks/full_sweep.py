"""What a recommendation loses against a full sweep: all layers and settings, on facts it never saw.

    python benchmarks/full_sweep.py results/smollm2-135m-instruct/recommended \
        [--facts 20] [--fresh 40] [--editors ROME]

takes a folder that `locedit recommend` has kept, of bundled facts, and goes on in its `sweep/`
where it ended. Prints one JSON line an editor: `loss` is the mean overall score of the sweep's best
arm less that of the recommended one on fresh facts, which neither the search nor the sweep has
seen. Beside it `loss_seen`: on the sweep's own facts, which picked its best arm and so flatter it.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from locedit.api import recommending
from locedit.api.look import Look, look
from locedit.api.recommending import Wanted
from locedit.facts import record
from locedit.methods.problems import PROBLEMS
from locedit.store import tables
from locedit.study import intervals
from locedit.study.budget import Budget, Purse
from locedit.study.edit import Subject
from locedit.study.knowledge import add_knowledge
from locedit.study.recommending import Editor, Question, subjects_of, trials_of, usable
from locedit.study.trials import Arm, Pool, Trials

NO_LIMIT = Budget.parse("none")
Row = Mapping[str, Any]


def fresh_facts(seen: Look, wanted: Wanted, n: int) -> tuple[Sequence[str], list[Row]]:
    """Kinds of scores, and n known facts from behind those of the search, in its order."""
    rows, kinds, _ = usable(recommending.usable_records(wanted)[0])
    by_id = {row["case_id"]: dict(row) for row in rows}
    order = record.study_order(by_id, wanted.seed)
    searched = {row["case_id"] for row in tables.records(wanted.folder / "facts.parquet", "facts")}
    found: list[Row] = []
    for case_id in order[1 + max(map(order.index, searched)) :]:
        if len(found) == n:
            break
        row = by_id[case_id]
        add_knowledge(seen.lm, [row], completion_tokens=seen.config.facts.completion_tokens)
        found += [row] if row["is_correct"] else []
    return kinds, found


def asked(seen: Look, wanted: Wanted, n: int) -> Question:
    """The search's question, of facts that it never saw."""
    kinds, facts = fresh_facts(seen, wanted, n)
    problem, how = PROBLEMS[wanted.problem], recommending.measuring(seen.config)
    if problem.noised or problem.target == "noise":
        how = replace(how, sigma=seen.sigma(None)[0])
    known = [(record.from_row(row), row["p_true"]) for row in facts]
    return Question(
        label=seen.settings["label"],
        dataset="bundled",
        problem=problem,
        editors=[recommending.editor_of(seen, name, wanted, how) for name in wanted.editors],
        subjects=subjects_of(seen.lm, problem, known, how, seen.config.facts.min_p_erase),
        how=how,
        kinds=kinds,
        aggregate=seen.config.scores.aggregate,
    )


def swept(trials: Trials, editor: Editor, layers: int, n: int) -> dict[Arm, np.ndarray]:
    """Each arm's overall scores of the first n facts, [n]."""
    found = {}
    for layer in range(layers):
        for setting in range(len(editor.settings)):
            arm = Arm(setting=setting, layer=layer)
            found[arm] = scored(trials, arm, n)
        print(f"{editor.method}: layer {layer} of {layers}", flush=True)
    return found


def scored(trials: Trials, arm: Arm, n: int) -> np.ndarray:
    """An arm's overall scores of the first n facts, which are edited where they were not yet."""
    trials.run(arm, "held_out", n)
    return np.array(trials.scores(arm, "held_out", n))


def compared(
    trials: Trials, editor: Editor, sweep: Mapping[Arm, np.ndarray], row: Row, n: int
) -> Row:
    """The recommended arm beside the best one. n: facts, the first of which were the sweep's."""
    setting = [dict(one) for one in editor.settings].index(json.loads(row["values"]))
    own = Arm(setting=setting, layer=row["layer"])
    best = max(sweep, key=lambda arm: sweep[arm].mean())
    seen = len(sweep[own])
    fresh = {arm: scored(trials, arm, n)[seen:] for arm in (own, best)}
    return {
        "method": editor.method,
        "recommended": {"layer": own.layer, **editor.settings[own.setting]},
        "best": {"layer": best.layer, **editor.settings[best.setting]},
        "facts": n - seen,
        "overall": float(fresh[own].mean()),
        "loss": intervals.difference(list(fresh[best]), list(fresh[own])),
        "facts_seen": seen,
        "overall_seen": float(sweep[own].mean()),
        "loss_seen": intervals.difference(list(sweep[best]), list(sweep[own])),
        "median_arm": float(np.median([one.mean() for one in sweep.values()])),
        "edits_of_the_sweep": seen * len(sweep),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--facts", type=int, default=20, help="of the sweep")
    parser.add_argument("--fresh", type=int, default=40, help="facts behind them")
    parser.add_argument("--editors", nargs="+", help="of the search's (default: all)")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    kept = json.loads((options.folder / "question.json").read_text())
    wanted = Wanted(
        editors=options.editors or kept["editors"],
        problem=kept["problem"],
        budget=NO_LIMIT,
        folder=options.folder,
        seed=kept["seed"],
        results=options.results,
    )
    seen = look(options.model)
    question = asked(seen, wanted, options.facts + options.fresh)
    pools: dict[Pool, Sequence[Subject]] = {"held_out": question.subjects}
    rows = tables.records(options.folder / "layers.parquet", "recommended")
    for editor in question.editors:
        folder, purse = options.folder / "sweep" / editor.method, Purse(budget=NO_LIMIT)
        trials = trials_of(seen.lm, question, editor, pools, folder, purse)
        sweep = swept(trials, editor, seen.lm.n_layers, options.facts)
        (row,) = [r for r in rows if (r["method"], r["role"]) == (editor.method, "chosen")]
        searched = (options.folder / "trials" / editor.method).glob("*.parquet")
        edits = sum(len(tables.records(path, "trials")) for path in searched)
        told = compared(trials, editor, sweep, row, len(question.subjects))
        print(json.dumps({**told, "edits_of_the_search": edits}), flush=True)


if __name__ == "__main__":
    main()
