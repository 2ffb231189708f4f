"""Tracing on several threads beside other work: OpenMP's threads sleep or spin while they wait.

    python benchmarks/busy.py [--threads 2] [--repeats 3]

Keeps every core busy, traces one fact in processes of each kind in turn, and prints a JSON line:
the median seconds of each, and of one thread, and the ratio of spinning to sleeping.
"""

import argparse
import json
import multiprocessing as mp
import os
import statistics as st
import subprocess
import sys

TRACE = """
import sys, time, locedit, torch
torch.set_num_threads(int(sys.argv[1]))
lm = locedit.load("smollm2-135m-instruct")
fact = {"prompt": "The capital city of France is", "subject": "France", "target": "Paris"}
locedit.trace(lm, **fact)
start = time.perf_counter()
locedit.trace(lm, **fact)
print(time.perf_counter() - start)
"""


def seconds(policy: str, threads: int) -> float:
    """One fact's tracing in a process of its own, the model loaded and warm."""
    environment = {**os.environ, "OMP_WAIT_POLICY": policy}
    command = [sys.executable, "-c", TRACE, str(threads)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def busy() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    others = [mp.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in others:
        process.start()
    try:
        kinds = {
            "passive": ("passive", options.threads),
            "active": ("active", options.threads),
            "one_thread": ("passive", 1),
        }
        rounds = [{k: seconds(*v) for k, v in kinds.items()} for _ in range(options.repeats)]
    finally:
        for process in others:
            process.terminate()
    found = {kind: st.median(one[kind] for one in rounds) for kind in kinds}
    found["active_over_passive"] = found["active"] / found["passive"]
    print(json.dumps({"threads": options.threads, **{k: round(v, 3) for k, v in found.items()}}))


if __name__ == "__main__":
    main()
