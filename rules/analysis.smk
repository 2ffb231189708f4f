# In: scores.parquet, effects.parquet.
# Out: analysis/*.parquet, tables/*.csv and *.html.
# Steps: make each table (R).


PUBLISHED = (
    "published.csv"  # the paper's own values; known by its content, as R files are
)
LABELS = "labels.yaml"  # first of the R files of every table and figure
LAID_OUT = ("locedit.report.grids", "locedit.report.layouts")
TEMPLATES = ROOT / "locedit" / "report" / "templates"


TEXT = ["text"] if config["scores"]["text_paragraphs"] else []
SCORES = ["rewrite", "paraphrase", "neighbourhood", "essence", *TEXT, "overall"]

# What the choice of a layer is judged by: on the log-odds scale where there is one
CHOSEN = [
    "rewrite_log_odds",
    "paraphrase_log_odds",
    "neighbourhood_log_odds",
    "essence",
    *TEXT,
    "overall",
]
# What an edit that may stop early costs: smaller is better, so they are no choice's scores
COSTS = {name: ["update_norm", "steps"] for name in METHODS if stops_early(name)}
PRIMARY = {**SHOWN, **config["analysis"]["primary"]}
PRIMARY_LAYERS = pairs.listed(edit_layers(PRIMARY["method"], PRIMARY["problem"]))


# What a localizer says of a layer, and what tracing measures beside
EFFECTS = ["value", "effect_max", "fraction_last", "effect_last"]
_PAIRS = {"problems": PROBLEMS, "methods": METHODS, **SUBJECTS}
_SCORED = {"score_names": SCORES, **_PAIRS}
_REGRESSED = {**_SCORED, "measures": config["analysis"]["effect"]}
_CHOICE = {"score_names": CHOSEN, **_PAIRS}
_PERMUTED = {
    "permutations": config["analysis"]["permutations"],
    "seed": config["seed"],
}
_SPLIT = {"splits": config["analysis"]["splits"], "seed": config["seed"]}
OWN = {**AT, "subset": "all"}  # rows that a page shows first
_BOTH = {"scores": f"{OUT}/scores.parquet", "effects": f"{OUT}/effects.parquet"}
_MATRICES = [
    LABELS,
    "frames.R",
    "groups.R",
    "reliability.R",
    "grids.R",
    "shuffles.R",
    "multiplicity.R",
]
_ANSWERS = ["choice", "within", "value", "power"]

# name: (R function, R files in their order, R's arguments, inputs, title of its page: <localizer> is
# the one that is shown)
TABLES = {
    "choice": (
        "choice_table",
        [*_MATRICES, "choice.R"],
        {**_CHOICE, **_PERMUTED, "primary": PRIMARY},
        _BOTH,
        "Layers picked by the localizer and by its shuffle",
    ),
    "within": (
        "within_table",
        [*_MATRICES, "within.R"],
        {**_CHOICE, "primary": PRIMARY, "costs": COSTS},
        _BOTH,
        "Association of score and value within facts",
    ),
    "value": (
        "value_table",
        [*_MATRICES, "value.R"],
        {**_CHOICE, "primary": PRIMARY, **_SPLIT},
        _BOTH,
        "What the localizer is worth",
    ),
    "arena": (
        "arena_table",
        [*_MATRICES, "choice.R", "within.R", "arena.R"],
        {**_CHOICE, **_PERMUTED, "controls": CONTROLS},
        {**_BOTH, **tables_of("choice", "within", "value")},
        "Which localizer tells where to edit",
    ),
    "power": (
        "power_table",
        [*_MATRICES, "choice.R", "within.R", "power.R"],
        {"primary": PRIMARY, **config["analysis"]["power"], "edited": PRIMARY_LAYERS},
        {"effects": f"{OUT}/effects.parquet"},
        "What size of a study would tell",
    ),
    "verdict": (
        "verdict_table",
        [*_MATRICES, "verdict.R"],
        {"primary": PRIMARY},
        {name: f"{OUT}/analysis/{name}.parquet" for name in _ANSWERS},
        "The primary comparison",
    ),
    "r2": (
        "r2_table",
        [LABELS, "frames.R", "groups.R", "regressions.R"],
        {**_SCORED, "measures": EFFECTS, "subsets": ["all", "concentrated"]},
        {**_BOTH, "published": ancient(str(ROOT / "analysis" / PUBLISHED))},
        "R2 of edit layer and <localizer> effect",
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
        _PAIRS,
        {"scores": f"{OUT}/scores.parquet"},
        "Edit success by layer",
    ),
    "clusters": (
        "cluster_table",
        [LABELS, "frames.R", "groups.R", "clusters.R"],
        _REGRESSED,
        _BOTH,
        "What the effect adds, facts as clusters",
    ),
    "out_of_fold": (
        "out_of_fold_table",
        [LABELS, "frames.R", "groups.R", "folds.R"],
        _REGRESSED,
        _BOTH,
        "R2 for facts not seen",
    ),
    "reliability": (
        "reliability_table",
        [*_MATRICES, "within.R"],
        {"measures": EFFECTS},
        _BOTH,
        "Reliability of the <localizer> effect",
    ),
}

# Hits of planted facts: this study's, or those of another that the configuration names
if formats.PLANTED in PLACES:
    TABLES["arena"][3].update(tables_of("hits"))
elif config["analysis"]["planted"]:
    TABLES["arena"][3]["hits"] = str(Path(config["analysis"]["planted"]).expanduser())

if formats.PLANTED in PLACES:
    TABLES["hits"] = (
        "hits_table",
        [*_MATRICES, "planted.R"],
        _PERMUTED,
        {"effects": f"{OUT}/effects.parquet"},
        "How often localizers find planted facts",
    )

if config["scores"]["greedy_tokens"] > 0:
    TABLES["said"] = (
        "said_table",
        [LABELS, "frames.R", "groups.R", "said.R"],
        _PAIRS,
        {"scores": f"{OUT}/scores.parquet"},
        "Editors by probability and by what is said",
    )

if EDITS_TOGETHER:
    TABLES["together"] = (
        "together_table",
        [LABELS, "frames.R", "groups.R", "shuffles.R", "value.R", "together.R"],
        {**_CHOICE, **_SPLIT},
        {"scores": rules.scores_together.output[0]},
        "The best layer by the number of facts in an update",
    )


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
