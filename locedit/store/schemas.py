"""The schema of every Parquet table: its columns and their types."""

import pyarrow as pa

_TEXT, _REAL, _INT, _FLAG = pa.string(), pa.float64(), pa.int32(), pa.bool_()


_TEXTS, _REALS, _INTS = pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(pa.int32())


_FACT = {
    "case_id": _TEXT,
    "relation_id": _TEXT,
    "subject": _TEXT,
    "template": _TEXT,
    "prompt": _TEXT,
    "target_true": _TEXT,
    "target_new": _TEXT,
    "paraphrases": _TEXTS,
    "neighbourhood": _TEXTS,
    "generation_prompts": _TEXTS,
    "status": _TEXT,
    "reason": _TEXT,
    "remark": _TEXT,
    "is_correct": _FLAG,
    "completion": _TEXT,
    "p_true": _REAL,
}


_MEASURED = [
    f"{kind}_{of}"
    for kind in ("rewrite", "paraphrase", "neighbourhood")
    for of in ("target", "other")
]


def _measured(suffix: str) -> dict[str, pa.DataType]:
    return {f"{c}{suffix}": _REAL if c.startswith("rewrite") else _REALS for c in _MEASURED}


# What a localizer says of a layer, and what causal tracing measures beside: each again from either
# half of what was drawn at random
MEASURES = ("value", "effect_max", "effect_last", "fraction_last")


HALVES = tuple(f"{measure}_{half}" for half in ("half1", "half2") for measure in MEASURES)


# METHODS section 6, in the ROME suite's names: percent, and the deviation over cases
_ROME_FIGURES = [
    f"{k}_{of}" for k in ("rewrite", "paraphrase", "neighborhood") for of in ("success", "diff")
]


_ROME_FIGURES += ["ngram_entropy", "essence_score"]


_ROME_SUMMARY = {
    f"{stage}_{name}{suffix}": _REAL
    for stage in ("post", "pre")
    for name in (*_ROME_FIGURES, "score")
    for suffix in (("",) if name == "score" else ("", "_std"))
}


_GRID = {"case_id": _TEXT, "method": _TEXT, "problem": _TEXT, "layer": _INT}


_EDITING: dict[str, pa.DataType] = {
    **_GRID,
    "together": _INT,
    "layers": _INTS,
    "null_space_rank": _INTS,
    "neurons": _INT,
    "target": _TEXT,
    "other": _TEXT,
    **_measured("_before"),
    **_measured("_after"),
    "perplexity_before": _REALS,
    "perplexity_after": _REALS,
    "text_before": _REALS,
    "text_after": _REALS,
    "generations_before": _TEXTS,
    "generations_after": _TEXTS,
    "said_before": _TEXTS,
    "said_after": _TEXTS,
    "update_norm": _REAL,
    "steps": _INT,
    "loss_first": _REAL,
    "loss_last": _REAL,
    "status": _TEXT,
}


SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "corpus": {"title": _TEXT, "index": _INT, "text": _TEXT},
        "facts": _FACT,
        "held_out": {
            "title": _TEXT,
            "index": _INT,
            "tokens": _INTS,
            "perplexity": _REAL,
        },
        "contexts": {"method": _TEXT, "set": _INT, "template": _TEXT},
        "essence": {"case_id": _TEXT, "texts": _TEXTS, "perplexity": _REALS},
        "baseline": {
            "case_id": _TEXT,
            "problem": _TEXT,
            "target": _TEXT,
            "other": _TEXT,
            **_measured(""),
            "generations": _TEXTS,
            "said": _TEXTS,
            "status": _TEXT,
        },
        "planting": {
            "case_id": _TEXT,
            "kind": _TEXT,
            "layer": _INT,
            "p_before": _REAL,
            "p_after": _REAL,
        },
        "tracing": {
            "case_id": _TEXT,
            "token": _INT,
            "token_text": _TEXT,
            "is_subject": _FLAG,
            "is_last_subject": _FLAG,
            "layer": _INT,
            "p_clean": _REAL,
            "p_corrupted": _REAL,
            "p_restored": _REAL,
            "p_corrupted_rows": _REALS,
            "p_restored_rows": _REALS,
            "passes": _REAL,
            "status": _TEXT,
        },
        "localizing": {
            "case_id": _TEXT,
            "layer": _INT,
            "value": _REAL,
            "value_half1": _REAL,
            "value_half2": _REAL,
            "further": pa.map_(pa.string(), pa.float64()),
            "passes": _REAL,
            "status": _TEXT,
        },
        "effects": {
            "model": _TEXT,
            "dataset": _TEXT,
            "case_id": _TEXT,
            "relation_id": _TEXT,
            "localizer": _TEXT,
            "module": _TEXT,
            "window": _INT,
            "layer": _INT,
            **dict.fromkeys(MEASURES, _REAL),
            **dict.fromkeys(HALVES, _REAL),
            "p_clean": _REAL,
            "p_corrupted": _REAL,
            "peak_token": _INT,
            "passes": _REAL,
        },
        "peaks": {"case_id": _TEXT, "layer": _INT},
        "editing": _EDITING,
        "trials": {"pool": _TEXT, "setting": _INT, "seconds": _REAL, **_EDITING},
        "scores": {
            "model": _TEXT,
            "dataset": _TEXT,
            **_GRID,
            "together": _INT,
            "relation_id": _TEXT,
            "listed": _FLAG,
            "at_peak": _FLAG,
            "target": _TEXT,
            "is_correct": _FLAG,
            "rewrite": _REAL,
            "paraphrase": _REAL,
            "neighbourhood": _REAL,
            "essence": _REAL,
            "text": _REAL,
            "overall": _REAL,
            "overall_essence": _REAL,
            "rewrite_success": _REAL,
            "paraphrase_success": _REAL,
            "neighbourhood_success": _REAL,
            "rewrite_magnitude": _REAL,
            "paraphrase_magnitude": _REAL,
            "neighbourhood_magnitude": _REAL,
            "rewrite_log_odds": _REAL,
            "paraphrase_log_odds": _REAL,
            "neighbourhood_log_odds": _REAL,
            "paraphrase_log_odds_half1": _REAL,
            "paraphrase_log_odds_half2": _REAL,
            "rewrite_log_odds_again": _REAL,
            "paraphrase_log_odds_again": _REAL,
            "neighbourhood_log_odds_again": _REAL,
            "essence_again": _REAL,
            "overall_again": _REAL,
            "rewrite_said": _REAL,
            "paraphrase_said": _REAL,
            "rewrite_other_said": _REAL,
            "paraphrase_other_said": _REAL,
            "ngram_entropy_before": _REAL,
            "ngram_entropy_after": _REAL,
            "update_norm": _REAL,
            "steps": _INT,
            "status": _TEXT,
        },
        "rome_summary": {
            "method": _TEXT,
            "run": _TEXT,
            "model": _TEXT,
            "dataset": _TEXT,
            "problem": _TEXT,
            "layer": _INT,
            "num_cases": _INT,
            **_ROME_SUMMARY,
        },
        "sweep": {
            "model": _TEXT,
            "method": _TEXT,
            "problem": _TEXT,
            "aim": _TEXT,
            "aim_low": _REAL,
            "aim_high": _REAL,
            "layer": _INT,
            "setting": _TEXT,
            "values": _TEXT,
            "n_facts": _INT,
            "rewrite": _REAL,
            "neighbourhood": _REAL,
            "objective": _REAL,
            "admissible": _FLAG,
            "chosen": _FLAG,
        },
        "recommended": {
            "model": _TEXT,
            "dataset": _TEXT,
            "method": _TEXT,
            "problem": _TEXT,
            "layer": _INT,
            "layers": _INTS,
            "setting": _TEXT,
            "values": _TEXT,
            "role": _TEXT,
            "localizers": _TEXTS,
            "n_searched": _INT,
            "searched": _REAL,
            "searched_low": _REAL,
            "searched_high": _REAL,
            "n_held_out": _INT,
            **{
                f"{kind}{end}": _REAL
                for kind in ("overall", "rewrite", "paraphrase", "neighbourhood")
                for end in ("", "_low", "_high")
            },
            "cost": _REAL,
            "cost_low": _REAL,
            "cost_high": _REAL,
            "told_apart": _FLAG,
        },
    }.items()
}
