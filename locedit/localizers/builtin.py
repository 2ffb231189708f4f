"""The localizers of the library as data: where each can look, and what it needs.

What they do is in modules of their own, which are imported when they are first used. The dataclass
of a localizer's settings stands here too, so that the configuration can be checked against it.
"""

from locedit.localizers.base import MODULES, Localizer

TRACING = "tracing"  # its tables have every token and noise row, so a rule of its own makes them

BUILTIN = (
    Localizer(
        name=TRACING,
        function="locedit.localizers.restoration:localize",
        modules=MODULES,
        windows=True,
        needs=frozenset({"noise"}),
    ),
    Localizer(
        name="zeroing",
        function="locedit.localizers.zeroing:localize",
        modules=MODULES,
        windows=True,
    ),
)
