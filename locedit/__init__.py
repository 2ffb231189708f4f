"""Locate facts in a language model, edit them, and score the edits::

    import locedit

    lm = locedit.load("smollm2-135m-instruct")
    fact = {"prompt": "The capital city of France is", "subject": "France"}
    found = locedit.trace(lm, **fact, target="Paris")
    edit = locedit.edit(lm, **fact, target="Rome", layer=5)
    scores = locedit.measure(lm, edit, neighbourhood=["The capital city of Spain is"])

    advice = locedit.recommend(lm, editors=["MEMIT"], folder="recommended")
    layer = advice["MEMIT"].chosen["layer"]
    edited = locedit.apply(lm, "facts.json", layer=layer, together=True, save="edited")

What is imported here costs nothing: torch and the models' library come with the first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Threads that wait for each other sleep instead of spinning: beside other work, spinning ones make
# two threads many times slower than one (benchmarks/busy.py). Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from locedit.api.keeping import Edited
    from locedit.api.many_facts import apply, recommend
    from locedit.api.one_fact import FactEdit, Scores, edit, load, measure, trace
    from locedit.study.advice import Advice

__version__ = "0.1.0"
__all__ = [
    "Advice",
    "Edited",
    "FactEdit",
    "Scores",
    "__version__",
    "apply",
    "edit",
    "load",
    "measure",
    "recommend",
    "trace",
]
_ROOMS = {
    "Advice": "locedit.study.advice",
    "Edited": "locedit.api.keeping",
    "apply": "locedit.api.many_facts",
    "recommend": "locedit.api.many_facts",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(_ROOMS.get(name, "locedit.api.one_fact")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
