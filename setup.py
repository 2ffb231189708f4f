"""Puts what the library reads beside its code into the package: see locedit/store/shipped.py.

All else about the package is said in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = (  # a source distribution has the same, by MANIFEST.in
    "config.yaml",
    "models/*.yaml",
    "data/README.md",  # sources and licences
    "data/relations.yaml",
    "data/tables/*.csv",
)


class BuildWithFiles(build_py):
    """Copies them; an editable installation reads those of the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "locedit" / "_shipped"
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier build
        for pattern in SHIPPED:
            found = sorted(ROOT.glob(pattern))
            if not found:
                raise FileNotFoundError(f"{ROOT}: no {pattern}, which the package needs")
            for path in found:
                target = folder / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithFiles})
