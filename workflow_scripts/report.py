"""The report: one zip with every figure and table, written by Snakemake itself."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from locedit import files
from workflow_scripts.job import running

ROOT = Path(__file__).resolve().parent.parent


def main(snakemake) -> None:
    with running(snakemake) as log, tempfile.TemporaryDirectory() as folder:
        # the configuration as this run has it, with whatever was laid over config.yaml
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(dict(snakemake.config)))
        target = Path(snakemake.output[0])
        part = Path(folder) / target.name  # its name becomes that of the folder inside
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--configfile", str(config), "--nolock", "--cores", "1"]
        command += [
            "--report",
            str(part),
            "--report-stylesheet",
            str(ROOT / "analysis" / "report.css"),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        log.info("%s\n%s%s", " ".join(command), done.stdout, done.stderr)
        if done.returncode != 0 or not part.is_file():
            raise ValueError(f"snakemake --report failed; see {snakemake.log[0]}")
        with files.atomic(target) as temporary:
            shutil.copyfile(part, temporary)


if __name__ == "__main__":
    main(snakemake)
