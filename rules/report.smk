# In: the tables and figures of the analysis, with their words; the facts.
# Out: report.zip, a page with all of them that opens without a network; facts.html, in the zip too,
# a page that shows single facts.
# Steps: gather what is known of each fact; compute the opening paragraph, fill the templates, pack.


# What methods and localizers of the study share, where they need it
SHARED_TABLES = (
    [f"{SHARED}/contexts.parquet"]
    if any(methods.METHODS[method].contexts for method in METHODS)
    or any("contexts" in localizers.LOCALIZERS[name].needs for name in LOCALIZERS)
    else []
) + list(text_inputs(None).values())


rule explorer:
    input:
        study=f"{OUT}/study.parquet",
        effects=f"{OUT}/effects.parquet",
        localized=LOCALIZED,
        scores=f"{OUT}/scores.parquet",
        edits=EDITS + EDITS_AT_PEAKS,
    output:
        f"{OUT}/facts.html",
    log:
        log_of(f"{OUT}/facts_page.html"),
    benchmark:
        benchmark_of(f"{OUT}/facts_page.html")
    group:
        "tables"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(311),
        runtime=minutes(3, PER_FACT),
    params:
        model=MODEL_SETTINGS["label"],
        dataset=DATASET_WORDS,
        places=PLACES,
        pairs=PAIRS,
        code=code(
            "explorer",
            *(path for path in TEMPLATES.iterdir() if path.stem.startswith("facts")),
            TEMPLATES / "style.css",
            TEMPLATES / "vega.js",
            ROOT / "analysis" / LABELS,
        ),
    message:
        "Gathering what is known of each fact"
    script:
        "../workflow_scripts/explorer.py"


rule report:
    input:
        rules.figures.input,
        explorer=f"{OUT}/facts.html",
        facts=f"{OUT}/facts.parquet",
        study=f"{OUT}/study.parquet",
        effects=f"{OUT}/effects.parquet",
        upstream=[
            f"{OUT}/facts.parquet",
            f"{OUT}/study.parquet",
            *LOCALIZED,
            f"{OUT}/effects.parquet",
            f"{OUT}/analysis/heatmap_cells.parquet",
            *SHARED_TABLES,
            f"{OUT}/essence.parquet",
            *expand(BASELINE, problem=PROBLEMS),
            *EDITS,
            *([PEAKS] if EDITS_AT_PEAKS else []),
            *EDITS_AT_PEAKS,
            *([f"{SHARED}/contexts_again.parquet"] if EDITS_AGAIN else []),
            *EDITS_AGAIN,
            *EDITS_TOGETHER,
            f"{OUT}/scores.parquet",
            *(rules.scores_together.output if EDITS_TOGETHER else []),
        ],
        analysis=expand(f"{OUT}/analysis/{{name}}.parquet", name=TABLES),
        pages=expand(
            f"{OUT}/tables/{{name}}.{{kind}}", name=TABLES, kind=["html", "csv"]
        ),
    output:
        f"{OUT}/report.zip",
    log:
        log_of(f"{OUT}/report.zip"),
    benchmark:
        benchmark_of(f"{OUT}/report.zip")
    group:
        "tables"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(222),
        runtime=minutes(1),
    params:
        figures=list(FIGURES),
        tables={name: described(name) for name in TABLES},
        design={
            "model": MODEL_SETTINGS["label"],
            "dataset": DATASET,
            "problems": PROBLEMS,
            "methods": METHODS,
            "controls": CONTROLS,
            **AT,
        },
        analysis=config["analysis"],
        code=code(
            "report",
            *TEMPLATES.iterdir(),
            ROOT / "analysis" / LABELS,
            *(ROOT / "analysis" / "words").iterdir(),
        ),
    message:
        "Writing the report"
    script:
        "../workflow_scripts/report.py"
