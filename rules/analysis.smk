# In: scores.parquet, effects.parquet.
# Out: analysis/*.parquet, tables/*.csv and *.html.
# Steps: make each table (R).


PUBLISHED = (
    "published.csv"  # the paper's own values; known by its content, as R files are
)
LABELS = "labels.yaml"  # first of the R files of every table and figure
LAID_OUT = ("locedit.report.grids", "locedit.report.layouts")
TEMPLATES = ROOT / "locedit" / "report" / "templates"


SCORES = ["rewrite", "paraphrase", "neighbourhood", "essence", "overall"]


# What a localizer says of a layer, and what tracing measures beside
EFFECTS = ["value", "effect_max", "fraction_last", "effect_last"]
_SCORED = {"score_names": SCORES, "problems": PROBLEMS, "methods": METHODS}
_REGRESSED = {**_SCORED, "measures": config["analysis"]["effect"]}
_RESAMPLED = {"resamples": config["analysis"]["resamples"], "seed": config["seed"]}
_FOLDED = {"folds": config["analysis"]["folds"], "seed": config["seed"]}
OWN = {**AT, "subset": "all"}  # rows that a page shows first
_BOTH = {"scores": f"{OUT}/scores.parquet", "effects": f"{OUT}/effects.parquet"}

# name: (R function, R files in their order, R's arguments, inputs, title of its page)
TABLES = {
    "r2": (
        "r2_table",
        [LABELS, "frames.R", "groups.R", "regressions.R"],
        {**_SCORED, "measures": EFFECTS, "subsets": ["all", "concentrated"]},
        {**_BOTH, "published": ancient(str(ROOT / "analysis" / PUBLISHED))},
        "R2 of edit layer and tracing effect",
    ),
    "correlations": (
        "correlation_table",
        [LABELS, "frames.R", "groups.R", "regressions.R"],
        _REGRESSED,
        _BOTH,
        "Correlations within each edit layer",
    ),
    "success": (
        "success_table",
        [LABELS, "frames.R", "success.R"],
        {"problems": PROBLEMS, "methods": METHODS},
        {"scores": f"{OUT}/scores.parquet"},
        "Edit success by layer",
    ),
    "mixed": (
        "mixed_table",
        [LABELS, "frames.R", "groups.R", "mixed.R"],
        _REGRESSED,
        _BOTH,
        "Mixed models with facts that differ",
    ),
    "diff_intervals": (
        "diff_interval_table",
        [LABELS, "frames.R", "groups.R", "intervals.R"],
        {
            **_REGRESSED,
            **_RESAMPLED,
            "bound": config["analysis"]["equivalence_bound"],
        },
        _BOTH,
        "What tracing adds, with intervals",
    ),
    "out_of_fold": (
        "out_of_fold_table",
        [LABELS, "frames.R", "groups.R", "folds.R"],
        {**_REGRESSED, **_FOLDED},
        _BOTH,
        "R2 for facts not seen",
    ),
    "regret": (
        "regret_table",
        [LABELS, "frames.R", "groups.R", "intervals.R", "folds.R", "regret.R"],
        {**_REGRESSED, **_RESAMPLED, **_FOLDED},
        _BOTH,
        "Regret of choosing the layer",
    ),
    "reliability": (
        "reliability_table",
        [LABELS, "frames.R", "groups.R", "reliability.R"],
        {"measures": EFFECTS},
        {"effects": f"{OUT}/effects.parquet"},
        "Reliability of the tracing effect",
    ),
}


for _name, (_function, _sources, _, _inputs, _) in TABLES.items():

    rule:
        name:
            f"table_{_name}"
        input:
            **_inputs,
        output:
            **table_outputs(_name, _function),
        log:
            log_of(f"{OUT}/tables/{_name}.csv"),
        benchmark:
            benchmark_of(f"{OUT}/tables/{_name}.csv")
        group:
            "tables"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(373),
            runtime=minutes(10, PER_FACT),
        params:
            **described(_name),
            name=_name,
            sources=_sources,
            code=r_code(
                "table",
                _sources + [PUBLISHED] * ("published" in _inputs),
                without=LAID_OUT,
            ),
            page=page_code(_function),
        message:
            f"Making the table {_name}"
        script:
            "../workflow_scripts/table.py"


rule analysis:
    input:
        expand(f"{OUT}/analysis/{{name}}.parquet", name=TABLES),
        expand(f"{OUT}/tables/{{name}}.{{kind}}", name=TABLES, kind=["csv", "html"]),
