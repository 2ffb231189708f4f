"""No source of ours runs code that comes as data."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("locedit", "workflow_scripts", "plugins", "benchmarks", "scripts")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
R_SOURCES = sorted((ROOT / "analysis").glob("*.R"))

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
    ("locedit/workflow/plugins.py", ".import_module"): "plug-ins: the user names code to be run",
    ("locedit/workflow/plugins.py", ".exec_module"): "likewise, a file of it",
    ("locedit/registry.py", ".import_module"): "what is registered names its own module",
    (
        "locedit/__init__.py",
        "import_module",
    ): "the public face: modules of its own, by a fixed table",
    ("locedit/cli/main.py", "import_module"): "a command, of a fixed table",
    ("locedit/exchange/moments_npz.py", "np.load"): "arrays of an npz file, allow_pickle=False",
    ("locedit/report/rbridge.py", ".evalr"): "R texts of that file, all of them constants",
    ("locedit/report/grids.py", "jinja2.Template"): "a caption of ours; what comes out is escaped",
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
    tree = ast.parse((ROOT / "locedit/report/rbridge.py").read_text(encoding="utf-8"))
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
    texts = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert all(isinstance(one, ast.Constant) or dotted(one) in texts for one in given)


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
