"""requirements.lock: every package of the environment but torch, with the hashes of its files.

`make lock` writes it from requirements.txt, for every system and any Python from pyproject.toml's
lowest on. What the lock has stays as it is where it still fits; `make lock ARGS=--upgrade` takes
the newest of all. Needs a package index, but no environment: whoever changes a pin has none yet.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
RESOLVER = "uv==0.13.8"  # pip's own resolver sees one Python on one system

HEAD = """\
# Every package of the environment, with the hash of each file of its release. `make lock` writes
# this from requirements.txt, where the pins and their reasons are; the set-up installs it. Not
# here: torch, whose build each machine chooses, and the CUDA that some of its builds bring.
"""
NOT_HERE = re.compile(r"(torch|triton|(nvidia|cuda)-[\w-]+)==")  # at the start of an entry

# The site's pins constrain what it shares with torch. One release of each package, whatever the
# Python.
OPTIONS = """
requirements.txt --constraints docs/requirements.txt
--universal --fork-strategy fewest --no-python-downloads
--generate-hashes --no-header --annotation-style line --quiet --no-cache
""".split()


def resolved(folder: Path, options: list[str]) -> str:
    """What the resolver writes, torch and all; it and its files lie in this folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lowest = project["requires-python"].removeprefix(">=")
    programs, written = folder / "venv/bin", folder / LOCK.name
    if LOCK.exists():
        shutil.copy(LOCK, written)
    venv.create(folder / "venv", with_pip=True)
    pip: list[str | Path] = [
        programs / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
    ]
    subprocess.run([*pip, "install", RESOLVER], check=True)
    compiled = [programs / "uv", "pip", "compile", *OPTIONS, "--python-version", lowest]
    subprocess.run(
        [*compiled, "--output-file", written, *options],
        cwd=ROOT,
        env={**os.environ, "VIRTUAL_ENV": str(folder / "venv")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return written.read_text(encoding="utf-8")


def main(options: list[str]) -> None:
    """Write the lock; of what goes wrong the tools have told themselves."""
    with tempfile.TemporaryDirectory() as name:
        try:
            text = resolved(Path(name), options)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    kept = [entry for entry in entries if not NOT_HERE.match(entry)]
    LOCK.write_text(HEAD + "".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
