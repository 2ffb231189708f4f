"""How jobs call the Python that Snakemake runs in."""

import os
import shlex
import sys
from pathlib import Path


def call_by_name() -> None:
    """Have jobs call it by its name where a shell would not read its path as one word.

    Snakemake puts sys.executable as it is into its command lines, a job's own Snakemake too. Raises
    OSError where the name cannot be looked up instead.
    """
    path = Path(sys.executable)
    if shlex.quote(str(path)) == str(path):
        return
    if os.pathsep in str(path.parent) or shlex.quote(path.name) != path.name:
        raise OSError(
            f"{path}: jobs cannot call a Python of this path, for its `{os.pathsep}` or the name "
            "of its file; make the environment in another folder, and run from there"
        )
    sys.executable = path.name
    os.environ["PATH"] = os.pathsep.join([str(path.parent), os.environ.get("PATH", os.defpath)])
