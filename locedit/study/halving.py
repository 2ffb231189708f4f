"""Successive halving over layers and settings (Karnin, Koren and Somekh 2013, "Almost optimal
exploration in multi-armed bandits"), within a budget, on nested sets of facts.

All layers are tried at one setting, the best third at all settings; then the better half of what is
left goes on, on twice as many facts, until three remain. Each round may cost the same. Decisions
depend on scores and on recorded costs alone, so they are the same when a search is taken up again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from locedit.study.trials import Arm, Pool, Trials

FINALISTS = 3  # arms at which halving ends
LEAST_LAYERS = 3  # that make a screen
SEARCHING = 0.65  # of an editor's part of the budget; the rest is for held-out facts
SCREENING = 0.5  # of what may be spent on searching, at most, before layers are left out
LEAST_HELD_OUT = 8  # facts, below which fewer arms are measured on them

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Arms that were compared on so many facts, the best first."""

    arms: list[Arm]
    facts: int


@dataclass(kw_only=True)
class Search:
    """What a search did. layers: that were tried; rounds: as they went.

    chosen: its answer, None where not even a screen could be afforded; rivals: the best arm of
    each other layer, those that went furthest first. held_out: arms that were measured on so many
    held-out facts. left_undone: what the budget did not allow, in words.
    """

    layers: list[int] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    chosen: Arm | None = None
    rivals: list[Arm] = field(default_factory=list)
    held_out: list[Arm] = field(default_factory=list)
    facts_held_out: int = 0
    left_undone: list[str] = field(default_factory=list)


def search(
    trials: Trials,
    n_layers: int,
    n_settings: int,
    *,
    limit: float,
    reference: int = 0,
    pointed_at: Sequence[int] = (),
    say: Say = lambda _: None,
) -> Search:
    """Find an editor's layer and setting, and measure the answer on held-out facts.

    limit: what this may cost, in the budget's unit. reference: the setting at which all layers are
    tried. pointed_at: layers that are tried even where there is no money for all.
    """
    found, purse = Search(), trials.purse
    start = purse.spent
    searching = start + SEARCHING * limit
    trials.run(Arm(setting=reference, layer=n_layers // 2), "search", 1)  # what an edit costs
    found.layers = _affordable(trials, n_layers, reference, pointed_at, searching)
    if not found.layers:
        return found
    if len(found.layers) < n_layers:
        found.left_undone.append(
            f"only {len(found.layers)} of {n_layers} layers were tried: those between them may be "
            "better"
        )
    _halve(trials, found, n_settings, reference, searching, say)
    _order(trials, found)
    say("held-out facts")
    _hold_out(trials, found, pointed_at, start + limit)
    return found


def _affordable(
    trials: Trials, n_layers: int, setting: int, pointed_at: Sequence[int], until: float
) -> list[int]:
    """The layers to screen: all, or evenly spread ones and those pointed at; none of too few."""
    room = SCREENING * (until - trials.purse.spent)
    for stride in range(1, n_layers + 1):
        spread = set(_spread(n_layers, stride))
        for layers in (spread | set(pointed_at), spread):
            arms = [Arm(setting=setting, layer=layer) for layer in layers]
            if len(layers) < min(LEAST_LAYERS, n_layers):
                break
            if trials.expected(arms, "search", 1) <= room:
                return sorted(layers)
    return []


def _spread(n_layers: int, stride: int) -> range:
    """Evenly spread layers, with the middle one."""
    return range(n_layers // 2 % stride, n_layers, stride)


def least(n_layers: int) -> int:
    """Of how many layers a screen is at least."""
    counts = (len(_spread(n_layers, stride)) for stride in range(1, n_layers + 1))
    return min(count for count in counts if count >= min(LEAST_LAYERS, n_layers))


def sizes(n_layers: int, n_settings: int) -> list[int]:
    """Arms of each round: layers at one setting, the best third at all settings, then halves."""
    found = [n_layers]
    if n_layers > FINALISTS or n_settings > 1:
        found.append(max(min(FINALISTS, n_layers), math.ceil(n_layers / 3)) * n_settings)
    while found[-1] > FINALISTS:
        found.append(max(FINALISTS, math.ceil(found[-1] / 2)))
    return found


def _halve(
    trials: Trials, found: Search, n_settings: int, reference: int, until: float, say: Say
) -> None:
    arms = [Arm(setting=reference, layer=layer) for layer in found.layers]
    planned, facts = sizes(len(arms), n_settings), 1
    for index, size in enumerate(planned):
        if index == 1 and n_settings > 1:
            kept = arms[: size // n_settings]
            arms = [Arm(setting=s, layer=arm.layer) for arm in kept for s in range(n_settings)]
            # the setting that is known comes first, should there be no money for others
            arms.sort(key=lambda arm: (arm.setting != reference, kept.index(_at(arm, reference))))
        else:
            arms = arms[:size]
        say(f"round {index + 1} of {len(planned)}, {len(arms)} layers and settings")
        share = (until - trials.purse.spent) / (len(planned) - index)
        arms, facts = _compare(trials, arms, facts, share, until)
        if index == 1 and n_settings > 1 and not any(arm.setting != reference for arm in arms):
            found.left_undone.append("one setting was tried: there was no room for others")
        found.rounds.append(Round(arms=arms, facts=facts))


def _at(arm: Arm, setting: int) -> Arm:
    return Arm(setting=setting, layer=arm.layer)


def _compare(
    trials: Trials, arms: list[Arm], facts: int, share: float, until: float
) -> tuple[list[Arm], int]:
    """The arms, best first, on as many facts as a share allows; at least on those they had.

    Arms for which even that is too much are left out.
    """
    end = trials.purse.spent + share
    reached = [arm for arm in arms if _bring(trials, arm, "search", facts, until)]
    while reached and facts < len(trials.pools["search"]):
        left = min(end, until) - trials.purse.spent
        each = trials.expected(reached, "search", facts + 1)
        more = 8 if each <= 0 else int(min(8, left / each))
        if more < 1:
            break
        goal = min(facts + more, len(trials.pools["search"]))
        if not all(_bring(trials, arm, "search", goal, until) for arm in reached):
            break
        facts = goal
    return ranked(trials, reached, facts), facts


def _bring(trials: Trials, arm: Arm, pool: Pool, facts: int, until: float) -> bool:
    """Have an arm tried on so many facts, if there is money for it."""
    expected = trials.expected([arm], pool, facts)
    if expected > 0 and trials.purse.spent + expected > until:
        return False
    trials.run(arm, pool, facts)
    return True


def ranked(trials: Trials, arms: Sequence[Arm], facts: int) -> list[Arm]:
    """Arms by their mean overall score on the first facts, the best first."""

    def key(arm: Arm) -> tuple[float, int, int]:
        scores = trials.scores(arm, "search", facts)
        return -sum(scores) / max(1, len(scores)), arm.layer, arm.setting

    return sorted(arms, key=key)


def _order(trials: Trials, found: Search) -> None:
    """The chosen arm, and of each other layer the best one of the last round that it was in."""
    best: dict[int, Arm] = {}
    for one in reversed(found.rounds):
        for arm in one.arms:
            best.setdefault(arm.layer, arm)
    if best:
        found.chosen, *found.rivals = best.values()


def _hold_out(trials: Trials, found: Search, pointed_at: Sequence[int], until: float) -> None:
    """Measure the chosen arm, the next best layers and those pointed at on held-out facts."""
    if found.chosen is None:
        return
    own = found.chosen
    at_pointed = [Arm(setting=own.setting, layer=layer) for layer in pointed_at]
    wanted = list(dict.fromkeys([own, *found.rivals[: FINALISTS - 1], *at_pointed]))
    pool = len(trials.pools["held_out"])
    arms, facts = list(wanted), 0
    while arms:
        left = until - trials.purse.spent
        each = trials.expected(arms, "held_out", 1)
        facts = pool if each <= 0 else int(min(pool, left / each))
        if facts >= min(LEAST_HELD_OUT, pool) or (len(arms) <= 2 and facts >= 2):
            break
        arms.pop()
    if len(arms) < len(wanted) and arms:
        found.left_undone.append(
            f"{len(arms)} of {len(wanted)} layers of interest were measured on held-out facts"
        )
    done = 0
    while arms and done < facts:  # step by step, so that all have the same facts at any time
        goal = min(done + 4, facts)
        if not all(_bring(trials, arm, "held_out", goal, until) for arm in arms):
            break
        done = goal
    found.held_out, found.facts_held_out = (arms if done else []), done
    if done < 2:
        found.left_undone.append(
            "there was no room for held-out facts: the scores are of facts that the choice was "
            "made by, which flatters it"
        )
    elif done < min(LEAST_HELD_OUT, pool):
        found.left_undone.append(f"{done} held-out facts are few: the intervals are wide")
