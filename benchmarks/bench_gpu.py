"""A card's first minutes: are the engine's numbers right on it, and how fast is it?

First gpu_checks.py, then gpu_rates.py. What matters most comes first; a measurement that the time
left or the memory is too small for is passed over, with the reason. Prints a table and writes it as
JSON; exits with 1 where numbers differ by more than their tolerance or something failed.

    make bench-gpu                                                 see docs/how-to/gpu.md
    python benchmarks/bench_gpu.py --device cpu --tiny             all of it, small, on a CPU
"""

import argparse
import gc
import itertools
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests" / "support")]

import gpu_checks  # noqa: E402
import tiny  # noqa: E402
from gpu_checks import Check  # noqa: E402
from gpu_rates import (  # noqa: E402
    DTYPES,
    TEXT_TOKENS,
    Bench,
    Task,
    decomposition,
    drawn,
    free_memory,
    free_up,
    peak_rate,
    shapes,
    weights_of,
)

import locedit  # noqa: E402
from locedit.errors import ran_out_of_memory  # noqa: E402
from locedit.messages import one_line  # noqa: E402

CHECKS_SHARE = 0.4  # of the time, at most
ASSUMED_SHARE = 0.15  # of the card's peak, until its like has been measured on another model
MARGIN_S = 5  # for what is not matrix products
NO_TIME = "no time left: needs some {:.0f} s of {:.0f} s"
TIME_UP = "the time was up while it ran"


class OutOfTime(Exception):
    """The time was up while something ran."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line of the results: rates are units a second; `skipped` or `failed` says why none."""

    name: str
    model: str
    dtype: str
    unit: str
    rate: float | None = None
    published: float | None = None
    ratio: float | None = None
    share_of_peak: float | None = None
    peak_memory_gb: float | None = None
    difference: float | None = None
    remark: str | None = None
    seconds: float | None = None
    skipped: str | None = None
    failed: str | None = None


class Clock:
    """The time that is left, an end to what outlasts it, and how fast its like went before."""

    def __init__(self, seconds: float) -> None:
        self.start, self.seconds = time.monotonic(), seconds
        self.rates: dict[tuple[str, str], float] = {}  # operations a second, warming up included

    @property
    def passed(self) -> float:
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.passed

    @contextmanager
    def ends(self, left: float) -> Iterator[None]:
        """Raises OutOfTime within the context after so many seconds."""

        def ring(*_: Any) -> None:
            raise OutOfTime(TIME_UP)

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


# ---- numbers -------------------------------------------------------------------------------------


Source = Callable[[], Iterator[gpu_checks.Compared]]


def sources(device: torch.device, small: bool, golden: Path) -> dict[str, Source]:
    """What numbers are compared with; where all is small, one family's textbook alone."""
    if small:
        return {"textbook": lambda: gpu_checks.textbook_checks(device, ["gptj"])}
    return {
        "textbook": lambda: gpu_checks.textbook_checks(device, sorted(tiny.FAMILIES)),
        "golden numbers": lambda: gpu_checks.golden_checks(device, golden),
    }


def checked(sources: dict[str, Source], clock: Clock) -> list[Check]:
    """All checks that the time allows; a line for each source of them that is passed over."""
    found: list[Check] = []
    for name, source in sources.items():
        try:
            with clock.ends(clock.seconds * CHECKS_SHARE - clock.passed):
                for one in source():
                    found.append(run_check(*one))
        except gpu_checks.NotAtHand as reason:
            found.append(Check(name=name, dtype="", skipped=str(reason)))
        except OutOfTime as reason:
            found.append(Check(name=f"{name}: the rest", dtype="", skipped=str(reason)))
        except Exception as error:
            found.append(Check(name=name, dtype="", failed=told(error)))
    return found


def run_check(name: str, dtype: str, compare: Callable[[], float]) -> Check:
    try:
        return Check(name=name, dtype=dtype, difference=min(compare(), sys.float_info.max))
    except OutOfTime:
        raise
    except Exception as error:
        return Check(name=name, dtype=dtype, failed=told(error))


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


# ---- rates ---------------------------------------------------------------------------------------


def measured(
    task: Task, about: dict[str, str], peak: float, device: torch.device, clock: Clock
) -> Measurement:
    """A task's line, whatever comes of it."""
    line: dict[str, Any] = {"name": task.name, "unit": task.unit, **about}
    like = (task.name, about["dtype"])
    pace = clock.rates.get(like, peak * ASSUMED_SHARE)
    needs = task.operations / pace + MARGIN_S * (device.type == "cuda")
    if needs > clock.left:
        return Measurement(**line, skipped=NO_TIME.format(needs, max(clock.left, 0)))
    free_up()
    start = clock.passed
    try:
        with clock.ends(clock.left):
            rates = task.run()
    except OutOfTime as reason:
        return Measurement(**line, skipped=str(reason))
    except Exception as error:
        if ran_out_of_memory(error):
            return Measurement(**line, skipped=f"out of memory: {one_line(error)}")
        return Measurement(**line, failed=told(error))
    seconds = clock.passed - start
    clock.rates[like] = task.operations / seconds
    ratio = None if rates.published is None else rates.rate / rates.published
    return Measurement(**line, **asdict(rates), ratio=ratio, seconds=seconds)


def of_model(
    name: str,
    config: Any,
    dtype: str,
    peak: float,
    device: torch.device,
    clock: Clock,
    small: bool,
    known: dict[tuple[str, int], float],
) -> Iterator[Measurement]:
    """All lines of one model; a single one where it cannot be made. known: see gpu_rates.Bench."""
    about = {"model": name, "dtype": dtype}
    line: dict[str, Any] = {"name": "all", "unit": "", **about}
    free_up()
    needs, free = weights_of(config) * DTYPES[dtype].itemsize, free_memory(device)
    if needs > 0.9 * free:
        skipped = f"{needs / 1e9:.0f} GB of weights, and {free / 1e9:.0f} GB of memory are free"
        yield Measurement(**line, skipped=skipped)
        return
    if clock.left < MARGIN_S:
        yield Measurement(**line, skipped=NO_TIME.format(MARGIN_S, max(clock.left, 0)))
        return
    try:
        with clock.ends(clock.left):
            lm = drawn(config, device, DTYPES[dtype])
    except OutOfTime as reason:
        yield Measurement(**line, skipped=str(reason))
        return
    except Exception as error:
        line["skipped" if ran_out_of_memory(error) else "failed"] = told(error)
        yield Measurement(**line)
        return
    sizes = {"facts": 2, "most": 4, "tokens": 2 * TEXT_TOKENS} if small else {}
    bench = Bench(lm=lm, peak=peak, known=known, **sizes)
    for task in bench.tasks():
        yield measured(task, about, peak, device, clock)


def measurements(
    device: torch.device, peaks: dict[str, float], clock: Clock, small: bool
) -> Iterator[Measurement]:
    """The paper's model first, then what AlphaEdit needs of its layers, then the others."""
    for index, (name, config) in enumerate(shapes(small).items()):
        known: dict[tuple[str, int], float] = {}
        for dtype, peak in peaks.items():
            yield from of_model(name, config, dtype, peak, device, clock, small, known)
        if index == 0:
            task = decomposition(device, 64 if small else 16384)
            about = {"model": "-", "dtype": "float64"}
            yield measured(task, about, peaks["float32"], device, clock)


# ---- results -------------------------------------------------------------------------------------


def shown(measurement: Measurement) -> str:
    m = measurement

    def cell(value: float | None, form: str, width: int) -> str:
        return f"{'' if value is None else format(value, form):>{width}}"

    head = f"{m.model:<11}{m.dtype:<9}{m.name:<16}"
    if reason := m.skipped or m.failed:
        return f"{head} {'skipped' if m.skipped else 'FAILED'}: {reason}"
    return (
        f"{head}{cell(m.rate, '.3g', 9)} {m.unit + '/s':<15}{cell(m.published, '.3g', 10)}"
        f"{cell(m.ratio, '.1f', 7)}{cell(m.share_of_peak, '.0%', 9)}"
        f"{cell(m.peak_memory_gb, '.1f', 8)}{cell(m.difference, '.1e', 12)}  {m.remark or ''}"
    )


def report_checks(checks: Sequence[Check]) -> None:
    """Each kind of check by its worst, and every one that did not pass or was not made."""
    print("\nNumbers: the largest difference, in units of the tolerance")
    made = [check for check in checks if check.difference is not None]
    for key, group in itertools.groupby(made, lambda c: (c.name.split()[0], c.dtype)):
        some = list(group)
        worst = max(some, key=lambda c: c.difference or 0.0)
        print(
            f"{key[0]:<12}{key[1]:<9}{len(some):>4} checks{worst.difference:>10.2g}  {worst.name}"
        )
    for check in checks:
        if check.skipped:
            print(f"skipped: {check.name}: {check.skipped}")
        elif not check.passed:
            reason = check.failed or f"{check.difference:.3g} times its tolerance"
            print(f"FAILED: {check.name} {check.dtype}: {reason}")


def machine(device: torch.device) -> dict[str, Any]:
    card = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if card else "cpu",
        "memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9 if card else None,
        "cuda": torch.version.cuda if card else None,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "locedit": locedit.__version__,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, for a CPU")
    parser.add_argument("--minutes", type=float, default=8, help="to end within (default: 8)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json")
    parser.add_argument("--golden", type=Path, default=gpu_checks.GOLDEN, help="golden numbers")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA card; --device cpu --tiny tries the script out")
    clock, device = Clock(60 * options.minutes), torch.device(options.device)
    if options.device == "cuda":
        gc.freeze()  # what is imported stays: each of some hundred collections is .2 s shorter
    torch.set_float32_matmul_precision("highest")  # no TF32
    checks = checked(sources(device, options.tiny, options.golden), clock)
    report_checks(checks)
    checked_s = clock.passed
    size = 256 if options.tiny else 8192
    peaks = {name: peak_rate(device, dtype, size) for name, dtype in DTYPES.items()}
    found = {f"{name} {value / 1e12:.3g}" for name, value in peaks.items()}
    print(f"\nPeak of a product, TFLOP/s: {', '.join(sorted(found))}\n")
    print(f"{'model':<11}{'dtype':<9}{'measurement':<16}{'rate':>9}{'published':>26}", end="")
    print(f"{'ratio':>7}{'of peak':>9}{'GB':>8}{'difference':>12}", flush=True)
    lines: list[Measurement] = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for line in measurements(device, peaks, clock, options.tiny):
        print(shown(line), flush=True)
        lines.append(line)
        passed = all(check.passed for check in checks) and not any(one.failed for one in lines)
        result = {
            **machine(device),
            "tiny": options.tiny,
            "minutes": options.minutes,
            "seconds": clock.passed,
            "checks_seconds": checked_s,
            "passed": passed,
            "peak_tflops": {name: value / 1e12 for name, value in peaks.items()},
            "checks": [asdict(check) for check in checks],
            "measurements": [asdict(line) for line in lines],
        }
        # at each line, for who ends it early
        options.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(f"\n{'All numbers agree' if passed else 'NOT as it should be'}: {options.out}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
