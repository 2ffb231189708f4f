"""What the scripts share: a log, threads, errors as sentences, progress, model and provenance."""

import gc
import json
import logging
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from locedit import outcomes
from locedit.errors import LoceditError, bug, ran_out_of_memory
from locedit.messages import shown
from locedit.shards import WHOLE, Shard, batches
from locedit.stated import check_layers
from locedit.store.files import exclusive_lock
from locedit.workflow import config as configuration
from locedit.workflow import gpus, model_file, origins
from locedit.workflow.failures import FAILED, SMALLER_BATCHES
from locedit.workflow.provenance import ROOT, SHARD, fingerprint, hashes, wildcards

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas", "pyarrow")


@contextmanager
def running(snakemake: Any) -> Iterator[logging.Logger]:
    """Log to the rule's log; an error ends the job with its sentence and status 1.

    Where a run was killed and its job goes on, the same job of the next run waits for its end.
    """
    log, file = logging.getLogger(snakemake.rule), Path(snakemake.log[0])

    def end(*_: Any) -> None:
        sys.exit("ended from outside (SIGTERM); run the same command again")

    before = signal.signal(signal.SIGTERM, end)  # so that temporaries are removed
    try:
        with _logging_to(file), exclusive_lock(file):
            start = time.perf_counter()
            yield log
            log.info("done in %.1f s", time.perf_counter() - start)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        said = _sentence(error, file)
        if log.hasHandlers():  # not so where the log itself cannot be written
            log.exception("%s%s", FAILED, said)
        sys.exit(f"{snakemake.rule}: {said}")
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _logging_to(file: Path) -> Iterator[None]:
    file.write_text("")  # then only appended to, by the log and by libraries
    logging.basicConfig(
        filename=file, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.captureWarnings(True)
    # libraries' bars and remarks belong to the log; ours go to the terminal by name
    with file.open("a") as stream, redirect_stderr(stream):
        yield


def _sentence(error: BaseException, log: Path) -> str:
    """What went wrong and what to do, in one line."""
    said = " ".join(str(error).split())
    if ran_out_of_memory(error):
        return (
            f"memory ran out ({said}); run fewer jobs at once (--cores), or take "
            f"{SMALLER_BATCHES}: no result depends on them"
        )
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again"
    if isinstance(error, LoceditError | OSError | SystemExit):
        return said
    return f"{bug(error)}; {log} has its traceback"


def load_plugins(snakemake: Any) -> None:
    """What the configuration's plug-ins register becomes known in this job."""
    from locedit.workflow import plugins

    plugins.load(snakemake.config["plugins"], [Path.cwd(), ROOT])


def check_fetched(snakemake: Any, folder: Path) -> None:
    """A model that was just fetched against its file: at once, not when it is first used."""
    file = model_file.find(snakemake.config["model"], ROOT)
    model_file.check_stated_layers(file, configuration.load_yaml(file), folder)


def load_model(snakemake: Any) -> Any:
    """The rule's model, on the job's threads; a plug-in may have registered its family.

    It is compared with what its own file states of it, and the job's inputs state of theirs.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    from locedit.engine import loading

    log = logging.getLogger(snakemake.rule)
    cards = snakemake.resources.get("gpu", 0)
    gpus.take(cards, log)
    load_plugins(snakemake)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(snakemake.threads)
    start = time.perf_counter()
    folder = Path(snakemake.input.model).parent
    origins.check(origins.of_job(snakemake), folder)
    # without a card of its own on the CPU, whatever LOCEDIT_DEVICE says to the others
    device = "auto" if cards else "cpu"
    lm = loading.load(folder, device=device, dtype=snakemake.config["dtype"])
    file = model_file.find(snakemake.config["model"], ROOT)
    check_layers(configuration.load_yaml(file).get("n_layers"), lm.n_layers, file, folder)
    gc.freeze()  # all that stays until the job ends, which would else take a second longer
    log.info("model loaded in %.1f s", time.perf_counter() - start)
    return lm


def read_sigma(snakemake: Any) -> float:
    """sigma of the tracing noise, as the rule `noise` wrote it."""
    path = Path(snakemake.input.noise)
    try:
        return float(json.loads(path.read_text())["sigma"])
    except (ValueError, TypeError, KeyError) as error:
        raise LoceditError(
            f"{path}: expected JSON with a number `sigma` ({type(error).__name__}: {error}); "
            "delete the file so that it is made again"
        ) from error


def tell(log: logging.Logger, sentence: str) -> None:
    """A sentence for the user at once: in the terminal, and in the job's log."""
    log.warning("%s", sentence)
    print(f"{log.name}: {sentence}", file=sys.__stderr__, flush=True)


@contextmanager
def progress(log: logging.Logger, total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A callable that is told how many more are done: a bar in a terminal, lines in the log."""
    start, done, said = time.perf_counter(), 0, 0.0
    terminal = sys.__stderr__
    shown = terminal is not None and terminal.isatty()
    with tqdm(total=total, desc=what, unit="", file=terminal, disable=not shown) as bar:

        def advance(n: int) -> None:
            nonlocal done, said
            done += n
            bar.update(n)
            now = time.perf_counter() - start
            if now - said >= 10 or done >= total:
                said = now
                left = now / done * (total - done) if done else float("nan")
                log.info("%s: %d of %d, %.2f/s, %.0f s left", what, done, total, done / now, left)

        yield advance


def shard_of(snakemake: Any) -> Shard:
    """The job's share of the facts: all of them, unless its output is one shard's."""
    item = snakemake.wildcards.get(SHARD)
    if item is None:
        return WHOLE
    index, _, count = item.partition("-of-")
    return Shard(index=int(index), count=int(count))


def batch_tokens(snakemake: Any) -> int | None:
    """Token rows of one partial pass at most, the job's resource; None: by the machine's memory."""
    return _at_most(snakemake, "batch_tokens", None)


def batch_facts(snakemake: Any, lm: Any, **edit: int) -> int:
    """Facts that are edited side by side, the job's resource; else as many as memory holds.

    edit: what `memory.facts_together` is to know of it.
    """
    from locedit.model.memory import facts_together

    return _at_most(snakemake, "batch_facts", facts_together(lm, **edit))


def _at_most(snakemake: Any, resource: str, otherwise: Any) -> Any:
    given = snakemake.resources.get(resource, otherwise)
    if given != otherwise and not (type(given) is int and given >= 1):
        raise LoceditError(
            f"the resource {resource} of {snakemake.rule} is {shown(given)}; give a whole number "
            "from 1"
        )
    return given


def batches_of(snakemake: Any, lm: Any, records: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The job's share of the facts, as many together as are edited side by side.

    Whole batches of all facts, so that no number depends on the shards.
    """
    return shard_of(snakemake).part(batches(records, batch_facts(snakemake, lm)))


def batch_by_batch(
    log: logging.Logger,
    together: Sequence[Sequence[dict[str, Any]]],
    rows_of: Callable[[Sequence[dict[str, Any]]], Iterable[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """Each batch of facts' rows of a table, as they are made, with progress."""
    with progress(log, sum(map(len, together)), "facts") as advance:
        for batch in together:
            yield from rows_of(batch)
            advance(len(batch))


def fact_by_fact(
    log: logging.Logger,
    records: Sequence[dict[str, Any]],
    rows_of: Callable[[dict[str, Any]], Iterable[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """Each fact's rows of a table, as they are made, with progress."""
    return batch_by_batch(log, batches(records, 1), lambda batch: rows_of(batch[0]))


# Of each stage whose rows have a status: what was to be done, and how to do without one cell
_CELLS = {
    "trace": ("traced", "out of localizing.modules or localizing.windows"),
    "localize": (
        "localized",
        "out of localizing.localizers, localizing.modules or localizing.windows",
    ),
    "baseline": ("measured", "out of editing.problems"),
    "edit": ("edited", "out of editing.methods, editing.problems or editing.layers"),
}


def whole_cell(
    snakemake: Any, rows: Iterable[dict[str, Any]], log: logging.Logger, stage: str
) -> Iterator[dict[str, Any]]:
    """A cell's rows, those of facts that failed as lines of the log too.

    Raises LoceditError at their end where every fact failed that was tried, unless they are one
    shard's: whether the cell failed is seen when its shards are merged.
    """
    statuses = []
    for row in rows:
        statuses.append(row["status"])
        if row["status"] != outcomes.OK:
            log.warning("fact %s: %s", row["case_id"], row["status"])
        yield row
    if shard_of(snakemake) == WHOLE:
        log_file = str(snakemake.log[0])
        refuse_failed_cell(snakemake, statuses, stage, "mend the cause", log_file)


def refuse_failed_cell(
    snakemake: Any, statuses: Iterable[str], stage: str, advice: str, log: str
) -> None:
    """Raises LoceditError where every fact of the job's cell failed that was tried.

    log: where tracebacks are.
    """
    named = wildcards(snakemake).items()
    cell = ", ".join(f"{'module' if key == 'kind' else key} {value}" for key, value in named)
    done, without = _CELLS[stage]
    advice += f", or take the cell {without}, and run again; what other cells have is kept"
    outcomes.refuse_all_failed(statuses, cell, done, advice, log=log)


def provenance(snakemake: Any, *, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """How a table was made, for its metadata; nothing in it tells when or where.

    versions: of what was used besides PACKAGES.
    """
    config = snakemake.config
    return {
        "rule": snakemake.rule,
        "wildcards": wildcards(snakemake),
        "fingerprint": fingerprint(snakemake),
        "hashes": hashes(snakemake),
        "seeds": {"study": config["seed"], "noise": config["tracing"]["noise_seed"]},
        "config": dict(config),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
            **(versions or {}),
        },
    }
