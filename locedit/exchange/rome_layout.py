"""Edits in the layout of the ROME suite's results, and the figures that its `summarize` gives.

Meng et al. 2022 (arXiv 2202.05262; `experiments/evaluate.py`, `experiments/summarize.py`). A run is
a method at one layer for one problem; a case is one edited fact. The suite stores the mean negative
log-probability of a target's tokens, the editing tables log p of the whole target: the tokenizer
says how many tokens a target has.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from locedit.methods.problems import PROBLEMS
from locedit.study.scores import ngram_entropy
from locedit.windows import EMBEDDING

STAGES = {"pre": "before", "post": "after"}
KINDS = {"rewrite": "rewrite", "paraphrase": "paraphrase", "neighborhood": "neighbourhood"}
PLAIN = ("ngram_entropy", "essence_score")  # averaged as they are

Row = Mapping[str, Any]


def run_name(problem: str, layer: int, n_layers: int) -> str:
    """`run_<id>`: the problem's number times the model's layers, plus the layer.

    So a run keeps its name when other layers or problems join the study. Behind all of these stand
    edits of the embedding, a number for each problem.
    """
    if layer == EMBEDDING:
        return f"run_{len(PROBLEMS) * n_layers + list(PROBLEMS).index(problem):03}"
    return f"run_{list(PROBLEMS).index(problem) * n_layers + layer:03}"


def case_numbers(case_ids: Sequence[str]) -> dict[str, int]:
    """The whole number that stands for each fact, as the suite's readers want one.

    The data set's own, if all of them are whole numbers (CounterFact), else the place in the study:
    a file is named by it, so nothing else of a record's is.
    """
    if all(case_id.isascii() and case_id.isdigit() and len(case_id) <= 18 for case_id in case_ids):
        numbers = {case_id: int(case_id) for case_id in case_ids}
        if len(set(numbers.values())) == len(numbers):
            return numbers
    return {case_id: number for number, case_id in enumerate(case_ids)}


def objects(problem: str) -> tuple[str, str]:
    """Which column is (target_new, target_true): the object that should win, and the other one."""
    return ("target", "other") if PROBLEMS[problem].maximise else ("other", "target")


def case(edit: Row, fact: Row, number: int, n_tokens: Callable[[str, str], int]) -> dict[str, Any]:
    """One case file, from the fact's rows of the editing and the facts table.

    n_tokens: how many tokens a target has behind a prompt, (target, prompt). `time` is NaN, a
    number to the suite's readers: facts are edited side by side, so that none has a time of its
    own.
    """
    new, true = objects(edit["problem"])
    rewrite = {
        "prompt": fact["template"],
        "relation_id": fact["relation_id"],
        "target_new": {"str": edit[new]},
        "target_true": {"str": edit[true]},
        "subject": fact["subject"],
    }
    return {
        "case_id": number,
        "fact": edit["case_id"],
        "requested_rewrite": rewrite,
        "time": float("nan"),
        "post": _measured(edit, fact, STAGES["post"], n_tokens),
        "pre": _measured(edit, fact, STAGES["pre"], n_tokens),
    }


def _measured(
    edit: Row, fact: Row, when: str, n_tokens: Callable[[str, str], int]
) -> dict[str, Any]:
    """What was measured before or after the edit; a key without numbers is left out."""
    names = dict(zip(("target_new", "target_true"), objects(edit["problem"]), strict=True))
    values: dict[str, Any] = {}
    prompts = {
        "rewrite": [fact["prompt"]],
        "paraphrase": fact["paraphrases"],
        "neighbourhood": fact["neighbourhood"],
    }
    for theirs, ours in KINDS.items():
        columns = {}
        for name, of in names.items():
            log_p = np.atleast_1d(edit[f"{ours}_{of}_{when}"])
            # of a kind's prompts the first so many are measured
            tokens = [n_tokens(edit[of], prompt) for prompt in prompts[ours][: len(log_p)]]
            columns[name] = -log_p / np.array(tokens)
        pairs = zip(*(column.tolist() for column in columns.values()), strict=True)
        values[f"{theirs}_prompts_probs"] = [dict(zip(columns, p, strict=True)) for p in pairs]
    texts, perplexity = list(edit[f"generations_{when}"]), list(edit[f"perplexity_{when}"])
    entropy = ngram_entropy(texts)
    values |= {"ngram_entropy": entropy if np.isfinite(entropy) else None, "text": texts}
    values["essence_score"] = float(np.mean(perplexity)) if perplexity else None
    return {key: value for key, value in values.items() if value not in (None, [])}


def write_run(folder: Path, params: Row, cases: Iterable[Row]) -> None:
    """params.json and case_<i>.json of one run, in a new folder."""
    folder.mkdir(parents=True)
    _write_json(folder / "params.json", params)
    for values in cases:
        _write_json(folder / f"case_{values['case_id']}.json", values)


def _write_json(path: Path, values: Row) -> None:
    text = json.dumps(values, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def summarise(cases: Sequence[Row]) -> dict[str, Any]:
    """A run's figures as the suite's `summarize` has them: means over cases, `_std` beside each.

    Successes and differences are in percent, and so (times 100) is the n-gram entropy; the essence
    score is the perplexity itself. `_score` is the harmonic mean of the three successes. A figure
    that no case has is left out.
    """
    summary: dict[str, Any] = {"num_cases": len(cases)}
    for stage in STAGES:
        for name, values in _of_cases(cases, stage).items():
            if values:
                scale = 1 if name == "essence_score" else 100
                summary[f"{stage}_{name}"] = scale * float(np.mean(values))
                summary[f"{stage}_{name}_std"] = scale * float(np.std(values))
        successes = [f"{stage}_{kind}_success" for kind in KINDS]
        if all(name in summary for name in successes):
            summary[f"{stage}_score"] = harmonic_mean([summary[name] for name in successes])
    return summary


def _of_cases(cases: Sequence[Row], stage: str) -> dict[str, list[float]]:
    """Each figure's value in each case that has it."""
    figures: dict[str, list[float]] = {}
    for kind in KINDS:
        # among neighbours the true object should stay ahead
        sign = -1 if kind == "neighborhood" else 1
        prompts = [case[stage].get(f"{kind}_prompts_probs", []) for case in cases]
        pairs = [
            np.array([[p["target_new"], p["target_true"]] for p in ps]) for ps in prompts if ps
        ]
        figures[f"{kind}_success"] = [np.mean(sign * (nll[:, 1] - nll[:, 0]) > 0) for nll in pairs]
        figures[f"{kind}_diff"] = [
            np.mean(sign * (np.exp(-nll[:, 0]) - np.exp(-nll[:, 1]))) for nll in pairs
        ]
    for name in PLAIN:
        figures[name] = [case[stage][name] for case in cases if name in case[stage]]
    return figures


def harmonic_mean(values: Sequence[float]) -> float:
    """n / sum(1 / x); 0 where one of them is."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)
