"""The study's edits as the ROME suite lays them out: a folder a run, a file a case; a summary."""

from pathlib import Path
from typing import Any

import pandas as pd

from locedit.exchange import rome_layout
from locedit.methods.problems import PROBLEMS
from locedit.store import files, schemas, tables
from locedit.study.edit import OK
from locedit.workflow.job import progress, provenance, running


def main(snakemake) -> None:
    with running(snakemake) as log:
        study = {row["case_id"]: row for row in tables.records(snakemake.input.study, "facts")}
        n_tokens = token_counter(Path(snakemake.input.model).parent)
        runs: dict[str, list[Any]] = {method: [] for method in snakemake.params.methods}
        with progress(log, len(snakemake.input.edits), "runs") as advance:
            for path in snakemake.input.edits:
                run = read_run(path, study, n_tokens, snakemake.params)
                runs[run[0]["alg_name"]].append(run)
                advance(1)
        for method, folder in zip(runs, snakemake.output.runs, strict=True):
            with files.atomic_folder(folder) as temporary:
                for params, cases in runs[method]:
                    rome_layout.write_run(temporary / params["run"], params, cases)
        summary = [summary_row(*run) for group in runs.values() for run in group]
        tables.write(snakemake.output.parquet, summary, "rome_summary", provenance(snakemake))
        columns = schemas.SCHEMAS["rome_summary"].names
        with files.atomic(snakemake.output.csv) as temporary:
            pd.DataFrame(summary, columns=columns).round(2).to_csv(temporary, index=False)


def token_counter(folder: Path):
    """How many tokens the model's tokenizer makes of a target behind a prompt."""
    from locedit.model import tokenizing

    tokenizer = tokenizing.load(folder)
    return lambda target, prompt: len(tokenizer.encode_target(target, prompt))


def read_run(path: str, study: dict[str, dict], n_tokens, params) -> tuple[dict, list[dict]]:
    """What params.json says of one editing table, and its cases."""
    edits = tables.records(path, "editing")
    numbers = rome_layout.case_numbers(list(study))
    done = [edit for edit in edits if edit["status"] == OK]
    cases = [
        rome_layout.case(edit, study[edit["case_id"]], numbers[edit["case_id"]], n_tokens)
        for edit in done
    ]
    method, problem, layer = (edits[0][key] for key in ("method", "problem", "layer"))
    new, true = (
        f"o_{getattr(PROBLEMS[problem], column)}" for column in rome_layout.objects(problem)
    )
    about = {
        "alg_name": method,
        "run": rome_layout.run_name(problem, layer, params.n_layers),
        "model": params.model,
        "dataset": params.dataset,
        "problem": problem,
        "layer": layer,
        "layers": sorted({int(la) for edit in done for la in edit["layers"]}),
        "target_new": new,
        "target_true": true,
        "preset": params.preset,
        "hyperparameters": params.hyperparameters[f"{method} {problem}"],
        "seed": params.seed,
        "num_cases": len(cases),
        "left_out": {e["case_id"]: e["status"] for e in edits if e["status"] != OK},
        "table": path,
        "fingerprint": tables.provenance(path).get("fingerprint"),
    }
    return about, cases


def summary_row(params: dict, cases: list[dict]) -> dict[str, Any]:
    keys = ("run", "model", "dataset", "problem", "layer")
    return {
        "method": params["alg_name"],
        **{key: params[key] for key in keys},
        **rome_layout.summarise(cases),
    }


if __name__ == "__main__":
    main(snakemake)
