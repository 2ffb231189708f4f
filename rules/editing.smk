# In: the study's facts, their peaks, sigma, the model, Wikipedia paragraphs.
# Out: key_statistics.safetensors, contexts.parquet, held_out.parquet, essence.parquet,
# baseline/{problem}.parquet,
# editing/{method}/{problem}/layer-{layer}.parquet (a row per fact; layer-peak.parquet: each at the
# layer where its own localizer peaks; layer-{layer}-together-{n}.parquet: n facts in one update;
# layer-{layer}-again.parquet: the primary comparison's, with contexts_again.parquet),
# scores.parquet; scores_together.parquet, where several n are compared.
# Steps: what all edits share, once; the unedited model, once a problem; the grid; the scores.

BASELINE = f"{OUT}/baseline/{{problem}}.parquet"
EDIT = f"{OUT}/editing/{{method}}/{{problem}}/layer-{{layer}}.parquet"

HELD_OUT = f"{SHARED}/held_out.parquet"  # asked for where a study scores by it
MEASURING = {
    **picked(
        "scores",
        "paraphrases",
        "neighbours",
        "generations",
        "generation_tokens",
        "greedy_tokens",
    ),
    **picked("tracing", "n_noise", "noise_seed"),
}

# Of key statistics: the ridge is added where they are solved with, so none is collected again
COLLECTING = {
    k: v for k, v in config["statistics"].items() if k not in ("ridge", "path")
}


if config["statistics"]["path"]:

    rule imported_statistics:
        input:
            imported=str(Path(config["statistics"]["path"]).expanduser()),
            model=ancient(WEIGHTS),
        output:
            f"{SHARED}/key_statistics.safetensors",
        log:
            log_of(f"{SHARED}/key_statistics.safetensors"),
        benchmark:
            benchmark_of(f"{SHARED}/key_statistics.safetensors")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=model_memory(1519, moments=MODEL_SETTINGS["n_layers"]),
            runtime=minutes(10),
            gpu=GPU,
        params:
            model=model_identity(),
            code=code("imported_statistics"),
        message:
            "Taking over key statistics"
        script:
            "../workflow_scripts/imported_statistics.py"

else:

    rule key_statistics:
        input:
            corpus=ancient(CORPUS),
            model=ancient(WEIGHTS),
        output:
            f"{SHARED}/key_statistics.safetensors",
        log:
            log_of(f"{SHARED}/key_statistics.safetensors"),
        benchmark:
            benchmark_of(f"{SHARED}/key_statistics.safetensors")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=model_memory(1519, moments=MODEL_SETTINGS["n_layers"]),
            runtime=minutes(54),
            gpu=GPU,
        params:
            settings=COLLECTING,
            model=model_identity(),
            data=CORPUS_IDENTITY,
            code=code("key_statistics"),
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
        log_of(f"{SHARED}/contexts.parquet"),
    benchmark:
        benchmark_of(f"{SHARED}/contexts.parquet")
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
        model=model_identity(),
        code=code("contexts"),
    message:
        "Sampling context templates"
    script:
        "../workflow_scripts/contexts.py"


use rule contexts as contexts_again with:
    output:
        f"{SHARED}/contexts_again.parquet",
    log:
        log_of(f"{SHARED}/contexts_again.parquet"),
    benchmark:
        benchmark_of(f"{SHARED}/contexts_again.parquet")
    params:
        settings=config["contexts"],
        seed=config["seed"] + 1,
        model=model_identity(),
        code=code("contexts"),
    message:
        "Sampling context templates for edits that are made again"


rule held_out:
    input:
        corpus=ancient(CORPUS),
        model=ancient(WEIGHTS),
    output:
        HELD_OUT,
    log:
        log_of(HELD_OUT),
    benchmark:
        benchmark_of(HELD_OUT)
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1094),
        runtime=minutes(6),
        gpu=GPU,
    params:
        settings=picked("scores", "text_paragraphs", "text_tokens"),
        read=COLLECTING,
        seed=config["seed"],
        model=model_identity(),
        corpus=CORPUS_IDENTITY,  # not the data, which is the facts
        code=code("held_out"),
    message:
        "Drawing held-out paragraphs"
    script:
        "../workflow_scripts/held_out.py"


rule essence:
    input:
        study=f"{OUT}/study.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(f"{OUT}/essence.parquet", "editing"),
    log:
        log_of(part(f"{OUT}/essence.parquet", "editing")),
    benchmark:
        benchmark_of(part(f"{OUT}/essence.parquet", "editing"))
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
        model=model_identity(),
        code=code("essence"),
    message:
        part_message("Sampling essence texts", "editing")
    script:
        "../workflow_scripts/essence.py"


rule baseline:  # of the whole study: a method that edits more of it reruns no other's edits
    input:
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        shard_output(BASELINE, "editing"),
    log:
        log_of(part(BASELINE, "editing")),
    benchmark:
        benchmark_of(part(BASELINE, "editing"))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1173),
        runtime=minutes(11, per_fact("editing")),
        gpu=GPU,
    params:
        measuring=MEASURING,
        min_p_erase=lambda w: min_p_erase(w.problem),
        seed=config["seed"],
        quirks=lambda w: quirks(w.problem, "baseline"),
        model=model_identity(),
        code=code("baseline"),
    message:
        part_message("Measuring the unedited model for {wildcards.problem}", "editing")
    script:
        "../workflow_scripts/baseline.py"


rule edit:
    input:
        unpack(edit_inputs),
        unpack(peak_inputs),
        unpack(text_inputs),
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        essence=f"{OUT}/essence.parquet",
        baseline=BASELINE,
        model=ancient(WEIGHTS),
    output:
        shard_output(EDIT, "editing"),
    log:
        log_of(part(EDIT, "editing")),
    benchmark:
        benchmark_of(part(EDIT, "editing"))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(3878, moments=3),
        runtime=minutes(118, per_fact("editing")),
        gpu=GPU,
    params:
        measuring=MEASURING,
        facts=lambda w: facts_edited(w.method, w.problem, w.layer),
        hyperparameters=lambda w: hyperparameters(w.method, w.problem),
        solving=lambda w: solving(w.method),
        quirks=lambda w: edit_quirks(w.method, w.problem),
        seed=lambda w: seed(w.layer),
        model=model_identity(),
        code=lambda w: code_with("edit", methods=[w.method]),
    message:
        part_message(
            "Editing: {wildcards.method}, {wildcards.problem}, layer {wildcards.layer}",
            "editing",
        )
    script:
        "../workflow_scripts/edit.py"


# What all of the analysis is of: the fewest facts together
EDITS = edits_of(TOGETHER[0])
EDITS_TOGETHER = [path for n in TOGETHER[1:] for path in edits_of(n)]
# At each fact's own layer
EDITS_AT_PEAKS = [
    EDIT.format(method=method, problem=problem, layer=pairs.PEAK)
    for method, problem in PAIRS
    if pairs.PEAK in edit_layers(method, problem)
]
EDITS_AGAIN = edits_again()


rule scores:
    input:
        study=f"{OUT}/study.parquet",
        edits=EDITS,
        peaks=EDITS_AT_PEAKS,
        again=EDITS_AGAIN,
    output:
        f"{OUT}/scores.parquet",
    log:
        log_of(f"{OUT}/scores.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/scores.parquet")
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
        edits={
            f"{method} {problem}": edit_layers(method, problem)
            for method, problem in PAIRS
        },
        again=len(EDITS_AGAIN) and config["editing"]["repeated"],
        code=code("scores"),
    message:
        "Scoring {MODEL}'s edits"
    script:
        "../workflow_scripts/scores.py"


if EDITS_TOGETHER:

    use rule scores as scores_together with:
        input:
            study=f"{OUT}/study.parquet",
            edits=EDITS + EDITS_TOGETHER,
            peaks=[],
            again=[],
        output:
            f"{OUT}/scores_together.parquet",
        log:
            log_of(f"{OUT}/scores_together.parquet"),
        benchmark:
            benchmark_of(f"{OUT}/scores_together.parquet")
        message:
            f"Scoring {MODEL}'s edits by the number of facts in an update"


rule editing:
    input:
        EDITS,
        EDITS_AT_PEAKS,
        EDITS_AGAIN,
        EDITS_TOGETHER,
        f"{OUT}/scores.parquet",
        rules.scores_together.output if EDITS_TOGETHER else [],
