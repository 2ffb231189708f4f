"""The card's benchmark, small and on a CPU: what it writes, and that a fault costs its line alone.

And on a card that is none (tests/support/elsewhere.py), which shows that engine and textbook put
every tensor where the model is.
"""

import itertools
import json
import math
from pathlib import Path

import bench_gpu
import cost
import elsewhere
import gpu_checks
import gpu_rates
import oracle
import pytest
import tiny
import torch
from procedures import EXAMPLES

from locedit.methods import METHODS
from locedit.model.language_model import LanguageModel

SMALL = ["--device", "cpu", "--tiny", "--out"]
CPU = torch.device("cpu")
BRIEF = [*["tracing", "key_statistics"] * 2, "spectrum"]  # in each type of numbers; the last of all


def run(path: Path, *more: str) -> tuple[int, dict]:
    code = bench_gpu.main([*SMALL, str(path), *more])
    return code, json.loads(path.read_text())


@pytest.mark.slow
def test_all_of_it_small_on_a_cpu(tmp_path, capsys):
    code, found = run(tmp_path / "gpu.json")
    printed = capsys.readouterr().out
    assert code == 0
    assert found["passed"]
    assert found["device"] == "cpu"
    assert found["torch"] == torch.__version__
    assert all(math.isfinite(rate) and rate > 0 for rate in found["peak_tflops"].values())
    assert all(0 <= check["difference"] <= 1 for check in found["checks"])
    for method in METHODS:
        for dtype in ("float32", "float64"):
            names = {c["name"] for c in found["checks"] if c["dtype"] == dtype}
            assert {f"gptj {method} error_injection", f"gptj {method} fact_forcing"} <= names

    made = {(m["model"], m["dtype"], m["name"]): m for m in found["measurements"]}
    common = ["tracing", *(f"edit.{method}" for method in METHODS), "scoring", "key_statistics"]
    assert set(made) == {
        ("-", "float64", "spectrum"),
        *itertools.product(("gptj-tiny", "llama-tiny"), ("float32", "bfloat16"), common),
    }
    for (_, dtype, name), one in made.items():
        assert one["skipped"] is None
        assert one["failed"] is None
        assert f"{one['rate']:.3g}" in printed
        compared = name in ("tracing", "key_statistics") or dtype == "float32"
        assert (one["ratio"] is None) == (not compared)
        numbers = [one["rate"], *([one["published"], one["ratio"]] if compared else [])]
        if name != "spectrum":
            numbers.append(one["share_of_peak"])
        assert all(math.isfinite(number) and number > 0 for number in numbers), one
    for model in ("gptj-tiny", "llama-tiny"):
        assert made[model, "float32", "tracing"]["difference"] < 1e-3


@pytest.fixture
def brief(monkeypatch):
    """One check, and of one model two measurements that take no time."""

    def rates(self) -> gpu_rates.Rates:
        return gpu_rates.Rates(rate=3.0, published=2.0, share_of_peak=0.5)

    def tasks(self) -> list[gpu_rates.Task]:
        named = {"tracing": self.tracing, "key_statistics": self.statistics}
        return [
            gpu_rates.Task(name=name, unit="things", operations=1e3, run=one)
            for name, one in named.items()
        ]

    monkeypatch.setattr(gpu_rates.Bench, "tasks", tasks)
    monkeypatch.setattr(gpu_rates.Bench, "tracing", rates)
    monkeypatch.setattr(gpu_rates.Bench, "statistics", rates)
    monkeypatch.setattr(bench_gpu, "shapes", lambda small: one_shape())

    def first(device: torch.device, small: bool, golden: Path) -> dict:
        checks = gpu_checks.of_family("llama", torch.float64, device)
        return {"textbook": lambda: iter([next(checks)])}

    monkeypatch.setattr(bench_gpu, "sources", first)


def one_shape() -> dict:
    config = tiny.FAMILIES["llama"]
    return {"llama": config.config(vocab_size=2048, num_hidden_layers=2, **config.settings)}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "skipped"),
        (ZeroDivisionError("one half"), "failed"),
    ],
)
def test_a_measurement_that_breaks_leaves_the_others(brief, monkeypatch, tmp_path, error, what):
    def broken(self) -> gpu_rates.Rates:
        raise error

    monkeypatch.setattr(gpu_rates.Bench, "tracing", broken)
    code, found = run(tmp_path / "gpu.json")
    assert code == (what == "failed")
    assert [line["name"] for line in found["measurements"]] == BRIEF
    for line in found["measurements"][:-1]:
        assert (line["rate"] is None) == (line["name"] == "tracing")
        if line["name"] == "tracing":
            assert str(error) in line[what]
        else:
            assert line["rate"] == 3.0
            assert line["ratio"] == 1.5


def test_numbers_that_differ_end_it_with_a_failure_after_the_whole_table(
    brief, monkeypatch, tmp_path, capsys
):
    right = oracle.trace

    def wrong(*args, **kwargs) -> dict:
        found = right(*args, **kwargs)
        return {**found, "p_restored": found["p_restored"] * (1 + 1e-5)}

    monkeypatch.setattr(oracle, "trace", wrong)
    code, found = run(tmp_path / "gpu.json")
    printed = capsys.readouterr().out
    assert code == 1
    assert not found["passed"]
    assert found["checks"][0]["difference"] == pytest.approx(10, rel=0.01)
    assert "FAILED: llama tracing mlp float64: " in printed
    assert [line["name"] for line in found["measurements"]] == BRIEF
    assert all(line["rate"] == 3.0 for line in found["measurements"][:-1])
    assert printed.index("FAILED") < printed.index("things/s") < printed.index("NOT as it should")


def test_what_there_is_no_time_for_is_said_and_passed_over(brief, tmp_path):
    code, found = run(tmp_path / "gpu.json", "--minutes", "0")
    assert code == 0
    assert found["checks"] == [
        {
            "name": "textbook: the rest",
            "dtype": "",
            "difference": None,
            "skipped": "the time was up while it ran",
            "failed": None,
        }
    ]
    assert [line["name"] for line in found["measurements"]] == ["all", "all", "spectrum"]
    assert all("no time left" in line["skipped"] for line in found["measurements"])


def test_a_measurement_that_outlasts_the_time_is_ended(brief, monkeypatch, tmp_path):
    def endless(self) -> gpu_rates.Rates:
        while True:
            pass

    monkeypatch.setattr(gpu_rates.Bench, "tracing", endless)
    monkeypatch.setattr(bench_gpu, "MARGIN_S", 0)
    _, found = run(tmp_path / "gpu.json", "--minutes", "0.05")
    assert found["measurements"][0]["skipped"] == "the time was up while it ran"
    assert found["seconds"] < 60


def test_a_batch_that_does_not_fit_is_halved():
    tried = []

    def edit(facts: int) -> None:
        tried.append(facts)
        if facts > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert gpu_rates.most_that_fit(edit, 8, CPU)[0] == 2
    assert tried == [8, 4, 2]
    for first in (8, 1):
        with pytest.raises(torch.OutOfMemoryError):
            gpu_rates.most_that_fit(lambda facts: edit(facts + 2), first, CPU)


def test_more_are_tried_while_that_is_faster(monkeypatch):
    pace = {1: 1.0, 2: 1.5, 4: 2.9, 8: 6.0}  # seconds of so many
    monkeypatch.setattr(gpu_rates, "timed", lambda edit: (pace[edit()], None))
    found = gpu_rates.most_that_fit(lambda facts: facts, 1, CPU, most=8)
    assert found == (2, 1.5, None)


def test_what_is_counted_of_the_benchmarks_facts_is_what_they_are():
    tokenizer = tiny.tokenizer(vocabulary=2000, texts=[*tiny.SENTENCES, *gpu_rates.words()])

    def tokens(text: str) -> int:
        return len(tokenizer(text)["input_ids"]) if text else 0

    found = [
        cost.Prompt(
            tokens=tokens(e.prompt),
            subject=tokens(e.template.split("{}")[0].rstrip()),
            subject_tokens=tokens(f" {e.subject}"),
            target=tokens(f" {e.false}"),
        )
        for e in itertools.islice(itertools.cycle(EXAMPLES), gpu_rates.FACTS)
    ]
    assert sorted(found, key=str) == sorted(cost.BENCHMARK, key=str)
    assert found[: gpu_rates.TRACED] == cost.BENCHMARK[: gpu_rates.TRACED]


def test_hours_follow_from_a_cards_rates(tmp_path, monkeypatch):
    """At twice the rates half of the hours; no hours where no card is on record."""
    pace = []
    for factor in (1, 2):
        lines = [
            {"model": "gptj-6b", "dtype": "float32", "name": name, "rate": factor * 3.0}
            for name in ("tracing", "edit.FT-1", "edit.FT-5", "edit.ROME", "edit.MEMIT", "scoring")
        ]
        lines.append({**lines[0], "dtype": "bfloat16", "rate": None})
        monkeypatch.setattr(cost, "MEASURED", tmp_path / f"{factor}.json")
        cost.MEASURED.write_text(json.dumps({"measurements": lines}))
        pace.append(cost.measured_pace(cost.GPTJ, "float32"))
        assert cost.measured_pace(cost.GPTJ, "bfloat16") == {}
    assert set(pace[0]) == set(cost.stages(cost.GPTJ))
    assert pace[1] == pytest.approx({stage: 2 * one for stage, one in pace[0].items()})
    rome = sum(cost.edit(cost.GPTJ, "ROME", 9, forcing=False, p=p)[1] for p in cost.BENCHMARK)
    assert pace[0]["ROME"] == pytest.approx(3 * rome / len(cost.BENCHMARK))
    monkeypatch.setattr(cost, "MEASURED", tmp_path / "none.json")
    assert cost.measured_pace(cost.GPTJ, "float32") == {}


def test_the_golden_numbers_on_a_card():
    found = json.loads((gpu_checks.ROOT / "benchmarks" / "gpu_golden.json").read_text())["checks"]
    kinds = [check["name"].split()[1] for check in found]
    page = " ".join((gpu_checks.ROOT / "docs" / "explanation" / "cost.md").read_text().split())
    traced, worst = kinds.count("tracing"), max(check["difference"] for check in found)
    assert f"{traced} tracings and {len(found) - traced} edits" in page
    assert f"the largest difference was {worst:.2f} of its tolerance" in page


def test_golden_numbers_without_the_weights_are_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path))
    monkeypatch.delenv("LOCEDIT_SMOLLM2", raising=False)
    monkeypatch.delenv("LOCEDIT_ASSETS", raising=False)
    with pytest.raises(gpu_checks.NotAtHand, match="the golden numbers are not at"):
        next(gpu_checks.golden_checks(CPU, tmp_path))
    with pytest.raises(gpu_checks.NotAtHand, match="are not here: name their folder in LOCEDIT_SM"):
        gpu_checks.golden_model()


def test_worst_knows_no_number_that_is_none():
    assert gpu_checks.worst([1.0, 2.0], [1.0, 2.2], absolute=0.1) == pytest.approx(2)
    assert gpu_checks.worst([1.0, float("nan")], [1.0, 2.0], absolute=0.1) == math.inf


# ---- on a card that is none ----------------------------------------------------------------------


def checked_on_the_card(family: str, *names: str) -> list[str]:
    """Names of a family's checks, some or all of them, after they have passed there."""
    found = []
    with elsewhere.card() as device:
        for name, _, compare in gpu_checks.of_family(family, torch.float64, device):
            if not names or name.removeprefix(f"{family} ") in names:
                assert compare() <= 1, name
                found.append(name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_tracing_and_an_edit_of_every_family_on_a_card(family):
    assert len(checked_on_the_card(family, "tracing mlp", "MEMIT fact_forcing")) == 2


@pytest.mark.slow
def test_every_check_on_a_card():
    assert len(checked_on_the_card("gpt2")) > 2 * len(METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_measurement_on_a_card(dtype):
    lm = gpu_rates.drawn(gpu_rates.shapes(small=True)["llama-tiny"], CPU, dtype)
    with elsewhere.card() as device:
        there = LanguageModel(lm.model.to(device), lm.tokenizer)
        bench = gpu_rates.Bench(lm=there, peak=1e10, facts=2, most=4, tokens=512)
        for task in bench.tasks():
            assert task.run().rate > 0, task.name


def test_the_card_refuses_what_a_card_refuses():
    with elsewhere.card() as device:
        there, here = torch.ones(3, device=device), torch.ones(3)
        assert there.device == device
        with pytest.raises(RuntimeError, match="tensors on the card and on the CPU"):
            there + here
        with pytest.raises(RuntimeError, match="indices on the card"):
            here[torch.tensor([1], device=device)]
        with pytest.raises(Exception, match=r"numpy|Lazy|lazy"):
            there.numpy()
        assert (there + 1).cpu().tolist() == [2.0, 2.0, 2.0]
        assert there[here.long()].tolist() == [1.0, 1.0, 1.0]
