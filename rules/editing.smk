# In: the study's facts, sigma, the model, Wikipedia paragraphs.
# Out: key_statistics.safetensors, contexts.parquet, essence.parquet, baseline/{problem}.parquet,
# editing/{method}/{problem}/layer-{layer}.parquet (a row per fact), scores.parquet.
# Steps: what all edits share, once; the unedited model, once a problem; the grid; the scores.


rule key_statistics:
    input:
        corpus=ancient(CORPUS),
        model=ancient(WEIGHTS),
    output:
        f"{SHARED}/key_statistics.safetensors",
    log:
        f"logs/{MODEL}/key_statistics.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/key_statistics.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1519, moments=MODEL_SETTINGS["n_layers"]),
        runtime=minutes(54),
        gpu=GPU,
    params:
        settings=config["statistics"],
        fingerprint=fingerprint("statistics"),
    message:
        "Collecting key statistics of all layers"
    script:
        "../workflow_scripts/key_statistics.py"


rule contexts:
    input:
        model=ancient(WEIGHTS),
    output:
        f"{SHARED}/contexts.parquet",
    log:
        f"logs/{MODEL}/contexts.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/contexts.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1006),
        runtime=minutes(6),
        gpu=GPU,
    params:
        settings=config["contexts"],
        seed=config["seed"],
        fingerprint=fingerprint("contexts"),
    message:
        "Sampling context templates"
    script:
        "../workflow_scripts/contexts.py"


rule essence:
    input:
        study=f"{OUT}/study.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(f"{OUT}/essence.parquet", "editing"),
    log:
        part(f"logs/{MODEL}/{DATASET}/essence.log", "editing"),
    benchmark:
        part(f"logs/benchmarks/{MODEL}/{DATASET}/essence.tsv", "editing")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1094),
        runtime=minutes(12, per_fact("editing")),
        gpu=GPU,
    params:
        settings=config["essence"],
        seed=config["seed"],
        fingerprint=fingerprint("essence"),
    message:
        part_message("Sampling essence texts", "editing")
    script:
        "../workflow_scripts/essence.py"


rule baseline:
    input:
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        shard_output(f"{OUT}/baseline/{{problem}}.parquet", "editing"),
    log:
        part(f"logs/{MODEL}/{DATASET}/baseline/{{problem}}.log", "editing"),
    benchmark:
        part(f"logs/benchmarks/{MODEL}/{DATASET}/baseline/{{problem}}.tsv", "editing")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1173),
        runtime=minutes(11, per_fact("editing")),
        gpu=GPU,
    params:
        measuring=MEASURING,
        min_p_erase=config["facts"]["min_p_erase"],
        seed=config["seed"],
        quirks=lambda w: quirks(w.problem, "baseline"),
        fingerprint=lambda w: fingerprint("baseline", problem=w.problem),
    message:
        part_message("Measuring the unedited model for {wildcards.problem}", "editing")
    script:
        "../workflow_scripts/baseline.py"


rule edit:
    input:
        unpack(edit_inputs),
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        essence=f"{OUT}/essence.parquet",
        baseline=f"{OUT}/baseline/{{problem}}.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(
            f"{OUT}/editing/{{method}}/{{problem}}/layer-{{layer}}.parquet", "editing"
        ),
    log:
        part(
            f"logs/{MODEL}/{DATASET}/editing/{{method}}/{{problem}}/layer-{{layer}}.log",
            "editing",
        ),
    benchmark:
        part(
            f"logs/benchmarks/{MODEL}/{DATASET}/editing/{{method}}/{{problem}}/layer-{{layer}}.tsv",
            "editing",
        )
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(3878, moments=3),
        runtime=minutes(118, per_fact("editing")),
        gpu=GPU,
    params:
        measuring=MEASURING,
        hyperparameters=lambda w: hyperparameters(w.method, w.problem),
        quirks=lambda w: edit_quirks(w.method, w.problem),
        seed=config["seed"],
        fingerprint=lambda w: fingerprint(
            "edit", method=w.method, problem=w.problem, layer=w.layer
        ),
    message:
        part_message(
            "Editing: {wildcards.method}, {wildcards.problem}, layer {wildcards.layer}",
            "editing",
        )
    script:
        "../workflow_scripts/edit.py"


EDITS = expand(
    f"{OUT}/editing/{{method}}/{{problem}}/layer-{{layer}}.parquet",
    method=METHODS,
    problem=PROBLEMS,
    layer=LAYERS,
)


rule scores:
    input:
        study=f"{OUT}/study.parquet",
        edits=EDITS,
    output:
        f"{OUT}/scores.parquet",
    log:
        f"logs/{MODEL}/{DATASET}/scores.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/scores.tsv"
    group:
        "tables"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(336),
        runtime=minutes(3, PER_FACT),
    params:
        model=MODEL_SETTINGS["label"],
        dataset=DATASET,
        aggregate=config["scores"]["aggregate"],
        fingerprint=fingerprint("scores"),
    message:
        "Scoring {MODEL}'s edits"
    script:
        "../workflow_scripts/scores.py"


rule editing:
    input:
        EDITS,
        f"{OUT}/scores.parquet",
