"""What a recommendation loses against a full sweep: all layers and settings, on facts it never saw.

    python benchmarks/full_sweep.py results/smollm2-135m-instruct/recommended [--facts 20]

takes a folder that `locedit recommend` has kept, of bundled facts, and goes on in its `sweep/`
where it ended. Prints one JSON line an editor: `loss` is the mean overall score of the best arm
less that of the recommended one. The best arm is picked on the very facts that it is scored on,
which flatters it; for `loss_split` it is picked on every other fact and scored on the rest, both
ways.
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
from locedit.study.trials import Arm, Pool

NO_LIMIT = Budget.parse("none")
Row = Mapping[str, Any]


def fresh_facts(seen: Look, wanted: Wanted, n: int) -> tuple[Sequence[str], list[Row]]:
    """Kinds of scores, and n known facts from behind those of the search, in its order."""
    rows, kinds, _ = usable(recommending.usable_records(wanted))
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


def swept(seen: Look, question: Question, editor: Editor, folder: Path) -> dict[Arm, np.ndarray]:
    """Each arm's overall scores, [facts]."""
    pools: dict[Pool, Sequence[Subject]] = {"held_out": question.subjects}
    n = len(question.subjects)
    purse = Purse(budget=NO_LIMIT)
    trials = trials_of(seen.lm, question, editor, pools, folder / editor.method, purse)
    found = {}
    for layer in range(seen.lm.n_layers):
        for setting in range(len(editor.settings)):
            arm = Arm(setting=setting, layer=layer)
            trials.run(arm, "held_out", n)
            found[arm] = np.array(trials.scores(arm, "held_out", n))
        print(f"{editor.method}: layer {layer} of {seen.lm.n_layers}", flush=True)
    return found


def compared(editor: Editor, scores: Mapping[Arm, np.ndarray], row: Row, edits: int) -> Row:
    """The recommended arm beside the sweep's best. edits: that the search has made."""

    def best(facts: slice) -> Arm:
        return max(scores, key=lambda arm: scores[arm][facts].mean())

    setting = [dict(one) for one in editor.settings].index(json.loads(row["values"]))
    own, top = Arm(setting=setting, layer=row["layer"]), best(slice(None))
    halves = slice(None, None, 2), slice(1, None, 2)
    split = [(scores[best(a)] - scores[own])[b] for a, b in (halves, halves[::-1])]
    n = len(scores[own])
    loss = intervals.difference(list(scores[top]), list(scores[own]))
    return {
        "method": editor.method,
        "facts": n,
        "recommended": {"layer": own.layer, **editor.settings[own.setting]},
        "overall": float(scores[own].mean()),
        "best": {"layer": top.layer, **editor.settings[top.setting]},
        "best_overall": float(scores[top].mean()),
        "loss": loss,
        "loss_split": float(np.concatenate(split).mean()),
        "median_arm": float(np.median([one.mean() for one in scores.values()])),
        "edits": edits,
        "edits_of_the_sweep": n * len(scores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--facts", type=int, default=20)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    kept = json.loads((options.folder / "question.json").read_text())
    wanted = Wanted(
        editors=kept["editors"],
        problem=kept["problem"],
        budget=NO_LIMIT,
        folder=options.folder,
        seed=kept["seed"],
        results=options.results,
    )
    seen = look(options.model)
    question = asked(seen, wanted, options.facts)
    rows = tables.records(options.folder / "layers.parquet", "recommended")
    for editor in question.editors:
        scores = swept(seen, question, editor, options.folder / "sweep")
        (row,) = [r for r in rows if (r["method"], r["role"]) == (editor.method, "chosen")]
        trials = (options.folder / "trials" / editor.method).glob("*.parquet")
        edits = sum(len(tables.records(path, "trials")) for path in trials)
        print(json.dumps(compared(editor, scores, row, edits)), flush=True)


if __name__ == "__main__":
    main()
