# In: the editing tables (those of layers that all facts are edited at), the study's facts, the
# model's tokenizer.
# Out: rome/{method}/run_{id}/params.json and case_{i}.json, rome/summary.parquet and .csv.
# Steps: lay the edits out as the ROME suite does, for tools that read its results. Not part of
# `all`.


rule rome_layout:
    input:
        study=f"{OUT}/study.parquet",
        edits=EDITS,
        model=ancient(WEIGHTS),
    output:
        runs=[directory(f"{OUT}/rome/{method}") for method in METHODS],
        parquet=f"{OUT}/rome/summary.parquet",
        csv=f"{OUT}/rome/summary.csv",
    log:
        log_of(f"{OUT}/rome/summary.csv"),
    benchmark:
        benchmark_of(f"{OUT}/rome/summary.csv")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(481),
        runtime=minutes(8, PER_FACT),
    params:
        methods=METHODS,
        preset=config["editing"]["preset"],
        hyperparameters={
            f"{m} {p}": hyperparameters(m, p) for m in METHODS for p in PROBLEMS
        },
        model=MODEL_SETTINGS["label"],
        n_layers=MODEL_SETTINGS["n_layers"],
        dataset=DATASET,
        seed=config["seed"],
        layers={f"{m} {p}": pairs.everywhere(edit_layers(m, p)) for m, p in PAIRS},
        code=code("rome_layout"),
    message:
        "Laying the edits out as the ROME suite does"
    script:
        "../workflow_scripts/rome_layout.py"
