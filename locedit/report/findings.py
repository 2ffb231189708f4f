"""The report's opening paragraph: what the study found, as sentences computed from its tables.

Each function takes data frames and returns one sentence. A number that cannot be had turns its
clause into one that says so, with the reason that the table gives. Layers are said one-based.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from locedit.localizers import TRACING
from locedit.study import peaks

CHOICE = "overall"  # the score by which layers are compared
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class Design:
    """What the paragraph is about: the study's names and the choices of its configuration."""

    model: str
    dataset: str
    problems: Sequence[str]
    methods: Sequence[str]
    localizer: str
    module: str
    window: int
    effect: str  # the localizer's measure

    @property
    def problem(self) -> str:
        """The usual editing problem, or the first one that was studied."""
        return "error_injection" if "error_injection" in self.problems else self.problems[0]

    @property
    def name(self) -> str:
        """The localizer inside a sentence."""
        return _plain(self.localizer)

    @property
    def the_effect(self) -> str:
        """What it measures, likewise."""
        tracing = self.localizer == TRACING
        return "the tracing effect" if tracing else f"the effect of {self.name}"

    @property
    def the_trace(self) -> str:
        """What it says of each fact, likewise."""
        return "the trace" if self.localizer == TRACING else self.name

    @property
    def traced(self) -> dict[str, object]:
        """What tells one localization from another in the tables of the analysis."""
        keys = ("localizer", "module", "window", "effect")
        return {key: getattr(self, key) for key in keys}


def paragraph(tables: Mapping[str, pd.DataFrame], design: Design) -> list[str]:
    """Its sentences; the last one is the conclusion.

    `tables` has `facts`, `study`, `effects`, `success`, `diff_intervals`, `out_of_fold` and
    `regret`; one that is missing counts as empty.
    """
    empty = pd.DataFrame()
    regret, success = tables.get("regret", empty), tables.get("success", empty)
    sentences = [
        count(tables.get("facts", empty), tables.get("study", empty), design),
        lost(success),
        mean_peak(tables.get("effects", empty), success, design),
        best_layers(success, design),
        largest_diff(tables.get("diff_intervals", empty), tables.get("out_of_fold", empty), design),
        following(regret, design),
        conclusion(regret, design),
    ]
    return [sentence for sentence in sentences if sentence]


def count(facts: pd.DataFrame, study: pd.DataFrame, design: Design) -> str:
    """How many facts the model was asked, how many it knows, how many were studied."""
    usable = _rows(facts, status="kept")
    excluded = len(facts) - len(usable)
    aside = f" ({excluded:,} more could not be used)" if excluded else ""
    if usable.empty:
        return f"No fact of the data set {design.dataset} was put to {design.model}{aside}."
    known = int(usable["is_correct"].eq(True).sum())
    asked = (
        f"{design.model} knows {known:,} of the {len(usable):,} facts of the data set "
        f"{design.dataset} that were put to it{aside}"
    )
    if study.empty:
        return f"{asked}, and none was traced or edited."
    return f"{asked}; {len(study):,} of these {_were(len(study))} traced and edited."


def lost(success: pd.DataFrame) -> str:
    """How many edits have no scores since they failed or were not attempted; "" if all have."""
    if not {"n", "n_failed", "n_not_edited"} <= set(success.columns):
        return ""
    done, failed, passed_over = (int(success[c].sum()) for c in ("n", "n_failed", "n_not_edited"))
    parts = [f"{failed:,} failed"] if failed else []
    if passed_over:
        parts.append(
            f"{passed_over:,} {_were(passed_over)} not attempted (erasures of facts that "
            "the model hardly knows)"
        )
    if not parts:
        return ""
    return f"Of {done + failed + passed_over:,} edits {_listed(parts)}: these have no scores."


def mean_peak(effects: pd.DataFrame, success: pd.DataFrame, design: Design) -> str:
    """At which layer the mean effect is largest, and whether every fact is edited there."""
    if effects.empty:
        return ""
    layer = peaks.mean_layer(peaks.of_localizer(effects, design.traced))
    if layer is None:
        return f"Averaged over facts, {design.the_effect} is above zero at no layer."
    rows = _rows(success, problem=design.problem)
    edited = [] if rows.empty else sorted(int(one) for one in rows["layer"].unique())
    said = f"Averaged over facts, {design.the_effect} is largest at layer {layer + 1}"
    if layer in edited:
        return f"{said}, which is edited."
    others = f" (but {_listed([str(one + 1) for one in edited])})" if edited else ""
    return f"{said}, which is not edited{others}."


def best_layers(success: pd.DataFrame, design: Design) -> str:
    """The edit layer with the highest mean score of the problem, for each method."""
    rows = _rows(success, problem=design.problem)
    by_layer: dict[int, list[str]] = {}
    missing = []
    for method in design.methods:
        found = _rows(rows, method=method)
        scored = _known(found, CHOICE)
        if scored.empty:
            missing.append((method, _reason(found)))
            continue
        best = scored.sort_values([CHOICE, "layer"], ascending=[False, True]).iloc[0]
        by_layer.setdefault(int(best["layer"]) + 1, []).append(f"{method} ({best[CHOICE]:.2f})")
    if not by_layer:
        return f"The best layer to edit could not be computed: {_reasons(missing)}."
    layers = [str(int(layer) + 1) for layer in sorted(_known(rows, CHOICE)["layer"].unique())]
    best = _listed([f"{layer} with {_listed(by_layer[layer])}" for layer in sorted(by_layer)])
    return (
        f"For {_plain(design.problem)}, the best edit layer by mean {CHOICE} score is {best}, "
        f"of {_listed(layers)} tried{_but(missing)}."
    )


def largest_diff(diffs: pd.DataFrame, out_of_fold: pd.DataFrame, design: Design) -> str:
    """The largest share of the rewrite score's variance that tracing adds to the edit layer."""
    rows = _rows(diffs, **design.traced, score="rewrite")
    fitted = _known(rows, "diff")
    if fitted.empty:
        return f"What {design.name} adds to the edit layer could not be computed: {_reason(rows)}."
    top = fitted.loc[fitted["diff"].idxmax()]
    return (
        f"Beyond the edit layer, {design.the_effect} there explains at most "
        f"{top['diff']:.3f} of the rewrite score's variance ({_plain(top['problem'])} with "
        f"{top['method']}; {_interval(top, 'diff')}){_on_other_facts(out_of_fold, top, design)}"
        f"{_equivalent(fitted)}."
    )


def _on_other_facts(out_of_fold: pd.DataFrame, top: pd.Series, design: Design) -> str:
    """The same difference where it cannot be inflated: on facts that the regression lacks."""
    same = {"problem": top["problem"], "method": top["method"], "score": "rewrite"}
    found = _known(_rows(out_of_fold, **design.traced, **same), "diff")
    if found.empty:
        return ""
    return f"; on facts left out of the regression it is {_signed(found.iloc[0]['diff'], 3)}"


def _equivalent(fitted: pd.DataFrame) -> str:
    """How many differences are shown to be below the bound that counts as nothing."""
    if not {"verdict", "bound"} <= set(fitted.columns):
        return ""
    judged = fitted[fitted["verdict"].fillna("").ne("")]
    if judged.empty:
        return ""
    below = int(judged["verdict"].eq("equivalent").sum())
    return (
        f"; {below or 'none'} of the {len(judged)} pairs of problem and method {_were(below)} "
        f"shown to stay below {judged['bound'].iloc[0]:g}, which counts as nothing"
    )


def following(regret: pd.DataFrame, design: Design) -> str:
    """What editing each fact where its tracing peaks changes against one layer for all facts."""
    rows = _followed(regret, design)
    said, missing = [], []
    for method in design.methods:
        found = _rows(rows, method=method)
        known = _known(found, "versus_fixed")
        if known.empty:
            missing.append((method, _reason(found)))
            continue
        row = known.iloc[0]
        said.append(f"{_signed(row['versus_fixed'], 2)} with {method} ({_range(row)})")
    strongest = "its tracing" if design.localizer == TRACING else design.the_effect
    act = f"each fact edited where {strongest} is strongest, instead of at the best fixed layer,"
    if not said:
        return f"How the score changes with {act} could not be computed: {_reasons(missing)}."
    return (
        f"With {act} the mean {CHOICE} score changes by {_listed(said)}{_but(missing)}; the ranges "
        "are 95 % intervals."
    )


def conclusion(regret: pd.DataFrame, design: Design) -> str:
    """What these changes say, by where their intervals lie."""
    rows = _known(_known(_followed(regret, design), "versus_fixed_low"), "versus_fixed_high")
    if rows.empty:
        return f"This study does not say whether {design.name} should choose the layer to edit."
    worse = _methods(rows[rows["versus_fixed_high"] < 0], design)
    better = _methods(rows[rows["versus_fixed_low"] > 0], design)
    if better and worse:
        return (
            f"So {design.the_trace} chooses a better layer than a fixed one for {_listed(better)}, "
            f"and a worse one for {_listed(worse)}."
        )
    if better:
        return (
            f"So {design.the_trace} tells where to edit with {_listed(better)}, better than a "
            "fixed layer."
        )
    if worse:
        return (
            f"So {design.the_trace} does not tell where to edit: its layer is worse than a fixed "
            f"one with {_listed(worse)}, and better with no method."
        )
    return (
        f"All these ranges hold zero: {design.the_trace} is not shown to choose better than a "
        "fixed layer."
    )


def _followed(regret: pd.DataFrame, design: Design) -> pd.DataFrame:
    keys = {**design.traced, "problem": design.problem, "score": CHOICE}
    return _rows(regret, **keys, strategy="tracing_peak")


def _methods(rows: pd.DataFrame, design: Design) -> list[str]:
    return [method for method in design.methods if method in set(rows["method"])]


# ---- rows and words ------------------------------------------------------------------------------


def _rows(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows that have these values; none of a table that lacks one of the columns."""
    if not set(values) <= set(table.columns):
        return table.head(0)
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _known(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that have a number in a column."""
    return rows[rows[column].notna()] if column in rows else rows.head(0)


def _reason(rows: pd.DataFrame) -> str:
    given = rows["reason"].dropna() if "reason" in rows else []
    given = list(dict.fromkeys(str(reason) for reason in given if str(reason)))
    return "; ".join(given) if given else "its table has no such row"


def _reasons(missing: Iterable[tuple[str, str]]) -> str:
    """Reasons, each with the methods that share it."""
    by_reason: dict[str, list[str]] = {}
    for method, reason in missing:
        by_reason.setdefault(reason, []).append(method)
    return "; ".join(f"{reason} ({_listed(methods)})" for reason, methods in by_reason.items())


def _but(missing: Sequence[tuple[str, str]]) -> str:
    return f" (not computed: {_reasons(missing)})" if missing else ""


def _plain(name: str) -> str:
    return str(name).replace("_", " ")


def _were(n: int) -> str:
    return "was" if n <= 1 else "were"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _signed(value: float, digits: int) -> str:
    """With its sign; what rounds to zero has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _range(row: pd.Series) -> str:
    low, high = row.get("versus_fixed_low"), row.get("versus_fixed_high")
    if pd.isna(low) or pd.isna(high):
        return f"no interval: {_reason(row.to_frame().T)}"
    return f"{_signed(low, 2)} to {_signed(high, 2)}"


def _interval(row: pd.Series, name: str) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if pd.isna(low) or pd.isna(high):
        return f"no interval: {_reason(row.to_frame().T)}"
    return f"95 % interval {low:.3f} to {high:.3f}".replace("-", MINUS)
