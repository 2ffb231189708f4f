"""The five editing problems as data (Hase et al. 2023, section 5; METHODS section 3)."""

from dataclasses import dataclass
from typing import Literal

ObjectName = Literal["true", "false", "noise"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What an edit aims at.

    target: whose probability the edit moves: o_true, o_false, or o_noise (the model's own
    continuation of the corrupted prompt). other: the object it is compared with in the ROME
    suite's successes and magnitudes. maximise: False for erasure. noised: the subject's embeddings
    carry the tracing noise while the fact is edited and while its rewrite prompt is scored.
    """

    name: str
    target: ObjectName
    other: ObjectName
    maximise: bool = True
    noised: bool = False


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
class Request:
    """One fact to edit. template holds one `{}`; target is without its leading space."""

    case_id: str
    template: str
    subject: str
    target: str
    problem: Problem

    @property
    def prompt(self) -> str:
        return self.template.replace("{}", self.subject)
