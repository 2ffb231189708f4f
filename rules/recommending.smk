# In: known facts (those outside the study first), the model, what its methods share.
# Out: recommended/{method}/layers.parquet and .csv, recommended.yaml (to copy into the model's
# configuration), scores_by_layer.png; beside them what a search that is taken up again reads.
# Steps: search for each editor's layer and setting within its budget. Not part of `all`.

RECOMMENDED = f"{OUT}/recommended/{{method}}"
# The localizers that a search asks where facts peak
CHEAP = [name for name, one in localizers.LOCALIZERS.items() if one.cheap]


rule recommend_layer:
    input:
        unpack(edit_inputs),
        facts=f"{OUT}/facts.parquet",
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        parquet=f"{RECOMMENDED}/layers.parquet",
        csv=f"{RECOMMENDED}/layers.csv",
        yaml=f"{RECOMMENDED}/recommended.yaml",
        png=f"{RECOMMENDED}/scores_by_layer.png",
    log:
        log_of(f"{RECOMMENDED}/layers.parquet"),
    benchmark:
        benchmark_of(f"{RECOMMENDED}/layers.parquet")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(3878, moments=MODEL_SETTINGS["n_layers"]),
        runtime=minutes(seconds_allowed()),
        gpu=GPU,
    params:
        settings={
            key: config["recommending"][key] for key in ("budget", "facts", "problem")
        },
        grid=lambda w: config["recommending"]["grid"].get(w.method, {}),
        measuring={**MEASURING, "scores.generation_tokens": 0},
        hyperparameters=lambda w: vars(
            methods.METHODS[w.method].hyperparameters(
                config["recommending"]["problem"],
                config["editing"]["preset"],
                config["editing"]["hyperparameters"].get(w.method, {}),
            )
        ),
        solving=lambda w: solving(w.method),
        localizing={name: localizer_settings(name) for name in CHEAP},
        window=config["analysis"]["window"],
        aggregate=config["scores"]["aggregate"],
        min_p_erase=min_p_erase(config["recommending"]["problem"]),
        label=MODEL_SETTINGS["label"],
        dataset=DATASET,
        seed=config["seed"],
        model=model_identity(),
        code=lambda w: code_with("recommend", methods=[w.method], localizers=CHEAP),
    message:
        "Searching for the layer to edit by {wildcards.method}"
    script:
        "../workflow_scripts/recommend.py"


rule recommend:
    input:
        expand(f"{RECOMMENDED}/layers.csv", method=config["recommending"]["methods"]),
