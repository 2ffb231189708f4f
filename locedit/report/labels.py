"""What tables and pages call things: analysis/labels.yaml, which R is given too (rbridge)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from locedit.errors import LoceditError
from locedit.localizers import NO_MODULE
from locedit.windows import EMBEDDING, EMBEDDING_NAME

DASH = "\N{EN DASH}"

LOCALIZER = "<localizer>"  # its place in labels and titles; of figures analysis/theme.R fills it in

# By a table's column: where its values stand in the file, and which of their labels is shown
COLUMNS = {
    "problem": ("problems", "label"),
    "method": ("methods", "label"),
    "score": ("scores", "label"),
    "localizer": ("localizers", "label"),
    "module": ("modules", "label"),
    "effect": ("effects", "short"),
    "subset": ("subsets", "label"),
    "strategy": ("strategies", "short"),
    "verdict": ("verdicts", "short"),
    "role": ("roles", "short"),
    "use": ("verdicts", "short"),
}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels by kind and name, and the study's own orders of some columns' values."""

    kinds: Mapping[str, Mapping[str, Mapping[str, str]]]
    orders: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, orders: Mapping[str, Sequence[Any]] | None = None) -> "Labels":
        """Those of a file such as analysis/labels.yaml."""
        return cls(kinds=load(path), orders=orders or {})

    def of(self, column: str, value: Any) -> str:
        """A column's value as it is read; of what has no label its own name."""
        if pd.isna(value):
            return "not traced" if column == "module" else DASH
        if column == "window":
            return f"windows of {value} layer{'' if value == 1 else 's'}"
        if column == "layer":
            return EMBEDDING_NAME if value == EMBEDDING else f"layer {value}"
        if column not in COLUMNS:
            return str(value)
        kind, form = COLUMNS[column]
        entry = self.kinds[kind].get(value)
        return _named(entry, form) if entry else str(value).replace("_", " ")

    def place(self, values: Mapping[str, Any]) -> list[str]:
        """What tells one localization from another, by column: localizer, module, window, effect.

        A localizer's own value goes by the localizer's name among the effects. One that looks at no
        module has no window either.
        """
        localizer, shown = values.get("localizer"), dict(values)
        if shown.get("module") == NO_MODULE:
            shown = {k: v for k, v in shown.items() if k not in ("module", "window")}
        if "localizer" in shown and pd.isna(localizer):
            del shown["localizer"]
        elif shown.get("effect") == "value" and localizer is not None:
            if localizer in self.kinds["effects"]:
                shown["effect"] = localizer
            else:  # of a plug-in: named already
                del shown["effect"]
        return [self.filled(self.of(column, value), localizer) for column, value in shown.items()]

    def filled(self, text: str, localizer: Any) -> str:
        """A text that leaves the localizer's place open, with its short label there."""
        return text.replace(LOCALIZER, self._short_localizer(localizer))

    def _short_localizer(self, name: Any) -> str:
        if pd.isna(name):
            return "effects"  # of no localizer
        entry = self.kinds["localizers"].get(name)
        return _named(entry, "short") if entry else str(name).replace("_", " ")

    def header(self, text: str, localizer: Any = None) -> str:
        """A header filled in: "{scores[rewrite]}" is that score's short label.

        localizer: the one of the rows, where a label leaves its place open.
        """
        shorts = {
            kind: {name: _named(entry, "short") for name, entry in entries.items()}
            for kind, entries in self.kinds.items()
            if kind != "colours"
        }
        named = self._short_localizer(localizer)
        return text.format_map(shorts).replace(LOCALIZER, named[:1].upper() + named[1:])

    def ordered(self, values: pd.Series) -> list[Any]:
        """A column's distinct values: the study's order or the file's, then others, numbers sorted.

        values: named as its column.
        """
        column = str(values.name)
        order = list(self.orders.get(column) or ())
        if not order and column in COLUMNS:
            order = list(self.kinds[COLUMNS[column][0]])
        present = list(values.drop_duplicates())
        if pd.api.types.is_numeric_dtype(values):
            present.sort()
        return [v for v in order if v in present] + [v for v in present if v not in order]


def load(path: Path) -> Any:
    """What a YAML file holds; LoceditError, naming file and place, where it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise LoceditError(f"{path} is not YAML ({said}); mend it at that place") from error


def _named(entry: Mapping[str, str], form: str) -> str:
    return entry.get(form) or entry["label"]
