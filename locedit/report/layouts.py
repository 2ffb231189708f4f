"""How each table of the analysis is laid out as a page, by the table's name."""

from locedit.report.grids import Column, Grid, Layout

_N = Column(header="n", value="n", kind="count")
_FACTS = Column(header="Facts", value="n_facts", kind="count")


def _p(value: str = "p") -> Column:
    return Column(header="p", value=value, kind="p")


def _estimate(header: str, value: str) -> Column:
    return Column(header=header, value=value, ends=(f"{value}_low", f"{value}_high"))


def _numbers(**columns: str) -> tuple[Column, ...]:
    return tuple(Column(header=header.replace("_", " "), value=v) for header, v in columns.items())


def _short(kind: str, name: str) -> str:
    """A header that the labels fill in: the short label of a name."""
    return f"{{{kind}[{name}]}}"


_BY_PREDICTOR = {name: _short("predictors", name) for name in ("layer", "tracing", "both")}
_DIFFERENCE = {**_BY_PREDICTOR, "diff": "Diff"}  # of both less layer
_R2 = tuple(
    Column(header=header, value=name if name == "diff" else f"r2_{name}")
    for name, header in _DIFFERENCE.items()
)
_PUBLISHED = tuple(
    Column(header=f"GPT-J: {header}", value=f"published_{name}", optional=True)
    for name, header in _DIFFERENCE.items()
)

_PARTIAL = _numbers(Partial="partial_r2", adjusted="partial_r2_adjusted")

_R2_PAGE = Layout(
    keys=("localizer", "module", "window", "effect", "subset"),
    first=(
        Grid(columns=(*_R2, *_PARTIAL, _p(), _N, *_PUBLISHED), title="R²"),
        Grid(
            columns=_numbers(
                RMSE_layer="rmse_layer",
                RMSE_both="rmse_both",
                MAE_layer="mae_layer",
                MAE_both="mae_both",
            ),
            title="Errors",
        ),
    ),
    others=(
        Grid(columns=(_R2[0], _R2[3], _p()), by=None, across="score"),
        Grid(columns=(_N, _FACTS), by=None, across="score", title="Edits and facts"),
    ),
)

_PEARSON = _estimate("Pearson", "pearson")

_CORRELATIONS = Layout(
    first=(
        Grid(
            columns=(Column(header="r", value="pearson"), _p("pearson_p")),
            across="layer",
            title="Pearson’s correlation",
        ),
    ),
    more=(
        Grid(
            index=("problem", "method", "layer"),
            columns=(
                _PEARSON,
                _p("pearson_p"),
                _estimate("Spearman", "spearman"),
                _p("spearman_p"),
                _N,
            ),
        ),
    ),
)

_SUCCESSES = ("rewrite_success", "paraphrase_success", "neighbourhood_success", "harmonic")
_SCORED = (
    *("rewrite", "paraphrase", "neighbourhood"),
    *("essence", "text", "overall", "overall_essence"),
)
_OUTCOMES = (
    "rewrite_log_odds",
    "paraphrase_log_odds",
    "neighbourhood_log_odds",
    "update_norm",
    "steps",
)

_SUCCESS = Layout(
    keys=(),
    first=(
        Grid(
            index=("method", "layer"),
            by="problem",
            title="Mean scores",
            columns=tuple(_estimate(_short("scores", s), s) for s in _SCORED),
        ),
        Grid(
            index=("method", "layer"),
            by="problem",
            title="Log odds after the edit, size of the update, steps",
            columns=tuple(_estimate(_short("scores", s), s) for s in _OUTCOMES),
        ),
        Grid(
            index=("method", "layer"),
            by="problem",
            title="Successes, their harmonic mean, magnitudes",
            columns=(
                _N,
                Column(header=_short("statuses", "failed"), value="n_failed", kind="count"),
                Column(header=_short("statuses", "not edited"), value="n_not_edited", kind="count"),
                *(Column(header=_short("successes", name), value=name) for name in _SUCCESSES),
                *_numbers(
                    Rewrite_moved="rewrite_magnitude",
                    Paraphrase_moved="paraphrase_magnitude",
                    Neighbourhood_moved="neighbourhood_magnitude",
                    Entropy_before="ngram_entropy_before",
                    Entropy_after="ngram_entropy_after",
                ),
            ),
        ),
    ),
)

_CLUSTERS = Layout(
    first=(
        Grid(
            columns=(
                Column(header="Diff", value="diff"),
                Column(header="F", value="wald_f"),
                _p("wald_p"),
                _N,
                _FACTS,
            ),
        ),
    ),
    others=(
        Grid(columns=(Column(header="Diff", value="diff"), _p("wald_p")), by=None, across="score"),
    ),
)

_HALVES = (  # of Diff's effect, each alone
    Column(header="Diff: which facts", value="diff_between"),
    Column(header="Diff: where", value="diff_within"),
)

_FOLDS = Layout(
    first=(Grid(columns=(*_R2, *_HALVES, _FACTS, _N)),),
    others=(Grid(columns=(_R2[0], _R2[3]), by=None, across="score"),),
)


def _over_facts(header: str, value: str) -> Column:
    """A table's one estimate, whose interval is over facts."""
    return Column(header=header, value=value, ends=("low", "high"))


_PLACE = ("localizer", "module", "window")
_ADJUSTED = Column(header="p adjusted", value="p_adjusted", kind="p")
_SIZE = (
    _FACTS,
    Column(header="Layers", value="n_layers", kind="count"),
    Column(header="Peaks there", value="share_edited"),
)

_CHOICE = Layout(
    keys=_PLACE,
    first=(
        Grid(
            columns=(
                _over_facts("Gain", "gain"),
                Column(header="At others’ peaks", value="at_others"),
                _p(),
                _ADJUSTED,
                Column(header="Role", value="role", kind="text"),
                *_SIZE,
            ),
        ),
    ),
    others=(Grid(columns=(_over_facts("Gain", "gain"), _ADJUSTED), by=None, across="score"),),
)

_WITHIN = Layout(
    keys=_PLACE,
    first=(
        Grid(
            columns=(
                _over_facts("r", "r"),
                _ADJUSTED,
                Column(header="Equivalent", value="equivalent", kind="flag"),
                Column(header="Power", value="equivalence_power"),
                Column(header="Ceiling", value="ceiling", optional=True),
                Column(header="Spearman", value="spearman"),
                *_SIZE,
            ),
        ),
    ),
    more=(
        Grid(
            title="Reliability",
            columns=(
                *_numbers(Value="reliability_value", Score="reliability_score"),
                Column(header="Facts edited again", value="repeated", kind="count"),
                _estimate("r over its ceiling", "r_corrected"),
            ),
        ),
    ),
    others=(Grid(columns=(_over_facts("r", "r"), _ADJUSTED), by=None, across="score"),),
)

_VALUES = (
    Grid(
        columns=(_over_facts("Value", "value"),),
        across="strategy",
        title="Score less that at the best fixed layer",
    ),
)

_VALUE = Layout(
    keys=_PLACE,
    first=_VALUES,
    more=(
        Grid(columns=(Column(header="Mean", value="mean"),), across="strategy", title="Mean"),
        Grid(
            columns=(_ADJUSTED, Column(header="Layer", value="best_layer", kind="count"), *_SIZE),
            only={"strategy": ("localizer",)},
            title="The best fixed layer (from zero), facts, layers",
        ),
    ),
)

_ARENA = Layout(
    keys=(),
    first=(
        Grid(
            index=("problem", "method", *_PLACE),
            columns=(
                Column(header="Control", value="control", kind="flag"),
                _estimate("A: gain", "gain"),
                _p("gain_p_adjusted"),
                _estimate("B: r", "r"),
                _p("r_p_adjusted"),
                Column(header="Ceiling", value="ceiling", optional=True),
                _estimate("C: value", "value"),
                _over_facts("Rank r", "rank_r"),
                _p("p_adjusted"),
                Column(header="With the best", value="with_best", kind="flag"),
                *_numbers(Hit="hit", by_shuffle="hit_chance"),
                *_numbers(Regret="regret", of_its_shuffle="regret_chance"),
                Column(
                    header="Planted facts found",
                    value="found",
                    ends=("found_low", "found_high"),
                    optional=True,
                ),
                Column(header="by shuffle", value="found_chance", optional=True),
                Column(header="Passes", value="passes"),
                _FACTS,
            ),
        ),
    ),
)

_HITS = Layout(
    keys=(),
    first=(
        Grid(
            index=_PLACE,
            by=None,
            columns=(
                _over_facts("Hits", "hits"),
                *_numbers(by_shuffle="chance", of_placebo_facts="placebo"),
                _p(),
                _ADJUSTED,
                Column(header="Layers between", value="distance"),
                _FACTS,
            ),
        ),
    ),
)

_SAID = Layout(
    keys=(),
    first=(
        Grid(
            index=("problem", "kind", "method", "rival"),
            by=None,
            columns=(
                *_numbers(Score="score", of_the_rival="score_rival"),
                _estimate("Difference", "score_diff"),
                *_numbers(Said="said", by_the_rival="said_rival"),
                _estimate("Difference", "said_diff"),
                Column(header="Reversed", value="reversed", kind="flag"),
                Column(header="Clearly", value="clear", kind="flag"),
                _FACTS,
            ),
        ),
    ),
)

_TOGETHER = Layout(
    keys=(),
    first=(
        Grid(
            index=("problem", "method", "together"),
            by="score",
            columns=(
                Column(header="Best layer", value="best_layer", kind="count"),
                _estimate("Score there", "mean"),
                Column(header="At the first’s best", value="mean_first"),
                _estimate("Gain", "gain"),
                Column(header="r of layers", value="r"),
                _FACTS,
                Column(header="Layers", value="n_layers", kind="count"),
            ),
        ),
    ),
)

_POWER = Layout(
    keys=(),
    first=(
        Grid(
            index=("n_layers",),
            by=None,
            across="n_facts",
            columns=(Column(header="Power", value="power"),),
            title="Power by edited layers and facts",
        ),
        Grid(
            index=("n_layers",),
            by=None,
            columns=(Column(header="Facts", value="facts_needed", kind="count"),),
            title="Facts that are needed",
        ),
    ),
)

_VERDICT = Layout(
    keys=(),
    first=(
        Grid(
            by="score",
            columns=(
                Column(header="Verdict", value="verdict", kind="text"),
                Column(header="Use", value="use", kind="text", optional=True),
                _estimate("Gain", "gain"),
                _p("gain_p"),
                _estimate("r", "r"),
                _estimate("Value", "value"),
                *_SIZE,
                Column(header="Facts needed", value="facts_needed", kind="count"),
                Column(header="Layers", value="layers_needed", kind="count"),
            ),
        ),
    ),
)

_RELIABILITY = Layout(
    keys=(),
    first=(
        Grid(
            index=("localizer", "module", "window"),
            by="effect",
            columns=(
                *_numbers(
                    r="r",
                    r_within_layers="r_within",
                    Stepped_up="spearman_brown",
                    Stepped_up_within_layers="spearman_brown_within",
                    Edited_layers_within_facts="spearman_brown_edited",
                ),
                _FACTS,
                Column(header="Layers", value="n_layers", kind="count"),
            ),
        ),
    ),
)

LAYOUTS = {
    "choice": _CHOICE,
    "within": _WITHIN,
    "value": _VALUE,
    "arena": _ARENA,
    "hits": _HITS,
    "power": _POWER,
    "verdict": _VERDICT,
    "r2": _R2_PAGE,
    "correlations": _CORRELATIONS,
    "success": _SUCCESS,
    "said": _SAID,
    "together": _TOGETHER,
    "clusters": _CLUSTERS,
    "out_of_fold": _FOLDS,
    "reliability": _RELIABILITY,
}
