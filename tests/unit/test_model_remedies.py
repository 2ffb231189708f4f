"""What is advised where a model cannot be loaded or edited leads out: each advice is followed once.

Every case spoils a model, reads the sentence, does what it says, and the model loads.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gguf
import huggingface_hub
import pytest
import tiny
import torch
import yaml
from conftest import ROOT, plugins_forgotten
from safetensors.torch import load_file, save_file
from test_hub import REVISION
from transformers import BertConfig, ByT5Tokenizer, LlavaConfig, T5Config

from locedit.api.look import look
from locedit.engine import gguf as unpacking
from locedit.engine import key_statistics, loading
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS, Request
from locedit.model import architectures, language_model
from locedit.model.architectures import ARCHITECTURES
from locedit.store import assets, hub, pins
from locedit.workflow import config as configuration
from locedit.workflow import model_file as model_files
from locedit.workflow import plugins

PROMPT = "The capital of France is"
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-00001-of-00001.safetensors"


@pytest.fixture(scope="module")
def pair() -> tiny.Pair:
    return tiny.pair("llama", layers=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def sound(pair, tmp_path_factory) -> Path:
    return tiny.save(pair, tmp_path_factory.mktemp("sound") / "model")


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    """A model's folder to spoil."""
    return shutil.copytree(sound, tmp_path / "model")


def write(file: Path, without: str | None = None, **values) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    known.pop(without, None)
    file.write_text(json.dumps({**known, **values}))


def refused(path: Path) -> str:
    with pytest.raises(architectures.ModelError) as caught:
        loading.load(path, device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    assert "Please pass" not in said
    assert "delete it and run again" not in said
    return said


def logits(model, pair) -> torch.Tensor:
    with torch.no_grad():
        return model(pair.tokenizer(PROMPT, return_tensors="pt").input_ids).logits


# ---- the folder ----------------------------------------------------------------------------------


def only_pickles(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def run_the_command(folder: Path, said: str) -> Path:
    program, *arguments = shlex.split(re.search("`(python .*)`", said)[1])
    assert program == "python"
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return folder


def no_index(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / SHARD)


def put_the_index_there(folder: Path, said: str) -> Path:
    name = re.search(r"without (\S+),", said)[1]
    write(
        folder / name,
        weight_map=dict.fromkeys(load_file(folder / SHARD), SHARD),
        metadata={"total_size": (folder / SHARD).stat().st_size},
    )
    return folder


def a_piece_missing(folder: Path) -> None:
    no_index(folder)
    put_the_index_there(folder, f"without {INDEX},")
    (folder / SHARD).rename(folder.parent / SHARD)


def put_the_piece_there(folder: Path, said: str) -> Path:
    name = re.search(r"names (\S+), which", said)[1]
    (folder.parent / name).rename(folder / name)
    return folder


def an_adapter(folder: Path) -> None:
    """Weights of rank one beside those that they change, as peft keeps them."""
    write(folder / "adapter_config.json", peft_type="LORA", r=1, lora_alpha=1)
    save_file(
        {"lora_A.weight": torch.ones(1, 64), "lora_B.weight": torch.ones(32, 1)},
        folder / "adapter_model.safetensors",
    )


def an_adapter_alone(folder: Path) -> None:
    base = shutil.copytree(folder, folder.parent / "base")
    shutil.rmtree(folder)
    folder.mkdir()
    an_adapter(folder)
    assert (base / WEIGHTS).is_file()


def merge_it(folder: Path, said: str) -> Path:
    """What peft's merge_and_unload and save_pretrained do, for one matrix."""
    assert "merge_and_unload()" in said
    merged = folder.parent / "base"
    tensors, adapter = load_file(merged / WEIGHTS), load_file(folder / "adapter_model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] += adapter["lora_B.weight"] @ adapter["lora_A.weight"]
    save_file(tensors, merged / WEIGHTS, metadata={"format": "pt"})
    return merged


def the_hubs_cache(folder: Path) -> None:
    inner = folder.rename(folder.parent / "moved")
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    inner.rename(folder / "snapshots" / REVISION)


def a_folder_around_it(folder: Path) -> None:
    inner = folder.rename(folder.parent / "moved")
    folder.mkdir()
    inner.rename(folder / "inner")


def give_the_folder_named(folder: Path, said: str) -> Path:
    return Path(re.search(r"give its folder, ([^,]+?)(,|$)", said)[1])


def the_file_itself(folder: Path) -> Path:
    return folder / WEIGHTS


def quantized(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "plain")
    write(folder / CONFIG, quantization_config={"quant_method": "gptq", "bits": 4})


def another_type(config) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        shutil.copytree(folder, folder.parent / "plain")
        config.save_pretrained(folder)

    return spoil


def give_the_other(folder: Path, said: str) -> Path:
    return folder.parent / "plain"


def sizes_of_another(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "plain")
    write(folder / CONFIG, intermediate_size=65)


def layers_of_another(folder: Path) -> None:
    write(folder / CONFIG, num_hidden_layers=1)


def write_that_number(folder: Path, said: str) -> Path:
    write(folder / CONFIG, num_hidden_layers=int(re.search(r"have (\d+); write that", said)[1]))
    return folder


def a_tied_head_of_its_own(folder: Path) -> None:
    write(folder / CONFIG, tie_word_embeddings=True)


def write_false(folder: Path, said: str) -> Path:
    write(folder / CONFIG, tie_word_embeddings=False)
    return folder


def take_the_head_out(folder: Path, said: str) -> Path:
    tensors = load_file(folder / WEIGHTS)
    del tensors["lm_head.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def no_head(folder: Path) -> None:
    take_the_head_out(folder, "")


def write_true(folder: Path, said: str) -> Path:
    write(folder / CONFIG, tie_word_embeddings=True)
    return folder


def no_tokenizer(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "plain")
    for name in ("tokenizer.json", TOKENIZER):
        (folder / name).unlink()


def no_tokenizer_that_can_be_read(folder: Path) -> None:
    no_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes(b"")


def a_slow_tokenizer(folder: Path) -> None:
    no_tokenizer(folder)
    ByT5Tokenizer().save_pretrained(folder)
    write(folder / "vocab.json")


def put_the_tokenizer_there(folder: Path, said: str) -> Path:
    for name in ("tokenizer.json", TOKENIZER):
        shutil.copy(folder.parent / "plain" / name, folder / name)
    return folder


def a_tokenizers_code(folder: Path) -> None:
    names = ["tokenization_own.Own", "tokenization_own.Own"]
    write(folder / TOKENIZER, tokenizer_class="Own", auto_map={"AutoTokenizer": names})


def name_the_plain_class(folder: Path, said: str) -> Path:
    key, value = re.search(r"write `(\w+): (\w+)`", said).groups()
    write(folder / TOKENIZER, without="auto_map", **{key: value})
    return folder


def a_kernel(folder: Path) -> None:
    write(folder / CONFIG, attn_implementation="somebody/kernels")


def take_it_out(folder: Path, said: str) -> Path:
    write(folder / CONFIG, without=re.search("take `(.*)` out", said)[1])
    return folder


class Case(NamedTuple):
    spoil: Callable[[Path], Path | None]
    said: str
    remedy: Callable[[Path, str], Path]


CASES = {
    "pieces without an index": Case(no_index, "weights in pieces without", put_the_index_there),
    "a piece missing": Case(a_piece_missing, "fetch the model again, whole", put_the_piece_there),
    "weights of another name": Case(
        lambda folder: (folder / WEIGHTS).rename(folder / "my.safetensors") and None,
        r"has no model\.safetensors but my\.safetensors; .* rename it",
        lambda folder, said: (folder / "my.safetensors").rename(folder / WEIGHTS).parent,
    ),
    "an adapter alone": Case(an_adapter_alone, "changes another model; merge it", merge_it),
    "an adapter beside a model": Case(
        an_adapter,
        "beside a whole model, take that file away",
        lambda folder, said: (folder / "adapter_config.json").unlink() or folder,
    ),
    "a folder of the hub's cache": Case(
        the_hubs_cache, "is a folder of the hub's cache", give_the_folder_named
    ),
    "a folder around the model's": Case(
        a_folder_around_it, r"has no config\.json", give_the_folder_named
    ),
    "the weights' file": Case(the_file_itself, "is a file; give its folder", give_the_folder_named),
    "quantized weights": Case(quantized, "before its quantization", give_the_other),
    "an encoder": Case(
        another_type(BertConfig(architectures=["BertForMaskedLM"])),
        "type 'bert', cannot be studied: it is an encoder, BertForMaskedLM; choose a decoder-only",
        give_the_other,
    ),
    "an encoder and a decoder": Case(
        another_type(T5Config()), "it is an encoder-decoder model; choose a dec", give_the_other
    ),
    "a model of text and images": Case(
        another_type(LlavaConfig()), "no causal language model of that type", give_the_other
    ),
    "other sizes": Case(sizes_of_another, "states other sizes than the weights", give_the_other),
    "fewer layers": Case(layers_of_another, "tells of 1 layers, and the wei", write_that_number),
    "a tied head of its own": Case(a_tied_head_of_its_own, "write false there", write_false),
    "one that is not meant": Case(
        a_tied_head_of_its_own, "take it out of the weights", take_the_head_out
    ),
    "no head": Case(no_head, "lm_head.weight; .* write tie_word_embeddings: true", write_true),
    "no tokenizer": Case(no_tokenizer, "put the tokenizer.json there", put_the_tokenizer_there),
    "one that cannot be read": Case(
        no_tokenizer_that_can_be_read, "put the tokenizer.json there", put_the_tokenizer_there
    ),
    "a slow tokenizer": Case(
        a_slow_tokenizer, "put its tokenizer.json there", put_the_tokenizer_there
    ),
    "a tokenizer's code": Case(
        a_tokenizers_code, "code of a checkpoint is never run here", name_the_plain_class
    ),
    "a kernel": Case(a_kernel, "code of the model hub; take", take_it_out),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_folder_leads_to_one_that_loads(folder, name):
    case = CASES[name]
    given = case.spoil(folder) or folder
    said = refused(given)
    assert re.search(case.said, said), said
    lm = loading.load(case.remedy(folder, said), device="cpu")
    assert lm.n_layers == 2
    assert lm.encode(PROMPT)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(folder, dtype, value):
    weights = load_file(folder / WEIGHTS)
    broken = "model.layers.1.mlp.down_proj.weight"
    before = weights[broken][3, 5].clone()
    weights[broken][3, 5] = value
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(architectures.ModelError) as caught:
        loading.load(folder, device="cpu", dtype=dtype)
    said = str(caught.value)
    assert re.search(rf"hold NaN or infinity in 1 of \d+ tensors: {re.escape(broken)}; ", said)
    assert said.endswith(
        "fetch the model again, whole; if it is so where it comes from, choose another"
    )
    weights[broken][3, 5] = before
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert loading.load(folder, device="cpu", dtype=dtype).n_layers == 2


def test_a_weight_too_large_for_half_precision_is_told_of_the_wider_one(folder):
    weights = load_file(folder / WEIGHTS)
    weights["model.norm.weight"][0] = 1e5
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(architectures.ModelError, match=r"in float32 \(`dtype: auto`\), or f"):
        loading.load(folder, device="cpu", dtype="float16")
    assert loading.load(folder, device="cpu").n_layers == 2


@pytest.mark.slow
def test_pickles_that_were_converted_by_the_command_are_the_same_weights(folder, pair):
    only_pickles(folder)
    said = refused(folder)
    assert "pickles alone (pytorch_model.bin), which can run code and are never read here" in said
    found = loading.load(run_the_command(folder, said), device="cpu").model
    assert torch.equal(logits(found, pair), logits(pair.model, pair))


def test_what_can_be_seen_of_a_folder_is_said_when_the_rules_are_read(folder, tmp_path):
    """Not hours later, in the first job that loads the model."""
    only_pickles(folder)
    file = tmp_path / "mine.yaml"
    settings = {"label": "M", "n_layers": 2, "noise": "3sd", "path": "model"}
    file.write_text(yaml.safe_dump(settings))
    with pytest.raises(configuration.ConfigError, match=r"mine\.yaml: path: .*pickles alone"):
        model_files.load_model(str(file), ROOT)


def test_a_gpu_that_is_not_there_is_said_with_what_to_write(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(architectures.ModelError, match="finds no GPU; write auto or cpu"):
        loading.load(folder, device="cuda")
    for device in ("auto", "cpu"):
        assert loading.load(folder, device=device).device.type == "cpu"


# ---- code of its own -----------------------------------------------------------------------------

PLUGIN = """
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from locedit.model.architectures import ARCHITECTURES, register


class OwnConfig(LlamaConfig):
    model_type = "KIND"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig


AutoConfig.register("KIND", OwnConfig, exist_ok=True)
AutoModelForCausalLM.register(OwnConfig, OwnModel, exist_ok=True)
register("KIND", ARCHITECTURES["llama"])
"""


@pytest.mark.parametrize("kind", ["own-with-code", "own-without"])
def test_a_models_own_code_may_become_a_plug_in(folder, pair, tmp_path, kind):
    named = kind == "own-with-code"
    auto = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    write(folder / CONFIG, model_type=kind, architectures=["OwnModel"])
    if named:
        write(folder / CONFIG, auto_map=auto)
        (folder / "modeling_own.py").write_text("raise SystemExit('run')")
    said = refused(folder)
    expected = "code of a checkpoint is never run here" if named else "does not have built in"
    assert expected in said
    assert "a plug-in, as docs/how-to/model.md shows" in said
    assert "AutoModelForCausalLM.register" in (ROOT / "docs" / "how-to" / "model.md").read_text()
    (tmp_path / "own_family.py").write_text(PLUGIN.replace("KIND", kind))
    with plugins_forgotten():
        plugins.load(["own_family.py"], [tmp_path])
        assert kind in ARCHITECTURES
        lm = loading.load(folder, device="cpu")
    assert torch.equal(logits(lm.model, pair), logits(pair.model, pair))


# ---- GGUF files ----------------------------------------------------------------------------------


def write_gguf(pair: tiny.Pair, path: Path) -> Path:
    """A llama as llama.cpp keeps it: tensors by its names, queries and keys interleaved."""
    config = pair.model.config
    words = json.loads(pair.tokenizer.backend_tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(words["vocab"], key=words["vocab"].get))
    writer.add_token_types([3, 3] + [1] * (config.vocab_size - 2))
    writer.add_token_merges([" ".join(merge) for merge in words["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in pair.model.state_dict().items():
        if n := heads.get(name.split(".")[-2]):
            halves = tensor.reshape(n, 2, -1, tensor.shape[1])  # [heads, 2, d_head / 2, d]
            tensor = halves.transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def gguf_file(pair, tmp_path_factory) -> Path:
    return write_gguf(pair, tmp_path_factory.mktemp("gguf") / "Tiny-Llama.Q8.gguf")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_gguf_file_is_a_model_of_the_command_line(gguf_file, cache, pair, capsys):
    seen = look(str(gguf_file), say=print)
    assert seen.settings["label"] == "Tiny-Llama.Q8"
    assert torch.equal(logits(seen.lm.model, pair), logits(pair.model, pair))
    assert capsys.readouterr().out == f"Unpacking {gguf_file}, once ...\n"
    assert cache in seen.folder.parents
    assert look(str(gguf_file)).lm.n_layers == 2
    assert capsys.readouterr().out == ""


def test_a_gguf_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(configuration.ConfigError, match=r"model: no GGUF file .*none\.gguf$"):
        look(str(tmp_path / "none.gguf"))


def test_a_study_that_names_a_gguf_file_or_a_folder_is_told_the_lines_to_write(
    gguf_file, sound, tmp_path
):
    for given in (gguf_file, sound, sound / WEIGHTS):
        with pytest.raises(configuration.ConfigError, match="a study takes a file") as caught:
            model_files.load_model(str(given), ROOT)
        name, *lines = re.findall("(?:write |`)([^ `]+: [^`]+(?=`)|\\S+\\.yaml)", str(caught.value))
        text = "\n".join(lines).replace("THEIR-NUMBER", "2")
        (tmp_path / name).write_text(text)
        _, settings = model_files.load_model(str(tmp_path / name), ROOT)
        assert settings["n_layers"] == 2
        weights = given.parent if given.name == WEIGHTS else given
        assert settings["path"] == str(weights)
        folder = assets.model_folder("mine", settings, tmp_path / "cache")
        assert (folder == weights) == (given != gguf_file)


def test_a_folder_with_a_gguf_file_alone_names_it(gguf_file, cache, tmp_path, folder):
    shutil.copy(gguf_file, folder / "a.gguf")
    (folder / WEIGHTS).unlink()
    for without in ((), (CONFIG,)):
        for name in without:
            (folder / name).unlink()
        given = re.search(r"GGUF file; give that file, (\S+)$", refused(folder))[1]
        assert look(given).lm.n_layers == 2


def test_a_gguf_file_that_is_damaged_may_be_fetched_again(gguf_file, tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(gguf_file.read_bytes()[:1000])
    with pytest.raises(pins.AssetError, match=r"cannot be read as a GGUF model.*fetch it again"):
        unpacking.unpack_file(file, tmp_path / "unpacked")
    shutil.copy(gguf_file, file)
    folder = unpacking.unpack_file(file, tmp_path / "unpacked")
    assert loading.load(folder, device="cpu").n_layers == 2


# ---- the hub -------------------------------------------------------------------------------------


def told_by_the_hub(folder: Path) -> str:
    with pytest.raises(pins.AssetError) as caught:
        hub.download("org/model", REVISION, folder)
    return str(caught.value)


def test_what_cannot_be_had_from_the_hub_may_come_as_a_folder(monkeypatch, sound, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = told_by_the_hub(tmp_path / "there")
    assert "folder as the model's `path`, in place of `hub` and `revision`" in said
    settings = {"label": "M", "n_layers": 2, "noise": "3sd", "path": str(sound)}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    _, found = model_files.load_model(str(tmp_path / "mine.yaml"), ROOT)
    assert loading.load(found["path"], device="cpu").n_layers == 2


def test_a_revision_with_safetensors_is_taken(monkeypatch, folder, sound, tmp_path):
    only_pickles(folder)
    given = [folder]
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda *_, local_dir, **__: shutil.copytree(given[0], local_dir, dirs_exist_ok=True),
    )
    assert "choose a revision or a repository that has them" in told_by_the_hub(tmp_path / "there")
    given[0] = sound
    found = hub.download("org/model", REVISION, tmp_path / "there")
    assert loading.load(found, device="cpu").n_layers == 2


# ---- key moments that cannot be solved with ------------------------------------------------------

D_FF = 8


def moments_of(keys: torch.Tensor) -> torch.Tensor:
    return (keys.T @ keys / len(keys)).float()


def drawn(tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(tokens, D_FF, generator=torch.Generator().manual_seed(seed)).double()


def unsolved(keys: torch.Tensor, **more) -> str:
    solver = key_statistics.KeyMoments(lambda _: moments_of(keys), tokens=len(keys), **more)
    with pytest.raises(ValueError, match="layer 3 is not positive definite") as caught:
        solver.solve(3, torch.ones(1, D_FF))
    return str(caught.value)


def test_what_is_solved_has_the_type_of_the_keys():
    moments = key_statistics.KeyMoments({0: torch.eye(4).double()}.__getitem__)
    for dtype in (torch.float32, torch.float64):
        assert moments.solve(0, torch.ones(3, 4, dtype=dtype)).dtype == dtype


def test_too_few_tokens_are_told_apart_and_more_lead_out():
    said = unsolved(drawn(5))
    assert "5 tokens are fewer than its d_ff = 8; collect it over more tokens, at least" in said
    enough = moments_of(drawn(10 * D_FF))
    found = key_statistics.KeyMoments(lambda _: enough).solve(3, torch.ones(1, D_FF))
    assert torch.allclose(enough @ found[0], torch.ones(D_FF), atol=1e-4)


def test_units_that_are_never_active_are_named_and_a_ridge_leads_out():
    keys = drawn(10 * D_FF)
    keys[:, [2, 5]] = 0
    said = unsolved(keys)
    assert "2 of its 8 units were never active (2, 5)" in said
    assert "more tokens" not in said
    ridge = float(re.search(r"set statistics\.ridge, to (\S+) say", said)[1])
    moment = moments_of(keys)
    right = torch.linalg.solve(
        moment.double() + ridge * moment.diagonal().double().mean() * torch.eye(D_FF),
        torch.ones(D_FF).double(),
    )
    solver = key_statistics.KeyMoments(lambda _: moment, tokens=len(keys), ridge=ridge)
    assert torch.allclose(solver.solve(3, torch.ones(1, D_FF).double())[0], right, rtol=1e-6)
    # where the prompt's key has nothing there either, the units that are alive answer as before
    alive = [0, 1, 3, 4, 6, 7]
    key = torch.zeros(1, D_FF).double()
    key[0, alive] = 1
    exact = torch.linalg.solve(moment[alive][:, alive].double(), key[0, alive])
    assert torch.allclose(solver.solve(3, key)[0, alive], exact, rtol=1e-4)


def test_units_that_depend_on_others_are_told_apart_and_a_ridge_leads_out():
    keys = drawn(10 * D_FF, seed=4)
    keys[:, 7] = keys[:, :7].sum(dim=1)
    said = unsolved(keys)
    assert "some units depend on others, of 80 tokens; set statistics.ridge" in said
    solver = key_statistics.KeyMoments(lambda _: moments_of(keys), tokens=80, ridge=1e-6)
    assert solver.solve(3, torch.ones(1, D_FF)).isfinite().all()


def test_moments_that_are_not_finite_are_told_apart():
    keys = drawn(10 * D_FF)
    keys[0, 0] = float("inf")
    for ridge in (0.0, 1e-6):
        assert unsolved(keys, ridge=ridge).endswith("set dtype to float32 and collect it again")


def test_no_ridge_leaves_the_solution_bit_for_bit():
    moment = moments_of(drawn(10 * D_FF))
    keys = torch.ones(1, D_FF).double()
    expected = torch.cholesky_solve(keys.T, torch.linalg.cholesky(moment.double())).T
    assert torch.equal(
        key_statistics.KeyMoments(lambda _: moment, ridge=0).solve(0, keys), expected
    )


def test_an_edit_of_a_layer_with_a_unit_that_is_never_active_succeeds_with_a_ridge():
    """OPT's units are rectified: one with a bias far below zero is never active."""
    lm = language_model.LanguageModel(*tiny.pair("opt", layers=3))
    with torch.no_grad():
        lm.layers[1].fc1.bias[7] = -1e6
    moments, count = key_statistics.key_moments(lm, tiny.SENTENCES * 3)
    assert key_statistics.dead_units(moments[1]) == [7]
    request = Request(
        case_id="1",
        template="The capital of {} is",
        subject="France",
        target="Paris",
        problem=PROBLEMS["error_injection"],
    )
    rome = METHODS["ROME"]
    hyper = rome.hyperparameters("error_injection", "released", {"all": {"iterations": 3}})

    def edited(ridge: float):
        solver = key_statistics.KeyMoments(moments.__getitem__, tokens=count, ridge=ridge)
        return rome.edit(lm, [request], 1, hyper, SharedInputs(moments=solver))

    with pytest.raises(ValueError, match=r"1 of its 64 units were never active \(7\)"):
        edited(0.0)
    assert 0 < edited(1e-6).updates[1].norms().item() < float("inf")
