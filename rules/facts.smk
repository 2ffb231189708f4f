# In: a data set (the bundled one is built from data/), the model.
# Out: facts.parquet (every record, kept or excluded, known or not), study.parquet (the known facts
# that are traced and edited), noise.json (sigma).
# Steps: build, filter by knowledge, sample the study, measure the embeddings.

if DATA_FILE is None:
    RECORDS = "results/datasets/bundled.json"

    rule build_dataset:
        output:
            RECORDS,
        log:
            "logs/build_dataset.log",
        benchmark:
            "logs/benchmarks/build_dataset.tsv"
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=memory(125),
            runtime=minutes(1),
        params:
            fingerprint=hashing.digest(dataset_identity()),
        message:
            "Building the bundled facts"
        script:
            "../workflow_scripts/build_dataset.py"

else:
    RECORDS = str(DATA_FILE)


rule filter_facts:
    input:
        records=RECORDS,
        model=ancient(WEIGHTS),
    output:
        f"{OUT}/facts.parquet",
    log:
        f"logs/{MODEL}/{DATASET}/facts.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/facts.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(1333),
        runtime=minutes(79, PER_RECORD),
        gpu=GPU,
    params:
        settings=picked("facts", "n", "completion_tokens"),
        reading=READING,
        fingerprint=fingerprint("facts"),
    message:
        "Asking {MODEL} which facts it knows"
    script:
        "../workflow_scripts/facts.py"


rule study:
    input:
        f"{OUT}/facts.parquet",
    output:
        f"{OUT}/study.parquet",
    log:
        f"logs/{MODEL}/{DATASET}/study.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/study.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(329),
        runtime=minutes(3),
    params:
        size=config["facts"]["study"],
        seed=config["seed"],
        fingerprint=fingerprint("study"),
    message:
        "Choosing the facts of the study"
    script:
        "../workflow_scripts/study.py"


rule noise:
    input:
        facts=f"{OUT}/facts.parquet",
        model=ancient(WEIGHTS),
    output:
        f"{OUT}/noise.json",
    log:
        f"logs/{MODEL}/{DATASET}/noise.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/noise.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(526),
        runtime=minutes(4),
        gpu=GPU,
    params:
        noise=MODEL_SETTINGS["noise"],
        fingerprint=fingerprint("noise"),
    message:
        "Measuring subject embeddings"
    script:
        "../workflow_scripts/noise.py"


rule facts:
    input:
        f"{OUT}/facts.parquet",
        f"{OUT}/study.parquet",
