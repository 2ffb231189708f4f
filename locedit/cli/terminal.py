"""What the standard output can show: its width, colours, characters."""

import os
import shutil
import sys

PLAIN = " ▁▂▃▄▅▆▇█"  # shades, from none to full
ASCII = " .:-=+*#%@"


def width() -> int:
    """Columns, 40 at least; 80 where the output is no terminal and COLUMNS is not set."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def colour() -> bool:
    """Only in a terminal that does not call itself dumb, and not against NO_COLOR."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout.isatty()


def ramp() -> str:
    """Shades that the output's encoding has."""
    try:
        PLAIN.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return PLAIN


def quieten() -> None:
    """No progress bars and no advice from transformers: what is shown is the command's own."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
