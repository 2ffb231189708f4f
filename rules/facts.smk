# In: a data set (the bundled one is built from data/), the model.
# Out: facts.parquet (every record, kept or excluded, known or not), study.parquet (the known facts
# that are traced and edited), noise.json (sigma).
# Steps: build, filter by knowledge, sample the study, measure the embeddings.

READING = {
    "format": config["dataset"]["format"],
    "columns": config["dataset"].get("columns", {}),
    "separator": config["dataset"].get("separator", formats.SEPARATOR),
    "seed": (
        config["seed"]
        if formats.FORMATS[config["dataset"]["format"]].draws_target
        else 0
    ),
}


if DATASET == formats.PLANTED:
    RECORDS = PLANTED_RECORDS

elif DATA_FILE is None:
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
            data=dataset_identity(),
        message:
            "Building the bundled facts"
        script:
            "../workflow_scripts/build_dataset.py"

else:
    RECORDS = ancient(str(DATA_FILE))  # known by its content, wherever it lies


rule filter_facts:
    input:
        records=RECORDS,
        model=ancient(WEIGHTS),
    output:
        f"{OUT}/facts.parquet",
    log:
        log_of(f"{OUT}/facts.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/facts.parquet")
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
        data=[DATASET, dataset_identity()],
        model=model_identity(),
        code=code("facts"),
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
        log_of(f"{OUT}/study.parquet"),
    benchmark:
        benchmark_of(f"{OUT}/study.parquet")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(329),
        runtime=minutes(3),
    params:
        settings={
            "size": config["facts"]["study"],
            "seed": config["seed"],
            "known": config["facts"]["known"],
        },
        code=code("study"),
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
        log_of(f"{OUT}/noise.json"),
    benchmark:
        benchmark_of(f"{OUT}/noise.json")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=model_memory(526),
        runtime=minutes(4),
        gpu=GPU,
    params:
        noise=MODEL_SETTINGS["noise"],
        model=model_identity(),
        code=code("noise"),
    message:
        "Measuring subject embeddings"
    script:
        "../workflow_scripts/noise.py"


rule facts:
    input:
        f"{OUT}/facts.parquet",
        f"{OUT}/study.parquet",
