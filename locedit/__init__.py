"""Locate facts in a language model, edit them, and score the edits::

    import locedit

    lm = locedit.load("smollm2-135m-instruct")
    fact = {"prompt": "The capital city of France is", "subject": "France"}
    found = locedit.trace(lm, **fact, target="Paris")
    edit = locedit.edit(lm, **fact, target="Rome", layer=5)
    scores = locedit.measure(lm, edit, neighbourhood=["The capital city of Spain is"])

What is imported here costs nothing: torch and the models' library come with the first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait for each other sleep instead of spinning: beside other work, spinning ones make
# two threads many times slower than one (benchmarks/busy.py). Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from locedit.api.one_fact import FactEdit, Scores, edit, load, measure, trace

__version__ = "0.1.0"
__all__ = ["FactEdit", "Scores", "__version__", "edit", "load", "measure", "trace"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("locedit.api.one_fact"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
