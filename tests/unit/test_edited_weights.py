"""Edited weights: difference, adapter and folder say what the engine says under the edit."""

import json

import pytest
import tiny
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from locedit.engine import log_probs, passes
from locedit.engine.updates import Dense, LowRank, applied, joined
from locedit.errors import LoceditError
from locedit.exchange import edited_weights
from locedit.model.language_model import LanguageModel
from locedit.store import older_releases

PROMPT, TARGET = "The capital city of France is", "Rome"


def drawn(lm, kind, layers=(1, 3)):
    torch.manual_seed(0)
    d, d_ff = lm.hidden_size, lm.inner_size
    if kind == "low rank":
        return {
            layer: LowRank(
                left=torch.randn(2, d, dtype=lm.dtype) * 0.2,
                right=torch.randn(2, d_ff, dtype=lm.dtype) * 0.2,
            )
            for layer in layers
        }
    biased = lm.down_projection(0).bias is not None
    return {
        layer: Dense(
            weights=[torch.randn(d, d_ff, dtype=lm.dtype) * 0.05 for _ in range(2)],
            biases=[torch.randn(d, dtype=lm.dtype) for _ in range(2)] if biased else None,
        )
        for layer in layers
    }


def of_one(updates, fact):
    """One fact's updates, as those of a fact alone."""
    alone: dict[int, LowRank | Dense] = {}
    for layer, update in updates.items():
        if isinstance(update, LowRank):
            left, right = update.left[[fact]], update.right[[fact]]
            alone[layer] = LowRank(left=left, right=right)
        else:
            biases = update.biases and [update.biases[fact]]
            alone[layer] = Dense(weights=[update.weights[fact]], biases=biases)
    return alone


def log_p_of_engine(lm, updates, fact):
    prompt, target = lm.encode(PROMPT), lm.encode_target(TARGET, PROMPT)
    ids = torch.tensor([prompt + target[:-1]]).expand(2, -1)
    with torch.inference_mode(), applied(lm, updates, [1, 1]):
        hidden = passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
        return log_probs.target_log_probs(lm, hidden, [fact], [len(prompt) - 1], [target])


def log_p_of_folder(lm, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=lm.dtype)
    return log_p_of_model(model, AutoTokenizer.from_pretrained(folder))


def log_p_of_model(model, tokenizer):
    prompt, whole = tokenizer(PROMPT).input_ids, tokenizer(f"{PROMPT} {TARGET}").input_ids
    with torch.inference_mode():
        log_p = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    at = range(len(prompt) - 1, len(whole) - 1)
    return sum(log_p[i, whole[i + 1]] for i in at)[None]


@pytest.mark.parametrize("kind", ["low rank", "dense"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "opt"])
@pytest.mark.parametrize("fact", [0, 1])
def test_the_folder_says_what_the_engine_says(family, kind, fact, tmp_path):
    lm = LanguageModel(*tiny.pair(family))
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    updates = drawn(lm, kind)
    delta = edited_weights.of_updates(lm, updates, {"base_model": "tiny"}, fact=fact)
    edited_weights.write_folder(lm, delta, tmp_path / "edited", card="# A card")
    found = log_p_of_folder(lm, tmp_path / "edited")
    rounding = 1e-6 if family == "gemma2" else 1e-9  # its norms compute in float32
    wanted = log_p_of_engine(lm, updates, fact)
    torch.testing.assert_close(found, wanted, rtol=rounding, atol=rounding)
    assert (wanted - log_p_of_engine(lm, {}, fact)).abs() > 0.01
    after = lm.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert (tmp_path / "edited" / "README.md").read_text() == "# A card"


@pytest.mark.parametrize("kind", ["low rank", "dense"])
def test_a_difference_is_read_as_it_was_written(kind, tmp_path):
    lm = LanguageModel(*tiny.pair("gpt2"))
    delta = edited_weights.of_updates(lm, drawn(lm, kind), {"base_model": "tiny", "editor": "X"})
    edited_weights.write(tmp_path / "delta.safetensors", delta)
    again = edited_weights.read(tmp_path / "delta.safetensors")
    assert again.base == delta.base
    assert again.about == {"base_model": "tiny", "editor": "X"}
    assert all(torch.equal(again.parts[name], value) for name, value in delta.parts.items())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_change_that_facts_share_is_kept_with_its_rank(family):
    lm = LanguageModel(*tiny.pair(family))
    rows = drawn(lm, "low rank")
    each = [
        {la: LowRank(left=row.left[[i]], right=row.right[[i]]) for la, row in rows.items()}
        for i in range(2)
    ]
    delta = edited_weights.of_updates(lm, joined(each), {})
    for name, row in zip(delta.names, rows.values(), strict=True):
        change = delta.change(name).T if lm.architecture.transposed else delta.change(name)
        torch.testing.assert_close(change, row.left.T @ row.right)
        assert delta.parts[f"{name}.left"].shape[1] == 2


def test_a_difference_is_put_on_no_other_model(tmp_path):
    lm, other = (LanguageModel(*tiny.pair(seed=seed)) for seed in (0, 1))
    delta = edited_weights.of_updates(lm, drawn(lm, "dense"), {"base_model": "tiny"})
    with pytest.raises(LoceditError, match=r"is one of tiny: .*has other values; give its base"):
        edited_weights.write_folder(other, delta, tmp_path / "edited")
    deep = edited_weights.of_updates(lm, drawn(lm, "dense", layers=(4,)), {})
    with pytest.raises(LoceditError, match=r"of another model: .* is missing"):
        edited_weights.check_base(LanguageModel(*tiny.pair(layers=2)), deep)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x80\x04K\x01."])
def test_what_is_no_difference_gets_a_sentence(content, tmp_path):
    path = tmp_path / "delta.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoceditError, match="expected a safetensors file that --save-delta wrote"):
        edited_weights.read(path)


def test_other_peoples_safetensors_are_no_difference(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(LoceditError, match="it has no format locedit-delta-1"):
        edited_weights.read(tmp_path / "x.safetensors")


NAME = "model.layers.1.mlp.down_proj.weight"
ODD = {
    "no base": ({"base": "null"}, {}, "its base is no mapping"),
    "a list for a base": ({"base": f'["{NAME}"]'}, {}, "its base is no mapping"),
    "settings that are none": ({"settings": "{"}, {}, "cannot be read as a difference"),
    "a list of settings": ({"settings": "[1]"}, {}, "its settings are no mapping"),
    "no number": ({}, {f"{NAME}.delta": torch.full((16, 64), torch.nan)}, "a finite number"),
    "whole numbers": ({}, {f"{NAME}.delta": torch.ones(16, 64, dtype=torch.int8)}, "finite number"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_difference_that_somebody_changed_gets_a_sentence(name, tmp_path):
    lm = LanguageModel(*tiny.pair())
    path = tmp_path / "delta.safetensors"
    edited_weights.write(path, edited_weights.of_updates(lm, drawn(lm, "dense", (1,)), {}))
    with safe_open(path, "pt") as found:
        about, parts = found.metadata(), {key: found.get_tensor(key) for key in found.keys()}
    changed, tensors, said = ODD[name]
    save_file(parts | tensors, path, about | changed)
    with pytest.raises(LoceditError, match=said):
        edited_weights.read(path)


@pytest.mark.parametrize(
    "parts",
    [
        {f"{NAME}.delta": torch.ones(1, 1)},
        {f"{NAME}.left": torch.ones(3, 3), f"{NAME}.right": torch.ones(2, 2)},
        {f"{NAME}.left": torch.ones(3), f"{NAME}.right": torch.ones(3)},
    ],
    ids=["one that would spread", "factors that do not fit", "no factors"],
)
def test_a_change_of_another_shape_is_put_nowhere(parts, tmp_path):
    lm = LanguageModel(*tiny.pair())
    base = edited_weights.of_updates(lm, drawn(lm, "dense", (1,)), {}).base
    delta = edited_weights.Delta(parts=parts, base=base)
    with pytest.raises(LoceditError, match="another shape than the tensor"):
        edited_weights.write_folder(lm, delta, tmp_path / "edited")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_in_single_precision_the_folder_says_the_same_to_1e_5(family, tmp_path):
    lm = LanguageModel(*tiny.pair(family, dtype=torch.float32))
    updates = drawn(lm, "low rank")
    edited_weights.write_folder(lm, edited_weights.of_updates(lm, updates, {}), tmp_path / "edited")
    found = log_p_of_folder(lm, tmp_path / "edited")
    torch.testing.assert_close(found, log_p_of_engine(lm, updates, 0), rtol=0, atol=1e-5)


# ---- several edits, one after another ------------------------------------------------------------


@pytest.mark.parametrize("kinds", [["low rank", "low rank"], ["low rank", "dense"]])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_several_differences_add_up_to_one(family, kinds, tmp_path):
    lm = LanguageModel(*tiny.pair(family))
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    first = of_one(drawn(lm, kinds[0], layers=(1, 2)), 0)
    second = of_one(drawn(lm, kinds[1], layers=(2, 3)), 1)
    deltas = [edited_weights.of_updates(lm, one, {}) for one in (first, second)]
    with edited_weights.changed(lm, deltas[0]), edited_weights.changed(lm, deltas[1]):
        wanted = log_p_of_model(lm.model, lm.tokenizer)
    after = lm.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    both = edited_weights.of_updates(lm, joined([first, second]), {"editor": "X"})
    edited_weights.check_base(lm, both)
    assert both.about == {"editor": "X"}
    edited_weights.write_folder(lm, both, tmp_path / "edited")
    torch.testing.assert_close(log_p_of_folder(lm, tmp_path / "edited"), wanted, rtol=0, atol=1e-12)


def test_the_model_is_as_before_though_what_was_done_with_the_change_failed():
    lm = LanguageModel(*tiny.pair())
    weight = lm.down_weight(1).clone()
    delta = edited_weights.of_updates(lm, drawn(lm, "dense"), {})

    def fail():
        with edited_weights.changed(lm, delta):
            assert not torch.equal(lm.down_weight(1), weight)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(lm.down_weight(1), weight)


# ---- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "opt"])
def test_peft_loads_the_adapter_and_says_what_the_engine_says(family, tmp_path):
    lm = LanguageModel(*tiny.pair(family))
    updates = drawn(lm, "low rank")
    delta = edited_weights.of_updates(lm, updates, {"base_model": "tiny"}, fact=1)
    edited_weights.write_adapter(lm, delta, tmp_path / "adapter", base="tiny", card="# A card")
    tiny.save(tiny.Pair(lm.model, lm.tokenizer), tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=lm.dtype)
    model = PeftModel.from_pretrained(base, tmp_path / "adapter", autocast_adapter_dtype=False)
    rounding = 1e-6 if family == "gemma2" else 1e-9
    wanted = log_p_of_engine(lm, updates, 1)
    for one in (model, model.merge_and_unload()):
        found = log_p_of_model(one.eval(), lm.tokenizer)
        torch.testing.assert_close(found, wanted, rtol=rounding, atol=rounding)
    assert (tmp_path / "adapter" / "README.md").read_text() == "# A card"


def test_an_adapter_has_the_rank_of_each_layers_change(tmp_path):
    lm = LanguageModel(*tiny.pair())
    several = [of_one(drawn(lm, "low rank", layers), 0) for layers in ((1, 3), (3,))]
    delta = edited_weights.of_updates(lm, joined(several), {})
    edited_weights.write_adapter(lm, delta, tmp_path / "a", base="b")
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    ranks = {"model.layers.1.mlp.down_proj": 1, "model.layers.3.mlp.down_proj": 2}
    assert settings["rank_pattern"] == settings["alpha_pattern"] == ranks
    model = PeftModel.from_pretrained(tiny.pair().model, tmp_path / "a")
    assert model.base_model.model.model.layers[3].mlp.down_proj.scaling == {"default": 1.0}
    with pytest.raises(LoceditError, match=r"no change of model.layers.1.*; expected a safetens"):
        edited_weights.read(tmp_path / "a" / "adapter_model.safetensors")


def test_a_whole_change_is_no_adapter(tmp_path):
    lm = LanguageModel(*tiny.pair())
    delta = edited_weights.of_updates(lm, drawn(lm, "dense"), {})
    with pytest.raises(LoceditError, match=r"model\.layers\.1\.mlp\.down_proj.* of low rank.*keep"):
        edited_weights.write_adapter(lm, delta, tmp_path / "adapter", base="tiny")
    assert not list(tmp_path.iterdir())


# ---- dtypes, and releases of transformers --------------------------------------------------------


def test_another_dtypes_rounding_is_told(tmp_path):
    lm = LanguageModel(*tiny.pair(dtype=torch.float32))
    delta = edited_weights.of_updates(lm, drawn(lm, "low rank"), {})
    edited_weights.write_folder(lm, delta, tmp_path / "edited", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "edited" / "config.json").read_text())["dtype"] == "bfloat16"
    lost = size = 0.0
    with safe_open(tmp_path / "edited" / "model.safetensors", "pt") as found:
        assert {found.get_tensor(name).dtype for name in found.keys()} == {torch.bfloat16}
        for name in delta.names:
            exact = dict(lm.model.named_parameters())[name].double() + delta.change(name).double()
            lost += (found.get_tensor(name).double() - exact).norm() ** 2
            size += delta.change(name).double().norm() ** 2
    told = edited_weights.rounding(lm, delta, torch.bfloat16)
    assert told == pytest.approx(float(lost / size) ** 0.5, rel=1e-6)
    assert told > 1e-3
    assert edited_weights.rounding(lm, delta, torch.float32) < 1e-5


def test_a_base_is_known_in_any_dtype():
    delta, again = (
        edited_weights.of_updates(lm, drawn(lm, "low rank"), {})
        for lm in (LanguageModel(*tiny.pair(dtype=dtype)) for dtype in (torch.bfloat16,) * 2)
    )
    assert delta.base == again.base
    wide = LanguageModel(tiny.pair(dtype=torch.bfloat16).model.double(), tiny.tokenizer())
    edited_weights.check_base(wide, delta)


DEFAULT = {"rope_type": "default", "rope_theta": 500.0}
LINEAR = {"rope_type": "linear", "factor": 4.0}
ROTARY = {
    "plain": (DEFAULT, "llama", {"rope_theta": 500.0}),
    "scaled": (DEFAULT | LINEAR, "llama", {"rope_theta": 500.0, "rope_scaling": LINEAR}),
    "in part": (
        DEFAULT | {"partial_rotary_factor": 0.5},
        "gpt_neox",
        {"rotary_emb_base": 500.0, "rotary_pct": 0.5},
    ),
    "by type": (
        {"full_attention": LINEAR | {"rope_theta": 9.0}, "sliding_attention": DEFAULT},
        "gemma3_text",
        {"rope_theta": 9.0, "rope_scaling": LINEAR, "rope_local_base_freq": 500.0},
    ),
    "by type, unknown before": (
        {"full_attention": DEFAULT, "sliding_attention": DEFAULT},
        "own",
        {"rope_scaling": {"full_attention": DEFAULT, "sliding_attention": DEFAULT}},
    ),
    "none": (None, "gpt2", {}),
}


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_angles_have_the_names_of_older_releases_too(name):
    """Those of transformers 4.57, with which tiny models of each family said the same, bit for bit.

    But for Gemma 2's, where it has to be told `attn_implementation="eager"` for capped attention.
    """
    parameters, kind, wanted = ROTARY[name]
    assert older_releases.rotary(parameters, kind) == wanted


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt_neox"])
def test_a_folder_is_for_both_kinds_of_releases(family, tmp_path):
    lm = LanguageModel(*tiny.pair(family))
    edited_weights.write_folder(lm, edited_weights.of_updates(lm, {}, {}), tmp_path / "edited")
    config = json.loads((tmp_path / "edited" / "config.json").read_text())
    of_text = config.get("text_config", config)
    assert of_text["rope_parameters"] == lm.config.rope_parameters
    wanted = older_releases.rotary(lm.config.rope_parameters, lm.config.model_type)
    assert wanted
    assert wanted.items() <= of_text.items()
    tokenizer = json.loads((tmp_path / "edited" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    found, own = log_p_of_folder(lm, tmp_path / "edited"), log_p_of_model(lm.model, lm.tokenizer)
    rounding = 1e-6 if family == "gemma3" else 1e-12  # its norms and scales are float32
    torch.testing.assert_close(found, own, rtol=rounding, atol=rounding)
