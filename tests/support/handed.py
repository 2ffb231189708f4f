"""What Snakemake hands a script, in its own lists, for tests that call the script's function."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from snakemake.iocontainers import InputFiles, Log, Namedlist, OutputFiles, Params, Wildcards

CONFIG = {"seed": 0, "tracing": {"noise_seed": 1}, "plugins": []}

Kind = TypeVar("Kind", bound=Namedlist)


def _files(kind: type[Kind], unnamed: tuple[Any, ...], named: Mapping[str, Any]) -> Kind:
    """Paths one after the other; a name's list of paths is several of them."""
    made = kind(toclone=map(str, unnamed))
    for name, files in named.items():
        start, several = len(made), isinstance(files, list)
        made.extend(map(str, files if several else [files]))
        made._set_name(name, start, len(made) if several else None)
    return made


def input_files(*unnamed: Any, **named: Any) -> InputFiles:
    return _files(InputFiles, unnamed, named)


def output_files(*unnamed: Any, **named: Any) -> OutputFiles:
    return _files(OutputFiles, unnamed, named)


def handed(
    folder: Path,
    rule: str,
    given: InputFiles | None = None,
    params: Mapping[str, Any] | None = None,
    **more: Any,
) -> SimpleNamespace:
    """A job of this rule that writes out.parquet and log in the folder, but as `more` says."""
    parts: dict[str, Any] = {
        "rule": rule,
        "input": input_files() if given is None else given,
        "output": output_files(folder / "out.parquet"),
        "params": Params(fromdict=dict(params or {})),
        "log": Log([str(folder / "log")]),
        "config": CONFIG,
        "threads": 1,
        "resources": {},
    }
    wildcards = Wildcards(fromdict=more.pop("wildcards", {}))
    return SimpleNamespace(**parts | more, wildcards=wildcards)
