"""The functions in R have tests of their own, in R: a minute, so a file that is begun early."""

import shutil
import subprocess
from pathlib import Path

import pytest

from locedit.report import rbridge

ANALYSIS = Path(__file__).resolve().parents[2] / "analysis"

if shutil.which("Rscript") is None:
    pytest.skip("R is not installed", allow_module_level=True)


def test_the_functions_in_r_pass_their_own_tests():
    command = "testthat::test_dir('tests/testthat', reporter = 'check', stop_on_failure = TRUE)"
    done = subprocess.run(
        ["Rscript", "-e", command],
        cwd=ANALYSIS,
        env=rbridge.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "no package called" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
