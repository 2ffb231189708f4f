# Configuration, paths and fingerprints: the only helpers of the rules.
# Every path is made here; every rule's `fingerprint` covers what its results depend on.

import functools
from pathlib import Path

from snakemake.exceptions import WorkflowError

from locedit import assets as pinned
from locedit import config as configuration
from locedit import datasets, fingerprints

ROOT = Path(workflow.basedir)

try:
    _schemas = {
        name: configuration.load_yaml(ROOT / "schemas" / f"{name}.schema.yaml")
        for name in ("config", "model")
    }
    configuration.validate(config, _schemas["config"], "config")
    MODEL, MODEL_SETTINGS = configuration.load_model(
        config["model"], ROOT, _schemas["model"]
    )
    configuration.check(config, MODEL_SETTINGS["n_layers"], assets=pinned.ASSETS)
    configuration.validate(
        MODEL_SETTINGS.get("tuned", {}).get("hyperparameters", {}),
        {"$defs": _schemas["config"]["$defs"], "$ref": "#/$defs/hyperparameters"},
        f"model {MODEL}: tuned.hyperparameters",
    )
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None

DATASET = config["dataset"]["name"]
CACHE = Path(config["assets"]["cache"] or pinned.cache_dir()).expanduser()

# The data set: a file of the user's, one that goes by its name and lies in the cache, or None for
# the bundled facts
DATA_SOURCE = datasets.KNOWN.get(DATASET) if not config["dataset"]["path"] else None
if config["dataset"]["path"]:
    DATA_FILE = Path(config["dataset"]["path"]).expanduser()
elif DATA_SOURCE.asset:
    DATA_FILE = pinned.cached_path(pinned.named(DATA_SOURCE.asset), CACHE)
else:
    DATA_FILE = DATA_SOURCE.url and CACHE / Path(DATA_SOURCE.url).name

READING = {
    "format": config["dataset"]["format"],
    "columns": config["dataset"].get("columns", {}),
    "separator": config["dataset"].get("separator", datasets.SEPARATOR),
    "seed": (
        config["seed"]
        if datasets.FORMATS[config["dataset"]["format"]].draws_target
        else 0
    ),
}

OUT = f"results/{MODEL}/{DATASET}"
SHARED = f"results/{MODEL}"  # what depends on the model alone

ENVIRONMENT = str(ROOT / "envs" / "locedit.yaml")  # of every rule, for `--sdm conda`

METHODS = config["editing"]["methods"]
PROBLEMS = config["editing"]["problems"]
LAYERS = config["editing"]["layers"]
MODULES = config["tracing"]["modules"]
WINDOWS = config["tracing"]["windows"]
TRACED = {key: config["analysis"][key] for key in ("module", "window")}

# Where each method's code lives, and which shared inputs it takes
METHOD_FILES = {"FT-1": "ft", "FT-5": "ft", "ROME": "rome", "MEMIT": "memit"}
WITH_STATISTICS = ("ROME", "MEMIT")


wildcard_constraints:
    method="|".join(METHOD_FILES),
    problem="[a-z_]+",
    kind="mlp|attn|hidden",
    window=r"\d+",
    layer=r"\d+",


def script_code(name, *more, without=()):
    """A hash of a workflow script, of all project code that it imports, and of more library files.

    Logging and progress (workflow_scripts/job.py) are left out: no number depends on them.
    """
    paths = [
        ROOT / "workflow_scripts" / f"{name}.py",
        *(ROOT / "locedit" / m for m in more),
    ]
    without = ("workflow_scripts.job", *without)
    return [fingerprints.code(path, ROOT, without) for path in paths]


def picked(section, *keys):
    """Some settings of one section of the configuration."""
    return {f"{section}.{key}": config[section][key] for key in keys}


@functools.cache
def model_identity():
    """What tells one model's weights from another's: its pin, or its folder's content."""
    if "asset" in MODEL_SETTINGS:
        return pinned.named(MODEL_SETTINGS["asset"]).sha256
    return fingerprints.weights(Path(MODEL_SETTINGS["path"]))


@functools.cache
def dataset_identity():
    """A hash of the data that the facts are read from."""
    if DATA_FILE is None:
        data = [
            p
            for p in (ROOT / "data").rglob("*")
            if p.suffix in (".csv", ".yaml", ".yml")
        ]
        return [fingerprints.files(data), script_code("build_dataset")]
    if DATA_SOURCE and DATA_SOURCE.asset:
        return pinned.named(DATA_SOURCE.asset).sha256
    return fingerprints.files([DATA_FILE]) if DATA_FILE.is_file() else DATA_FILE.name


def fingerprint(stage, **wildcards):
    """The hash of a stage's settings, its code and everything upstream of it."""
    return fingerprints.digest([stage, wildcards, _DEPENDS[stage](**wildcards)])


def _model():
    return [model_identity(), config["dtype"]]


def hyperparameters(method, problem):
    """The settings laid over a method's preset for a problem: the model's, then the config's."""
    tuned = MODEL_SETTINGS.get("tuned", {}).get("hyperparameters", {})
    layers = [tuned] if config["editing"]["tuned"] else []
    return [
        {
            key: overlay[method][key]
            for key in ("all", problem)
            if key in overlay.get(method, {})
        }
        for overlay in (*layers, config["editing"]["hyperparameters"])
    ]


def method_inputs(method):
    """Fingerprints of the shared inputs that a method takes."""
    if method not in WITH_STATISTICS:
        return []
    return [fingerprint("statistics"), fingerprint("contexts")]


def method_code(method, name):
    """A script's code with one method's, the others left out."""
    own = f"methods/{METHOD_FILES[method]}.py"
    return script_code(name, own, without=("locedit.methods",))


def edit_inputs(wildcards):
    """The shared inputs that the method takes, beside those of every edit."""
    if wildcards.method not in WITH_STATISTICS:
        return {}
    return {
        "statistics": f"{SHARED}/key_statistics.safetensors",
        "contexts": f"{SHARED}/contexts.parquet",
    }


def figure_outputs(name, label, caption=None, category="Figures"):
    """SVG and PNG of a figure; the report shows the SVG."""
    return {
        "svg": report(
            f"{OUT}/figures/{name}.svg",
            caption=f"../analysis/captions/{caption or name}.rst",
            category=category,
            labels={"figure": label},
        ),
        "png": f"{OUT}/figures/{name}.png",
    }


REGRESSION_SOURCES = ["frames.R", "regressions.R"]

MEASURING = {
    **picked("scores", "paraphrases", "neighbours", "generations", "generation_tokens"),
    **picked("tracing", "n_noise", "noise_seed"),
}

_measuring = lambda: [MEASURING, config["seed"]]

_edits = lambda: [
    fingerprint("edit", method=m, problem=p, layer=str(la))
    for m in METHODS
    for p in PROBLEMS
    for la in LAYERS
]

_drawing = lambda: [
    fingerprints.files((ROOT / "analysis").glob("*.R")),
    script_code("figure"),
    MODEL_SETTINGS["label"],
]

_DEPENDS = {
    "corpus": lambda: [pinned.named("enwiki-shortened").sha256, script_code("corpus")],
    "facts": lambda: [
        _model(),
        dataset_identity(),
        [DATASET, READING],
        picked("facts", "n", "completion_tokens"),
        script_code("facts"),
    ],
    "study": lambda: [
        fingerprint("facts"),
        picked("facts", "study"),
        config["seed"],
        script_code("study"),
    ],
    "noise": lambda: [
        fingerprint("facts"),
        MODEL_SETTINGS["noise"],
        script_code("noise"),
    ],
    "statistics": lambda: [
        _model(),
        fingerprint("corpus"),
        config["statistics"],
        script_code("key_statistics"),
    ],
    "contexts": lambda: [
        _model(),
        config["contexts"],
        config["seed"],
        script_code("contexts"),
    ],
    "essence": lambda: [
        fingerprint("study"),
        config["essence"],
        config["seed"],
        script_code("essence"),
    ],
    "baseline": lambda problem: [
        fingerprint("study"),
        fingerprint("noise"),
        picked("facts", "min_p_erase"),
        _measuring(),
        script_code("baseline", without=("locedit.methods",)),
    ],
    "trace": lambda kind, window: [
        fingerprint("study"),
        fingerprint("noise"),
        picked("tracing", "n_noise", "noise_seed"),
        script_code("trace"),
    ],
    "effects": lambda: [
        [fingerprint("trace", kind=m, window=str(w)) for m in MODULES for w in WINDOWS],
        picked("tracing", "clean_reference"),
        script_code("effects"),
    ],
    "edit": lambda method, problem, layer: [
        fingerprint("baseline", problem=problem),
        fingerprint("essence"),
        method_inputs(method),
        config["editing"]["preset"],
        hyperparameters(method, problem),
        _measuring(),
        method_code(method, "edit"),
    ],
    "scores": lambda: [
        _edits(),
        picked("scores", "aggregate"),
        script_code("scores", without=("locedit.methods",)),
    ],
    "rome_layout": lambda: [
        _edits(),
        MODEL_SETTINGS["n_layers"],
        script_code("rome_layout", without=("locedit.methods",)),
    ],
    "sweep": lambda method, problem: [
        fingerprint("study"),
        fingerprint("noise"),
        method_inputs(method),
        config["editing"]["preset"],
        {k: v for k, v in config["tuning"].items() if k not in ("grid", "problems")},
        config["tuning"]["grid"][method],
        config["scores"]["aggregate"],
        [MEASURING, config["seed"]],
        method_code(method, "sweep"),
    ],
    "sweep_table": lambda: [
        [
            fingerprint("sweep", method=m, problem=p)
            for m in METHODS
            if m in config["tuning"]["grid"]
            for p in config["tuning"]["problems"]
        ],
        script_code("sweep_table"),
    ],
    "sweep_figure": lambda: [fingerprint("sweep_table"), _drawing()],
    "heatmap_cells": lambda: [
        fingerprint("trace", kind=TRACED["module"], window=str(TRACED["window"])),
        config["analysis"]["heatmap"],
        script_code("heatmap_cells"),
    ],
    "figure": lambda inputs: [[fingerprint(stage) for stage in inputs], _drawing()],
    "report": lambda: [
        fingerprint("analysis"),
        fingerprint("heatmap_cells"),
        config["analysis"],
        fingerprints.files((ROOT / "analysis" / "captions").glob("*.rst")),
        script_code("report"),
    ],
    "analysis": lambda: [
        fingerprint("scores"),
        fingerprint("effects"),
        config["analysis"]["tracing"],
        fingerprints.files(ROOT / "analysis" / name for name in REGRESSION_SOURCES),
        script_code("regressions"),
    ],
}
