"""The report: one zip with every figure and table, written by Snakemake itself."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from workflow_scripts.job import running


def main(snakemake) -> None:
    with running(snakemake) as log, tempfile.TemporaryDirectory() as folder:
        # the configuration as this run has it, with whatever was laid over config.yaml
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(dict(snakemake.config)))
        target = Path(snakemake.output[0])
        part = target.with_name(f".part-{target.name}")
        command = [sys.executable, "-m", "snakemake", "--snakefile", snakemake.params.snakefile]
        command += ["--configfile", str(config), "--nolock", "--cores", "1"]
        command += ["--report", str(part), "--report-stylesheet", snakemake.params.stylesheet]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        log.info("%s\n%s%s", " ".join(command), done.stdout, done.stderr)
        if done.returncode != 0 or not part.is_file():
            raise ValueError(f"snakemake --report failed; see {snakemake.log[0]}")
        os.replace(part, target)


if __name__ == "__main__":
    main(snakemake)
