"""What a search for a layer found, as a table, and in what words: how good, how sure, what else."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from locedit.messages import commonest
from locedit.outcomes import OK
from locedit.study.halving import Search
from locedit.study.intervals import LEVEL, bounded, difference
from locedit.study.trials import Arm, Pool, Trials
from locedit.study.tuning import in_words
from locedit.windows import window_layers

CHOSEN, RUNNER_UP, OTHER = "chosen", "runner-up", "other"
WRITTEN = 0.0005  # a mean rewrite score below it, which is printed as .000, is that of no edit


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One editor's answer. rows: of the table `recommended`, a layer each, by layer; empty where
    not even a screen was made, for which `left_undone` has the reason.

    settings: of the chosen arm, as the method takes them. spent: of the budget, in its words.
    """

    method: str
    problem: str
    n_layers: int
    kinds: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_undone: Sequence[str] = ()
    failures: str = ""
    n_edits: int = 0
    spent: str = ""

    @property
    def chosen(self) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["role"] == CHOSEN), None)

    @property
    def writes(self) -> bool:
        """Whether edits as chosen write anything; True where no rewrite score can tell."""
        rewrite = None if self.chosen is None else self.chosen.get("rewrite")
        return rewrite is None or math.isnan(rewrite) or rewrite >= WRITTEN

    @property
    def runner_up(self) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["role"] == RUNNER_UP), None)


def rows(
    trials: Trials,
    found: Search,
    names: Mapping[str, Any],
    settings: Sequence[Mapping[str, Any]],
    window: int,
    n_layers: int,
    peaks: Mapping[str, int],
) -> list[dict[str, Any]]:
    """A row a layer that was tried, at its best setting: its scores, and what it would cost.

    names: of the model, data set, method and problem. peaks: each localizer's layer.
    """
    if found.chosen is None:
        return []
    arms = {arm.layer: arm for arm in (found.chosen, *found.rivals)}
    for arm in found.held_out:
        # a layer that a localizer points at is measured at the chosen setting, and shown at that
        # unless it was measured at its own best one
        if arms.get(arm.layer) not in found.held_out:
            arms[arm.layer] = arm
    runner_up = found.rivals[0] if found.rivals else None
    table = []
    for layer, arm in sorted(arms.items()):
        role = CHOSEN if arm == found.chosen else RUNNER_UP if arm == runner_up else OTHER
        table.append(
            {
                **names,
                "layer": layer,
                "layers": list(window_layers(layer, window, n_layers)),
                "setting": in_words(settings[arm.setting]),
                "values": json.dumps(dict(settings[arm.setting])),
                "role": role,
                "localizers": [name for name, peak in peaks.items() if peak == layer],
                **_scores(trials, arm, found),
                **_cost(trials, arm, found, len(arms) - 1),
            }
        )
    return table


def _scores(trials: Trials, arm: Arm, found: Search) -> dict[str, Any]:
    searched = trials.scores(arm, "search", trials.count(arm, "search"))
    mean, low, high = bounded(searched)
    made: dict[str, Any] = {
        "n_searched": len(searched),
        "searched": mean,
        "searched_low": low,
        "searched_high": high,
        "n_held_out": 0,
    }
    if arm in found.held_out:
        made["n_held_out"] = found.facts_held_out
        for kind in trials.kinds:
            values = trials.scores(arm, "held_out", found.facts_held_out, kind)
            ends = zip(("", "_low", "_high"), bounded(values), strict=True)
            made |= {f"{kind}{end}": value for end, value in ends}
    return made


def _cost(trials: Trials, arm: Arm, found: Search, n_others: int) -> dict[str, Any]:
    """What the chosen arm's overall score is above an arm's, fact by fact, with an interval.

    On held-out facts; where the arm has none, on facts searched by, which flatters the chosen one.
    told_apart: whether an interval adjusted for all layers (Bonferroni) leaves out 0.
    """
    own = found.chosen
    if own is None or arm == own:
        return {}
    pool: Pool = "held_out" if arm in found.held_out and found.facts_held_out > 1 else "search"
    facts = found.facts_held_out if pool == "held_out" else trials.count(arm, pool)
    facts = min(facts, trials.count(own, pool))
    pair = trials.scores(own, pool, facts), trials.scores(arm, pool, facts)
    mean, low, high = difference(*pair)
    _, sure_low, sure_high = difference(*pair, 1 - (1 - LEVEL) / max(1, n_others))
    return {
        "cost": mean,
        "cost_low": low,
        "cost_high": high,
        "told_apart": bool(sure_low > 0 or sure_high < 0),
    }


def failures(trials: Trials) -> str:
    """The reasons of edits that failed, which score 0; "" where none did."""
    statuses = trials.statuses
    failed = [status for status in statuses if status != OK]
    if not failed:
        return ""
    return f"{len(failed)} of {len(statuses)} edits failed and score 0: {commonest(failed)}"


# ---- how sure ------------------------------------------------------------------------------------


def together(layers: Sequence[int]) -> str:
    """Layers in words: "0, 2 to 5 and 9"."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    said = [
        str(run[0]) if len(run) == 1 else f"{run[0]} {'to' if len(run) > 2 else 'and'} {run[-1]}"
        for run in runs
    ]
    if len(said) == 1:
        return said[0]
    joint = ", " if any(" and " in one for one in said) else " and "
    return f"{', '.join(said[:-1])}{joint}{said[-1]}"


def _layers(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {together(layers)}"


def certainty(advice: Advice) -> list[str]:
    """How sure the answer is, in sentences: what cannot be told apart, what was dropped, what is
    worse beyond doubt.
    """
    own = advice.chosen
    if own is None:
        return []
    others = [row for row in advice.rows if row is not own]
    alike = [row["layer"] for row in others if row["n_held_out"] > 1 and not row["told_apart"]]
    worse = [row["layer"] for row in others if row["told_apart"] and row["cost"] > 0]
    better = [row["layer"] for row in others if row["told_apart"] and row["cost"] < 0]
    dropped = [r["layer"] for r in others if r["n_held_out"] < 2 and not r["told_apart"]]
    found = []
    if not advice.writes:
        found.append(
            "Nothing is written: the rewrite score on held-out facts is .000, and no layer and "
            "setting that was tried has a better overall score. Try another editor, or other "
            "settings (recommending.grid); this answer is not put into recommended.yaml."
        )
    if alike:
        same = [own["layer"], *alike]
        found.append(f"{_layers(same).capitalize()} cannot be told apart on held-out facts.")
    elif own["n_held_out"] > 1 and any(row["n_held_out"] > 1 for row in others):
        found.append("It is told apart from every layer measured on held-out facts.")
    if better:
        found.append(
            f"{_layers(better).capitalize()} did better on the held-out facts: the choice by the "
            "other facts was wrong, or luck."
        )
    if worse:
        found.append(f"{_layers(worse).capitalize()}: worse beyond doubt.")
    if dropped:
        few, many = (
            f([r["n_searched"] for r in others if r["layer"] in dropped]) for f in (min, max)
        )
        count = f"{few}" if few == many else f"{few} to {many}"
        found.append(
            f"{_layers(dropped).capitalize()}: dropped for lower scores on {count} "
            f"fact{'' if many == 1 else 's'}, which is no proof."
        )
    return found


def is_number(value: Any) -> bool:
    """Whether a cell has a number."""
    return value is not None and not math.isnan(value)
