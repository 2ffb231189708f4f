"""Pictures as PNG: heat maps of a trace, or of what localizers say; scores by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no display, no state

from locedit.errors import LoceditError
from locedit.localizers.restoration import Trace
from locedit.store.files import atomic
from locedit.study.advice import Advice

GREY, BLUE, ORANGE = "#444444", "#0072B2", "#E69F00"  # of analysis/labels.yaml


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


def save_layers(path: Path, advice: Sequence[Advice], *, title: str) -> None:
    """Overall score by layer, a panel an editor: on held-out facts; of layers that were dropped
    early, the chosen one's less what they lost to it on the facts that both were tried on.
    """
    figure = Figure(figsize=(7.5, 0.9 + 2.6 * len(advice)), layout="constrained")
    panels = figure.subplots(len(advice), squeeze=False)[:, 0]
    for axes, one in zip(panels, advice, strict=True):
        _draw_layers(axes, one)
    panels[-1].set_xlabel("Layer")
    figure.suptitle(_plain(f"{title}: overall score by edit layer"), fontsize=10)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _draw_layers(axes: Axes, one: Advice) -> None:
    """Layers are counted from 1."""
    own = one.chosen
    assert own is not None, "an editor without an answer has no panel"
    level = own["overall" if own["n_held_out"] else "searched"]
    dropped = (
        "dropped early: placed by what it lost to the chosen layer on the same facts "
        "(fainter: fewer facts)"
    )
    most = max(row["n_searched"] for row in one.rows)
    for row in one.rows:
        if row is not own and not row["n_held_out"]:
            style: Any = {"color": GREY, "alpha": 0.25 + 0.6 * row["n_searched"] / most}
            height = min(1.0, max(0.0, level - row["cost"]))
            axes.plot(row["layer"] + 1, height, "o", label=dropped, **style)
            dropped = "_"
    if not own["n_held_out"]:
        alone = "chosen, on facts searched by"
        axes.plot(own["layer"] + 1, min(1.0, max(0.0, level)), "o", color=ORANGE, label=alone)
    held_out = "held-out facts, 95 % interval"
    for row in one.rows:
        if row["n_held_out"]:
            ends = [[row["overall"] - row["overall_low"]], [row["overall_high"] - row["overall"]]]
            style = {"color": BLUE, "fmt": "s", "capsize": 3, "label": held_out}
            axes.errorbar([row["layer"] + 1], [row["overall"]], yerr=ends, **style)
            held_out = "_"
    axes.axvline(own["layer"] + 1, color=ORANGE, zorder=0, label="chosen")
    what = f", {own['setting']}" if own["setting"] else ""
    axes.set_title(
        _plain(f"{one.method}: layer {own['layer'] + 1} of {one.n_layers}{what}"), fontsize=9
    )
    axes.set_xlim(0.3, one.n_layers + 0.7)
    axes.set_xticks([1, *range(5, one.n_layers + 1, 5)])
    axes.set_ylim(0, 1)
    axes.set_ylabel("overall score")
    axes.legend(fontsize=7, loc="lower left")
