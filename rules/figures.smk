# In: scores.parquet, effects.parquet, the tables of the statistics, the traced cells of one fact.
# Out: figures/NAME.svg and .png, and NAME.json with what a page says beside the picture (title,
# caption, alt); analysis/heatmap_cells.parquet.
# Steps: trace the heat map's fact, draw (R).


STUDY_WORDS = {"study": [MODEL_SETTINGS["label"], f"data set {DATASET_WORDS}"]}
PLACE = {key: AT[key] for key in ("localizer", "module", "effect")}  # in every window
WINDOWS_SHOWN = [
    place["window"]
    for place in PLACES[SHOWN["localizer"]]
    if place["module"] == SHOWN["module"]
]
JUDGED = {**SHOWN, "score": config["analysis"]["primary"]["score"]}
# name: (R file figures_*.R, R function, its arguments, its inputs)
FIGURES = {
    # tracing
    "tracing_peaks": (
        "tracing",
        "tracing_peaks",
        {**PLACE, "usual": config["analysis"]["usual_layers"]},
        tables_of("effects"),
    ),
    "tracing_effect_by_layer": (
        "tracing",
        "tracing_effect_by_layer",
        PLACE,
        tables_of("effects"),
    ),
    "heatmap": ("heatmap", "heatmap", {}, tables_of("cells")),
    "reliability": (
        "tracing",
        "reliability",
        {"localizer": SHOWN["localizer"]},
        tables_of("reliability"),
    ),
    # editing
    **{
        f"{score}_by_layer": (
            "scores",
            "score_by_layer",
            {
                "score": score,
                "problems": PROBLEMS,
                "localizer": SHOWN["localizer"],
                **SUBJECTS,
            },
            tables_of("scores"),
        )
        for score in SCORES
    },
    "success_by_layer": ("scores", "success_by_layer", {}, tables_of("success")),
    # does the localizer tell where to edit?
    "choice": ("choice", "choice_gain", JUDGED, tables_of("choice")),
    "within": ("choice", "within_facts", JUDGED, tables_of("within")),
    "value": ("choice", "value_of_use", JUDGED, tables_of("value")),
    "arena": (
        "arena",
        "arena",
        {
            **config["analysis"]["primary"],
            "module": SHOWN["module"],
            "window": SHOWN["window"],
        },
        tables_of("arena"),
    ),
    "power": ("arena", "power_by_facts", {}, tables_of("power")),
    # does one inform the other?
    "r2_by_problem": r2_figure("rewrite"),
    **{f"r2_{score}": r2_figure(score) for score in SCORES if score != "rewrite"},
    **{
        f"r2_rewrite_window_{window}": r2_figure(
            "rewrite", window=window, variant="window"
        )
        for window in WINDOWS_SHOWN
        if window != SHOWN["window"]
    },
    **{
        f"r2_rewrite_{name}": r2_figure("rewrite", effect=effect, variant="effect")
        for name, effect in (
            ("unscaled", "effect_max"),
            ("last_token", "fraction_last"),
        )
        if SHOWN["localizer"] == localizers.TRACING
    },
    "rewrite_vs_effect": (
        "scatter",
        "rewrite_vs_effect_at_layer",
        {
            **AT,
            **SUBJECTS,
            "problems": PROBLEMS,
            "layer": config["analysis"]["layer"],
        },
        tables_of("scores", "effects"),
    ),
    **{
        f"rewrite_vs_effect_{problem}": (
            "scatter",
            "rewrite_vs_effect",
            {**AT, **SUBJECTS, "problem": problem},
            tables_of("scores", "effects"),
        )
        for problem in PROBLEMS
    },
    "correlations_by_layer": (
        "scatter",
        "correlations_by_layer",
        AT,
        tables_of("correlations"),
    ),
    # how sure?
    "out_of_fold": ("r2", "out_of_fold", AT, tables_of("out_of_fold")),
}

if "said" in TABLES:
    FIGURES["said_by_layer"] = (
        "said",
        "said_by_layer",
        {"problems": PROBLEMS, **SUBJECTS},
        tables_of("scores"),
    )

if EDITS_TOGETHER:
    FIGURES["together"] = (
        "together",
        "together_by_layer",
        {
            "problem": config["analysis"]["primary"]["problem"],
            "score_names": SCORES[:3],
            **SUBJECTS,
        },
        {"scores": rules.scores_together.output[0]},
    )

if "hits" in TABLES:
    FIGURES["hits"] = (
        "arena",
        "hits_by_localizer",
        {"module": SHOWN["module"], "window": SHOWN["window"], "controls": CONTROLS},
        tables_of("hits"),
    )


rule heatmap_cells:
    input:
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        f"{OUT}/analysis/heatmap_cells.parquet",
    log:
        log_of(f"{OUT}/analysis/heatmap_cells.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/analysis/heatmap_cells.parquet")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(2059),
        runtime=minutes(49),
        gpu=GPU,
    params:
        case_id=config["analysis"]["heatmap"],
        window=config["analysis"]["window"],
        settings=picked("tracing", "n_noise", "noise_seed"),
        model=model_identity(),
        code=code("heatmap_cells"),
    message:
        "Tracing the heat map's fact"
    script:
        "../workflow_scripts/heatmap_cells.py"


for _name, (_file, _function, _arguments, _inputs) in FIGURES.items():

    rule:
        name:
            f"figure_{_name}"
        input:
            **_inputs,
        output:
            svg=report(
                f"{OUT}/figures/{_name}.svg",
                caption="../analysis/words/figure.md",
                category="Figures",
                labels={"figure": _name.replace("_", " ")},
            ),
            png=f"{OUT}/figures/{_name}.png",
            json=f"{OUT}/figures/{_name}.json",
        log:
            log_of(f"{OUT}/figures/{_name}.svg"),
        benchmark:
            benchmark_of(f"{OUT}/figures/{_name}.svg")
        group:
            "tables"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(265),
            runtime=minutes(3),
        params:
            sources=figure_sources(_file),
            function=_function,
            arguments={**STUDY_WORDS, **_arguments},
            tables=list(_inputs),
            code=r_code("figure", figure_sources(_file)),
        message:
            f"Drawing {_name}"
        script:
            "../workflow_scripts/figure.py"


rule figures:
    input:
        expand(
            f"{OUT}/figures/{{name}}.{{kind}}",
            name=FIGURES,
            kind=["svg", "png", "json"],
        ),
