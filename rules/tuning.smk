# In: known facts outside the study, the model, what its methods share.
# Out: tuning/{method}/{problem}.parquet (a row per setting), tuning/sweep.parquet and .csv,
# tuning/tuned.yaml (to copy into the model's configuration), tuning/sweep.svg, .png, .json.
# Steps: try every setting of the grid, choose, gather, draw. Not part of `all`.

SWEEP = f"{OUT}/tuning/{{method}}/{{problem}}.parquet"
AIM = config["tuning"]["aims"][config["tuning"]["aim"]]
TUNED_METHODS = [m for m in METHODS if m in AIM["grid"]]


rule sweep:
    input:
        unpack(edit_inputs),
        facts=f"{OUT}/facts.parquet",
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        SWEEP,
    log:
        log_of(SWEEP),
    benchmark:
        benchmark_of(SWEEP)
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(3878, moments=3),
        runtime=minutes(118, PER_SWEEP),
        gpu=GPU,
    params:
        measuring={
            **MEASURING,
            "scores.generation_tokens": 0,
            "scores.greedy_tokens": 0,
        },
        preset=config["editing"]["preset"],
        settings={
            **{key: config["tuning"][key] for key in ("aim", "facts", "layer")},
            "rewrite": AIM["rewrite"],
        },
        grid=lambda w: AIM["grid"].get(w.method, {}),  # without one: planned.py
        solving=lambda w: solving(w.method),
        aggregate=config["scores"]["aggregate"],
        min_p_erase=lambda w: min_p_erase(w.problem),
        label=MODEL_SETTINGS["label"],
        seed=config["seed"],
        quirks=lambda w: [
            *quirks(w.problem, "baseline"),
            *edit_quirks(w.method, w.problem),
        ],
        defaults=lambda w: vars(
            methods.METHODS[w.method].hyperparameters(
                w.problem, config["editing"]["preset"]
            )
        ),
        model=model_identity(),
        code=lambda w: code_with("sweep", methods=[w.method]),
    message:
        "Tuning {wildcards.method} for {wildcards.problem}"
    script:
        "../workflow_scripts/sweep.py"


rule sweep_table:
    input:
        expand(
            SWEEP,
            method=TUNED_METHODS,
            problem=config["tuning"]["problems"],
        ),
    output:
        parquet=f"{OUT}/tuning/sweep.parquet",
        csv=f"{OUT}/tuning/sweep.csv",
        yaml=f"{OUT}/tuning/tuned.yaml",
    log:
        log_of(f"{OUT}/tuning/sweep.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/tuning/sweep.parquet")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(330),
        runtime=minutes(3),
    params:
        settings={
            **{key: config["tuning"][key] for key in ("aim", "layer", "problems")},
            "rewrite": AIM["rewrite"],
        },
        dataset=DATASET,
        methods=TUNED_METHODS,
        code=code("sweep_table"),
    message:
        "Gathering the sweep"
    script:
        "../workflow_scripts/sweep_table.py"


rule figure_sweep:
    input:
        sweep=f"{OUT}/tuning/sweep.parquet",
    output:
        svg=f"{OUT}/tuning/sweep.svg",
        png=f"{OUT}/tuning/sweep.png",
        json=f"{OUT}/tuning/sweep.json",
    log:
        log_of(f"{OUT}/tuning/sweep_figure.svg"),
    benchmark:
        benchmark_of(f"{OUT}/tuning/sweep_figure.svg")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(265),
        runtime=minutes(3),
    params:
        sources=figure_sources("sweep"),
        function="sweep",
        arguments=STUDY_WORDS,
        code=r_code("figure", figure_sources("sweep")),
    message:
        "Drawing the sweep"
    script:
        "../workflow_scripts/figure.py"


rule tune:
    input:
        f"{OUT}/tuning/sweep.csv",
        f"{OUT}/tuning/tuned.yaml",
        f"{OUT}/tuning/sweep.svg",
