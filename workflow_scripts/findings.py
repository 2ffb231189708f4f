"""The report's opening paragraph: what the study found, as sentences computed from its tables.

Each function takes data frames and returns one sentence. A number that cannot be had turns its
clause into one that says so, with the reason that the table gives. Layers are said one-based.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

FOLLOW, FIXED = "tracing_peak", "best_fixed"
FOLLOW_LESS_FIXED = f"{FOLLOW} - {FIXED}"


@dataclass(frozen=True, kw_only=True)
class Design:
    """What the paragraph is about: the study's names and the choices of its configuration."""

    model: str
    dataset: str
    problems: Sequence[str]
    methods: Sequence[str]
    module: str
    window: int
    tracing: str  # the measure of the tracing effect

    @property
    def problem(self) -> str:
        """The usual editing problem, or the first one that was studied."""
        return "error_injection" if "error_injection" in self.problems else self.problems[0]


def paragraph(tables: Mapping[str, pd.DataFrame], design: Design) -> list[str]:
    """Its sentences, of the tables `facts`, `study`, `success`, `diff_intervals`, `regret`.

    A table that is missing counts as an empty one. The last sentence is the conclusion.
    """
    empty = pd.DataFrame()
    facts, study = tables.get("facts", empty), tables.get("study", empty)
    diffs, regret = tables.get("diff_intervals", empty), tables.get("regret", empty)
    return [
        count(facts, study, design),
        best_layers(tables.get("success", empty), design),
        largest_diff(diffs, design),
        following(regret, design),
        conclusion(regret, design),
    ]


def count(facts: pd.DataFrame, study: pd.DataFrame, design: Design) -> str:
    """How many facts the model was asked, how many it knows, how many were studied."""
    if facts.empty:
        return f"No fact of the data set {design.dataset} was put to {design.model}."
    usable = facts[facts["status"] == "kept"]
    known = int(usable["is_correct"].eq(True).sum())
    excluded = len(facts) - len(usable)
    aside = f" ({excluded:,} more could not be used)" if excluded else ""
    asked = f"{design.model} knows {known:,} of the {len(usable):,} facts of the data set "
    asked += f"{design.dataset} that were put to it{aside}"
    if study.empty:
        return f"{asked}, and none was traced or edited: there is nothing to conclude."
    were = "was" if len(study) == 1 else "were"
    return f"{asked}; {len(study):,} of these {were} traced and edited."


def best_layers(success: pd.DataFrame, design: Design) -> str:
    """The edit layer with the highest mean overall score of the problem, for each method."""
    problem = _plain(design.problem)
    rows = _rows(success, problem=design.problem)
    by_layer: dict[int, list[str]] = {}
    missing = []
    for method in design.methods:
        found = _rows(rows, method=method)
        scored = found[found["overall"].notna()] if "overall" in found else found.head(0)
        if scored.empty:
            missing.append((method, _reason(found)))
            continue
        best = scored.sort_values(["overall", "layer"], ascending=[False, True]).iloc[0]
        by_layer.setdefault(int(best["layer"]) + 1, []).append(f"{method} ({best['overall']:.2f})")
    if not by_layer:
        return f"The best layer to edit could not be computed: {_reasons(missing)}."
    layers = [str(int(layer) + 1) for layer in sorted(rows["layer"].unique())]
    best = _listed([f"{layer} with {_listed(by_layer[layer])}" for layer in sorted(by_layer)])
    return (
        f"Of the edit layers {_listed(layers)}, the best for {problem} by mean overall score is "
        f"{best}{_but(missing)}."
    )


def largest_diff(diffs: pd.DataFrame, design: Design) -> str:
    """The largest share of the rewrite score's variance that tracing adds to the edit layer."""
    rows = _rows(
        diffs,
        module=design.module,
        window=design.window,
        tracing=design.tracing,
        score="rewrite",
    )
    what = "what the tracing effect explains beyond the edit layer"
    fitted = rows[rows["diff"].notna()] if "diff" in rows else rows.head(0)
    if fitted.empty:
        return f"How much of an edit's success is {what} could not be computed: {_reason(rows)}."
    top = fitted.loc[fitted["diff"].idxmax()]
    where = f"{_plain(top['problem'])} with {top['method']}"
    sentence = (
        f"Of the rewrite score's variance, {what} is at most {top['diff']:.3f} "
        f"({where}; 95 % interval {_range(top, 3)})"
    )
    return f"{sentence}{_against_bound(top)}."


def following(regret: pd.DataFrame, design: Design) -> str:
    """What editing each fact where its tracing peaks costs against one layer for all facts."""
    rows = _rows(regret, problem=design.problem, score="overall", strategy=FOLLOW_LESS_FIXED)
    said, missing = [], []
    for method in design.methods:
        found = _rows(rows, method=method)
        known = found[found["regret"].notna()] if "regret" in found else found.head(0)
        if known.empty:
            missing.append((method, _reason(found)))
            continue
        row = known.iloc[0]
        said.append(f"{_signed(row['regret'])} with {method} ({_range(row, 2)})")
    act = "diting each fact where its tracing peaks, instead of all facts at the one best layer,"
    if not said:
        return f"What e{act} would cost could not be computed: {_reasons(missing)}."
    return (
        f"E{act} costs this much of the mean overall score (95 % intervals in brackets): "
        f"{_listed(said)}{_but(missing)}."
    )


def conclusion(regret: pd.DataFrame, design: Design) -> str:
    """What the costs of following the trace say, by where their intervals lie."""
    rows = _rows(regret, problem=design.problem, score="overall", strategy=FOLLOW_LESS_FIXED)
    if not {"low", "high"} <= set(rows.columns) or rows[["low", "high"]].dropna().empty:
        return "So this study does not say whether tracing should choose the layer to edit."
    rows = rows.dropna(subset=["low", "high"])
    worse = [m for m in design.methods if m in set(rows[rows["low"] > 0]["method"])]
    better = [m for m in design.methods if m in set(rows[rows["high"] < 0]["method"])]
    if better and worse:
        return f"So tracing chooses a better layer for {_listed(better)}, a worse for {_listed(worse)}."
    if better:
        return f"So for {_listed(better)} tracing does tell where to edit."
    if worse:
        return f"So tracing does not tell where to edit: it misleads {_listed(worse)}, and helps none."
    return "Every interval contains zero, so tracing is not shown to choose better or worse."


# ---- words ---------------------------------------------------------------------------------------


def _rows(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows that have these values; none of a table that lacks one of the columns."""
    if not set(values) <= set(table.columns):
        return table.head(0)
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _reason(rows: pd.DataFrame) -> str:
    given = rows["reason"].dropna() if "reason" in rows else []
    given = list(dict.fromkeys(str(reason) for reason in given if str(reason)))
    return "; ".join(given) if given else "the tables have no such row"


def _reasons(missing: Iterable[tuple[str, str]]) -> str:
    """Reasons with the methods that share each."""
    by_reason: dict[str, list[str]] = {}
    for method, reason in missing:
        by_reason.setdefault(reason, []).append(method)
    return "; ".join(f"{reason} ({_listed(methods)})" for reason, methods in by_reason.items())


def _but(missing: Sequence[tuple[str, str]]) -> str:
    return f"; it could not be computed for some: {_reasons(missing)}" if missing else ""


def _plain(name: str) -> str:
    return str(name).replace("_", " ")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _range(row: pd.Series, digits: int) -> str:
    if pd.isna(row.get("low")) or pd.isna(row.get("high")):
        reason = row.get("reason")
        return f"no interval: {reason}" if isinstance(reason, str) and reason else "no interval"
    return f"{_signed(row['low'], digits)} to {_signed(row['high'], digits)}"


def _against_bound(row: pd.Series) -> str:
    """Where the interval lies against the bound below which a gain is as good as none."""
    if any(pd.isna(row.get(column)) for column in ("low", "high", "bound")):
        return ""
    if row["high"] < row["bound"]:
        return f", which is below the bound of {row['bound']:g}: as good as nothing"
    if row["low"] > row["bound"]:
        return f", which is more than the bound of {row['bound']:g} for nothing to speak of"
    return f", so that neither a gain above the bound of {row['bound']:g} nor its absence is shown"
