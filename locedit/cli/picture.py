"""A heat map as a PNG: of a trace, or of what localizers say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # without pyplot: no display, no state

from locedit.errors import LoceditError
from locedit.localizers.restoration import Trace
from locedit.store.files import atomic


def check(path: Path) -> None:
    """Raise LoceditError for a file that cannot be a PNG here."""
    if path.suffix.lower() != ".png":
        raise LoceditError(f"--out: expected a name that ends in .png, got {str(path)!r}")
    if not path.parent.is_dir():
        raise LoceditError(f"--out: there is no folder {str(path.parent)!r}")


def save(path: Path, found: Trace, labels: Sequence[str], *, title: str, subtitle: str) -> None:
    """A trace: tokens as rows, p of the target as colour."""
    _save(
        path,
        found.p_restored,
        labels,
        low=min(found.p_corrupted, found.p_restored.min()),
        title=title,
        subtitle=f"{subtitle}; p clean {found.p_clean:.3g}, p corrupted {found.p_corrupted:.3g}",
        columns="Layer at the centre of the window",
        colours="p(target)",
    )


def save_shares(
    path: Path, shares: np.ndarray, labels: Sequence[str], *, title: str, subtitle: str
) -> None:
    """Localizers [rows, layers]: shares of each row's range as colour."""
    _save(
        path,
        shares,
        labels,
        low=0.0,
        title=title,
        subtitle=subtitle,
        columns="Layer",
        colours="share of a row's range",
    )


def _save(
    path: Path,
    values: np.ndarray,
    labels: Sequence[str],
    *,
    low: float,
    title: str,
    subtitle: str,
    columns: str,
    colours: str,
) -> None:
    """values [rows, layers] as a heat map from `low` on; layers are counted from 1."""
    n_rows, n_layers = values.shape
    size = (2.8 + 0.22 * n_layers, 1.7 + 0.26 * n_rows)
    figure = Figure(figsize=(max(6.0, size[0]), max(2.4, size[1])), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        values,
        aspect="auto",
        cmap="Purples",
        vmin=low,
        extent=(0.5, n_layers + 0.5, n_rows - 0.5, -0.5),
    )
    axes.set_yticks(range(n_rows), [_plain(label) for label in labels])
    axes.set_xticks([1, *range(5, n_layers + 1, 5)])
    axes.set_xlabel(columns)
    figure.suptitle(_plain(title), fontsize=10)
    axes.set_title(subtitle, fontsize=8)
    figure.colorbar(image, ax=axes, label=colours)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _plain(text: str) -> str:
    """Dollars as such: matplotlib would take what is between two for a formula."""
    return text.replace("$", r"\$")
