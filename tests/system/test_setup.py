"""Set-up: one list of pins, and what follows it; a second set-up that does nothing."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "env", "cat", "cmp", "dirname", "id", "ln", "touch", "true")
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
    files = ("requirements.txt", "pyproject.toml", "scripts/setup.sh")
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
