"""Modules of the user's own: named in the configuration, they register what `locedit` lacks.

A plug-in is a Python file, by its path, or a module that can be imported, by its name. What it
registers when it is imported (`register` of `locedit.methods`, `locedit.localizers`,
`locedit.model.architectures`) is then known everywhere. No heavy imports: Snakemake reads this each
time it starts.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from locedit.localizers import LOCALIZERS
from locedit.messages import one_line
from locedit.methods import METHODS
from locedit.model.architectures import ARCHITECTURES
from locedit.registry import SILENT, RegistrationError
from locedit.store import hashing
from locedit.workflow.validation import ConfigError


class PluginError(ConfigError):
    """A plug-in that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Plugin:
    """A plug-in as the configuration names it, the module that it is, and what it brings."""

    name: str
    module: ModuleType
    methods: tuple[str, ...]
    localizers: tuple[str, ...]
    architectures: tuple[str, ...]

    @property
    def file(self) -> Path:
        return Path(str(self.module.__file__))

    def code(self, root: Path) -> list[str]:
        """A hash of its code, of what it uses of the project, and of the package that it is in."""
        package = sys.modules[self.module.__name__.partition(".")[0]]
        folders = [Path(folder) for folder in getattr(package, "__path__", [])]
        own = hashing.code(self.file, root, ("locedit", *REGISTRIES))
        # each by itself: folders of one package may lie anywhere, far from each other
        return [own, *(hashing.files(folder.rglob("*.py")) for folder in folders)]


# Modules that name all methods and localizers: a job depends on the code of those that it uses, and
# on their settings by their values, not by the code that says them
REGISTRIES = (
    "locedit.methods",
    "locedit.methods.builtin",
    "locedit.localizers",
    "locedit.localizers.builtin",
)

_LOADED: dict[str, Plugin] = {}  # by module
# what a plug-in may add to, in the order of its fields
_REGISTERED: tuple[dict[str, Any], ...] = (METHODS, LOCALIZERS, ARCHITECTURES)


def load(
    names: Sequence[str], folders: Sequence[Path], named: str = "config: plugins"
) -> list[Plugin]:
    """Import each plug-in once; paths and modules are looked for in `folders`, in turn.

    named: where they are, for messages. Raises PluginError for one that does not exist, cannot be
    imported, or registers what cannot be registered; what it had registered till then is forgotten.
    """
    return [_load(name, folders, named) for name in names]


def _load(name: str, folders: Sequence[Path], named: str) -> Plugin:
    path = _file(name, folders, named) if _is_path(name) else None
    module_name = name if path is None else _module_name(path)
    if module_name not in _LOADED:
        before = [dict(registry) for registry in _REGISTERED]
        try:
            with _importable(folders):
                module = _import(module_name, path)
        except (Exception, SystemExit) as error:  # an import may try to end the program
            for registry, kept in zip(_REGISTERED, before, strict=True):
                registry.clear()
                registry.update(kept)
            sys.modules.pop(module_name, None)
            raise PluginError(
                f"{named}: {path or one_line(name)}{_reason(error, module_name)}"
            ) from error
        brought = [
            tuple(entry for entry in registry if entry not in kept)
            for registry, kept in zip(_REGISTERED, before, strict=True)
        ]
        if not any(brought):
            SILENT.append(str(path or name))
        _LOADED[module_name] = Plugin(name, module, *brought)
    return _LOADED[module_name]


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _file(name: str, folders: Sequence[Path], named: str) -> Path:
    try:
        given = Path(name).expanduser()
        for folder in folders:
            if (folder / given).is_file():  # an absolute path stays what it is
                return (folder / given).resolve()
    except (OSError, RuntimeError) as error:  # a name too long, or ~nobody's home
        raise PluginError(f"{named}: {one_line(name)}: {one_line(error)}") from error
    places = " or ".join(dict.fromkeys(str(folder) for folder in folders))
    where = "" if given.is_absolute() else f" in {places}"
    raise PluginError(f"{named}: {one_line(name)}: no such file{where}")


def _module_name(path: Path) -> str:
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _import(module_name: str, path: Path | None) -> ModuleType:
    if path is None:
        return importlib.import_module(module_name)
    if path.suffix != ".py":
        raise ImportError("not a Python file")
    loader = _Source(module_name, str(path))
    spec = importlib.util.spec_from_loader(module_name, loader)
    assert spec is not None, "a loader of a file says where it is"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


class _Source(SourceFileLoader):
    """Runs what a file says now: its kept bytecode is told to be old by size and second alone."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


@contextmanager
def _importable(folders: Sequence[Path]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def _reason(error: BaseException, module_name: str) -> str:
    if isinstance(error, RegistrationError):
        return f": {error}"
    if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
        return ": no such module (a file's path ends in .py)"
    text = one_line(error)
    return f" cannot be imported ({type(error).__name__}: {text})"
