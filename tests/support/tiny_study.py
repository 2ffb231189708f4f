"""A tiny study: its model and facts, and Snakemake run on it in a folder of its own."""

import atexit
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import tiny
import torch
import yaml
from warm_client import read_at_import
from warm_python import WarmPython

from locedit.store import tables

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("results/tiny/hand-made")

METHODS = ["FT-1", "ROME"]
PROBLEMS = ["error_injection", "fact_erasure"]
LAYERS = [0, 2]
WINDOWS = [1, 3]
SCORES = ["rewrite", "paraphrase", "neighbourhood", "essence", "text", "overall"]
SETTINGS: dict[str, Any] = {
    "facts": {"completion_tokens": 8, "study": 6},
    "localizing": {"localizers": ["tracing", "zeroing"], "windows": WINDOWS},
    "tracing": {"n_noise": 3},
    "statistics": {"tokens": 320},
    "contexts": {"rome": [[5, 2]], "memit_tokens": 5},
    "essence": {"texts": 1, "tokens": 10},
    "editing": {
        "methods": METHODS,
        "problems": PROBLEMS,
        "layers": LAYERS,
        "facts": None,
        # weights drawn so wide need long steps
        "hyperparameters": {"FT-1": {"all": {"eps": 0.05, "lr": 0.01}}},
    },
    "scores": {
        "generation_tokens": 6,
        "greedy_tokens": 4,
        "text_paragraphs": 4,
        "text_tokens": 8,
    },
    "analysis": {"window": 3},
    "tuning": {
        "facts": 2,
        "layer": 1,
        "problems": ["error_injection"],
        "aims": {
            "unsaturated": {
                "grid": {
                    "FT-1": {"eps": [0.01, 0.05], "lr": [0.01]},
                    "ROME": {
                        "clamp": [1.0],
                        "kl_factor": [0.5],
                        "lr": [0.5],
                        "fact_token": ["subject_last"],  # a setting that is a word
                    },
                }
            }
        },
    },
}
BATCHES = ["--default-resources", "batch_facts=2"]  # several, though facts are few


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a Snakemake run printed and returned."""

    status: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs of each rule, run or to be run; targets without work of their own are left out."""
        counts = re.findall(r"^(\w+) +(\d+)$", self.text, re.MULTILINE)
        return {name: int(n) for name, n in counts if name not in ("total", "all", "tune")}

    @property
    def edits(self) -> set[tuple[str, str, int | str]]:
        """(method, problem, layer) of each edit job."""
        found = re.findall(r"Editing: (\S+), (\w+), layer ([\w-]+)", self.text)
        return {
            (method, problem, int(layer) if layer.isdigit() else layer)
            for method, problem, layer in found
        }

    @property
    def nothing(self) -> bool:
        return "Nothing to be done" in self.text and not self.jobs


def snakemake(
    folder: Path,
    settings: Mapping[str, Any],
    *arguments: str,
    root: Path = ROOT,
    snakefile: str = "Snakefile",
) -> Run:
    """Run the workflow of `root` in `folder`, with the settings laid over config.yaml.

    `environment` among the settings is not the workflow's: it goes to the process.
    """
    call = _call(folder, settings, *arguments, root=root, snakefile=snakefile)
    call["args"][0] = warm_python(call["env"].get("PYTHONHASHSEED")).executable
    done = subprocess.run(
        **call,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return Run(status=done.returncode, text=done.stdout)


@dataclass(frozen=True, kw_only=True)
class Going:
    """A Snakemake run that goes on, the leader of a process group of its own."""

    process: subprocess.Popen
    output: Path

    @property
    def jobs(self) -> list[psutil.Process]:
        """The scripts that it runs just now."""
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [p for p in below if _is_script(p)]
        return []

    def ended(self) -> Run:
        return Run(status=self.process.wait(), text=self.output.read_text())


def _is_script(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any("/.snakemake/scripts/" in word for word in process.cmdline()[1:2])
    return False


def started(folder: Path, settings: Mapping[str, Any], *arguments: str, root: Path = ROOT) -> Going:
    """The same without waiting for its end."""
    file, path = tempfile.mkstemp(dir=folder.parent, suffix=".out")
    with os.fdopen(file, "w") as output:  # no pipe, which a job could keep open
        call = _call(folder, settings, *arguments, root=root)
        process = subprocess.Popen(**call, stdout=output, start_new_session=True)
    return Going(process=process, output=Path(path))


def _call(
    folder: Path,
    settings: Mapping[str, Any],
    *arguments: str,
    root: Path,
    snakefile: str = "Snakefile",
) -> dict[str, Any]:
    """What subprocess is given."""
    settings, of_its_own = parted(settings)
    # a file of its own, since tests that go on at the same time ask of one study
    file, overlay = tempfile.mkstemp(dir=folder.parent, suffix=".yaml")
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        yaml.safe_dump(settings, stream)
    command = [sys.executable, "-m", "snakemake", *BATCHES, "--cores", "2", *arguments]
    command += ["--snakefile", str(root / snakefile), "--directory", str(folder)]
    command += ["--workflow-profile", str(root / "profiles" / "default")]
    command += ["--configfile", str(overlay)]
    environment = warm_environment()
    environment["PYTHONPATH"] = str(root)  # the library beside the rules, not the installed one
    environment |= of_its_own
    return {"args": command, "cwd": root, "env": environment, "stderr": subprocess.STDOUT}


# What imports read of the environment, as it is before any test: loading a model, starting R and
# taking a card set variables in this process, which a study sets in its own again
_AT_START = read_at_import(os.environ)


def warm_environment() -> dict[str, str]:
    """The environment of a study, but for its own checkout.

    Of what imports read, a test changes it for a study by its settings' `environment` alone.
    """
    since = read_at_import(os.environ)
    own = {name: value for name, value in os.environ.items() if name not in since}
    at_start = {k: v for k, v in _AT_START.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ours = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return {**own, **at_start, **ours, "PYTHONPYCACHEPREFIX": _bytecode()}


@cache
def _bytecode() -> str:
    """Where studies of this process keep compiled modules: not beside sources, which are copied."""
    folder = tempfile.mkdtemp(prefix="bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def warm_python(hash_seed: str | None = None) -> WarmPython:
    """One for all studies of this process whose sets have one order: Python's start decides it."""
    own = {} if hash_seed is None else {"PYTHONHASHSEED": hash_seed}
    return WarmPython(warm_environment() | own)


def parted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the workflow is to read, and the `environment` among it, which the process is given."""
    read = dict(settings)
    return read, read.pop("environment", {})


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes laid over them, section by section."""
    result = dict(copy.deepcopy(base))
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if inner else value
    return result


PARTS = """Snakefile config.yaml rules models profiles envs workflow_scripts locedit
analysis plugins"""


def copy_tree(source: Path, target: Path) -> Path:
    """A checkout: all that the workflow reads."""
    target.mkdir()
    for name in PARTS.split():
        copying = shutil.copytree if (source / name).is_dir() else shutil.copy
        copying(source / name, target / name)
    return target


@dataclass(frozen=True, kw_only=True)
class Study:
    """A finished study: its working folder, the checkout and the settings that made it."""

    folder: Path
    root: Path
    settings: Mapping[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / OUT

    def plan(self, *arguments: str, **changes: Any) -> Run:
        """What Snakemake would do now if the settings were changed so."""
        run = self.run("--dry-run", *arguments, **changes)
        assert run.status == 0, run.text
        return run

    def run(self, *arguments: str, **changes: Any) -> Run:
        settings = merged(self.settings, changes)
        return snakemake(self.folder, settings, *arguments, root=self.root)

    def started(self, *arguments: str, **changes: Any) -> Going:
        settings = merged(self.settings, changes)
        return started(self.folder, settings, *arguments, root=self.root)

    def copied(self, folder: Path) -> "Study":
        """The same in another folder, to be worked on; file times are kept."""
        return replace(self, folder=shutil.copytree(self.folder, folder))


# ---- a tiny study --------------------------------------------------------------------------------


def known_records(pair: tiny.Pair, count: int) -> list[dict[str, Any]]:
    """Facts that the model knows: what it says next to a prompt is its o_true."""
    words = sorted({word.strip(".,;") for text in tiny.SENTENCES for word in text.split()})
    frames = ["{} is the", "The city of {} is", "In {} you can see"]
    said = [
        (pair.tokenizer.convert_ids_to_tokens(index), index) for index in range(len(pair.tokenizer))
    ]
    said = [(token[1:], index) for token, index in said if re.fullmatch("Ġ[A-Za-z]{2,}", token)]
    records: list[dict[str, Any]] = []
    for word in words:
        for frame in frames:
            ids = pair.tokenizer(frame.format(word), return_tensors="pt").input_ids
            with torch.inference_mode():
                p = pair.model(ids).logits[0, -1].softmax(-1)
            true, new = sorted(said, key=lambda item: -p[item[1]])[:2]
            if len(records) < count and p.argmax() == true[1] and p[true[1]] >= 0.05:
                records.append(record(str(len(records)), word, frame, true[0], new[0]))
    assert len(records) == count
    return records


def record(case_id: str, subject: str, template: str, true: str, new: str) -> dict[str, Any]:
    return {
        "case_id": case_id,
        "relation_id": template.replace("{}", "_"),
        "subject": subject,
        "template": template,
        "target_true": true,
        "target_new": new,
        "paraphrases": [f"I have been to {subject}", f"You can see {subject}"],
        "neighbourhood": ["The capital of the country is", "The river is"],
        "generation_prompts": [f"{subject} was"],
    }


def write_inputs(base: Path) -> dict[str, Any]:
    """A model, its configuration and a dozen facts; returns the settings that name them."""
    pair = tiny.pair("llama", layers=4, dtype=torch.float32)
    tiny.save(pair, base / "model")
    model = {"label": "Tiny Llama", "n_layers": 4, "noise": "3sd", "path": "model"}
    (base / "tiny.yaml").write_text(yaml.safe_dump(model))
    unknown = record("unknown", "the king", "The name of {} is", "Bartholomew", "Ferdinand")
    bad = [{**unknown, "case_id": "empty", "target_true": " "}]
    bad += [{**unknown, "case_id": "lacks", "template": "The name is"}]
    known = known_records(pair, 9)
    for one in known:
        one["paraphrases"][0] += " "  # so that each has a remark
    (base / "facts.json").write_text(json.dumps([*known, unknown, *bad]))
    return {
        "model": str(base / "tiny.yaml"),
        "dataset": {"name": "hand-made", "path": str(base / "facts.json")},
        "environment": {"LOCEDIT_CACHE": str(base / "cache")},
    }


def write_corpus(
    folder: Path,
    settings: Mapping[str, Any],
    root: Path,
    texts: Sequence[str] = tiny.SENTENCES,
) -> None:
    """Put a few paragraphs where the workflow keeps its Wikipedia, so that none is fetched."""
    planned = snakemake(folder, settings, "--dry-run", "corpus", root=root)
    match = re.search(r"Missing output files: .*?(/\S+\.parquet)", planned.text)
    assert match, planned.text
    rows = [
        {"title": str(title), "index": index, "text": text}
        for index in range(6)
        for title, text in enumerate(texts)
    ]
    tables.write(match[1], rows, "corpus")


def finished(base: Path) -> tuple[Study, Run]:
    """A study after a real run of everything, from a checkout of its own, and that run."""
    root, folder = copy_tree(ROOT, base / "tree"), base / "work"
    folder.mkdir()
    settings = merged(SETTINGS, write_inputs(base))
    write_corpus(folder, settings, root)
    run = snakemake(folder, settings, "all", "tune", "report", "rome_layout", root=root)
    assert run.status == 0, run.text
    return Study(folder=folder, root=root, settings=settings), run
