# In: the study's facts, sigma, the model.
# Out: tracing/{kind}/window-{w}.parquet (a row per fact, token, layer), where configured also
# zero-window-{w}.parquet (a row per fact, layer), effects.parquet (a row per fact, module, window,
# layer).
# Steps: trace each window, zero each window, derive the effects.


rule trace:
    input:
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        shard_output(f"{OUT}/tracing/{{kind}}/window-{{window}}.parquet", "tracing"),
    log:
        part(
            f"logs/{MODEL}/{DATASET}/tracing/{{kind}}/window-{{window}}.log", "tracing"
        ),
    benchmark:
        part(
            f"logs/benchmarks/{MODEL}/{DATASET}/tracing/{{kind}}/window-{{window}}.tsv",
            "tracing",
        )
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1889),
        runtime=minutes(86, per_fact("tracing")),
        gpu=GPU,
    params:
        settings=picked("tracing", "n_noise", "noise_seed"),
        fingerprint=lambda w: fingerprint("trace", kind=w.kind, window=w.window),
    message:
        part_message("Tracing {wildcards.kind}, window {wildcards.window}", "tracing")
    script:
        "../workflow_scripts/trace.py"


rule zero:
    input:
        study=f"{OUT}/study.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(f"{OUT}/tracing/{{kind}}/zero-window-{{window}}.parquet", "tracing"),
    log:
        part(
            f"logs/{MODEL}/{DATASET}/tracing/{{kind}}/zero-window-{{window}}.log",
            "tracing",
        ),
    benchmark:
        part(
            f"logs/benchmarks/{MODEL}/{DATASET}/tracing/{{kind}}/zero-window-{{window}}.tsv",
            "tracing",
        )
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1889),
        runtime=minutes(86, per_fact("tracing")),
        gpu=GPU,
    params:
        fingerprint=lambda w: fingerprint("zero", kind=w.kind, window=w.window),
    message:
        part_message("Zeroing {wildcards.kind}, window {wildcards.window}", "tracing")
    script:
        "../workflow_scripts/zero.py"


TRACES, ZEROS = (
    (
        expand(
            f"{OUT}/tracing/{{kind}}/{prefix}window-{{window}}.parquet",
            kind=MODULES,
            window=WINDOWS,
        )
        if intervention in INTERVENTIONS
        else []
    )
    for intervention, prefix in (("restore", ""), ("zero", "zero-"))
)


rule effects:
    input:
        study=f"{OUT}/study.parquet",
        traces=TRACES,
        zeros=ZEROS,
    output:
        f"{OUT}/effects.parquet",
    log:
        f"logs/{MODEL}/{DATASET}/effects.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/effects.tsv"
    group:
        "tables"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(326),
        runtime=minutes(2, PER_FACT),
    params:
        model=MODEL_SETTINGS["label"],
        dataset=DATASET,
        reference=config["tracing"]["clean_reference"],
        fingerprint=fingerprint("effects"),
    message:
        "Deriving tracing effects"
    script:
        "../workflow_scripts/effects.py"


rule tracing:
    input:
        TRACES,
        ZEROS,
        f"{OUT}/effects.parquet",
