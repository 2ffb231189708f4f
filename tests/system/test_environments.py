"""Other environments than `make setup`'s: what conda and Docker are told, and jobs run in one.

No conda and no Docker is used. A stand-in for conda makes an environment that lacks this project,
and Snakemake runs jobs in it from an environment that has only what Snakemake itself needs.
"""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from tiny_study import BATCHES, PARTS, ROOT, parted

from locedit.report import rbridge

CONDA = yaml.safe_load((ROOT / "envs/locedit.yaml").read_text())
PACKAGES = [d for d in CONDA["dependencies"] if isinstance(d, str)]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PINS = {  # of requirements.txt, and their versions
    name.lower(): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE
    )
}
PINNED = set(PINS)
# name, version, marker and the lines below, of each entry of the lock
ENTRIES = re.findall(
    r"^([\w.-]+)==(\S+)(?: ; (.+))? \\\n((?: +.+\n)+)",
    (ROOT / "requirements.lock").read_text(),
    flags=re.MULTILINE,
)
LOCKED = {name: version for name, version, *_ in ENTRIES}
# torch and what its CUDA builds bring: the set-up installs the build that a machine asks for
BUILD_OF_TORCH = re.compile(r"torch|triton|(nvidia|cuda)-.+")


# ---- what is written down ------------------------------------------------------------------------


def test_every_package_of_the_conda_environment_is_pinned():
    assert [package for package in PACKAGES if not re.fullmatch(r"[\w-]+=\d[\w.]*", package)] == []


def test_the_conda_environments_r_is_the_one_that_the_tests_run_with():
    pins = dict(package.removeprefix("r-").split("=") for package in PACKAGES if "r-" in package)
    given = pins.pop("base")
    asked = (
        f"cat(paste(getRversion()), sapply({r_vector(pins)}, function(p) paste(packageVersion(p))))"
    )
    clean = rbridge.environment()
    done = subprocess.run(
        ["Rscript", "-e", asked], env=clean, capture_output=True, text=True, check=True
    )
    here, *found = done.stdout.split()
    if not here.startswith("4.2."):
        pytest.skip(f"R {here} is not Debian 12's, whose packages the environment pins")
    assert here == given
    assert dict(zip(pins, found, strict=True)) == {n: v.replace("_", ".") for n, v in pins.items()}


def r_vector(names):
    return f"c({', '.join(repr(name) for name in names)})"


def test_every_rule_with_a_script_names_the_conda_environment():
    rules = [
        block
        for path in (ROOT / "rules").glob("*.smk")
        for block in re.split(r"^ *(?:rule|checkpoint)\b", path.read_text(), flags=re.M)[1:]
        if re.search(r"^ +(script|shell|run|notebook|wrapper):", block, re.M)
    ]
    assert len(rules) > 15
    wanted = re.compile(r"^ +conda:\n +ENVIRONMENT\n", re.M)
    assert [block for block in rules if len(wanted.findall(block)) != 1] == []


def test_the_lock_has_every_pin_and_the_hashes_of_every_release():
    wanted = {name: version for name, version in PINS.items() if name != "torch"}
    assert {name: LOCKED.get(name) for name in wanted} == wanted, "run `make lock`"
    assert not any(BUILD_OF_TORCH.fullmatch(name) for name in LOCKED)

    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert len(ENTRIES) == len(LOCKED) == sum(line[:1] not in ("#", " ") for line in lines)
    hashes = re.compile(r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+(?:    # via .+\n)?")
    assert [name for name, *_, below in ENTRIES if not hashes.fullmatch(below)] == []


def test_the_lock_has_what_the_environment_needs_and_no_other():
    needed = {name for pinned in PINNED for name in required(pinned)}
    needed = {name for name in needed if not BUILD_OF_TORCH.fullmatch(name)}
    here = {n for n, _, marker, _ in ENTRIES if not marker or Marker(marker).evaluate()}
    assert needed == here, "run `make lock`"


def test_what_the_lock_has_agrees_with_what_each_package_needs():
    odd = [
        f"{name}: {need}"
        for name in LOCKED.keys() | {"torch"}
        for need in needs(name)
        for version in [LOCKED.get(*named([need.name]))]
        if version and not need.specifier.contains(version, prereleases=True)
    ]
    assert odd == []


def test_whatever_the_code_imports_is_pinned():
    owners = metadata.packages_distributions()
    files = [*ROOT.glob("locedit/**/*.py"), *ROOT.glob("workflow_scripts/*.py")]
    imported = {name.partition(".")[0] for path in files for name in imports(path)}
    imported -= set(sys.stdlib_module_names) | {"locedit", "workflow_scripts"}
    unknown = {name for name in imported if not named(owners.get(name, [])) & PINNED}
    # interfaces of transformers, Jinja2 and pydantic
    assert unknown <= {"huggingface_hub", "markupsafe", "pydantic_core"}


def named(distributions):
    """Their names as indexes write them."""
    return {re.sub(r"[-_.]+", "-", name).lower() for name in distributions}


def needs(name, extra=""):
    """What a distribution requires here, with this extra or none; nothing if it is not here."""
    try:
        every = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        return []
    return [one for one in every if one.marker is None or one.marker.evaluate({"extra": extra})]


def required(name):
    """A distribution and all that it requires here, in turn."""
    found, ahead = set(), {(*named([name]), "")}
    while ahead:
        found |= ahead
        wanted = [need for one in ahead for need in needs(*one)]
        ahead = {(*named([w.name]), extra) for w in wanted for extra in ("", *w.extras)} - found
    return {name for name, _ in found}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_whatever_the_r_code_uses_is_pinned():
    text = "\n".join(path.read_text() for path in (ROOT / "analysis").glob("*.R"))
    code = re.sub("#.*", "", text)
    used = set(re.findall(r"\b([A-Za-z][A-Za-z0-9.]*):::?", code))
    used |= set(re.findall(r"(?:library|requireNamespace)\(\"?(\w+)", code))
    used -= {"scales"}  # ggplot2's own interface
    used -= {"base", "graphics", "grDevices", "grid", "methods", "parallel", "stats", "utils"}
    assert "sandwich" in used
    assert used <= {p.removeprefix("r-").partition("=")[0] for p in PACKAGES}


def test_the_snakefile_asks_for_the_snakemake_that_the_package_does():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (least,) = re.findall(r'min_version\("(.+)"\)', (ROOT / "Snakefile").read_text())
    wanted = [one for some in project["optional-dependencies"].values() for one in some]
    assert f"snakemake>={least},<10" in wanted


def test_the_image_has_the_same_python_debian_and_set_up():
    base = re.search(r"^FROM python:([\d.]+)-slim-(\w+)$", DOCKERFILE, re.M)
    assert f"python={base[1]}" in PACKAGES
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert base[1] in SpecifierSet(project["requires-python"])
    assert base[2] == "bookworm"  # Debian 12, which has the R packages that conda's file pins
    assert re.search(r"^RUN /opt/locedit/scripts/setup.sh\b", DOCKERFILE, re.M)
    assert '"/opt/locedit/Snakefile"' in DOCKERFILE
    arguments = re.findall(r"^ARG (\w+)$", DOCKERFILE, re.M)
    setup = (ROOT / "scripts/setup.sh").read_text()
    assert arguments
    assert [name for name in arguments if f"${{{name}:" not in setup] == []


def test_the_image_gets_what_the_workflow_reads_and_nothing_that_is_made():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = {line for line in lines if line and not line.startswith("#")}
    needed = {*PARTS.split(), "data", "scripts", "pyproject.toml", "README.md"}
    needed |= {"requirements.txt", "requirements.lock"}
    assert [name for name in needed if not (ROOT / name).exists()] == []
    assert not ignored & needed
    assert ignored >= {".git", ".venv", ".snakemake", "results/*"}


# ---- jobs in an environment that lacks this project ----------------------------------------------

# What Snakemake asks of conda, answered by a virtual environment with the packages of this one:
# a folder named in a .pth file is searched, but its own .pth files, such as that of a package
# installed in place, are not read.
STAND_IN = """#!/bin/bash
case "$1 $2" in
  "info --json") echo '{"conda_prefix": "PREFIX", "platform": "linux-64"}' ;;
  "--version ") echo "conda 24.11.1" ;;
  "config --get") echo '{"get": {"channel_priority": "strict"}}' ;;
  "env create")
    while [ $# -gt 0 ]; do
      case "$1" in
        --file) file=$2 ;;
        --prefix) prefix=$2 ;;
      esac
      shift
    done
    PYTHON -m venv --without-pip "$prefix"
    echo PACKAGES > "$prefix/lib/pythonVERSION/site-packages/packages.pth"
    cp "$file" PREFIX/asked.yaml ;;
  "clean -y") ;;
  *) echo "unexpected: conda $*" >&2; exit 1 ;;
esac
"""
# A Python that reads this has nothing but Snakemake's own requirements
BARE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path[:] = [Blocked(), *(f for f in sys.meta_path if "editable" not in str(f).lower())]
"""


@pytest.fixture
def conda(tmp_path):
    """A folder with a stand-in for conda in its `bin`."""
    prefix = tmp_path / "conda"
    (prefix / "bin").mkdir(parents=True)
    text = STAND_IN.replace("PREFIX", str(prefix)).replace("PYTHON", sys.executable)
    text = text.replace("PACKAGES", sysconfig.get_path("purelib"))
    text = text.replace("VERSION", sysconfig.get_python_version())
    (prefix / "bin/conda").write_text(text)
    (prefix / "bin/conda").chmod(0o755)
    (prefix / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    return prefix


@pytest.fixture
def bare(tmp_path):
    """A folder for PYTHONPATH that hides all but what Snakemake and its plug-ins require."""
    owners = metadata.packages_distributions()
    plugins = {name for names in owners.values() for name in names if name.startswith("snakemake")}
    kept = {name for plugin in plugins for name in required(plugin)}
    hidden = {name for name, owned in owners.items() if named(owned) & (PINNED - kept)}
    assert {"torch", "transformers", "pyarrow"} <= hidden
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BARE.replace("BLOCKED", repr(hidden)))
    return folder


def test_jobs_run_in_conda_environments_without_this_project_installed(
    study, tmp_path, conda, bare
):
    """A job in Python and one in R; the workflow is read with Snakemake's requirements alone."""
    work = study.copied(tmp_path / "work")
    made = [work.out / "tuning/sweep.parquet", work.out / "analysis/success.parquet"]
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()

    path = f"{conda / 'bin'}:{os.environ['PATH']}"
    settings = tmp_path / "settings.yaml"
    read, environment = parted(study.settings)
    settings.write_text(yaml.safe_dump(read))
    command = [sys.executable, "-m", "snakemake", *(path.relative_to(work.folder) for path in made)]
    command += ["--cores", "2", "--sdm", "conda", *BATCHES]
    command += ["--snakefile", study.root / "Snakefile", "--directory", work.folder]
    command += ["--workflow-profile", study.root / "profiles/default", "--configfile", settings]
    done = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env={**os.environ, **environment, "PATH": path, "PYTHONPATH": str(bare), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Activating conda environment") >= 2
    assert [path.read_bytes() for path in made] == before

    assert (conda / "asked.yaml").read_bytes() == (ROOT / "envs/locedit.yaml").read_bytes()
    (python,) = (work.folder / ".snakemake/conda").glob("*/bin/python")
    alone = subprocess.run(
        [python, "-I", "-c", "import locedit"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'locedit'" in alone.stderr
