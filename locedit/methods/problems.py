"""The five editing problems as data (Hase et al. 2023, section 5; METHODS section 3)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from locedit.text import subjects

ObjectName = Literal["true", "false", "noise"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What an edit aims at.

    target: whose probability the edit moves: o_true, o_false, or o_noise (the model's own
    continuation of the corrupted prompt). other: the object it is compared with in the ROME
    suite's successes and magnitudes. maximise: False for erasure. noised: the subject's embeddings
    carry the tracing noise while the fact is edited and while its rewrite prompt is scored. The
    last two are quirks: prompt_in_target, o_noise is the prompt and its continuation;
    bare_positions, every row is noised where the subject stands in the bare prompt.
    """

    name: str
    target: ObjectName
    other: ObjectName
    maximise: bool = True
    noised: bool = False
    prompt_in_target: bool = False
    bare_positions: bool = False


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem(name="error_injection", target="false", other="true"),
        Problem(name="tracing_reversal", target="noise", other="true"),
        Problem(name="fact_erasure", target="true", other="false", maximise=False),
        Problem(name="fact_amplification", target="true", other="false"),
        Problem(name="fact_forcing", target="true", other="false", noised=True),
    )
}


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """A habit of the released code that changes numbers (METHODS section 8), off by default.

    It sets `field` of the problem. stage: the first one whose numbers change, `baseline` or `edit`.
    """

    problem: str
    field: str
    stage: Literal["baseline", "edit"]


QUIRKS: dict[str, Quirk] = {
    "reversal_prompt_in_target": Quirk(
        problem="tracing_reversal", field="prompt_in_target", stage="baseline"
    ),
    "forcing_noise_position": Quirk(problem="fact_forcing", field="bare_positions", stage="edit"),
}


def named(name: str, quirks: Iterable[str] = ()) -> Problem:
    """The problem of that name, with those of the quirks that concern it."""
    problem = PROBLEMS[name]
    for quirk in (QUIRKS[one] for one in quirks):
        if quirk.problem == name:
            changed: dict[str, Any] = {quirk.field: True}
            problem = replace(problem, **changed)
    return problem


@dataclass(frozen=True, kw_only=True)
class Request:
    """One fact to edit. template holds one `{}`; target is without its leading space.

    true: o_true, which is the target itself in some problems; None where nobody told it.
    """

    case_id: str
    template: str
    subject: str
    target: str
    problem: Problem
    true: str | None = None

    @property
    def prompt(self) -> str:
        return self.template.replace("{}", self.subject)

    @property
    def subject_start(self) -> int:
        """Characters of the prompt before the subject."""
        return subjects.in_template(self.template, self.subject)
