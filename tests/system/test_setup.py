"""Set-up: one list of pins, and what follows it; a second set-up that does nothing."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "env", "cat", "cmp", "dirname", "id", "ln", "mv", "rm", "sed", "touch", "true")
PIN = re.compile(r"^([A-Za-z0-9_.-]+==[^\s#]+)", re.MULTILINE)


def pins():
    return PIN.findall((ROOT / "requirements.txt").read_text())


def conda():
    return yaml.safe_load((ROOT / "envs/locedit.yaml").read_text())["dependencies"]


def test_every_requirement_is_pinned_and_says_why():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in requirements if not re.fullmatch(r"\S+==\S+  # .+", line)] == []
    assert len(pins()) == len(requirements)


def test_the_conda_environment_has_the_same_pins():
    assert next(d["pip"] for d in conda() if isinstance(d, dict)) == pins()


def test_the_conda_environment_has_the_same_r_packages():
    script = (ROOT / "scripts/setup.sh").read_text()
    (listed,) = re.findall(r"^r_packages=\((.*?)\)", script, re.MULTILINE | re.DOTALL)
    wanted = set(re.findall(r"\br-cran-([a-z0-9]+)\b", listed))
    given = re.findall(r"^r-(\w+)=", "\n".join(d for d in conda() if isinstance(d, str)), re.M)
    assert wanted == set(given) - {"base"}


def test_the_second_set_up_does_nothing_and_is_quick():
    script = ROOT / "scripts/setup.sh"
    if subprocess.run([script, "--check"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this environment was not made by `make setup`, or before a change of the pins")
    started = time.perf_counter()
    done = subprocess.run([script], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    assert time.perf_counter() - started < 5


def finished_environment(folder):
    """An environment that the script takes for set up: its stamp says for which pins and place."""
    files = ("requirements.txt", "requirements.lock", "pyproject.toml", "scripts/setup.sh")
    folder.mkdir()
    text = f"\n\n{ROOT}\n" + "".join((ROOT / name).read_text() for name in files)
    (folder / ".set-up").write_text(text)
    return folder


def set_up_for_tests(folder, venv, option="--tests", **programs):
    """`setup.sh OPTION` where only these programs and a shell's tools are to be found."""
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        if not (folder / tool).exists():
            (folder / tool).symlink_to(shutil.which(tool))
    for name, body in programs.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts/setup.sh", option],
        env={"PATH": str(folder), "VENV": str(venv)},
        capture_output=True,
        text=True,
        check=False,
    )


# An environment's interpreter: keeps what pip was to install, and the list that was piped to it
PIP = """#!/bin/sh
[ "$2" = pip ] || exit 0
shift 5
echo "$@" >>"${0%/*}/asked"
for last; do :; done
[ ! -p "$last" ] || cat "$last" >"${0%/*}/piped"
"""


def set_up_with(folder, pip):
    """`setup.sh` where R is there and this stands for pip: what was said, the environment."""
    venv = folder / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text(pip)
    (venv / "bin/python").chmod(0o755)
    others = {"Rscript": "", "R": "", "cc": "cat >/dev/null", "python3": ""}
    return set_up_for_tests(folder / "bin", venv, "", **others), venv


def test_all_but_torch_is_installed_by_its_hash_and_built_by_what_is(tmp_path):
    done, venv = set_up_with(tmp_path, PIP)
    assert done.returncode == 0, done.stderr
    assert (venv / ".set-up").exists()
    by_hash = "--require-hashes --no-deps --no-build-isolation --requirement "
    built_with, locked, *others = (venv / "bin/asked").read_text().splitlines()
    assert built_with.startswith(by_hash)
    assert locked == f"{by_hash}requirements.lock"
    (torch,) = (pin for pin in pins() if pin.startswith("torch=="))
    assert others == [torch, "--no-deps --no-build-isolation --editable ."]

    entry = r"^(?:cffi|pycparser|setuptools)==.+\n(?: +--hash=.+\n)+"
    entries = re.findall(entry, (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(entries) == 3
    assert (venv / "bin/piped").read_text() == "".join(entries)


def test_what_is_not_as_locked_ends_the_set_up(tmp_path):
    refused = PIP + '[ "$last" != requirements.lock ]\n'
    done, venv = set_up_with(tmp_path, refused)
    assert done.returncode == 1
    assert "A file that does not match its hash is not the one that was locked" in done.stderr
    assert not (venv / ".set-up").exists()
    assert (venv / "bin/asked").read_text().splitlines()[-1].endswith("requirements.lock")


def test_what_single_tests_need_is_installed_once(tmp_path):
    venv = finished_environment(tmp_path / "venv")
    where = (tmp_path / "bin", venv)
    install = "for name in chromium chromedriver munged slurmctld slurmd; do\n"
    install += 'ln -sf "$0" "${0%/*}/$name"; done'
    first = set_up_for_tests(*where, Rscript="", sudo='shift; exec "$@"', apt_get=install)
    assert first.returncode == 0, first.stderr
    assert "installing with apt-get: chromium chromium-driver" in first.stderr
    assert "skipped" not in first.stderr
    again = set_up_for_tests(*where)
    assert (again.returncode, again.stdout + again.stderr) == (0, "")


def test_what_cannot_be_installed_is_tried_once_and_its_absence_said(tmp_path):
    venv = finished_environment(tmp_path / "venv")
    where = (tmp_path / "bin", venv)
    first = set_up_for_tests(*where, Rscript="", sudo="exit 1", apt_get="exit 1")
    assert first.returncode == 0, first.stderr
    assert "without chromium chromium-driver the tests of the report's page are" in first.stderr
    if not shutil.which("slurmctld", path="/usr/sbin:/sbin"):
        assert "without slurm-wlm munge the tests of a Slurm are skipped" in first.stderr
    again = set_up_for_tests(*where)
    assert (again.returncode, again.stdout + again.stderr) == (0, "")


def test_what_lints_r_is_installed_once_and_done_without_where_it_cannot_be(tmp_path):
    where = (tmp_path / "bin", finished_environment(tmp_path / "venv"), "--lint")
    lacking = {"Rscript": "exit 1", "sudo": 'shift; exec "$@"'}
    without = set_up_for_tests(*where, apt_get="exit 1", **lacking)
    assert (without.returncode, without.stderr.count("R's code is not linted")) == (0, 1)
    again = set_up_for_tests(*where)
    assert (again.returncode, again.stdout + again.stderr) == (0, "")

    where = (tmp_path / "other", finished_environment(tmp_path / "there"), "--lint")
    install = 'printf "#!/bin/sh\\n" > "${0%/*}/Rscript"'
    first = set_up_for_tests(*where, apt_get=install, **lacking)
    assert first.returncode == 0, first.stderr
    assert "installing with apt-get: r-cran-lintr" in first.stderr
    assert "not linted" not in first.stderr
    assert set_up_for_tests(*where).stderr == ""
