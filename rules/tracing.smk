# In: the study's facts, the model, and what a localizer needs beside (sigma, key statistics,
# contexts).
# Out: tracing/{kind}/window-{w}.parquet (a row per fact, token, layer),
# localizing/{localizer}/{module}/window-{w}.parquet (a row per fact, layer), effects.parquet (a row
# per fact, localizer, module, window, layer), peaks.parquet (a row per fact).
# Steps: trace each window, localize by every other localizer, put all effects into one table; by
# the shown localizer, where each fact peaks.

TRACE = f"{OUT}/tracing/{{kind}}/window-{{window}}.parquet"
LOCALIZE = f"{OUT}/localizing/{{localizer}}/{{module}}/window-{{window}}.parquet"
PEAKS = f"{OUT}/peaks.parquet"


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


rule localize:
    input:
        unpack(localize_inputs),
        study=f"{OUT}/study.parquet",
        model=ancient(WEIGHTS),
    output:
        shard_output(LOCALIZE, "tracing"),
    log:
        log_of(part(LOCALIZE, "tracing")),
    benchmark:
        benchmark_of(part(LOCALIZE, "tracing"))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1889, moments=3),
        runtime=minutes(86, per_fact("tracing")),
        gpu=GPU,
    params:
        settings=lambda w: localizer_settings(w.localizer),
        solving=lambda w: localizer_solving(w.localizer),
        noise=lambda w: localizer_noise(w.localizer),
        seed=config["seed"],
        model=model_identity(),
        code=lambda w: code_with("localize", localizers=[w.localizer]),
    message:
        part_message(
            "Localizing: {wildcards.localizer}, {wildcards.module}, window {wildcards.window}",
            "tracing",
        )
    script:
        "../workflow_scripts/localize.py"


# Every localizer's tables
LOCALIZED = [
    table_of(name, **place) for name, places in PLACES.items() for place in places
]


rule effects:
    input:
        study=f"{OUT}/study.parquet",
        localized=LOCALIZED,
    output:
        f"{OUT}/effects.parquet",
    log:
        log_of(f"{OUT}/effects.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/effects.parquet")
    group:
        "effects"
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
        places=PLACES,
        code=code("effects"),
    message:
        "Gathering the effects of all localizers"
    script:
        "../workflow_scripts/effects.py"


rule peaks:  # of its own localizer's table alone: another in the study reruns no edit
    input:
        localized=table_of(**SHOWN),
    output:
        PEAKS,
    log:
        log_of(PEAKS),
    benchmark:
        benchmark_of(PEAKS)
    group:
        "effects"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(326),
        runtime=minutes(2, PER_FACT),
    params:
        shown=AT,
        reference=config["tracing"]["clean_reference"],
        code=code("peaks"),
    message:
        "Finding where each fact peaks by {SHOWN[localizer]}"
    script:
        "../workflow_scripts/peaks.py"


rule tracing:
    input:
        LOCALIZED,
        f"{OUT}/effects.parquet",
