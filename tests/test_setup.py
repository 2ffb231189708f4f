"""Set-up: one list of pins, and what follows it; a second set-up that does nothing."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
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
    wanted = set(re.findall(r"\br-cran-([a-z0-9]+)\b", script))
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
