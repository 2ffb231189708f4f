# In: scores.parquet, effects.parquet, the traced cells of one fact.
# Out: analysis/*.parquet, tables/*.csv and *.html, figures/*.svg and *.png, report.zip.
# Steps: make each table (R), draw (R), gather.

SCORES = ["rewrite", "paraphrase", "neighbourhood", "essence", "overall"]
LABEL = {"model_label": MODEL_SETTINGS["label"]}


# What each localizer measures; only restoration's has halves of noise rows
RESTORED = ["effect_max", "fraction_max", "effect_last", "fraction_last"]
EFFECTS = [
    *(RESTORED if "restore" in INTERVENTIONS else []),
    *(["zeroed"] if "zero" in INTERVENTIONS else []),
]
_SCORED = {"score_names": SCORES, "problems": PROBLEMS, "methods": METHODS}
_REGRESSED = {**_SCORED, "tracing": config["analysis"]["tracing"]}
_RESAMPLED = {"resamples": config["analysis"]["resamples"], "seed": config["seed"]}
_FOLDED = {"folds": config["analysis"]["folds"], "seed": config["seed"]}
_BOTH = {"scores": f"{OUT}/scores.parquet", "effects": f"{OUT}/effects.parquet"}

# name: (R function, R's arguments, inputs, label in the report)
TABLES = {
    "r2": (
        "r2_table",
        {**_SCORED, "tracing": EFFECTS, "subsets": ["all", "concentrated"]},
        {**_BOTH, "published": str(ROOT / PUBLISHED)},
        "R2 of edit layer and tracing effect",
    ),
    "correlations": (
        "correlation_table",
        _REGRESSED,
        _BOTH,
        "Correlations within each edit layer",
    ),
    "success": (
        "success_table",
        {"problems": PROBLEMS, "methods": METHODS, "layers": LAYERS},
        {"scores": f"{OUT}/scores.parquet"},
        "Edit success by layer",
    ),
    "mixed": (
        "mixed_table",
        _REGRESSED,
        _BOTH,
        "Mixed models with facts that differ",
    ),
    "diff_intervals": (
        "diff_interval_table",
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
        {**_REGRESSED, **_FOLDED},
        _BOTH,
        "R2 for facts not seen",
    ),
    "regret": (
        "regret_table",
        {**_REGRESSED, **_RESAMPLED, **_FOLDED},
        _BOTH,
        "Regret of choosing the layer",
    ),
    "reliability": (
        "reliability_table",
        {"tracing": RESTORED},
        {"effects": f"{OUT}/effects.parquet"},
        "Reliability of the tracing effect",
    ),
}


for _name, (_function, _arguments, _inputs, _label) in TABLES.items():

    rule:
        name:
            f"table_{_name}"
        input:
            **_inputs,
        output:
            **table_outputs(_name, _label, caption=_function),
        log:
            f"logs/{MODEL}/{DATASET}/tables/{_name}.log",
        benchmark:
            f"logs/benchmarks/{MODEL}/{DATASET}/tables/{_name}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            name=_name,
            sources=TABLE_SOURCES[_name],
            function=_function,
            arguments=_arguments,
            title=_label.replace("R2", "R²"),
            model_label=MODEL_SETTINGS["label"],
            dataset=DATASET,
            own={
                **TRACED,
                "tracing": config["analysis"]["tracing"],
                "subset": "all",
            },
            orders=(
                {"problem": PROBLEMS, "method": METHODS, "score": SCORES}
                if "scores" in _inputs
                else {}
            ),
            caption=f"{_function}.rst",
            fingerprint=fingerprint(_name),
            page=page_code(_function),
        message:
            f"Making the table {_name}"
        script:
            "../workflow_scripts/table.py"


# name: (R function, R's arguments, inputs, label in the report)
FIGURES = {
    "r2_by_problem": (
        "r2_by_problem",
        {**TRACED, "tracing": config["analysis"]["tracing"]},
        {"r2": f"{OUT}/analysis/r2.parquet"},
        "R2 of the rewrite score, by problem and method",
    ),
    "tracing_effect_by_layer": (
        "tracing_effect_by_layer",
        {"module": TRACED["module"], "effect": config["analysis"]["tracing"]},
        {"effects": f"{OUT}/effects.parquet"},
        "Tracing effect by layer, per window",
    ),
    "tracing_peaks": (
        "tracing_peaks",
        {"module": TRACED["module"], "effect": config["analysis"]["tracing"]},
        {"effects": f"{OUT}/effects.parquet"},
        "Where tracing peaks, per window",
    ),
    **{
        f"{score}_by_layer": (
            "score_by_layer",
            {"score": score, "problems": PROBLEMS},
            {"scores": f"{OUT}/scores.parquet"},
            f"{score.capitalize()} score by edit layer",
        )
        for score in SCORES
    },
    **{
        f"rewrite_vs_effect_{problem}": (
            "rewrite_vs_effect",
            {**TRACED, "problem": problem, "effect": config["analysis"]["tracing"]},
            {"scores": f"{OUT}/scores.parquet", "effects": f"{OUT}/effects.parquet"},
            f"Rewrite score against tracing effect: {problem.replace('_', ' ')}",
        )
        for problem in PROBLEMS
    },
}
if "restore" in INTERVENTIONS:
    FIGURES["heatmap"] = (
        "heatmap",
        TRACED,
        {"cells": f"{OUT}/analysis/heatmap_cells.parquet"},
        "One fact's restoration",
    )

STAGE_OF = {
    "r2": "r2",
    "effects": "effects",
    "scores": "scores",
    "cells": "heatmap_cells",
}


rule heatmap_cells:
    input:
        study=f"{OUT}/study.parquet",
        trace=f"{OUT}/tracing/{TRACED['module']}/window-{TRACED['window']}.parquet",
    output:
        f"{OUT}/analysis/heatmap_cells.parquet",
    log:
        f"logs/{MODEL}/{DATASET}/heatmap_cells.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/heatmap_cells.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        case_id=config["analysis"]["heatmap"],
        module=TRACED["module"],
        window=TRACED["window"],
        fingerprint=fingerprint("heatmap_cells"),
    message:
        "Picking the heat map's fact"
    script:
        "../workflow_scripts/heatmap_cells.py"


for _name, (_function, _arguments, _inputs, _label) in FIGURES.items():

    rule:
        name:
            f"figure_{_name}"
        input:
            **_inputs,
        output:
            **figure_outputs(_name, _label, caption=_function),
        log:
            f"logs/{MODEL}/{DATASET}/figures/{_name}.log",
        benchmark:
            f"logs/benchmarks/{MODEL}/{DATASET}/figures/{_name}.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1500,
            runtime=15,
        params:
            function=_function,
            arguments={**LABEL, **_arguments},
            fingerprint=fingerprint(
                "figure", inputs=[STAGE_OF[table] for table in _inputs]
            ),
        message:
            f"Drawing {_name}"
        script:
            "../workflow_scripts/figure.py"


rule analysis:
    input:
        expand(f"{OUT}/analysis/{{name}}.parquet", name=TABLES),
        expand(f"{OUT}/tables/{{name}}.{{kind}}", name=TABLES, kind=["csv", "html"]),


rule figures:
    input:
        expand(f"{OUT}/figures/{{name}}.{{kind}}", name=FIGURES, kind=["svg", "png"]),


rule report:
    input:
        rules.analysis.input,
        rules.figures.input,
    output:
        f"{OUT}/report.zip",
    log:
        f"logs/{MODEL}/{DATASET}/report.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/report.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        fingerprint=fingerprint("report"),
    message:
        "Writing the report"
    script:
        "../workflow_scripts/report.py"
