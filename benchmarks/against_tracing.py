"""How well cheap localizers order a fact's layers as exact tracing of single layers does.

    python benchmarks/against_tracing.py results/smollm2-135m-instruct/bundled [--out FILE.csv]

takes the folder of a study with tracing in windows of 1 and prints, for each localizer that looks
at single layers where tracing does, the mean over facts of Spearman's correlation over layers: of
its value with tracing's effect at the best token, and of its measure `last` with the effect at the
subject's last one. The file has a row for each fact. Effects are not cut off at 0 here, as the
fraction restored is.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from locedit.localizers import LOCALIZERS, MODULES, TRACING
from locedit.store import tables

KEYS = ["localizer", "module", "token"]
TOKENS = {"best": ("value", "effect_max"), "last": ("last", "effect_last")}


def over_layers(rows: pd.DataFrame, ours: str, exact: str) -> pd.Series:
    """Spearman's correlation of each fact; NaN where one of the two is the same at all layers."""
    whole = rows.dropna(subset=[ours, exact])
    ranks = whole.groupby("case_id")[[ours, exact]].rank()
    facts = ranks.groupby(whole["case_id"])
    with np.errstate(invalid="ignore", divide="ignore"):
        return facts.apply(lambda fact: fact[ours].corr(fact[exact]))


def compared(folder: Path) -> Iterator[pd.DataFrame]:
    """Of each localizer, module and token: the correlation of every fact that has one."""
    effects = tables.read(folder / "effects.parquet", "effects")
    traced = effects[(effects["localizer"] == TRACING) & (effects["window"] == 1)]
    for name, module in ((name, module) for name in LOCALIZERS for module in MODULES):
        path = folder / "localizing" / name / module / "window-1.parquet"
        if LOCALIZERS[name].control or not path.is_file():
            continue
        found = tables.read(path, "localizing")
        found["last"] = [dict(further or {}).get("last", np.nan) for further in found["further"]]
        where = traced.loc[traced["module"] == module, ["case_id", "layer", *_measures()]]
        rows = found[["case_id", "layer", "value", "last"]].merge(where, on=["case_id", "layer"])
        for token, (ours, exact) in TOKENS.items():
            if rows[ours].notna().any():
                each = over_layers(rows, ours, exact).dropna().rename("correlation").reset_index()
                yield each.assign(localizer=name, module=module, token=token)


def _measures() -> list[str]:
    return [exact for _, exact in TOKENS.values()]


def summary(each: pd.DataFrame) -> pd.DataFrame:
    """One row for each localizer, module and token."""
    groups = each.groupby(KEYS, sort=False)["correlation"]
    return pd.DataFrame(
        {
            "facts": groups.size(),
            "mean": groups.mean(),
            "low_tenth": groups.quantile(0.1),
            "high_tenth": groups.quantile(0.9),
            "lowest": groups.min(),
            "above_0": groups.agg(lambda values: (values > 0).mean()),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    each = pd.concat(compared(options.folder), ignore_index=True)
    print(summary(each).round(2).to_string())
    if options.out is not None:
        wide = each.assign(column=each[KEYS].agg("-".join, axis=1))
        wide = wide.pivot(index="case_id", columns="column", values="correlation")
        wide[wide.columns.sort_values()].to_csv(options.out, float_format="%.3f")


if __name__ == "__main__":
    main()
