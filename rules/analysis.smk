# In: scores.parquet, effects.parquet, the traced cells of one fact.
# Out: analysis/*.parquet, tables/*.csv and *.html, figures/*.svg and *.png, report.zip.
# Steps: regress (R), draw (R), gather.

SCORES = ["rewrite", "paraphrase", "neighbourhood", "essence", "overall"]
LABEL = {"model_label": MODEL_SETTINGS["label"]}


rule regressions:
    input:
        scores=f"{OUT}/scores.parquet",
        effects=f"{OUT}/effects.parquet",
    output:
        parquet=f"{OUT}/analysis/r2.parquet",
        csv=report(
            f"{OUT}/tables/r2.csv",
            caption="../analysis/captions/r2_table.rst",
            category="Tables",
            labels={"table": "R2 of edit layer and tracing effect", "format": "CSV"},
        ),
        html=report(
            f"{OUT}/tables/r2.html",
            caption="../analysis/captions/r2_table.rst",
            category="Tables",
            labels={"table": "R2 of edit layer and tracing effect", "format": "page"},
        ),
        correlations_parquet=f"{OUT}/analysis/correlations.parquet",
        correlations_csv=report(
            f"{OUT}/tables/correlations.csv",
            caption="../analysis/captions/correlation_table.rst",
            category="Tables",
            labels={"table": "Correlations within each edit layer", "format": "CSV"},
        ),
        correlations_html=report(
            f"{OUT}/tables/correlations.html",
            caption="../analysis/captions/correlation_table.rst",
            category="Tables",
            labels={"table": "Correlations within each edit layer", "format": "page"},
        ),
    log:
        f"logs/{MODEL}/{DATASET}/regressions.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/regressions.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        sources=REGRESSION_SOURCES,
        arguments={
            "score_names": SCORES,
            "tracing": config["analysis"]["tracing"],
            "problems": PROBLEMS,
            "methods": METHODS,
        },
        model_label=MODEL_SETTINGS["label"],
        dataset=DATASET,
        fingerprint=fingerprint("analysis"),
    message:
        "Regressing scores on layer and tracing effect"
    script:
        "../workflow_scripts/regressions.py"


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
    "heatmap": (
        "heatmap",
        TRACED,
        {"cells": f"{OUT}/analysis/heatmap_cells.parquet"},
        "One fact's restoration",
    ),
}
STAGE_OF = {
    "r2": "analysis",
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
        f"{OUT}/analysis/r2.parquet",
        f"{OUT}/tables/r2.csv",
        f"{OUT}/tables/correlations.csv",


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
