"""No archive or redirect brings what is not pinned, and the archives that we make are plain."""

import hashlib
import http.server
import os
import re
import threading
import urllib.error
import urllib.request
import warnings
import zipfile
from pathlib import Path

import pytest

from locedit.report import page
from locedit.store import assets, pins

CONTENT = b"weights of a very small model\n" * 100


@pytest.fixture
def member() -> pins.WheelMember:
    return pins.WheelMember(
        package="small",
        version="1.0",
        member="small/model.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
    )


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]


@pytest.mark.parametrize(
    "name", ["../../up.gguf", "/abs.gguf", "C:\\up.gguf", "a/../../up.gguf", "up\0.gguf"]
)
def test_other_members_of_a_wheel_are_never_written(member, tmp_path, name):
    wheel = tmp_path / "wheels" / "small.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, b"elsewhere")
        archive.writestr(member.member, CONTENT)
    path = assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert below(tmp_path) == [wheel, path] or below(tmp_path) == [path, wheel]
    assert path.read_bytes() == CONTENT


def test_a_member_that_is_a_link_is_refused(member, tmp_path):
    wheel = tmp_path / "small.whl"
    info = zipfile.ZipInfo(member.member)
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(pins.AssetError, match="expected 3,000 bytes, got 11"):
        assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert below(tmp_path) == [wheel]


def test_a_member_that_swells_is_cut_off_one_byte_behind_its_size(member, tmp_path, monkeypatch):
    wheel = tmp_path / "small.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member.member, b"\0" * 50_000_000)
    sizes = []
    check = assets._check
    monkeypatch.setattr(
        assets,
        "_check",
        lambda path, *more: (sizes.append(path.stat().st_size), check(path, *more)),
    )
    with pytest.raises(pins.AssetError, match="expected 3,000 bytes, got more than 3,000"):
        assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert sizes == [member.size + 1]
    assert below(tmp_path) == [wheel]


def test_of_two_members_of_one_name_the_other_one_is_refused(member, tmp_path):
    wheel = tmp_path / "small.whl"
    with warnings.catch_warnings(), zipfile.ZipFile(wheel, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(member.member, CONTENT)
        archive.writestr(member.member, CONTENT[::-1])
    with pytest.raises(pins.AssetError, match="expected SHA-256"):
        assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert below(tmp_path) == [wheel]


@pytest.mark.parametrize("fault", ["encrypted", "compression", "bzip2", "lzma"])
def test_a_member_that_cannot_be_unpacked_is_said_to_be_damaged(member, tmp_path, fault):
    wheel = tmp_path / "small.whl"
    kind = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.get(fault, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(wheel, "w", kind) as archive:
        archive.writestr(member.member, CONTENT)
    data = bytearray(wheel.read_bytes())
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    if fault == "encrypted":
        data[local + 6] |= 1
        data[central + 8] |= 1
    elif fault == "compression":
        data[local + 8] = data[central + 10] = 99
    else:
        start = data.index(member.member.encode()) + len(member.member)
        data[start : start + 12] = b"\xff" * 12
    wheel.write_bytes(data)
    with pytest.raises(pins.AssetError, match="is damaged"):
        assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert below(tmp_path) == [wheel]


@pytest.fixture
def server():
    """A server on the loopback that redirects /from to what its query says, and serves /file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/from?"):
                self.send_response(302)
                self.send_header("Location", self.path.partition("?")[2])
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def at(url: str) -> pins.Url:
    return pins.Url(url=url, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


def test_a_redirect_to_a_file_or_to_another_scheme_is_refused(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)  # even what is pinned
    cache = tmp_path / "cache"
    for target in ((tmp_path / "file").as_uri(), "ftp://localhost/x", "data:,x", "gopher://x"):
        with pytest.raises(pins.AssetError, match="could not be fetched"):
            assets.resolve(at(f"{server}/from?{target}"), cache=cache)
    assert below(cache) == []
    assert assets.resolve(at(f"{server}/from?{server}/file"), cache=cache).read_bytes() == CONTENT


def test_a_redirect_from_https_to_http_is_refused():
    asked = urllib.request.Request("https://example.org/a")
    follow = assets._Redirects().redirect_request
    with pytest.raises(urllib.error.URLError, match="redirects to http, which is not followed"):
        follow(asked, None, 302, "", {}, "http://example.org/b")
    assert follow(asked, None, 302, "", {}, "https://example.org/b").full_url.startswith("https:")


def test_every_pinned_address_is_https_and_every_pin_a_checksum():
    for asset in pins.ASSETS.values():
        assert re.fullmatch("[0-9a-f]{64}", asset.sha256)
        assert asset.size > 0
        assert not isinstance(asset, pins.Url) or asset.url.startswith("https://")


def test_the_reports_zip_has_plain_names_and_the_same_bytes_each_time(tmp_path):
    beside = {"figures/a.svg": tmp_path / "a.svg"}
    beside["figures/a.svg"].write_text("<svg/>")
    made = []
    for name in ("one.zip", "two.zip"):
        page.pack(tmp_path / name, "<html></html>", {"study.yaml": "seed: 0"}, beside)
        os.utime(tmp_path / "a.svg", (0, 0))
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == [
            "report/index.html",
            "report/study.yaml",
            "report/figures/a.svg",
        ]
        assert all(info.external_attr >> 16 == 0o644 for info in archive.infolist())
