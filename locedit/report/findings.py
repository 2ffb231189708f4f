"""The report's opening paragraph: what the study found, as sentences computed from its tables.

Each function takes data frames and returns one sentence. A number that cannot be had turns its
clause into one that says so, with the reason that the table gives. Layers are said one-based.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from locedit.facts.formats import PLANTED
from locedit.localizers import TRACING
from locedit.study import peaks
from locedit.windows import EMBEDDING

AMONG = "among the edited layers"  # the estimand where not all facts peak at one of them
PAIR = ("problem", "method", "score")
PLACEBO = "placebo"
MINUS = "\N{MINUS SIGN}"
CONCLUSION = 1  # its place in the paragraph, behind what was asked
# What a comparison needs to be told: as in analysis/verdict.R, which has them for the primary one.
ENOUGH_FACTS = 40
ENOUGH_PEAKS = 0.5  # share of facts that peak at a layer at which all are edited


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
    controls: Sequence[str] = ()  # localizers that are no claim about where a fact is held

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
    def done(self) -> str:
        """What was done with a fact to have that."""
        return "traced" if self.localizer == TRACING else "localized"

    @property
    def traced(self) -> dict[str, object]:
        """What tells one localization from another in the tables of the analysis."""
        keys = ("localizer", "module", "window", "effect")
        return {key: getattr(self, key) for key in keys}


def paragraph(tables: Mapping[str, pd.DataFrame], design: Design) -> list[str]:
    """Its sentences: what was asked before the study, the conclusion (at CONCLUSION), what other
    localizers add to it, and what it rests on.

    `tables` has `facts`, `study`, `effects`, `success`, `choice`, `verdict` and, of planted facts,
    `hits`; one that is missing counts as empty.
    """
    empty = pd.DataFrame()
    verdict, success = tables.get("verdict", empty), tables.get("success", empty)
    sentences = [
        compared(verdict),
        conclusion(verdict, design),
        beside(verdict, tables.get("choice", empty), design),
        planted(tables.get("hits", empty), tables.get("choice", empty), verdict, design),
        count(tables.get("facts", empty), tables.get("study", empty), design),
        mean_peak(tables.get("effects", empty), success, verdict, design),
        lost(success),
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
        return f"{asked}, and none was {design.done} or edited."
    of_these = int(study["is_correct"].eq(True).sum()) if "is_correct" in study else len(study)
    if of_these < len(study):
        return (
            f"{asked}; {len(study):,} of all these {_were(len(study))} {design.done} and edited, "
            f"{of_these:,} known and {len(study) - of_these:,} not, and every number is of both."
        )
    return f"{asked}; {len(study):,} of these {_were(len(study))} {design.done} and edited."


def lost(success: pd.DataFrame) -> str:
    """How many edits have no scores since they failed or were not attempted; "" if all have."""
    if not {"n", "n_failed", "n_not_edited"} <= set(success.columns):
        return ""
    done, failed, passed_over = (int(success[c].sum()) for c in ("n", "n_failed", "n_not_edited"))
    parts = [f"{failed:,} failed"] if failed else []
    if passed_over:
        parts.append(
            f"{passed_over:,} {_were(passed_over)} not attempted (erasures of facts that "
            "the model hardly knows, or facts of which a method has no edit)"
        )
    if not parts:
        return ""
    return f"Of {done + failed + passed_over:,} edits {_listed(parts)}: these have no scores."


def mean_peak(
    effects: pd.DataFrame, success: pd.DataFrame, verdict: pd.DataFrame, design: Design
) -> str:
    """At which layer the mean effect is largest, and whether it is edited in the comparison that
    was named before the study (without one, in the usual problem).
    """
    if effects.empty:
        return ""
    layer = peaks.mean_layer(peaks.of_localizer(effects, design.traced))
    if layer is None:
        return f"Averaged over facts, {design.the_effect} is above zero at no layer."
    pair: dict[str, object] = {"problem": design.problem}
    if not verdict.empty and verdict.iloc[0][["problem", "method"]].notna().all():
        pair = {key: verdict.iloc[0][key] for key in ("problem", "method")}
    rows = _rows(success, **pair)
    edited = [] if rows.empty else sorted({int(one) for one in rows["layer"]} - {EMBEDDING})
    said = f"Averaged over facts, {design.the_effect} is largest at layer {layer + 1}"
    if layer in edited:
        return f"{said}, which is edited."
    others = f" (but {_listed([str(one + 1) for one in edited])})" if edited else ""
    return f"{said}, which is not edited{others}."


def compared(verdict: pd.DataFrame) -> str:
    """The comparison that was named before the study, and where it was made."""
    if verdict.empty:
        return "The comparison that was named before the study is missing: its table is empty."
    row = verdict.iloc[0]
    if row[["localizer", "problem", "method", "score"]].isna().any():
        return f"The comparison that was named before the study was not made: {row['reason']}."
    pair = f"{_plain(row['problem'])} with {row['method']}, by {_plain(row['score'])}"
    named = (
        f"The comparison that was named before the study is {_plain(row['localizer'])} in {pair}"
    )
    if row["verdict"] == "not_run":
        return f"{named}; it was not made: {row['reason']}."
    return (
        f"{named}, of {int(row['n_facts']):,} facts at {int(row['n_layers'])} layers; "
        f"{row['share_edited']:.0%} of the facts peak at one of these."
    )


def conclusion(verdict: pd.DataFrame, design: Design) -> str:
    """What that comparison says, or what size of a study would say it."""
    told = "" if verdict.empty else str(verdict.iloc[0]["verdict"])
    if told in ("", "not_run"):
        return f"This study does not say whether {design.name} tells where to edit."
    row = verdict.iloc[0]
    if told == "cannot_say":
        return (
            f"That is too little to say whether {design.the_trace} tells where to edit "
            f"({row['reason']}){_needed(row)}."
        )
    gain = f"by {_signed(row['gain'], 2)}, {_interval(row, 'gain')}, p {row['gain_p']:.3f}"
    among = " among the edited layers" if row["estimand"] == AMONG else ""
    if told in ("better", "worse"):
        return (
            f"For single facts, {design.the_trace} picks {told} layers than it picks for other "
            f"facts{among} ({gain}){_follows(row)}{_use(row)}."
        )
    shown = f"{design.the_trace} is not shown to pick better layers than for other facts{among}"
    shown = f"{shown} ({gain})"
    if told == "equivalent":
        return (
            f"So {shown}, and scores follow its values within facts with a correlation between "
            f"{MINUS}{row['bound']:g} and {row['bound']:g}{_use(row)}."
        )
    return f"So {shown}, nor that it does not{_needed(row)}."


def beside(verdict: pd.DataFrame, choice: pd.DataFrame, design: Design) -> str:
    """What the same comparison says of the other localizers, as far as the study can say it."""
    if verdict.empty or verdict.iloc[0]["verdict"] in ("cannot_say", "not_run"):
        return ""
    row = verdict.iloc[0]
    rows = _rows(choice, **{key: row[key] for key in PAIR})
    rows = _known(rows[rows["localizer"] != row["localizer"]], "p_adjusted")
    rows = _one_place(rows, design).sort_values("gain", ascending=False)
    noised = rows[rows["localizer"].eq(PLACEBO)] if row["localizer"] == TRACING else rows.head(0)
    enough = rows["n_facts"].ge(ENOUGH_FACTS) & rows["share_edited"].ge(ENOUGH_PEAKS)
    untold, rows = rows[~enough], rows[enough]
    rows = rows.assign(better=(rows["gain"] > 0) & (rows["p_adjusted"] < 0.05))
    control = rows["localizer"].isin(design.controls)
    counts = [_better(rows[~control], "other localizer"), _better(rows[control], "control")]
    said = " and by ".join(count for count in counts if count)
    parts = [f"Better layers are picked by {said} (adjusted p below .05)"] if said else []
    if len(untold):
        names = _listed([_plain(name) for name in untold["localizer"]])
        parts.append(f"too few facts, or too few of their peaks, are edited to say it of {names}")
    for _, other in noised.iterrows():  # is it the subject that is traced?
        parts.append(
            f"tracing with its noise on other tokens than the subject's ({_plain(PLACEBO)}) gains "
            f"{_signed(other['gain'], 2)} ({_interval(other, '')})"
        )
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]}." if told else ""


def planted(hits: pd.DataFrame, choice: pd.DataFrame, verdict: pd.DataFrame, design: Design) -> str:
    """Of planted facts: whether editing at their place is better at all, and who finds them."""
    if hits.empty:
        return ""
    keys = {key: verdict.iloc[0][key] for key in PAIR} if len(verdict) else {}
    truth = _known(_rows(choice, localizer=PLANTED, **keys), "gain") if keys else choice.head(0)
    said = "Whether edits are better where facts were planted could not be computed"
    if not truth.empty:
        row = truth.iloc[0]
        said = (
            f"At the layer where a fact was planted its score is {_signed(row['gain'], 2)} against "
            f"where another was ({_interval(row, '')}, p {row['p']:.3f})"
        )
    rows = _one_place(_known(hits, "hits"), design)
    rows = rows.assign(better=(rows["hits"] > rows["chance"]) & (rows["p_adjusted"] < 0.05))
    found = _better(rows, "localizer") or "no localizer"
    return f"{said}; {found} find planted facts more often than by chance (adjusted p below .05)."


def _one_place(rows: pd.DataFrame, design: Design) -> pd.DataFrame:
    """A row for each localizer: of several places the one that is shown, else its first."""
    elsewhere = rows["module"].ne(design.module) | rows["window"].ne(design.window)
    ordered = rows.assign(elsewhere=elsewhere).sort_values("elsewhere", kind="stable")
    return ordered.drop_duplicates("localizer")


def _better(rows: pd.DataFrame, kind: str) -> str:
    """How many of these localizers are `better`, and which; "" where there is none at all."""
    if rows.empty:
        return ""
    better = rows.loc[rows["better"], "localizer"]
    named = f" ({_listed([_plain(name) for name in better])})" if len(better) else ""
    return f"{len(better) or 'none'} of {len(rows)} {kind}{'s' * (len(rows) > 1)}{named}"


def _follows(row: pd.Series) -> str:
    """How closely scores follow its values: better layers alone do not say how much it knows."""
    if pd.isna(row["r"]):
        return ""
    known = pd.notna(row["equivalent"]) and bool(row["equivalent"])
    within = f", shown to be between {MINUS}{row['bound']:g} and {row['bound']:g}" if known else ""
    return (
        f"; within facts, scores follow its values with a correlation of {_signed(row['r'], 2)} "
        f"({_interval(row, 'r')}){within}"
    )


def _use(row: pd.Series) -> str:
    """What editing by it is worth against one layer for all."""
    words = {
        "better": "; editing by it is better than at the best fixed layer",
        "worse": "; editing by it is worse than at the best fixed layer",
        "undecided": "; editing by it is not shown to differ from the best fixed layer",
    }
    if row["use"] not in words:
        same = row["value"] == 0  # every fact is edited at that layer either way
        return "; it never outweighs the best fixed layer" if same else ""
    return f"{words[row['use']]} ({_signed(row['value'], 2)}, {_interval(row, 'value')})"


def _needed(row: pd.Series) -> str:
    """The size of a study that would tell; "" where this one is as large."""
    if pd.isna(row["facts_needed"]) or row["facts_needed"] <= row["n_facts"]:
        return ""
    return (
        f"; {int(row['facts_needed']):,} facts at {int(row['layers_needed'])} layers would find a "
        f"correlation of {row['effect']:g} within facts in {row['wanted']:.0%} of studies"
    )


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


def _interval(row: pd.Series, name: str) -> str:
    low, high = (row.get(f"{name}_{end}".lstrip("_")) for end in ("low", "high"))
    if pd.isna(low) or pd.isna(high):
        return f"no interval: {row['reason'] or 'too few facts'}"
    return f"95 % interval {_signed(low, 2)} to {_signed(high, 2)}"
