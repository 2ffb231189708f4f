"""What a run is about to do that it was asked for by name, and no configuration could ask for.

No heavy imports: Snakemake reads this each time it starts.
"""

from collections.abc import Iterable, Mapping

from locedit.workflow import pairs
from locedit.workflow.config import beyond
from locedit.workflow.sections import Config
from locedit.workflow.validation import ConfigError

Job = tuple[str, Mapping[str, str]]  # its rule, and its wildcards


def check(jobs: Iterable[Job], config: Config, n_layers: int) -> list[str]:
    """What is to be told before the first job starts.

    Raises ConfigError for edits at a layer that the model does not have, and for tuning that has
    nothing to try.
    """
    jobs = list(jobs)
    for rule, wildcards in jobs:
        if rule == "edit":
            _check_layer(wildcards, n_layers)
    swept = {wildcards["method"] for rule, wildcards in jobs if rule == "sweep"}
    gathered = any(rule == "sweep_table" for rule, _ in jobs)
    return _without_grid(swept, gathered, config)


def _check_layer(wildcards: Mapping[str, str], n_layers: int) -> None:
    layer, _ = pairs.placed(wildcards["layer"])
    if layer.isdigit() and int(layer) >= n_layers:
        pair = f"{wildcards['method']}, {wildcards['problem']}"
        raise ConfigError(f"{pair}: {beyond(int(layer), n_layers)}")


def _without_grid(swept: set[str], gathered: bool, config: Config) -> list[str]:
    """A remark on methods that tuning leaves out; ConfigError where it can leave none.

    swept: the methods that are tuned. gathered: whether all that are edited should be.
    """
    aim = config.tuning.aim
    wanted = [*(config.editing.methods if gathered else ()), *swept]
    grid = config.tuning.aims[aim]["grid"]
    without = [name for name in dict.fromkeys(wanted) if name not in grid]
    if not without:
        return []
    said = f"config: tuning.aims.{aim}.grid: nothing to try for {', '.join(without)}"
    remedy = "give values there, as in {METHOD: {SETTING: [1, 2]}}, or set another tuning.aim"
    if not swept or swept.intersection(without):
        raise ConfigError(f"{said}; {remedy}")
    return [f"{said}, left out of the tuning; {remedy}"]
