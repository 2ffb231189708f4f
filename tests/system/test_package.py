"""The package as anyone gets it: a wheel, installed away from the checkout, and what it needs."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import tiny
import torch
import yaml
from packaging.requirements import Requirement

import locedit
from locedit.api import look
from locedit.store import shipped

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]
# What a source distribution is made from
SOURCES = "pyproject.toml setup.py MANIFEST.in README.md LICENSE config.yaml locedit models data"
WORKFLOW_ROOMS = ("report", "workflow")  # a checkout's; `workflow.config` and others serve all


def named(name):
    """A distribution's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ranges(lines):
    """name -> specifier, of the requirements that are no groups."""
    wanted = [Requirement(line) for line in lines if isinstance(line, str)]
    return {named(one.name): one.specifier for one in wanted}


def pins(path):
    text = (ROOT / path).read_text()
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s#]+)", text, re.MULTILINE)
    return {named(name): version for name, version in found}


LIBRARY = ranges(PROJECT["project"]["dependencies"])
WORKFLOW, PLOT = ranges(EXTRAS["workflow"]), ranges(EXTRAS["plot"])
DEV = ranges(GROUPS["test"]) | ranges(GROUPS["dev"])
LOCKED = {
    "requirements.txt": LIBRARY | WORKFLOW | PLOT | DEV,
    "docs/requirements.txt": {n: s for n, s in ranges(GROUPS["docs"]).items() if n not in PLOT},
}


# ---- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", LOCKED)
def test_every_requirement_is_pinned_within_its_range_and_no_other(path):
    locked = pins(path)
    assert locked.keys() == LOCKED[path].keys()
    outside = [name for name, version in locked.items() if version not in LOCKED[path][name]]
    assert outside == []


def test_every_range_has_both_ends():
    for name, specifier in (LOCKED["requirements.txt"] | LOCKED["docs/requirements.txt"]).items():
        assert {one.operator for one in specifier} == {">=", "<"}, name


def test_the_site_draws_with_the_plots_library():
    assert ranges(GROUPS["docs"])["matplotlib"] == PLOT["matplotlib"]


def imported(path):
    """Top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


owners_of_packages = cache(metadata.packages_distributions)


def needed(path):
    """Distributions behind a file's imports, but for what another one brings as its interface."""
    owners = owners_of_packages()
    names = set(imported(path)) - set(sys.stdlib_module_names) - {"locedit"}
    names -= {"huggingface_hub", "markupsafe"}  # transformers' and Jinja2's
    return {named(owner) for name in names for owner in owners[name]}


def test_whatever_the_library_imports_it_asks_for():
    for path in (ROOT / "locedit").rglob("*.py"):
        room = path.relative_to(ROOT / "locedit").parts[0]
        allowed = LIBRARY.keys() | (WORKFLOW.keys() if room in WORKFLOW_ROOMS else set())
        allowed |= PLOT.keys() if path.name == "picture.py" else set()
        assert needed(path) <= allowed, path


# ---- the wheel -----------------------------------------------------------------------------------


def run(*command, cwd, **environment):
    """A command's output; PYTHONPATH, which would find the checkout, is not handed on."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a source distribution of a copy, so that neither leans on what lies around it."""
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in SOURCES.split():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
        else:
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=folder / "source")
    (source,) = folder.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "wheels")
    run(*pip, *options, source, cwd=folder)
    (made,) = (folder / "wheels").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` of an environment with the wheel, and the packages of this one but the project."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    # a folder named in a .pth file is searched, but its own .pth files, such as that of a package
    # installed in place, are not read
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    there = ("--python", folder / "bin" / "python", "install", "--quiet")
    run(*pip, *there, "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_has_the_library_and_what_it_reads(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].split("-")[0] for name in names} == {"locedit"}
    code = {str(p.relative_to(ROOT)) for p in (ROOT / "locedit").rglob("*.py")}
    assert names >= code | {"locedit/py.typed"}
    with zipfile.ZipFile(wheel) as packed:
        for path in read_beside_the_code():
            copy = packed.read(f"locedit/_shipped/{path.relative_to(ROOT)}")
            assert copy == path.read_bytes()


def read_beside_the_code():
    yield ROOT / "config.yaml"
    for folder, pattern in (("models", "*"), ("data", "*.md")):
        yield from (ROOT / folder).glob(pattern)
    yield ROOT / "data" / "relations.yaml"
    yield from (ROOT / "data" / "tables").iterdir()


@pytest.mark.slow
def test_the_wheel_asks_for_what_pyproject_says(wheel):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (n for n in packed.namelist() if n.endswith("/METADATA"))
        asked = metadata.PathDistribution(zipfile.Path(packed, name.rpartition("/")[0] + "/"))
        assert set(asked.metadata.get_all("Provides-Extra")) == {"plot", "workflow"}
        plain = [r for r in map(Requirement, asked.requires or []) if r.marker is None]
    assert {named(one.name): one.specifier for one in plain} == LIBRARY


@pytest.mark.slow
def test_the_installed_command_works_away_from_the_checkout(installed, tmp_path):
    help_ = run(installed / "locedit", "trace", "--help", cwd=tmp_path, COLUMNS="80")
    assert "Usage: locedit trace [OPTIONS] TEMPLATE" in help_
    python = (installed / "python", "-c")
    where = "import locedit; print(locedit.__file__, locedit.__version__)"
    file, version = run(*python, where, cwd=tmp_path).split()
    assert str(installed.parent) in file
    assert version == locedit.__version__
    lost = "import importlib.util as u; print(u.find_spec('workflow_scripts'))"
    assert run(*python, lost, cwd=tmp_path).strip() == "None"


@pytest.mark.slow
def test_the_installed_command_and_function_trace_as_the_checkout_does(installed, tmp_path, capsys):
    """With the noise that the bundled facts give, and the defaults of config.yaml."""
    from locedit.cli.main import main

    folder = tiny.save(tiny.pair("llama", dtype=torch.float32), tmp_path / "weights")
    command = ["trace", "The capital of {} is", "--subject", "France", "--target", "Paris"]
    command += ["--model", str(folder)]
    cache = {"LOCEDIT_CACHE": str(tmp_path / "cache"), "COLUMNS": "80", "NO_COLOR": "1"}
    said = run(installed / "locedit", *command, cwd=tmp_path, OMP_NUM_THREADS="1", **cache)
    assert main(command) == 0
    here = capsys.readouterr().out
    assert said.splitlines()[:4] == here.splitlines()[:4]
    assert "3 sd of 800 bundled subjects' token embeddings" in said

    program = (
        "import json, sys, locedit; lm = locedit.load(sys.argv[1]); "
        "fact = {'prompt': 'The capital of France is', 'subject': 'France'}; "
        "found = locedit.trace(lm, **fact, target='Paris'); "
        "edit = locedit.edit(lm, **fact, target='Rome', layer=2, method='FT-1'); "
        "print(json.dumps([found.p_clean, locedit.measure(lm, edit).rewrite]))"
    )
    out = run(installed / "python", "-c", program, folder, cwd=tmp_path, **cache)
    p_clean, rewrite = json.loads(out)
    assert f"p clean {p_clean:.4f}" in said
    assert rewrite > 0


@pytest.mark.slow
def test_the_installed_command_knows_the_models_by_name(installed, tmp_path):
    program = (
        "import json; from locedit.api.look import look; "
        "print(json.dumps([look(None).settings, look('gpt2-xl').settings]))"
    )
    found = json.loads(run(installed / "python", "-c", program, cwd=tmp_path))
    assert found == [look.look(None).settings, look.look("gpt2-xl").settings]


def test_a_checkout_reads_its_own_files():
    assert shipped.root() == ROOT
    assert yaml.safe_load((shipped.root() / "config.yaml").read_text())["model"]
