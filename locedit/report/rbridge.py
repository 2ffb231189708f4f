"""Calls to R functions on data frames: pandas in, pandas out, nothing else.

R is started on the first call, through rpy2. Columns are converted one by one, since only a few
kinds are ever handed over: text, booleans, integers, doubles, each with missing values; a column of
lists is an error. R's warnings and messages go to this module's logger; an R error becomes
:class:`RError` with R's own words.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from locedit.store import tables

logger = logging.getLogger(__name__)

_INT_RANGE = 2**31 - 1  # R's integers; its smallest value means NA

# Evaluates f(...); returns its value or its error with the calls that led there, and what R said.
_INVOKE = """
function(f, arguments) {
  calls <- kinds <- texts <- character()
  tell <- function(kind, text, restart) {
    kinds <<- c(kinds, kind)
    texts <<- c(texts, text)
    invokeRestart(restart)
  }
  value <- tryCatch(
    withCallingHandlers(
      do.call(f, arguments, quote = TRUE),
      warning = function(w) tell("warning", conditionMessage(w), "muffleWarning"),
      message = function(m) tell("message", conditionMessage(m), "muffleMessage"),
      error = function(e) {
        named <- Filter(is.symbol, lapply(sys.calls(), `[[`, 1))
        calls <<- vapply(named, as.character, "")
      }
    ),
    error = function(e) e
  )
  failed <- inherits(value, "error")
  list(
    value = if (!failed) value, error = if (failed) conditionMessage(value), calls = calls,
    kinds = kinds, texts = texts
  )
}
"""


_VERSIONS = """
function(more) {
  version <- function(name) as.character(utils::packageVersion(name))
  own <- function(name) identical(utils::packageDescription(name)$Priority, "base")
  installed <- function(name) nzchar(system.file(package = name))
  found <- c(Filter(Negate(own), loadedNamespaces()), Filter(installed, more))
  names <- sort(unique(found), method = "radix")
  r <- paste(R.version$major, R.version$minor, sep = ".")
  c(R = r, vapply(names, version, ""))
}
"""


class RError(RuntimeError):
    """An R function stopped; the message is R's."""


class RUnavailable(RuntimeError):
    """R, rpy2 or an R package is not installed; the message says how to install it."""


def call(
    function: str,
    frames: Mapping[str, pd.DataFrame],
    arguments: Mapping[str, Any],
    sources: Sequence[str | Path],
) -> pd.DataFrame | None:
    """Call an R function that the files ``sources`` define, and return its data frame or None.

    ``frames`` and ``arguments`` are the function's arguments by name. An argument is None, a
    boolean, number or string, a list of one kind of these (a vector) or a mapping (a named list).
    """
    ri = _start_r()
    both = sorted(set(frames) & set(arguments))
    if both:
        raise ValueError(f"{function}(): given both as a frame and as an argument: {both}")
    environment = _load(sources)
    if function not in environment.keys():
        names = ", ".join(str(source) for source in sources)
        raise RError(f"{function}: no such R function in {names}")
    values = {name: _to_r_frame(frame, name) for name, frame in frames.items()}
    values |= {name: _to_r_argument(value, name) for name, value in arguments.items()}
    return _from_r(_invoke(environment[function], _named_list(ri, values), function), function)


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """The versions of R, of the packages loaded so far and of ``packages``, if installed.

    Packages that are part of R itself are left out: their version is R's.
    """
    ri = _start_r()
    found = _invoke(ri.evalr(_VERSIONS), _named_list(ri, {"more": ri.StrSexpVector(packages)}), "")
    return dict(zip(found.names, found, strict=True))


def read_frame(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table without its list columns, which R is never given."""
    return tables.read(path, None, flat=True)


# ---- R itself ------------------------------------------------------------------------------------


@functools.cache
def _start_r() -> ModuleType:
    """Start R inside this process and return rpy2's low-level interface."""
    _find_r_home()
    logging.getLogger("rpy2").setLevel(logging.WARNING)  # it narrates every start
    library_path = os.environ.get("LD_LIBRARY_PATH")
    try:
        import rpy2.rinterface as ri
    except ImportError as error:
        raise RUnavailable(f"rpy2 cannot be imported ({error}): pip install rpy2") from error
    ri.initr()
    # R's library folders are for R: a Python started from here would take the system's libpython
    if library_path is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = library_path
    # Byte-wise sorting everywhere; UTF-8, so that tokens of any script can be drawn.
    ri.evalr('for (l in c("C.UTF-8", "en_US.UTF-8")) if (Sys.setlocale("LC_CTYPE", l) != "") break')
    ri.evalr('Sys.setlocale("LC_COLLATE", "C")')
    return ri


def _find_r_home() -> None:
    """Set R_HOME from the R on the PATH unless it is set, so that both are the same R."""
    home = os.environ.get("R_HOME")
    if home is None:
        command = shutil.which("R")
        if command is None:
            raise RUnavailable(
                "R was not found: no R on the PATH and R_HOME is not set. Install it with "
                "'apt-get install r-base-core' or 'conda install r-base'"
            )
        found = subprocess.run([command, "RHOME"], capture_output=True, text=True, check=True)
        home = os.environ["R_HOME"] = found.stdout.strip().splitlines()[-1]
    if not Path(home).is_dir():
        raise RUnavailable(f"R_HOME is {home}, which is not a directory: unset it or correct it")


def _load(sources: Sequence[str | Path]) -> Any:
    """Evaluate R files in a fresh environment, in their order, and return it."""
    ri = _start_r()
    environment = ri.evalr("new.env(parent = globalenv())")
    source = ri.evalr("function(file, into) sys.source(file, into, keep.source = FALSE)")
    for path in sources:
        if not Path(path).is_file():
            raise FileNotFoundError(f"R source {path} does not exist")
        file = ri.StrSexpVector([str(path)])
        _invoke(source, _named_list(ri, {"file": file, "into": environment}), Path(path).name)
    return environment


def _invoke(function: Any, arguments: Any, name: str) -> Any:
    value, error, calls, kinds, texts = _start_r().evalr(_INVOKE)(function, arguments)
    for kind, text in zip(kinds, texts, strict=True):
        level = logging.WARNING if kind == "warning" else logging.INFO
        logger.log(level, "R, %s: %s", name, text.strip())
    if error.rclass[0] != "NULL":
        raise _error(name, error[0], list(calls))
    return value


# Functions that are on every call stack: R's own machinery and the bridge's.
_MACHINERY = re.compile(
    r"^(tryCatch.*|withCallingHandlers|do\.call|doTryCatch|stop|\.handleSimpleError|h)$"
)


def _error(name: str, message: str, calls: list[str]) -> RuntimeError:
    package = re.search(r"there is no package called .(\w[\w.]*).", message)
    if package:
        found = package.group(1)
        return RUnavailable(
            f"{name}: the R package {found} is not installed. Install it with 'apt-get install "
            f"r-cran-{found.lower()}' or 'conda install r-{found.lower()}'"
        )
    trail = [call for call in calls if not _MACHINERY.match(call)]
    where = f" (in {' > '.join(trail)})" if trail else ""
    return RError(f"{name}: {message}{where}")


# ---- pandas to R ---------------------------------------------------------------------------------


def _named_list(ri: ModuleType, values: Mapping[str, Any]) -> Any:
    vector = ri.ListSexpVector(list(values.values()))
    vector.names = ri.StrSexpVector(list(values))
    return vector


def _to_r_frame(frame: pd.DataFrame, name: str) -> Any:
    ri = _start_r()
    columns = {str(c): _to_r_column(frame[c], f"{name}.{c}") for c in frame.columns}
    as_frame = ri.evalr(
        "function(columns, n) structure(columns, class = 'data.frame', row.names = seq_len(n))"
    )
    return as_frame(_named_list(ri, columns), ri.IntSexpVector([len(frame)]))


def _to_r_column(column: pd.Series, name: str) -> Any:
    ri = _start_r()
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if column.dtype == object:
        if missing.all():
            return ri.BoolSexpVector([ri.NA_Logical] * len(column))
        column = column.convert_dtypes()  # True, None: booleans
    if pd.api.types.is_bool_dtype(column.dtype):
        return ri.baseenv["as.logical"](_to_r_integers(ri, column.astype("Int64"), missing))
    if pd.api.types.is_integer_dtype(column.dtype):
        return _to_r_integers(ri, column, missing)
    if pd.api.types.is_float_dtype(column.dtype):
        return ri.FloatSexpVector(_doubles(column, missing))
    return _to_r_text(ri, column, missing, name)


def _to_r_integers(ri: ModuleType, column: pd.Series, missing: np.ndarray) -> Any:
    values = column.astype("Int64").to_numpy(dtype="int64", na_value=0)
    if len(values) and np.abs(values).max() > _INT_RANGE:  # as R would: a double
        return ri.FloatSexpVector(_doubles(column, missing))
    values = values.astype("int32")
    values[missing] = -_INT_RANGE - 1  # NA_integer_
    return ri.IntSexpVector(values)


def _doubles(column: pd.Series, missing: np.ndarray) -> np.ndarray:
    values = column.to_numpy(dtype="float64", na_value=np.nan).copy()
    values[missing] = np.nan
    return values


def _to_r_text(ri: ModuleType, column: pd.Series, missing: np.ndarray, name: str) -> Any:
    """Text by its distinct values: a table repeats a few names in many rows."""
    try:
        codes, distinct = pd.factorize(column)
    except TypeError:  # lists do not hash
        distinct = [next(value for value, na in zip(column, missing, strict=True) if not na)]
    strange = next((value for value in distinct if not isinstance(value, str)), None)
    if strange is not None:
        raise TypeError(
            f"column {name} holds {type(strange).__name__} values, expected text, numbers or "
            f"booleans: {strange!r:.60}"
        )
    at = codes.astype("int32") + 1
    at[missing] = -_INT_RANGE - 1  # indexing with NA gives NA
    return ri.baseenv["["](ri.StrSexpVector(list(distinct)), ri.IntSexpVector(at))


def _to_r_argument(value: Any, name: str) -> Any:
    ri = _start_r()
    if value is None:
        return ri.NULL
    if isinstance(value, Mapping):
        return _named_list(ri, {str(k): _to_r_argument(v, f"{name}.{k}") for k, v in value.items()})
    values = [value] if isinstance(value, (bool, int, float, str, np.generic)) else list(value)
    if not values:
        return ri.NULL
    return _to_r_column(pd.Series(values), name)


# ---- R to pandas ---------------------------------------------------------------------------------


def _from_r(value: Any, function: str) -> pd.DataFrame | None:
    kinds = list(value.rclass)
    if kinds == ["NULL"]:
        return None
    if "data.frame" not in kinds:
        raise TypeError(f"{function}() returned {'/'.join(kinds)}, expected a data frame or NULL")
    ri = _start_r()
    rows = ri.baseenv["nrow"](value)[0]
    names = list(value.names) if len(value) else []
    columns = {name: _from_r_column(column) for name, column in zip(names, value, strict=True)}
    return pd.DataFrame(columns, index=pd.RangeIndex(rows))


def _from_r_column(column: Any) -> pd.Series:
    ri = _start_r()
    kind = column.rclass[0]
    if kind == "factor":
        column, kind = ri.baseenv["as.character"](column), "character"
    if kind == "character":
        return pd.Series([None if v is ri.NA_Character else v for v in column], dtype="str")
    if kind == "logical":
        values = pd.array([None if v is ri.NA_Logical else bool(v) for v in column], "boolean")
        return pd.Series(values if values.isna().any() else values.astype(bool))
    if kind == "integer":
        values = _numbers(column, "int32")
        missing = values == -_INT_RANGE - 1
        if missing.any():
            return pd.Series(pd.arrays.IntegerArray(values.astype("int64"), missing))
        return pd.Series(values.astype("int64"))
    if kind == "numeric":
        return pd.Series(_numbers(column, "float64"))
    raise TypeError(f"an R column of class {kind} has no counterpart here")


def _numbers(column: Any, dtype: str) -> np.ndarray:
    """Return a copy of an R vector's numbers; rpy2 has no view of an empty one."""
    return np.array(column.memoryview() if len(column) else [], dtype=dtype)
