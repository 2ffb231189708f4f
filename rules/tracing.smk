# In: the study's facts, sigma, the model.
# Out: tracing/{kind}/window-{w}.parquet (a row per fact, token, layer), where configured also
# zero-window-{w}.parquet (a row per fact, layer), effects.parquet (a row per fact, module, window,
# layer).
# Steps: trace each window, zero each window, derive the effects.

TRACE = f"{OUT}/tracing/{{kind}}/window-{{window}}.parquet"
ZERO = f"{OUT}/tracing/{{kind}}/zero-window-{{window}}.parquet"


rule trace:
    input:
        study=f"{OUT}/study.parquet",
        noise=f"{OUT}/noise.json",
        model=ancient(WEIGHTS),
    output:
        shard_output(TRACE, "tracing"),
    log:
        log_of(part(TRACE, "tracing")),
    benchmark:
        benchmark_of(part(TRACE, "tracing"))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1889),
        runtime=minutes(86, per_fact("tracing")),
        gpu=GPU,
    params:
        settings=picked("tracing", "n_noise", "noise_seed"),
        model=model_identity(),
        code=code("trace"),
    message:
        part_message("Tracing {wildcards.kind}, window {wildcards.window}", "tracing")
    script:
        "../workflow_scripts/trace.py"


rule zero:
    input:
        study=f"{OUT}/study.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(ZERO, "tracing"),
    log:
        log_of(part(ZERO, "tracing")),
    benchmark:
        benchmark_of(part(ZERO, "tracing"))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1889),
        runtime=minutes(86, per_fact("tracing")),
        gpu=GPU,
    params:
        model=model_identity(),
        code=code("zero"),
    message:
        part_message("Zeroing {wildcards.kind}, window {wildcards.window}", "tracing")
    script:
        "../workflow_scripts/zero.py"


TRACES, ZEROS = (
    (
        expand(table, kind=MODULES, window=WINDOWS)
        if intervention in INTERVENTIONS
        else []
    )
    for intervention, table in (("restore", TRACE), ("zero", ZERO))
)


rule effects:
    input:
        study=f"{OUT}/study.parquet",
        traces=TRACES,
        zeros=ZEROS,
    output:
        f"{OUT}/effects.parquet",
    log:
        log_of(f"{OUT}/effects.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/effects.parquet")
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
        traced=[INTERVENTIONS, MODULES, WINDOWS],
        code=code("effects"),
    message:
        "Deriving tracing effects"
    script:
        "../workflow_scripts/effects.py"


rule tracing:
    input:
        TRACES,
        ZEROS,
        f"{OUT}/effects.parquet",
