"""Peak memory of a job by its number of facts: tracing, and edits by each method.

    python benchmarks/memory.py [FACTS ...]     default: 50 500

A small, randomly initialised Llama, so that what grows would show beside its weights. Each job
runs the library's own code, from facts to Parquet file, in a process of its own. Prints one JSON
line a job.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

BATCH = 8  # facts side by side
METHODS = ("FT-1", "FT-5", "ROME", "MEMIT")
NOISE = {"sigma": 0.4, "n_noise": 10, "seed": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("facts", nargs="*", type=int, default=[50, 500])
    parser.add_argument("--job", help="run this one job and print its peak")
    arguments = parser.parse_args()
    if arguments.job:
        run(arguments.job, arguments.facts[0])
        return
    for job in ("tracing", *METHODS):
        peaks = {}
        for n in arguments.facts:
            command = [sys.executable, __file__, str(n), "--job", job]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[n] = float(done.stdout.splitlines()[-1])
        print(json.dumps({"job": job, "peak_mb_by_facts": peaks}), flush=True)


def run(job: str, n: int) -> None:
    """Do a job on n facts and print the process's peak memory in MB."""
    import tiny
    import tiny_study
    import torch

    from locedit.facts.record import Fact
    from locedit.localizers import restoration
    from locedit.model.language_model import LanguageModel
    from locedit.model.linear import speed_up
    from locedit.store import tables

    torch.set_num_threads(1)
    pair = tiny.pair("llama", layers=12, dtype=torch.float32)
    names = ["France", "the old city", "Microsoft", "Madrid", "the writer"]
    records = [
        tiny_study.record(str(i), names[i % 5], "The capital of {} is", "Paris", "Rome")
        for i in range(n)
    ]
    facts = [Fact(**record) for record in records]
    speed_up(pair.model)
    lm = LanguageModel(*pair)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        if job == "tracing":
            traced = (restoration.trace_rows(lm, f, module="mlp", window=5, **NOISE) for f in facts)
            tables.write(path, (row for rows in traced for row in rows), "tracing")
        else:
            tables.write(path, edits(lm, facts, job), "editing")
        assert set(tables.read(path, None, flat=True)["status"]) == {"ok"}
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def edits(lm, facts: list, method: str):
    """The editing table's rows for error injection at a middle layer."""
    import torch

    from locedit import shards
    from locedit.engine.key_statistics import KeyMoments
    from locedit.methods import METHODS, SharedInputs
    from locedit.methods.problems import PROBLEMS
    from locedit.study.edit import Cell, Measuring, Subject, baseline, batches, edit_cell

    how = Measuring(sigma=NOISE["sigma"])
    problem, layer = PROBLEMS["error_injection"], 5
    before = [
        row
        for some in shards.batches(facts, BATCH)
        for row in baseline(lm, problem, some, [1.0] * len(some), how, 0.0)
    ]
    subjects = [
        Subject(
            fact=fact,
            before=row,
            texts=["The river is a part of the country."],
            perplexity=[2.0],
        )
        for fact, row in zip(facts, before, strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(4 * lm.inner_size, lm.inner_size, generator=generator)
    moment = keys.T @ keys / len(keys)
    shared = SharedInputs(contexts=[["{}", "The. {}"]], moments=KeyMoments(lambda _: moment))
    hyper = METHODS[method].hyperparameters(problem.name, "paper")
    cell = Cell(method=method, problem=problem.name, layer=layer, hyper=hyper)
    return edit_cell(lm, cell, batches(lm, subjects, BATCH), shared, how)


if __name__ == "__main__":
    main()
