"""What a command's options name."""

import difflib

from locedit.errors import LoceditError
from locedit.methods import METHODS


def method_named(name: str, option: str = "--method") -> str:
    """A registered method, whatever the letter case; LoceditError names the nearest."""
    lower = {known.lower(): known for known in METHODS}
    if name.lower() in lower:
        return lower[name.lower()]
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    raise LoceditError(f"{option}: unknown method {name!r}{hint} (known: {', '.join(METHODS)})")
