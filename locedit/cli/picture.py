"""A trace's heat map as a PNG."""

from collections.abc import Sequence
from pathlib import Path

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
    """Tokens as rows, layers as columns counted from 1, p of the target as colour."""
    n_tokens, n_layers = found.p_restored.shape
    size = (2.8 + 0.22 * n_layers, 1.7 + 0.26 * n_tokens)
    figure = Figure(figsize=(max(6.0, size[0]), max(2.4, size[1])), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        found.p_restored,
        aspect="auto",
        cmap="Purples",
        vmin=min(found.p_corrupted, found.p_restored.min()),
        extent=(0.5, n_layers + 0.5, n_tokens - 0.5, -0.5),
    )
    axes.set_yticks(range(n_tokens), [_plain(label) for label in labels])
    axes.set_xticks([1, *range(5, n_layers + 1, 5)])
    axes.set_xlabel("Layer at the centre of the window")
    figure.suptitle(_plain(title), fontsize=10)
    axes.set_title(
        f"{subtitle}; p clean {found.p_clean:.3g}, p corrupted {found.p_corrupted:.3g}",
        fontsize=8,
    )
    figure.colorbar(image, ax=axes, label="p(target)")
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _plain(text: str) -> str:
    """Dollars as such: matplotlib would take what is between two for a formula."""
    return text.replace("$", r"\$")
