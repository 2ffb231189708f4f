# Configuration, paths and fingerprints: the only helpers of the rules.
# Every path is made here; every rule's `fingerprint` covers what its results depend on.

import base64
import contextlib
import functools
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError

from locedit import methods
from locedit.facts import formats
from locedit.methods import problems
from locedit.store import assets as pinned
from locedit.store import hashing, pins
from locedit.workflow import config as configuration
from locedit.workflow import failures, plugins

ROOT = Path(workflow.basedir)

try:
    _schemas = {
        name: configuration.load_yaml(ROOT / "schemas" / f"{name}.schema.yaml")
        for name in ("config", "model")
    }
    # first of all: plug-ins tell which methods there are, and which settings these have
    configuration.validate(
        {"plugins": config.get("plugins", [])},
        {"properties": {"plugins": _schemas["config"]["properties"]["plugins"]}},
        "config",
    )
    PLUGINS = plugins.load(config.get("plugins", []), [Path.cwd(), ROOT])
    _schemas["config"] = configuration.with_methods(
        _schemas["config"], methods.schemas()
    )
    configuration.validate(config, _schemas["config"], "config")
    MODEL, MODEL_SETTINGS = configuration.load_model(
        config["model"], ROOT, _schemas["model"]
    )
    configuration.check(config, MODEL_SETTINGS["n_layers"], assets=pins.ASSETS)
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
DATA_SOURCE = formats.KNOWN.get(DATASET) if not config["dataset"]["path"] else None
if config["dataset"]["path"]:
    DATA_FILE = Path(config["dataset"]["path"]).expanduser()
elif DATA_SOURCE.asset:
    DATA_FILE = pinned.cached_path(pinned.named(DATA_SOURCE.asset), CACHE)
else:
    DATA_FILE = DATA_SOURCE.url and CACHE / Path(DATA_SOURCE.url).name

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

OUT = f"results/{MODEL}/{DATASET}"
SHARED = f"results/{MODEL}"  # what depends on the model alone

try:
    for _folder in (Path.cwd(), OUT, SHARED, "logs"):
        failures.check_writable(Path(_folder))
except OSError as error:
    raise WorkflowError(str(error)) from None

ENVIRONMENT = str(ROOT / "envs" / "locedit.yaml")  # of every rule, for `--sdm conda`

# Cards that a job asks for which loads the model; a machine without any has none to give
GPU = 0 if config["device"] == "cpu" else 1

METHODS = config["editing"]["methods"]
PROBLEMS = config["editing"]["problems"]
LAYERS = config["editing"]["layers"]
MODULES = config["tracing"]["modules"]
WINDOWS = config["tracing"]["windows"]
TRACED = {key: config["analysis"][key] for key in ("module", "window")}

# Which localizers there are: `restore` is causal tracing, `zero` representation zeroing
_interventions = config["tracing"]["intervention"]
INTERVENTIONS = [_interventions] if isinstance(_interventions, str) else _interventions


def set_restored_times(results=Path("results"), seen=Path(".snakemake/results-folder")):
    """Set all times of results that were copied here to now, once.

    Fingerprints say what must be made again, but Snakemake looks at times besides, unless it holds
    the checksum of an input below one megabyte. `ancient` is no remedy: where a job has to run,
    jobs that have ancient inputs of it are not looked at, not even for changed parameters.
    """
    with contextlib.suppress(OSError):  # read-only: then nothing is to be made there
        results.mkdir(exist_ok=True)
        seen.parent.mkdir(exist_ok=True)
        folder = str(results.stat().st_ino)
        if not seen.exists() or seen.read_text() != folder:
            now = time.time()
            # of logs too: a job's benchmark is among its outputs
            for path in (*results.rglob("*"), *Path("logs").rglob("*")):
                os.utime(path, (now, now))
            seen.write_text(folder)


if workflow.is_main_process:
    set_restored_times()


def refuse_unfit_tables(rules, record=Path(".snakemake/metadata")):
    """Stop where a table fits neither the configuration nor any record that would remake it.

    Snakemake notices a change by the record that it keeps of each file. Where results were copied
    without it, their own fingerprints say whether they fit.
    """
    named = {str(file) for one in rules for file in (*one.input, *one.output)}
    named = {n for n in named if n.startswith("results/") and n.endswith(".parquet")}
    recorded = {
        base64.urlsafe_b64decode("".join(part.removeprefix("@") for part in parts))
        for parts in (path.relative_to(record).parts for path in record.rglob("*"))
        if not parts[-1].startswith("@")  # a folder that holds the rest of a long name
    }
    unknown = (n for n in sorted(named) if n.encode() not in recorded)
    unfit = [n for n in unknown if Path(n).is_file() and not _fits(n, rules)]
    if unfit:
        raise WorkflowError(
            f"{unfit[0]} was made by other settings or code, as its provenance says, and "
            f"Snakemake's record of it, which would have it made again, is not in {record}: "
            "restore that folder together with the results, or delete what does not fit: "
            + " ".join(unfit)
        )


def _fits(name, rules):
    try:  # here, since it costs a second, and only restored results need it
        from locedit.store import tables
    except ImportError:  # Snakemake alone, with `--sdm conda`
        return True
    made = {}
    with contextlib.suppress(tables.TableError):  # whoever reads that file will say so
        made = tables.provenance(name)
    for one in rules if made.get("fingerprint") else []:
        for output in one.output:
            if match := output.match(name):
                now = dict(one.params._allitems()).get(
                    "fingerprint", made["fingerprint"]
                )
                now = (
                    now(SimpleNamespace(**match.groupdict())) if callable(now) else now
                )
                return now == made["fingerprint"]
    return True


wildcard_constraints:
    method="|".join(re.escape(name) for name in methods.METHODS),
    problem="[a-z_]+",
    kind="mlp|attn|hidden",
    window=r"\d+",
    layer=r"\d+",
    shard=r"\d+",
    shards=r"\d+",


def script_code(name, *more, without=()):
    """A hash of a workflow script, of all project code that it imports, and of more library files.

    Logging and progress (locedit/workflow/job.py) are left out: no number depends on them.
    """
    paths = [
        ROOT / "workflow_scripts" / f"{name}.py",
        *(ROOT / "locedit" / m for m in more),
    ]
    without = ("locedit.workflow.job", *without)
    return [hashing.code(path, ROOT, without) for path in paths]


def picked(section, *keys):
    """Some settings of one section of the configuration."""
    return {f"{section}.{key}": config[section][key] for key in keys}


@functools.cache
def model_identity():
    """What tells the model's weights from another's, found once."""
    return pinned.model_identity(MODEL_SETTINGS)


@functools.cache
def dataset_identity():
    """A hash of the data that the facts are read from."""
    if DATA_FILE is None:
        data = [
            p
            for p in (ROOT / "data").rglob("*")
            if p.suffix in (".csv", ".yaml", ".yml")
        ]
        return [hashing.files(data), script_code("build_dataset")]
    if DATA_SOURCE and DATA_SOURCE.asset:
        return pinned.named(DATA_SOURCE.asset).sha256
    return hashing.files([DATA_FILE]) if DATA_FILE.is_file() else DATA_FILE.name


def fingerprint(stage, **wildcards):
    """The hash of a stage's settings, its code and everything upstream of it."""
    return hashing.digest([stage, wildcards, _DEPENDS[stage](**wildcards)])


def _model():
    families = [plugin.code(ROOT) for plugin in PLUGINS if plugin.architectures]
    return [model_identity(), config["dtype"], *families]


def hyperparameters(method, problem):
    """A method's settings for a problem: the preset's, the model's over it, then the config's."""
    tuned = MODEL_SETTINGS.get("tuned", {}).get("hyperparameters", {})
    layers = [tuned] if config["editing"]["tuned"] else []
    overlays = [*layers, config["editing"]["hyperparameters"]]
    return vars(
        methods.METHODS[method].hyperparameters(
            problem,
            config["editing"]["preset"],
            *(overlay.get(method, {}) for overlay in overlays),
        )
    )


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


def method_inputs(method):
    """Fingerprints of the shared inputs that a method takes."""
    needs = methods.METHODS[method]
    return [
        fingerprint(stage)
        for stage, needed in (
            ("statistics", needs.statistics),
            ("contexts", needs.contexts),
        )
        if needed
    ]


def method_code(method, name):
    """A script's code with one method's, the others left out.

    Hyperparameters count by their values, not by the code that says them.
    """
    without = ("locedit.methods", "locedit.methods.builtin")
    for plugin in PLUGINS:
        if method in plugin.methods:
            return [script_code(name, without=without), plugin.code(ROOT)]
    folders = methods.METHODS[method].module.split(".")[1:]
    own = Path(*folders).with_suffix(".py")
    return script_code(name, own, without=without)


def sharded(stage):
    """Whether a stage's facts are dealt out to several jobs."""
    return config["sharding"][stage] > 1


def part(path, stage):
    """Where one job puts its part of a table, and its log: all of it, or one shard's."""
    if not sharded(stage):
        return path
    stem, _, suffix = path.rpartition(".")
    return f"{stem}.shard-{{shard}}-of-{{shards}}.{suffix}"


def shard_output(path, stage):
    """The same as an output, which is not kept once the whole table is there."""
    return temp(part(path, stage)) if sharded(stage) else path


def parts(path, stage):
    """Of a sharded table: the parts of all jobs."""
    count = config["sharding"][stage]
    pattern = part(path, stage).replace("{shards}", str(count))
    return [pattern.replace("{shard}", str(i)) for i in range(1, count + 1)]


def part_message(text, stage):
    """What a job says that it does."""
    more = ", shard {wildcards.shard} of {wildcards.shards}"
    return text + (more if sharded(stage) else "")


def edit_inputs(wildcards):
    """The shared inputs that the method takes, beside those of every edit."""
    needs = methods.METHODS[wildcards.method]
    files = {}
    if needs.statistics:
        files["statistics"] = f"{SHARED}/key_statistics.safetensors"
    if needs.contexts:
        files["contexts"] = f"{SHARED}/contexts.parquet"
    return files


AT = {**TRACED, "tracing": config["analysis"]["tracing"]}  # rows of a statistics' table


def tables_of(*names):
    """The inputs of a figure by the names that its R function gives them."""
    paths = {name: f"{OUT}/{name}.parquet" for name in ("scores", "effects")}
    paths["cells"] = f"{OUT}/analysis/heatmap_cells.parquet"
    return {name: paths.get(name, f"{OUT}/analysis/{name}.parquet") for name in names}


def r2_figure(score, **settings):
    """R2 of one score, bars by problem and method."""
    return (
        "r2",
        "r2_by_problem",
        {**AT, "score": score, **settings},
        tables_of("r2"),
    )


def figure_sources(file):
    """The R files of a figure, in their order: those of every figure, and its own."""
    return ["frames.R", "theme.R", "figures.R", f"figures_{file}.R"]


def table_outputs(name):
    """A table as Parquet, CSV and a page."""
    return {
        "parquet": f"{OUT}/analysis/{name}.parquet",
        "csv": f"{OUT}/tables/{name}.csv",
        "html": f"{OUT}/tables/{name}.html",
    }


def page_code(caption):
    """A hash of what lays a table out as a page; no number depends on it."""
    modules = [ROOT / "locedit" / "report" / name for name in ("grids.py", "layouts.py")]
    texts = [
        ROOT / "analysis" / "table.html.jinja",
        ROOT / "analysis" / "captions" / f"{caption}.rst",
    ]
    return [
        *(hashing.code(path, ROOT) for path in modules),
        hashing.files(texts),
    ]


# The R files behind each table of the analysis, and the tables that it is made from
TABLE_SOURCES = {
    "r2": ["frames.R", "groups.R", "regressions.R"],
    "correlations": ["frames.R", "groups.R", "regressions.R"],
    "success": ["frames.R", "success.R"],
    "mixed": ["frames.R", "groups.R", "mixed.R"],
    "diff_intervals": ["frames.R", "groups.R", "intervals.R"],
    "out_of_fold": ["frames.R", "groups.R", "folds.R"],
    "regret": ["frames.R", "groups.R", "intervals.R", "folds.R", "regret.R"],
    "reliability": ["frames.R", "reliability.R"],
}
PUBLISHED = "analysis/published.csv"  # the paper's own values


def _table(name):
    _, arguments, inputs, _ = TABLES[name]
    return [
        [fingerprint(stage) for stage in inputs],
        arguments,
        hashing.files(ROOT / "analysis" / file for file in TABLE_SOURCES[name]),
        script_code("table", without=("locedit.report.grids", "locedit.report.layouts")),
    ]


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

# The stage that makes a figure's table, where its name is another
MADE_BY = {"cells": "heatmap_cells", "sweep": "sweep_table"}

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
        quirks(problem, "baseline"),
        script_code("baseline", without=("locedit.methods",)),
    ],
    "trace": lambda kind, window: [
        fingerprint("study"),
        fingerprint("noise"),
        picked("tracing", "n_noise", "noise_seed"),
        script_code("trace"),
    ],
    "zero": lambda kind, window: [fingerprint("study"), script_code("zero")],
    "effects": lambda: [
        [
            fingerprint(stage, kind=m, window=str(w))
            for intervention, stage in (("restore", "trace"), ("zero", "zero"))
            if intervention in INTERVENTIONS
            for m in MODULES
            for w in WINDOWS
        ],
        picked("tracing", "clean_reference"),
        script_code("effects"),
    ],
    "edit": lambda method, problem, layer: [
        fingerprint("baseline", problem=problem),
        fingerprint("essence"),
        method_inputs(method),
        hyperparameters(method, problem),
        _measuring(),
        edit_quirks(method, problem),
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
        vars(
            methods.METHODS[method].hyperparameters(
                problem, config["editing"]["preset"]
            )
        ),
        quirks(problem, "baseline"),
        edit_quirks(method, problem),
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
    "heatmap_cells": lambda: [
        fingerprint("study"),
        fingerprint("noise"),
        picked("tracing", "n_noise", "noise_seed"),
        picked("analysis", "heatmap", "window"),
        script_code("heatmap_cells"),
    ],
    "figure": lambda file, tables: [
        [fingerprint(MADE_BY.get(table, table)) for table in tables],
        hashing.files(ROOT / "analysis" / name for name in figure_sources(file)),
        script_code("figure"),
    ],
    "report": lambda: [
        fingerprint("analysis"),
        [
            fingerprint("figure", file=file, tables=list(inputs))
            for file, _, _, inputs in FIGURES.values()
        ],
        config["analysis"],
        hashing.files((ROOT / "analysis" / "report").iterdir()),
        script_code("report"),
    ],
    "published": lambda: [hashing.files([ROOT / PUBLISHED])],
    **{name: functools.partial(_table, name) for name in TABLE_SOURCES},
    "analysis": lambda: [
        [fingerprint(name), page_code(TABLES[name][0])] for name in TABLE_SOURCES
    ],
}
