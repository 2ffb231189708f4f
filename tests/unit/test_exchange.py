"""Other people's files, out and in: what comes back is what went out, and what is wrong is told."""

import json
import pickle

import numpy as np
import pytest
import tiny
import torch
import yaml
from handed import handed, input_files, output_files
from safetensors import safe_open

from locedit.cli.main import main
from locedit.engine import key_statistics
from locedit.errors import LoceditError
from locedit.exchange import easyedit_settings, moments_npz, projection
from locedit.methods import METHODS, alphaedit
from locedit.model.language_model import LanguageModel
from locedit.store import hashing
from locedit.workflow import origins
from workflow_scripts import imported_statistics

D_FF = 64


@pytest.fixture(scope="module")
def lm():
    return LanguageModel(*tiny.pair("gpt2", dtype=torch.float32))


def moment(seed=0, tokens=500):
    keys = torch.randn(tokens, D_FF, generator=torch.Generator().manual_seed(seed))
    return keys.T @ keys / tokens


def theirs(path, **changes):
    """A file as their code writes it; None leaves a key out."""
    values = {
        "mom2.constructor": np.array("util.runningstats.SecondMoment()"),
        "mom2.count": np.array(500),
        "mom2.mom2": (moment() * 500).numpy(),
        "sample_size": np.array(100),
    } | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in values.items() if value is not None})
    return path


NAME = "transformer.h.2.mlp.c_proj_float32_mom2_100.npz"

# ---- key statistics ------------------------------------------------------------------------------


def test_a_file_of_theirs_is_read(lm, tmp_path):
    path = theirs(tmp_path / "stats" / "gpt2" / "wikipedia_stats" / NAME)
    ((layer, found),) = moments_npz.read_all(tmp_path / "stats", lm)
    assert (layer, found.tokens, found.documents, found.singular) == (2, 500, 100, False)
    torch.testing.assert_close(found.moment, moment(), rtol=1e-6, atol=1e-6)
    assert moments_npz.found_in(path, lm) == {2: path}
    theirs(path, sample_size=np.array(moments_npz.NONE))
    assert moments_npz.read(path, D_FF).documents is None


def test_what_is_written_lies_where_they_look_and_comes_back(lm, tmp_path):
    module = moments_npz.module_of(lm, 2)
    path = moments_npz.path_of(tmp_path, "EleutherAI/gpt-j-6B", "wikipedia", module, 100)
    moments_npz.write(path, moment(), 500, 100)
    place = f"EleutherAI_gpt-j-6B/wikipedia_stats/{NAME}"
    assert path.relative_to(tmp_path).as_posix() == place
    with np.load(path, allow_pickle=False) as found:
        assert int(found["mom2.count"]) == 500
        assert int(found["sample_size"]) == 100
        assert found["mom2.mom2"].dtype == np.float32
        np.testing.assert_allclose(found["mom2.mom2"], moment() * 500, rtol=1e-6, atol=1e-4)
    assert moments_npz.read(path, D_FF).tokens == 500


def test_a_moment_without_an_inverse_is_told(tmp_path):
    total = (moment() * 500).numpy()
    total[3] = total[:, 3] = 0
    assert moments_npz.read(theirs(tmp_path / NAME, **{"mom2.mom2": total}), D_FF).singular


BAD = {
    "another width": ({"mom2.mom2": np.eye(32, dtype=np.float32)}, "is 32 x 32, and the model's"),
    "no matrix": ({"mom2.mom2": np.ones(64, dtype=np.float32)}, "mom2.mom2 is 64, and the model"),
    "no tokens": ({"mom2.count": np.array(0)}, "mom2.count is 0, and a number of tokens above 0"),
    "half a token": ({"mom2.count": np.array(0.5)}, "mom2.count is 0.5"),
    "endless tokens": ({"mom2.count": np.array(np.inf)}, "mom2.count is inf"),
    "more tokens than there are": ({"mom2.count": np.array(1e30)}, r"mom2.count is 1e\+30"),
    "a complex count": ({"mom2.count": np.array(5 + 1j)}, r"mom2.count is \(5\+1j\)"),
    "nothing but 0": ({"mom2.mom2": np.zeros((64, 64), dtype=np.float32)}, "is 0 throughout"),
    "one number": ({"mom2.mom2": np.float32(3)}, "mom2.mom2 is 1, and the model's d_ff is 64"),
    "not symmetric": (
        {"mom2.mom2": np.triu(np.ones((64, 64), dtype=np.float32))},
        "is not symmetric",
    ),
    "below 0": ({"mom2.mom2": -np.eye(64, dtype=np.float32)}, "is not positive definite"),
    "no numbers": ({"mom2.mom2": np.full((64, 64), np.nan, dtype=np.float32)}, "finite number"),
    "no count": ({"mom2.count": None}, "lacks mom2.count"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(name, tmp_path):
    changes, said = BAD[name]
    path = theirs(tmp_path / NAME, **changes)
    with pytest.raises(LoceditError, match=said) as error:
        moments_npz.read(path, D_FF)
    assert str(path) in str(error.value)


class Trap:
    """Would write a file, were it unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_never_unpickled(tmp_path):
    trap = Trap(tmp_path / "sprung")
    (tmp_path / NAME).write_bytes(pickle.dumps({"mom2.mom2": trap}))
    with pytest.raises(LoceditError, match="it is a pickle, which can run code and is never read"):
        moments_npz.read(tmp_path / NAME, D_FF)
    inside = np.array([trap], dtype=object)
    theirs(tmp_path / NAME, **{"mom2.mom2": inside})
    with pytest.raises(LoceditError, match="pickled in it can run code and is never read"):
        moments_npz.read(tmp_path / NAME, D_FF)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_what_is_no_npz_is_told(content, tmp_path):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(LoceditError, match="expected an npz file"):
        moments_npz.read(tmp_path / NAME, D_FF)


def test_files_of_another_model_or_twice_one_layer_are_told(lm, tmp_path):
    with pytest.raises(LoceditError, match="no npz file of key statistics there"):
        moments_npz.found_in(tmp_path, lm)
    theirs(tmp_path / "a" / NAME)
    theirs(tmp_path / "b" / NAME)
    with pytest.raises(LoceditError, match="both of layer 2"):
        moments_npz.found_in(tmp_path, lm)
    other = theirs(tmp_path / "c" / NAME.replace(".2.", ".9."))
    with pytest.raises(LoceditError, match=r"h\.9\.mlp\.c_proj', and the model's are .*h\.4\."):
        moments_npz.found_in(other, lm)


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(
        tiny.pair("gpt2", dtype=torch.float32), tmp_path_factory.mktemp("tiny") / "weights"
    )


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.setenv("LOCEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        status = main([*map(str, arguments), "--model", str(folder)])
        said = capsys.readouterr()
        return status, said.out if status == 0 else said.err

    return command


def test_statistics_go_out_and_come_back(run, folder, tmp_path):
    moments = {layer: moment(layer) for layer in range(5)}
    key_statistics.write_moments(tmp_path / "own.safetensors", moments, tokens="500")
    status, out = run("export", "statistics", "--statistics", "own.safetensors", "--out", "stats")
    assert status == 0, out
    status, out = run("import", "statistics", "stats", "--out", "back.safetensors")
    assert status == 0, out
    assert "statistics: {path: back.safetensors}" in out
    found, tokens = key_statistics.moments_of(tmp_path / "back.safetensors")
    assert tokens == 500
    for layer, one in found:
        torch.testing.assert_close(one, moments[layer], rtol=1e-5, atol=1e-6)
    stated = origins.stated(tmp_path / "back.safetensors")
    assert stated["model"] == hashing.weights(folder)
    status, said = run("import", "statistics", "nowhere", "--out", "x.safetensors")
    assert (status, said.count("\n")) == (1, 1)


def test_statistics_of_some_layers_are_counted_and_others_are_told(run, tmp_path):
    theirs(tmp_path / "stats" / NAME)
    status, out = run("import", "statistics", "stats", "--out", "in.safetensors")
    assert "in.safetensors: 1 layer of 500 tokens" in out
    status, out = run("export", "statistics", "--statistics", "in.safetensors", "--out", "back")
    assert (status, "wikipedia_stats: 1 layer of 500 tokens" in out) == (0, True)
    command = ("export", "projection", "--layer", "0", "--out", "p.pt")
    status, said = run(*command, "--statistics", "in.safetensors")
    assert (status, said.count("\n")) == (1, 1)
    assert "in.safetensors has no key moment of layer 0 (it has: 2); edit where" in said
    key_statistics.write_moments(tmp_path / "none.safetensors", {}, tokens="500")
    status, said = run("export", "statistics", "--statistics", "none.safetensors", "--out", "b")
    assert (status, "has no layer's key statistics" in said) == (1, True)


def test_settings_go_out_and_come_back(run, tmp_path):
    status, out = run("export", "settings", "--method", "MEMIT", "--layer", "2", "--out", "m.yaml")
    assert status == 0, out
    status, out = run("import", "settings", "m.yaml")
    assert status == 0, out
    editing = yaml.safe_load(out)["editing"]
    assert (editing["methods"], editing["layers"]) == (["MEMIT"], [2])
    wanted = vars(METHODS["MEMIT"].hyperparameters("error_injection", "paper"))
    assert editing["hyperparameters"]["MEMIT"]["all"] == wanted
    status, out = run("import", "settings", "m.yaml", "--out", "study.yaml")
    assert yaml.safe_load((tmp_path / "study.yaml").read_text())["editing"] == editing


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ROME", "r-ROME", "MEMIT", "EMMET", "FT-1", "FT-5", "FT-M"])
def test_each_editors_settings_come_back(lm, method):
    hyper = METHODS[method].hyperparameters("error_injection", "paper")
    values = easyedit_settings.settings(lm, method, 2, hyper, model_name="m", stats_dir="s")
    values = yaml.safe_load(easyedit_settings.text(values))
    assert easyedit_settings.faults(lm, values) == []
    assert values["rewrite_module_tmp"] == "transformer.h.{}.mlp.c_proj"
    assert values.get("v_loss_layer", 4) == 4
    found, layer, settings = easyedit_settings.hyperparameters(lm, values, "a file")
    assert (found, layer) == (method, 2)
    assert settings.items() <= vars(hyper).items()
    for name, value in vars(hyper).items():
        assert settings.get(name, value) == value


def test_alphaedits_threshold_is_absolute(lm):
    hyper = METHODS["AlphaEdit"].hyperparameters("error_injection", "paper")
    with pytest.raises(LoceditError, match="nullspace_threshold is absolute, and threshold_kind"):
        easyedit_settings.settings(lm, "AlphaEdit", 2, hyper, model_name="m", stats_dir="s")
    with pytest.raises(LoceditError, match="KN: EasyEdit has no such editor"):
        easyedit_settings.settings(lm, "KN", 2, hyper, model_name="m", stats_dir="s")


FAULTS = {
    "a number as text": ("v_lr: 5e-1", "v_lr: '5e-1' is read as text; write 0.5"),
    "another loss layer": ("v_loss_layer: 47", "v_loss_layer: 47, and the model's last layer is 4"),
    "no such module": (
        "rewrite_module_tmp: model.layers.{}.mlp.down_proj",
        "no module 'model.layers.{}.mlp.down_proj'; write transformer.h.{}.mlp.c_proj",
    ),
    "a layer beyond": ("layers: [2, 17]", "layers: 17 beyond the model's, 0 to 4"),
    "no layers": ("layers: 5", "layers: expected a list of whole numbers, got 5"),
    "another editor": ("alg_name: ROMEO", "'ROMEO' is none of"),
    "no number": ("kl_factor: [1]", "kl_factor: expected a number, got [1]"),
    "yes for a number": ("v_lr: true", "v_lr: expected a number, got True"),
    "a list of editors": ("alg_name: [ROME]", "alg_name: ['ROME'] is none of"),
    "one layer's module": (
        "mlp_module_tmp: transformer.h.3.mlp",
        "'transformer.h.3.mlp' is of one layer, whatever layers says; write transformer.h.{}.mlp",
    ),
    "a module that no edit is of": (
        "rewrite_module_tmp: transformer.h.{}.mlp.c_fc",
        "c_fc' is not what is edited here; write transformer.h.{}.mlp.c_proj",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_usual_mistakes_are_told(lm, name, tmp_path):
    line, said = FAULTS[name]
    values = yaml.safe_load("alg_name: ROME\nlayers: [2]\nv_lr: 0.5\n") | yaml.safe_load(line)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values).replace("'5e-1'", "5e-1"))
    found = easyedit_settings.faults(lm, easyedit_settings.read(tmp_path / "a.yaml"))
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("text", ["5e-1", "1e-3", "5e-5"])
def test_a_number_is_advised_that_is_read_as_one(lm, text):
    values = {"alg_name": "ROME", "layers": [2], "v_lr": yaml.safe_load(text)}
    (found,) = easyedit_settings.faults(lm, values)
    assert yaml.safe_load(found.rpartition("write ")[2]) == float(text)


def test_fine_tunings_module_may_be_a_weights_name(lm):
    values = {"alg_name": "FT", "layers": [2], "norm_constraint": False}
    values["rewrite_module_tmp"] = "transformer.h.{}.mlp.c_proj.weight"
    assert easyedit_settings.faults(lm, values) == []
    assert easyedit_settings.hyperparameters(lm, values, "a file")[:2] == ("FT-M", 2)
    rome = values | {"alg_name": "ROME"}
    assert "the model has no module" in " ".join(easyedit_settings.faults(lm, rome))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("v_lr: .nan", "ROME.all.lr: "),
        ("v_num_grad_steps: 20.5", "ROME.all.iterations: "),
        ("clamp_norm_factor: -3", "ROME.all.clamp: must be above 0, got -3"),
    ],
)
def test_values_that_no_study_takes_are_told_at_once(run, tmp_path, line, said):
    (tmp_path / "a.yaml").write_text(f"alg_name: ROME\nlayers: [2]\n{line}\n")
    status, error = run("import", "settings", "a.yaml", "--out", "study.yaml")
    assert (status, error.count("\n")) == (1, 1)
    assert f"a.yaml: editing.hyperparameters.{said}" in error
    assert not (tmp_path / "study.yaml").exists()


NOT_TAKEN = {
    "ROME": ("mom2_adjustment: false", "mom2_adjustment false: keys are multiplied by C^-1"),
    "MEMIT": ("layer_selection: random", "layer_selection 'random': all layers are edited here"),
    "EMMET": ("mom2_update_weight: 15000", "mom2_update_weight 15000: there is no such setting"),
    "FT": ("weight_decay: 0.5", "weight_decay 0.5: there is no such setting here"),
}


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_is_not_taken_over_is_a_comment(run, tmp_path, name):
    line, said = NOT_TAKEN[name]
    (tmp_path / "a.yaml").write_text(f"alg_name: {name}\nlayers: [2]\n{line}\n")
    status, out = run("import", "settings", "a.yaml", "--out", "study.yaml")
    assert status == 0, out
    text = (tmp_path / "study.yaml").read_text()
    assert text.startswith(f"# not taken over: {said}")
    assert yaml.safe_load(text)["editing"]["layers"] == [2]


# ---- EasyEdit's dataclasses reject a key that they do not have, and want those without a default

_ALL = "alg_name model_name device layers rewrite_module_tmp layer_module_tmp mlp_module_tmp"
_ALL += " attn_module_tmp ln_f_module lm_head_module"
_VALUES = " stats_dir fact_token v_num_grad_steps v_lr v_loss_layer v_weight_decay"
_VALUES += " clamp_norm_factor kl_factor mom2_adjustment mom2_dataset mom2_n_samples mom2_dtype"
_WINDOW = " layer_selection mom2_update_weight"
THEIR_FIELDS = {
    "ROME": _ALL + _VALUES + " context_template_length_params",
    "r-ROME": _ALL + _VALUES + " context_template_length_params",
    "MEMIT": _ALL + _VALUES + _WINDOW,
    "EMMET": _ALL + _VALUES + _WINDOW + " update_norm_lambda emmet_lambda",
    "AlphaEdit": _ALL + _VALUES + _WINDOW + " nullspace_threshold L2 P_loc",
    "FT-1": _ALL + " num_steps lr weight_decay kl_factor norm_constraint objective_optimization",
}
THEIR_FIELDS["FT-M"] = THEIR_FIELDS["FT-5"] = THEIR_FIELDS["FT-1"]


@pytest.mark.parametrize("method", THEIR_FIELDS)
def test_what_goes_out_has_the_keys_that_they_want_and_no_other(lm, method):
    over = {"all": {"threshold_kind": "absolute", "threshold": 0.02}}
    of = METHODS[method]
    hyper = of.hyperparameters("error_injection", "paper", over if method == "AlphaEdit" else {})
    values = easyedit_settings.settings(lm, method, 2, hyper, model_name="m", stats_dir="s")
    assert sorted(values) == sorted(THEIR_FIELDS[method].split())
    assert easyedit_settings.left_out(values) == []
    found = easyedit_settings.hyperparameters(lm, values, "a file")
    assert of.hyperparameters("error_injection", "paper", {"all": found[2]}) == hyper


@pytest.mark.parametrize("content", ["", "- 1", "a: 1", "{", "!!python/object:os.system {}"])
def test_what_is_no_settings_file_is_told(content, tmp_path):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(LoceditError, match=r"a\.yaml"):
        easyedit_settings.read(tmp_path / "a.yaml")


# ---- projection ----------------------------------------------------------------------------------


def test_the_projection_is_alphaedits(lm, tmp_path):
    moments = key_statistics.KeyMoments(lambda layer: moment(layer))
    hyper = METHODS["AlphaEdit"].hyperparameters("error_injection", "paper")
    ranks = projection.write(tmp_path / "p.pt", moments, [1, 2], D_FF, hyper)
    found = torch.load(tmp_path / "p.pt", weights_only=True)
    assert found.shape == (2, D_FF, D_FF)
    assert found.dtype == torch.float32
    for layer, one, rank in zip([1, 2], found, ranks, strict=True):
        space = alphaedit.null_space(moments, layer, D_FF, hyper)
        torch.testing.assert_close(one.double(), space @ space.T, rtol=0, atol=1e-6)
        torch.testing.assert_close(one @ one, one, rtol=0, atol=1e-5)
        assert round(one.trace().item()) == rank == space.shape[1]


def test_the_command_tells_each_layers_rank(run, tmp_path):
    moments = {layer: moment(layer) for layer in range(5)}
    key_statistics.write_moments(tmp_path / "own.safetensors", moments, tokens="500")
    command = ("export", "projection", "--layer", "2", "--out", "p.pt")
    status, out = run(*command, "--statistics", "own.safetensors")
    assert status == 0, out
    assert "layer 2: rank 32 of 64" in out
    status, said = run(*command)
    assert (status, "no file results/weights/key_statistics.safetensors" in said) == (1, True)


# ---- in a study ----------------------------------------------------------------------------------


def test_a_study_takes_imported_statistics_and_says_where_they_are_from(
    run, folder, tmp_path, monkeypatch
):
    imported = {2: moment(2), 3: moment(3)}
    made = {"tokens": "500", "imported": "stats", "model": hashing.weights(folder)}
    key_statistics.write_moments(tmp_path / "in.safetensors", imported, **made)
    lm = LanguageModel(*tiny.pair("gpt2", dtype=torch.float32))
    monkeypatch.setattr(imported_statistics, "load_model", lambda _: lm)
    given = input_files(imported="in.safetensors", model=folder / "config.json")
    written = output_files("out.safetensors")
    job = handed(tmp_path, "imported_statistics", given, {"model": "x"}, output=written)
    imported_statistics.main(job)
    found, tokens = key_statistics.moments_of(tmp_path / "out.safetensors")
    assert tokens == 500
    assert all(torch.equal(one, imported[layer]) for layer, one in found)
    with safe_open(tmp_path / "out.safetensors", "pt") as tensors:
        told = json.loads(tensors.metadata()["made"])
    assert (told["imported"], told["taken_from"]) == ("stats", "in.safetensors")
    assert told["model"] == hashing.weights(folder)
    assert told["fingerprint"]
