# The configuration, every path and wildcard, and what the rules' `params` are made of.
# A rule names its own settings, `code=` of its script, and `model=` and `data=` where it reads
# these; what lies upstream is Snakemake's to carry. Snakemake compares params by their values alone,
# as a set, so settings of one kind stand together in a dictionary.

import dataclasses
import functools
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import Quietness

from locedit import localizers, machine, methods
from locedit.errors import LoceditError
from locedit.facts import formats
from locedit.methods import problems
from locedit.store import assets as pinned
from locedit.store import hashing
from locedit.study.budget import Budget
from locedit.workflow import config as configuration
from locedit.workflow import failures, interpreter, model_file, pairs, planned, plugins

ROOT = Path(workflow.basedir)


def refusal(fault):
    """The error that ends a run before it starts; said here where `--quiet all` hides errors."""
    output = workflow.output_settings
    if Quietness.ALL in (output.quiet or ()) and not output.dryrun:
        print(fault, file=sys.stderr)
    return WorkflowError(str(fault))


try:
    # first of all: plug-ins tell which methods and localizers there are, and their settings
    PLUGINS = plugins.load(configuration.plugin_names(config), [Path.cwd(), ROOT])
    STUDY = configuration.read(config)
    configuration.fill(config, STUDY)
    MODEL, MODEL_SETTINGS = model_file.load_model(STUDY.model, ROOT)
    configuration.check(STUDY, MODEL_SETTINGS["n_layers"])
    configuration.check_tuned(MODEL_SETTINGS, MODEL)
    REMARKS = configuration.remarks(STUDY)
    TUNED = configuration.tuned(MODEL_SETTINGS, STUDY.editing.tuned, f"model {MODEL}")
    CACHE = configuration.checked_path(str(pinned.cache_dir()), "LOCEDIT_CACHE")
    # Cards that a job asks for which loads the model; a machine without any has none to give
    GPU = 0 if machine.device() == "cpu" else 1
except LoceditError as error:
    raise refusal(error) from None


# ---- paths and wildcards -------------------------------------------------------------------------

DATASET = config["dataset"]["name"]
OUT = f"results/{MODEL}/{DATASET}"
SHARED = f"results/{MODEL}"  # what depends on the model alone
ENVIRONMENT = str(ROOT / "envs" / "locedit.yaml")  # of every rule, for `--sdm conda`

try:
    interpreter.call_by_name()
    for _folder in (Path.cwd(), OUT, SHARED, "logs"):
        failures.check_writable(Path(_folder))
except OSError as error:
    raise refusal(error) from None

# Where facts are studied that the model does not know, every analysis is of them too, and says so
ALL_FACTS = config["facts"]["known"] == "any"
SUBJECTS = {"correct_only": False} if ALL_FACTS else {}
DATASET_WORDS = DATASET + (", facts that the model knows or not" if ALL_FACTS else "")

METHODS = config["editing"]["methods"]
PROBLEMS = config["editing"]["problems"]
TOGETHER = configuration.together(config["editing"])
PAIRS = [(method, problem) for method in METHODS for problem in PROBLEMS]
LOCALIZERS = config["localizing"]["localizers"]
PLACES = {
    name: [vars(place) for place in localizers.places(name, config["localizing"])]
    for name in LOCALIZERS
}
CONTROLS = [name for name in LOCALIZERS if localizers.LOCALIZERS[name].control]

# What figures show, and pages first
_shown = [config["analysis"][key] for key in ("localizer", "module", "window")]
SHOWN = {
    "localizer": _shown[0],
    **vars(localizers.shown_place(_shown[0], config["localizing"], *_shown[1:])),
}
AT = {**SHOWN, "effect": config["analysis"]["effect"]}  # rows of a statistics' table


wildcard_constraints:
    method="|".join(re.escape(name) for name in methods.METHODS),
    localizer="|".join(
        re.escape(name)
        for name in localizers.LOCALIZERS
        if name != localizers.TRACING  # which has a rule of its own
    ),
    problem="|".join(problems.PROBLEMS),
    module="mlp|attn|hidden|none",
    kind="mlp|attn|hidden",
    window=r"\d+",
    layer=pairs.PLACE,


def log_of(output):
    """A job's log: logs/ mirrors results/."""
    return re.sub(r"\.\w+$", ".log", output.replace("results/", "logs/", 1))


def benchmark_of(output):
    """What Snakemake measures of a job."""
    path = output.replace("results/", "logs/benchmarks/", 1)
    return re.sub(r"\.\w+$", ".tsv", path)


# ---- what a job's params name --------------------------------------------------------------------


def picked(section, *keys):
    """Some settings of one section of the configuration."""
    return {f"{section}.{key}": config[section][key] for key in keys}


@functools.cache
def model_identity():
    """What tells the model from another: its weights, their type here, how they are loaded.

    A family's plug-in, too. Jobs load through `locedit.workflow.job`, which is `BESIDE`.
    """
    loading = hashing.code(ROOT / "locedit" / "engine" / "loading.py", ROOT, BESIDE)
    families = [plugin.code(ROOT) for plugin in PLUGINS if plugin.architectures]
    return [pinned.model_identity(MODEL_SETTINGS), config["dtype"], loading, *families]


# What is no part of any code: what names everything, what hashes, what logs, and which methods and
# localizers there are, since a job that uses one names it
BESIDE = (
    "locedit",
    "locedit.store.hashing",
    "locedit.workflow.job",
    *plugins.REGISTRIES,
)


def code(script, *more, without=()):
    """A hash of a workflow script, of all project code that it imports, and of more files.

    Comments and layout do not count, nor does what is `BESIDE`.
    """
    without = (*BESIDE, *without)
    python = [ROOT / "workflow_scripts" / f"{script}.py"]
    python += [path for path in more if path.suffix == ".py"]
    others = [path for path in more if path.suffix != ".py"]
    return hashing.digest(
        [[hashing.code(path, ROOT, without) for path in python], hashing.files(others)]
    )


def r_code(script, sources, without=()):
    """The same of a script that calls R functions of these files of analysis/."""
    return code(
        script, *(ROOT / "analysis" / name for name in sources), without=without
    )


def code_with(script, **used):
    """A script's code with that of the `methods` and `localizers` it uses, the others left out."""
    registries = {"methods": methods.METHODS, "localizers": localizers.LOCALIZERS}
    named = [(kind, name) for kind, names in used.items() for name in names]
    modules = dict.fromkeys(registries[kind][name].module for kind, name in named)
    own = [
        ROOT.joinpath(*module.split(".")).with_suffix(".py")
        for module in modules
        if module.startswith("locedit.")
    ]
    plugged = [
        plugin.code(ROOT)
        for plugin in PLUGINS
        if any(name in getattr(plugin, kind) for kind, name in named)
    ]
    found = code(script, *own)
    return [found, *plugged] if plugged else found


def hyperparameters(method, problem):
    """A method's settings for a problem: the preset's, the model's over it, then the config's."""
    overlays = [TUNED, config["editing"]["hyperparameters"]]
    return vars(
        methods.METHODS[method].hyperparameters(
            problem,
            config["editing"]["preset"],
            *(overlay.get(method, {}) for overlay in overlays),
        )
    )


def min_p_erase(problem):
    """The p(o_true) that facts have to have for a problem, which erasure alone asks for."""
    erased = not problems.PROBLEMS[problem].maximise
    return config["facts"]["min_p_erase"] if erased else 0


def quirks(problem, *stages):
    """The quirks that are on and change a problem's numbers at these stages."""
    return [
        name
        for name, quirk in problems.QUIRKS.items()
        if config["quirks"][name] and quirk.problem == problem and quirk.stage in stages
    ]


def edit_quirks(method, problem):
    """Likewise of an edit: where rows are noised matters only behind a context."""
    return quirks(problem, "edit") if methods.METHODS[method].contexts else []
