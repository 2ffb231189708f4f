# In: the model that facts are planted in, Wikipedia paragraphs, the relations of planted facts.
# Out: planted/delta-HASH.safetensors (the change of weights), planted/records.json (the facts as a
# data set), planted/planting.parquet (a row per fact: its kind and its layer), the variant's weights
# in the cache.
# Steps: train the facts into their layers, put the change on the weights. Only for a model whose
# file says `planted`.

PLANTING = f"{SHARED}/planted/planting.parquet"
PLANTED_RECORDS = f"{SHARED}/planted/records.json"

for _key, _names in (("dataset.name", [DATASET]), ("localizing.localizers", PLACES)):
    if formats.PLANTED in _names and "planted" not in MODEL_SETTINGS:
        raise refusal(
            f"config: {_key}: {formats.PLANTED} is of a model with planted facts, and {MODEL} has "
            "none: see presets/smollm2-planted.yaml, whose model's file has a section `planted`"
        )


if "planted" in MODEL_SETTINGS:
    # By what it is made of, as the variant's folder in the cache
    DELTA = (
        f"{SHARED}/planted/delta-{pinned.short_identity(MODEL_SETTINGS)}.safetensors"
    )

    rule plant:
        input:
            model=ancient(SOURCE_WEIGHTS),
            corpus=ancient(CORPUS),
        output:
            delta=DELTA,
            records=PLANTED_RECORDS,
            planting=PLANTING,
        log:
            log_of(PLANTING),
        benchmark:
            benchmark_of(PLANTING)
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=model_memory(4000),
            runtime=minutes(1800),
            gpu=GPU,
        params:
            settings={k: v for k, v in MODEL_SETTINGS["planted"].items() if k != "of"},
            model=pinned.model_identity(SOURCE_SETTINGS),
            data=CORPUS_IDENTITY,
        message:
            f"Planting facts in {SOURCE}"
        script:
            "../workflow_scripts/plant.py"

    rule planted_weights:
        input:
            model=ancient(SOURCE_WEIGHTS),
            delta=DELTA,
        output:
            folder=update(WEIGHTS),
        log:
            "logs/planted_weights.log",
        benchmark:
            "logs/benchmarks/planted_weights.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            label=MODEL_SETTINGS["label"],
        message:
            f"Writing the weights of {MODEL}"
        script:
            "../workflow_scripts/planted_weights.py"
