"""The files that are read beside the code: config.yaml, models/, data/.

They stand at the top of the checkout, where people edit them. An installed package has a copy of
them (setup.py makes it), since nothing stands around it.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def root() -> Path:
    """The folder that holds them: the package's own copy, or the checkout around it."""
    copied = _PACKAGE / "_shipped"
    return copied if copied.is_dir() else _PACKAGE.parent
