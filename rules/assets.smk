# In: pinned downloads (locedit/store/pins.py), or files in the folder $LOCEDIT_ASSETS; or the model
# hub.
# Out: the model's weights, the Wikipedia paragraphs and a data set that goes by its name, in the
# cache, outside results.
# Steps: fetch and check, convert or parse, once. All where Snakemake itself runs: no other machine
# needs a network.
# `update`, because the cache is shared: what another run put there since this one was planned stays.


# The data set: a file of the user's, one that goes by its name and lies in the cache, or None for
# the bundled facts
DATA_SOURCE = formats.KNOWN.get(DATASET) if not config["dataset"]["path"] else None
if config["dataset"]["path"]:
    DATA_FILE = Path(config["dataset"]["path"]).expanduser()
elif DATA_SOURCE.asset:
    DATA_FILE = pinned.cached_path(pinned.named(DATA_SOURCE.asset), CACHE)
else:
    DATA_FILE = DATA_SOURCE.url and CACHE / Path(DATA_SOURCE.url).name

PLANTED_DATA = [
    ROOT / "data" / "planted" / "relations.yaml",
    *(ROOT / "data" / "tables").glob("*.csv"),
]
DUMP = pinned.named("enwiki-shortened").sha256
CORPUS_IDENTITY = [DUMP, code("corpus")]

# Whose weights are fetched: the model's, or those of the one that it is a variant of
SOURCE, SOURCE_SETTINGS = MODEL, MODEL_SETTINGS
if "planted" in MODEL_SETTINGS:
    MODEL_SETTINGS["planted"]["code"] = [code("plant"), hashing.files(PLANTED_DATA)]
    SOURCE = MODEL_SETTINGS["planted"]["base"]
    SOURCE_SETTINGS = MODEL_SETTINGS["planted"]["of"]
SOURCE_FOLDER = pinned.model_folder(SOURCE, SOURCE_SETTINGS, CACHE)
SOURCE_WEIGHTS = str(SOURCE_FOLDER / "config.json")

MODEL_FOLDER = pinned.model_folder(MODEL, MODEL_SETTINGS, CACHE)
WEIGHTS = str(MODEL_FOLDER / "config.json")
CORPUS = str(CACHE / f"enwiki-{hashing.digest(CORPUS_IDENTITY)}.parquet")


try:  # what has been fetched, by another run, tells as much as a folder of the user's
    model_file.check_stated_layers(
        model_file.find(config["model"], ROOT), MODEL_SETTINGS, MODEL_FOLDER
    )
except configuration.ConfigError as error:
    raise refusal(error) from None


if "hub" not in SOURCE_SETTINGS and not pinned.is_folder(SOURCE_SETTINGS):

    rule model_weights:
        output:
            folder=update(SOURCE_WEIGHTS),
        log:
            "logs/model_weights.log",
        benchmark:
            "logs/benchmarks/model_weights.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            asset=SOURCE_SETTINGS.get("asset"),
            gguf=SOURCE_SETTINGS.get("path"),
        message:
            f"Fetching and converting {SOURCE}"
        script:
            "../workflow_scripts/model_weights.py"


if "hub" in SOURCE_SETTINGS:

    rule model_download:
        output:
            folder=update(SOURCE_WEIGHTS),
        log:
            "logs/model_download.log",
        benchmark:
            "logs/benchmarks/model_download.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=2000,
            runtime=240,
        params:
            hub=SOURCE_SETTINGS["hub"],
            revision=SOURCE_SETTINGS["revision"],
        message:
            "Downloading {params.hub} at {params.revision}"
        script:
            "../workflow_scripts/model_download.py"


rule corpus:
    output:
        update(CORPUS),
    log:
        "logs/corpus.log",
    benchmark:
        "logs/benchmarks/corpus.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        data=DUMP,
        code=code("corpus"),
    message:
        "Reading Wikipedia paragraphs"
    script:
        "../workflow_scripts/corpus.py"


if DATA_SOURCE and DATA_FILE:

    rule data_file:
        output:
            update(str(DATA_FILE)),
        log:
            "logs/data_file.log",
        benchmark:
            "logs/benchmarks/data_file.tsv"
        localrule: True
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            mem_mb=1000,
            runtime=30,
        params:
            name=DATASET,
            asset=DATA_SOURCE.asset,
            url=DATA_SOURCE.url,
        message:
            "Fetching the data set {params.name}"
        script:
            "../workflow_scripts/data_file.py"
