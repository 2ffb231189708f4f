"""Edited weights: the difference and the folder say what the engine says under the edit."""

import pytest
import tiny
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from locedit.engine import log_probs, passes
from locedit.engine.updates import Dense, LowRank, applied
from locedit.errors import LoceditError
from locedit.exchange import edited_weights
from locedit.model.language_model import LanguageModel

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


def log_p_of_engine(lm, updates, fact):
    prompt, target = lm.encode(PROMPT), lm.encode_target(TARGET, PROMPT)
    ids = torch.tensor([prompt + target[:-1]]).expand(2, -1)
    with torch.inference_mode(), applied(lm, updates, [1, 1]):
        hidden = passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
        return log_probs.target_log_probs(lm, hidden, [fact], [len(prompt) - 1], [target])


def log_p_of_folder(lm, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=lm.dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
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
    with pytest.raises(LoceditError, match="expected a safetensors file that locedit wrote"):
        edited_weights.read(path)


def test_other_peoples_safetensors_are_no_difference(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(LoceditError, match="no difference of weights that locedit wrote"):
        edited_weights.read(tmp_path / "x.safetensors")
