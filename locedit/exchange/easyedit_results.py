"""A run's results as EasyEdit keeps them: one JSON list, an entry for each edited fact.

Written from a run in the ROME suite's layout (`rome_layout`), which has the same numbers. EasyEdit
computes `..._acc` from the tokens that the model would write, which no table here has: an accuracy
is 1 where the wanted object is the likelier of the two, as the ROME suite counts success, and
`..._ppl` is exp of the target's negative log-probability per token, as EasyEdit has it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from locedit.errors import LoceditError
from locedit.messages import one_line
from locedit.store.files import atomic

Case = Mapping[str, Any]


def read_run(folder: Path) -> list[Case]:
    """The cases of a run's folder, by their numbers.

    Raises LoceditError where it is no such folder, or a file in it is no case.
    """
    paths = sorted(folder.glob("case_*.json"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise LoceditError(
            f"--run: {folder} has no case_I.json; `snakemake rome_layout` writes folders of them, "
            "results/MODEL/DATASET/rome/METHOD/run_ID"
        )
    return [_read(path) for path in paths]


def _read(path: Path) -> Case:
    try:
        case = json.loads(path.read_text(encoding="utf-8"))
        entry(case)
    except (OSError, ValueError) as error:
        raise LoceditError(f"{path} cannot be read as JSON: {one_line(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise LoceditError(
            f"{path} is no case of the ROME suite's layout ({one_line(repr(error))}); delete its "
            "run and lay it out again: snakemake rome_layout"
        ) from error
    return case


def entry(case: Case) -> dict[str, Any]:
    """One fact's entry of the list."""
    asked = case["requested_rewrite"]
    return {
        "pre": _measured(case["pre"]),
        "case_id": case["case_id"],
        "requested_rewrite": {
            "prompt": asked["prompt"].replace("{}", asked["subject"], 1),
            "target_new": asked["target_new"]["str"],
            "ground_truth": asked["target_true"]["str"],
            "subject": asked["subject"],
            "relation_id": asked["relation_id"],
        },
        "post": _measured(case["post"]),
    }


def _measured(stage: Mapping[str, Any]) -> dict[str, Any]:
    near, again = (
        stage.get(f"{kind}_prompts_probs", []) for kind in ("neighborhood", "paraphrase")
    )
    entropy = stage.get("ngram_entropy")
    return {
        **_of_prompts("rewrite", stage["rewrite_prompts_probs"]),
        **(_of_prompts("rephrase", again) if again else {}),  # their summary takes means of all
        # among neighbours the true object should stay ahead
        "locality": {"neighborhood_acc": [1 - one for one in _won(near)]} if near else {},
        "portability": {},
        "fluency": {} if entropy is None else {"ngram_entropy": entropy},
    }


def _of_prompts(kind: str, pairs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    return {
        f"{kind}_acc": _won(pairs),
        f"{kind}_ppl": [math.exp(min(pair["target_new"], 700.0)) for pair in pairs],
    }


def _won(pairs: Sequence[Mapping[str, float]]) -> list[float]:
    """1 where target_new is likelier than target_true; both are negative log-probabilities."""
    return [float(pair["target_new"] < pair["target_true"]) for pair in pairs]


def write(path: Path, cases: Sequence[Case]) -> None:
    """Write the list, whole or not at all."""
    with atomic(path) as temporary:
        entries = [entry(case) for case in cases]
        text = json.dumps(entries, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
