"""Calls to R functions on data frames: pandas in, pandas out, nothing else.

R is started on the first call, through rpy2, and clean: of what a user has set up for R, nothing
but the libraries counts (:func:`environment`, ``_LIBRARIES``). Columns are converted one by one,
since only a few kinds are ever handed over: text, booleans, integers, doubles, each with missing
values; a column of lists is an error. R's warnings and messages go to this module's logger; an R
error becomes :class:`RError` with R's own words.
"""

from __future__ import annotations

import functools
import locale
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from locedit.errors import LoceditError
from locedit.messages import one_line
from locedit.report import labels
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


# A user's libraries come in only where R's own lack a package of ours that they have. Then they
# come first, as R has it: their packages were installed to fit one another.
_LIBRARIES = """
function(theirs, needed) {
  lies <- function(package, libraries) {
    any(file.exists(file.path(libraries, package, "DESCRIPTION")))
  }
  theirs <- Sys.glob(path.expand(strsplit(.expand_R_libs_env_var(theirs), ":")[[1]]))
  lacking <- Filter(function(package) !lies(package, .libPaths()), needed)
  if (any(vapply(lacking, lies, NA, theirs))) .libPaths(theirs)
}
"""


# What numbers, texts and models depend on, as R itself has it: the installation's Rprofile.site may
# have set it otherwise, and what our packages look for.
_OPTIONS = """
function(packages) {
  options(
    OutDec = ".", digits = 7, scipen = 0, digits.secs = NULL, width = 80, encoding = "native.enc",
    stringsAsFactors = FALSE, na.action = "na.omit", matprod = "default",
    contrasts = c(unordered = "contr.treatment", ordered = "contr.poly"),
    warn = 0, warnPartialMatchArgs = NULL, error = NULL, expressions = 5000
  )
  theirs <- Filter(function(name) sub("[.].*", "", name) %in% packages, names(options()))
  options(sapply(theirs, function(name) NULL))
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


# What analysis/ loads
PACKAGES = ("ggplot2", "ragg", "sandwich", "scales", "svglite")

# All that a user may have set for R: its start-up files, libraries, packages, options, locale
_USERS = re.compile(r"_?R_|LC_|LANG(UAGE)?$")
# but these say where R itself lies
_INSTALLED = {
    *("R_HOME", "R_ARCH", "R_LIBS_SITE", "R_SHARE_DIR", "R_INCLUDE_DIR", "R_DOC_DIR"),
    *("R_LD_LIBRARY_PATH", "R_JAVA_LD_LIBRARY_PATH"),
}
_UTF8 = ("C.UTF-8", "en_US.UTF-8")  # so that tokens of any script can be drawn


class RError(LoceditError):
    """An R function stopped; the message is R's."""


class RUnavailable(LoceditError):
    """R, rpy2 or an R package is not installed; the message says how to install it."""


def call(
    function: str,
    frames: Mapping[str, pd.DataFrame],
    arguments: Mapping[str, Any],
    sources: Sequence[str | Path],
) -> pd.DataFrame | None:
    """Call an R function that the files ``sources`` define, and return its data frame or None.

    A YAML file among them defines a named list, called by its own name in capitals: labels.yaml
    LABELS.

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


def environment() -> dict[str, str]:
    """The environment variables with which R, and Rscript, starts as if nobody had set it up.

    The files of the installation (Rprofile.site) are read, since they may say where packages are
    (the options that they set are set back, ``_OPTIONS``); no user's are, wherever they lie.
    """
    kept = {k: v for k, v in os.environ.items() if k in _INSTALLED or not _USERS.match(k)}
    # R takes an empty name of a file for none, but an empty name of a library for its default
    clean = {"R_ENVIRON_USER": "", "R_PROFILE_USER": "", "R_LIBS_USER": "NULL"}
    return {**kept, **clean, "LANG": _utf8_locale()}


def _utf8_locale() -> str:
    before = locale.setlocale(locale.LC_CTYPE)
    for name in _UTF8:
        try:
            locale.setlocale(locale.LC_CTYPE, name)
        except locale.Error:
            continue
        locale.setlocale(locale.LC_CTYPE, before)
        return name
    return "C"


@functools.cache
def _start_r() -> ModuleType:
    """Start R inside this process and return rpy2's low-level interface."""
    _find_r_home()
    logging.getLogger("rpy2").setLevel(logging.WARNING)  # it narrates every start
    theirs = [os.environ.get("R_LIBS"), os.environ.get("R_LIBS_USER") or "%U"]  # in the home
    with _environment_for_start():
        try:
            import rpy2.rinterface as ri
            from rpy2.rinterface_lib import embedded

            embedded.set_initoptions(("rpy2", "--quiet", "--no-save", "--no-restore"))  # no .RData
            ri.initr()
        except ImportError as error:
            raise RUnavailable(f"rpy2 cannot be imported ({error}): pip install rpy2") from error
        except Exception as error:  # rpy2 reads what a program of R's prints, whatever that is
            raise RUnavailable(
                f"R cannot be started ({type(error).__name__}: {error}): see that '"
                f"{os.environ['R_HOME']}/bin/Rscript -e 0' prints '[1] 0' and nothing else"
            ) from error
    ri.evalr('Sys.setlocale("LC_COLLATE", "C")')  # byte-wise sorting everywhere
    ri.evalr('Sys.setlocale("LC_MESSAGES", "C")')  # R's words are looked for: no translation
    libraries, packages = ":".join(filter(None, theirs)), ri.StrSexpVector(PACKAGES)
    ri.evalr(_LIBRARIES)(ri.StrSexpVector([libraries]), packages)
    ri.evalr(_OPTIONS)(packages)
    return ri


@contextmanager
def _environment_for_start() -> Iterator[None]:
    """R's own variables while it starts, those of its helper processes too; not for others."""
    before = dict(os.environ)
    clean = environment()
    for name in before.keys() - clean.keys():
        del os.environ[name]
    os.environ.update(clean)
    try:
        yield
    finally:
        # what R has added stays, except its folders of shared libraries: a Python that is started
        # from here would take the system's libpython
        for name in {"LD_LIBRARY_PATH", *clean} - before.keys():
            os.environ.pop(name, None)
        os.environ.update(before)


def _find_r_home() -> None:
    """Set R_HOME as R itself writes it: of the R that it names, or else of the one on the PATH.

    Another spelling of the same folder is a warning of R's, which rpy2 takes for an answer.
    """
    home = os.environ.get("R_HOME")
    if not home:
        command = shutil.which("R")
        if command is None:
            raise RUnavailable(
                "R was not found: no R on the PATH and R_HOME is not set. Install it with "
                "'apt-get install r-base-core' or 'conda install r-base'"
            )
        home = _home_of(command)
    lacking = [part for part in ("bin/Rscript", "library/base") if not Path(home, part).exists()]
    if lacking:
        raise RUnavailable(
            f"R_HOME is {home}, which is not R's folder (it has no {lacking[0]}): unset R_HOME, or "
            "set it to what 'R RHOME' prints"
        )
    os.environ["R_HOME"] = _home_of(str(Path(home, "bin", "R")))


def _home_of(command: str) -> str:
    """The folder that an R says is its own. Raises RUnavailable where it does not run."""
    own = {name: value for name, value in os.environ.items() if name != "R_HOME"}
    try:
        done = subprocess.run([command, "RHOME"], capture_output=True, text=True, env=own)
    except OSError as error:
        raise RUnavailable(f"{command} cannot be run ({error.strerror}): install R anew") from error
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or not lines:
        said = one_line(done.stderr, 200) or "it printed nothing"
        raise RUnavailable(
            f"'{command} RHOME' ended with status {done.returncode} ({said}): install R anew, or "
            "set R_HOME to the folder of another"
        )
    return lines[-1]


def _load(sources: Sequence[str | Path]) -> Any:
    """Evaluate R files in a fresh environment, in their order, and return it.

    Of a YAML file its content is defined there, converted as arguments are.
    """
    ri = _start_r()
    environment = ri.evalr("new.env(parent = globalenv())")
    source = ri.evalr("function(file, into) sys.source(file, into, keep.source = FALSE)")
    for path in sources:
        if not Path(path).is_file():
            raise FileNotFoundError(f"R source {path} does not exist")
        if Path(path).suffix == ".yaml":
            name = Path(path).stem.upper()
            environment[name] = _to_r_argument(labels.load(Path(path)), name)
            continue
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


def _error(name: str, message: str, calls: list[str]) -> LoceditError:
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
    if isinstance(value, str):  # as most are: all labels of labels.yaml
        return ri.StrSexpVector([value])
    values = [value] if isinstance(value, (bool, int, float, np.generic)) else list(value)
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
