# What a job asks of a cluster, from what it took when it was measured. A machine on its own ignores
# it, but for memory and time that a profile limits.
# Measured: the default study (SmolLM2-135M in float32, 11 facts, one core of two), each job's seconds
# and largest resident memory as `logs/benchmarks` has them. docs/how-to/cluster.md has the table.
# Asked for: three times the seconds, 1.5 times the memory and two Snakemake processes of 170 MB
# beside it, as the Slurm plug-in starts them, and what is kept twice of the weights; scaled to model
# and facts; more with each attempt.

import json
import math

SNAKEMAKE_MB = 350
MEASURED_WEIGHTS_MB = 540
PACKED_MB = 1074  # of weights at most that a CPU keeps twice: PACKED_BYTES of locedit.model.linear
MEASURED_FACTS = 11


def facts_studied():
    """Facts that are traced and edited.

    A third of the records are taken to be known: by the paper, GPT-J knows 652 of 2,000.
    """
    records = config["facts"]["n"] or 2000
    known = records if config["facts"]["known"] == "any" else math.ceil(records / 3)
    return min(config["facts"]["study"] or known, known)


def model_config():
    """The model's own configuration; empty before it is fetched."""
    try:
        return json.loads(Path(WEIGHTS).read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
    ):  # a damaged one is named by the job that loads the model
        return {}


def weights_mb():
    """The weights as float32, which is how they enter a host's memory."""
    files = MODEL_FOLDER.glob("*.safetensors")
    stored = sum(path.stat().st_size for path in files) / 1e6
    settings = model_config()
    half = settings.get("dtype", settings.get("torch_dtype")) in ("float16", "bfloat16")
    return stored * (2 if half else 1)


def moments_mb():
    """One layer's key moments in float64: d_ff by d_ff."""
    settings = model_config()
    hidden = settings.get("hidden_size", settings.get("n_embd", 0))
    named = (settings.get(key) for key in ("intermediate_size", "n_inner", "ffn_dim"))
    d_ff = next((value for value in named if value), 4 * hidden)
    return d_ff**2 * 8 / 1e6


def memory(measured):
    """MB of a job that reads no model, from the MB measured."""
    return lambda wildcards, attempt: attempt * max(
        1000, SNAKEMAKE_MB + math.ceil(1.5 * measured)
    )


def model_memory(measured, moments=0):
    """Likewise of a job that loads the model and holds so many layers' key moments."""

    def mb(wildcards, attempt):
        weights = max(weights_mb(), MEASURED_WEIGHTS_MB)
        more = weights - MEASURED_WEIGHTS_MB + moments * moments_mb()
        asked = 1.5 * measured + 1.15 * more + min(weights, PACKED_MB)
        return attempt * (SNAKEMAKE_MB + math.ceil(asked))

    return mb


def minutes(seconds, scale=1):
    """Minutes of a job from the seconds measured, ten at least."""
    return lambda wildcards, attempt: attempt * max(
        10, math.ceil(3 * seconds * scale / 60)
    )


PER_FACT = facts_studied() / MEASURED_FACTS
PER_RECORD = (config["facts"]["n"] or 3350) / 800
PER_SWEEP = 10 * config["tuning"]["facts"] / MEASURED_FACTS  # settings tried, roughly


def per_fact(stage):
    """How many times the facts measured one job of a stage has, which may be one of its shards."""
    return PER_FACT / shards(stage)


def seconds_allowed():
    """Of a search; an edit is taken to be two seconds, and `none` to be a day."""
    budget = Budget.parse(config["recommending"]["budget"])
    edits = budget.unit == "edits"
    return min(86400, budget.amount * (2 if edits else 1))
