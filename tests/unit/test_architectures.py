"""Every family of the table against the textbook algorithms, on tiny random models.

The families differ in where norms, positions and windows stand; what is computed on them does not.
The checks are test_engine's, and so is the tolerance of 1e-6 in float64.
"""

import dataclasses
import re
from importlib import metadata
from pathlib import Path

import oracle
import pytest
import tiny
import torch
import transformers
from test_engine import (
    CONTEXTS,
    NOISE,
    TRACED,
    change_of,
    check_changes,
    check_decoding,
    check_measurement,
    check_partial_pass,
    check_trace,
    check_whole_pass,
    edit,
    left_alone,
    probe,
    requests,
    textbook,
)
from test_zeroing import check as check_zeroing
from transformers import BloomConfig, Olmo2Config, Olmo2ForCausalLM

from locedit.engine import architecture_check, passes, sampling
from locedit.engine.architecture_check import check_architecture
from locedit.engine.loading import load
from locedit.localizers import MODULES, restoration
from locedit.methods import METHODS, SharedInputs, values
from locedit.model import architectures
from locedit.model.architectures import (
    ARCHITECTURES,
    ModelError,
    architecture_of,
    is_tested,
    register,
)
from locedit.model.language_model import LanguageModel
from locedit.study import measure

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("nothing_in_float32")

WITH_BOS = ("mistral", "gemma2", "gemma3_text", "gemma3", "opt")


def build(family: str, **changes) -> LanguageModel:
    return LanguageModel(*tiny.pair(family, adds_bos=family in WITH_BOS, **changes))


@pytest.fixture(scope="module", params=sorted(set(tiny.FAMILIES) - {"llama", "gpt2"}))
def family(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def lm(family) -> LanguageModel:
    return build(family)


@pytest.fixture(scope="module")
def moments(lm) -> dict[int, torch.Tensor]:
    found = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(5))
    # OPT's ReLU lets some units say nothing in so little text.
    return {layer: c + 1e-3 * torch.eye(len(c)) for layer, c in found.items()}


def test_every_entry_of_the_table_is_tested():
    assert set(ARCHITECTURES) == set(tiny.FAMILIES)


def test_passes(lm):
    check_whole_pass(lm)
    check_partial_pass(lm)


@pytest.mark.parametrize("module", MODULES)
def test_traces(lm, module):
    check_trace(lm, "subject in the middle", module, window=3)


@pytest.mark.parametrize("module", MODULES)
def test_zeroing(lm, module):
    check_zeroing(lm, TRACED["subject in the middle"], module, window=3)


@pytest.mark.parametrize("problem", ["error_injection", "fact_forcing"])
@pytest.mark.parametrize("method", METHODS)
def test_edits(lm, moments, method, problem):
    """Changes of weights, and what the edited model then says."""
    fact = requests(problem)[0]
    expected = textbook(lm, method, fact, 1, moments)
    with left_alone(lm):
        got = edit(lm, method, [fact], 1, moments)
        after = measure.measure(lm, [probe(fact)], got.updates, **NOISE)[0]
    check_changes(change_of(got.updates, 0), expected.changes)
    with oracle.edited(lm.model, expected.changes):
        check_measurement(after, lm, probe(fact))


# --------------------------------------------------------------------------------------------------
# What a family's config may say otherwise

SLIDING = ("mistral", "qwen2", "gemma2", "gemma3_text", "gemma3")


@pytest.fixture(scope="module", params=SLIDING)
def narrow_lm(request) -> LanguageModel:
    """Attention that reaches back four tokens, in all layers or some: less than any prompt."""
    return build(request.param, sliding_window=4)


def test_windows_shorter_than_the_prompt(narrow_lm):
    assert set(narrow_lm.windows) <= {4, None}
    assert 4 in narrow_lm.windows
    check_whole_pass(narrow_lm)
    check_partial_pass(narrow_lm)
    check_decoding(narrow_lm)
    check_trace(narrow_lm, "subject in the middle", "mlp", window=2)


@pytest.mark.parametrize("method", METHODS)
def test_edits_under_windows_shorter_than_the_prompt(narrow_lm, method):
    """Rows of several lengths lie in one line there: windows count a row's own tokens."""
    found = oracle.key_statistics(narrow_lm.model, narrow_lm.tokenizer, tiny.SENTENCES, range(5))
    facts = requests("error_injection")
    got = edit(narrow_lm, method, facts, 1, found)
    for i, fact in enumerate(facts):
        expected = textbook(narrow_lm, method, fact, 1, found)
        check_changes(change_of(got.updates, i), expected.changes)


def test_a_window_reaches_its_own_row_and_no_further():
    seen = torch.tensor([[[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]]], dtype=torch.bool)
    got = passes._within(seen, 2)[0].int().tolist()
    assert got == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", sorted(tiny.FAMILIES))
def test_tied_and_untied_heads(name, tied):
    lm = build(name, tie_word_embeddings=tied)
    assert (lm.head.weight is lm.embedding.weight) == tied
    check_whole_pass(lm)


# The largest difference, beside the largest logit; beside 1 for a probability.
TOLERANCES = {torch.float32: (1e-4, 1e-4), torch.bfloat16: (0.1, 0.05)}


def largest(x: torch.Tensor) -> float:
    return x.abs().max().item()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", sorted(tiny.FAMILIES))
@torch.no_grad()
def test_coarser_types_of_numbers(name, dtype):
    """Whole and partial passes as the model's own pass of that type; a trace as the oracle's."""
    lm = build(name, dtype=dtype)
    of_logits, of_p = TOLERANCES[dtype]
    ids, lengths = passes.pad([lm.encode(tiny.SENTENCES[0])], lm.device)
    expected = lm.model(ids).logits
    record = passes.record(lm, ids, lengths)
    got = lm.logits(record.inputs[5])
    part = passes.after(lm, record, 7, range(2, 5))
    partial = lm.logits(passes.run(lm, record.inputs[2][:, 7:], part, first=2))
    assert got.dtype == torch.float32
    assert largest(got - expected) < of_logits * largest(expected)
    assert largest(partial - expected[:, 7:]) < of_logits * largest(expected)
    fact = ("The capital city of Madrid is", "Madrid", "Rome")
    settings = {"module": "mlp", "window": 3, **NOISE}
    traced = restoration.trace(lm, *fact, **settings)
    textbook_trace = oracle.trace(lm.model, lm.tokenizer, *fact, **settings)
    assert abs(traced.p_restored - textbook_trace["p_restored"]).max() < of_p


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["gptj", "gemma3_text", "opt"])
def test_edits_in_coarser_types_of_numbers(name, method, dtype):
    """The edit is the type's own, and says what the model says with the change in its weights."""
    lm = build(name, dtype=dtype)
    found = oracle.key_statistics(lm.model, lm.tokenizer, tiny.SENTENCES, range(5))
    found = {layer: c.float() + 0.1 * torch.eye(len(c)) for layer, c in found.items()}
    fact = requests("error_injection")[0]
    got = edit(lm, method, [fact], 1, found)
    changes = change_of(got.updates, 0)
    assert all(change.dtype == dtype and change.any() for change, _ in changes.values())
    after = measure.measure(lm, [probe(fact)], got.updates)[0]
    with oracle.edited(lm.model, changes):
        written = oracle.target_logprob(lm.model, lm.tokenizer, fact.prompt, fact.target)
    # bfloat16 has two digits, and a changed weight is rounded to them
    assert after.rewrite[0] == pytest.approx(written, rel=1e-4 if dtype == torch.float32 else 0.05)


# --------------------------------------------------------------------------------------------------
# Loading


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "gemma3"])
def test_sharded_safetensors_are_loaded(tmp_path, name):
    pair = tiny.pair(name)
    pair.model.save_pretrained(tmp_path, max_shard_size="50KB")
    pair.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    loaded = load(tmp_path, device="cpu", dtype="float64")
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in pair.model.state_dict().items())


def test_a_model_of_an_unknown_family_is_named_before_its_weights_are_read(tmp_path):
    BloomConfig(vocab_size=10, hidden_size=8, n_layer=1, n_head=2).save_pretrained(tmp_path)
    message = (
        r"model type 'bloom' is not supported \(known: gemma2, .*\); register its module paths"
    )
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("opt", {"do_layer_norm_before": False}, "'opt' with do_layer_norm_before = False"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention = Tr"),
        ("gemma2", {"layer_types": ["linear_attention"] * 2}, "of type 'linear_attention' are not"),
    ],
)
def test_a_model_that_its_familys_entry_does_not_fit_is_refused(family, changes, said):
    _, config, settings = tiny.FAMILIES[family]
    with pytest.raises(ModelError, match=said):
        architecture_of(config(vocab_size=10, num_hidden_layers=2, **settings | changes))


def test_a_tokenizer_without_offsets_is_refused():
    model, _ = tiny.pair()
    with pytest.raises(ModelError, match="tokenizer PythonTokenizer gives no character offsets"):
        LanguageModel(model, type("PythonTokenizer", (), {"is_fast": False})())


def test_a_subject_that_the_tokenizer_splits_within_a_word_takes_the_tokens_that_it_overlaps():
    lm = build("gemma2")
    whole = lm.subject_range("The city of Parisian", "Parisian")
    for subject in ("Pari", "aris", "isian"):
        b, e = lm.subject_range("The city of Parisian", subject)
        covered = lm.decode(lm.encode("The city of Parisian")[b:e])
        assert subject in covered
        assert whole[0] <= b < e <= whole[1]


def test_a_tokenizer_that_spaces_every_text_continues_prompts_as_it_would_whole():
    """Llama 2's and Mistral's: " Rome" alone would be two spaces, and its text loses the space."""
    words = tiny.tokenizer(adds_bos=True, spaced=True)
    lm = LanguageModel(tiny.model("mistral", len(words)), words)
    prompt = "The capital city of Italy is"
    for target in ("Rome", "Rome, Italy", "the old city"):
        ids = lm.encode_target(target, prompt)
        assert lm.encode(f"{prompt} {target}") == lm.encode(prompt) + ids
        assert lm.continuation([ids, ids[:-1]])[0] == f" {target}"
    starts = sampling._word_starts(lm)
    (the,) = lm.encode_target("the", prompt)
    assert starts[the]
    assert not starts[lm.encode_target("Rome, Italy", prompt)[-1]]
    rows = values.build(lm, requests("error_injection")[:1], SharedInputs(contexts=[CONTEXTS]))
    whole = lm.encode("The capital city of Madrid is Rome, Italy")
    assert rows.ids[0, : rows.lengths[0]].tolist() == whole[:-1]


# --------------------------------------------------------------------------------------------------
# An entry of one's own


@pytest.mark.parametrize(
    ("family", "wrong", "said"),
    [
        ("llama", {"norm": "model.layers.0.input_layernorm"}, "gives other logits"),
        ("gemma3_text", {"rotary_by_type": False}, "rotary_by_type"),
        ("llama", {"rotary": None}, "rotary is not given: .* has model.rotary_emb"),
        ("llama", {"rotary_by_type": True}, "rotary_by_type"),
        ("llama", {"attention": "mlp"}, "tokens reach each other past it"),
        ("llama", {"attention": "self_attn.v_proj"}, "it looks at one token alone"),
        ("gptj", {"attention": "ln_1"}, "it looks at one token alone"),
        ("gpt2", {"attention": "ln_2"}, "tokens reach each other past it"),
        ("gpt2", {"attention": "mlp", "mlp": "attn"}, "reaches the block's in another way"),
        ("gemma2", {"mlp_norm": None}, "reaches the block's in another way"),
        ("gpt2", {"transposed": False}, "as `transposed` says"),
        ("gpt2", {"positions": None}, "gives other logits"),
        ("opt", {"position_offset": 0}, "gives other logits"),
        ("gptj", {"cache_argument": "past_key_values"}, "cache_argument"),
        ("llama", {"mlp": "self_attn"}, "reaches the block's in another way"),
        ("llama", {"down_projection": "mlp.up_proj"}, "down_projection is another module"),
    ],
)
def test_an_entry_that_does_not_describe_the_model_is_found_out(monkeypatch, family, wrong, said):
    entry = dataclasses.replace(ARCHITECTURES[family], **wrong)
    monkeypatch.setitem(ARCHITECTURES, family, entry)
    lm = build(family, dtype=torch.float32)
    if "cache_argument" in wrong and lm.cache_argument == "cache":
        pytest.skip("this release of transformers calls the cache so, whatever the entry says")
    with pytest.raises(ModelError, match=said):
        check_architecture(lm)


PATHS = "layers embedding norm positions rotary attention mlp down_projection mlp_norm".split()


def test_every_field_that_is_a_path_is_looked_up():
    fields = {field.name for field in dataclasses.fields(architectures.Architecture)}
    others = {"position_offset", "rotary_by_type", "transposed", "cache_argument", "requires"}
    assert set(PATHS) == fields - others


@pytest.mark.parametrize("field", PATHS)
def test_a_path_that_leads_nowhere_is_told_by_its_field(monkeypatch, tmp_path, field):
    family = {"positions": "gpt2", "mlp_norm": "gemma2"}.get(field, "llama")
    tiny.save(tiny.pair(family, layers=2, dtype=torch.float32), tmp_path)
    path = getattr(ARCHITECTURES[family], field)
    entry = dataclasses.replace(ARCHITECTURES[family], **{field: path + "x"})
    monkeypatch.setitem(ARCHITECTURES, family, entry)
    with pytest.raises(ModelError) as caught:
        load(tmp_path, device="cpu")
    said = str(caught.value)
    assert said.startswith(f"the entry of {family!r} in ARCHITECTURES does not fit: {field}: ")
    assert said.endswith(f"has no module {path + 'x'!r}; did you mean {path!r}?")


@pytest.mark.parametrize(
    ("field", "path", "said"),
    [
        ("layers", "model.norm", "layers: 'model.norm' is no list of blocks"),
        ("embedding", "model.norm", "embedding: 'model.norm' has no weight that is a matrix"),
        ("down_projection", "mlp", "down_projection: 'mlp' has no weight that is a matrix"),
    ],
)
def test_a_path_that_leads_to_no_fitting_module_is_told_by_its_field(
    monkeypatch, tmp_path, field, path, said
):
    tiny.save(tiny.pair("llama", layers=2, dtype=torch.float32), tmp_path)
    entry = dataclasses.replace(ARCHITECTURES["llama"], **{field: path})
    monkeypatch.setitem(ARCHITECTURES, "llama", entry)
    with pytest.raises(ModelError, match=re.escape(said)):
        load(tmp_path, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(tiny.FAMILIES))
def test_the_projects_own_entries_pass_that_check(name, dtype):
    check_architecture(build(name, dtype=dtype))


class Angles(torch.nn.Module):
    """Stands in for what gives all layers their rotary positions."""

    def forward(self, *_):
        return "cos", "sin"


def test_a_block_is_given_what_its_release_of_transformers_calls_for(monkeypatch):
    """GPT-J as from 5.24 on: the cache is called `cache`, and all layers rotate by one module."""
    lm = build("gptj", dtype=torch.float32)
    if lm.cache_argument == "cache":
        pytest.skip("this release of transformers is one of these: every other test is of it")
    assert (lm.cache_argument, lm.rotary) == ("layer_past", None)
    block = type(lm.layers[0])
    forward, given = block.forward, []

    def renamed(self, hidden_states, cache=None, position_embeddings=None, **others):
        given.append(position_embeddings)
        kept = others.pop("layer_past", None) if cache is None else cache
        return forward(self, hidden_states, layer_past=kept, **others)

    monkeypatch.setattr(block, "forward", renamed)
    lm.model.transformer.rotary_emb = Angles()
    newer = LanguageModel(lm.model, lm.tokenizer)
    assert newer.cache_argument == "cache"
    check_architecture(newer)
    assert ("cos", "sin") in given


def test_a_release_that_the_tests_have_not_seen_has_every_model_checked(monkeypatch, tmp_path):
    tested = metadata.version("transformers")
    locked = re.search(
        r"^transformers==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    assert locked is not None
    assert is_tested("llama", locked[1])
    assert not is_tested("llama", "5.99.0")
    tiny.save(tiny.pair("llama"), tmp_path)
    checked: list[LanguageModel] = []
    monkeypatch.setattr(architecture_check, "check_architecture", checked.append)
    load(tmp_path, device="cpu")
    assert len(checked) == (not is_tested("llama", tested))
    monkeypatch.setattr(transformers, "__version__", "5.99.0")
    load(tmp_path, device="cpu")
    assert len(checked) == 1 + (not is_tested("llama", tested))


def test_the_familys_entry_of_the_docs_is_registered_and_checked(tmp_path, monkeypatch):
    """docs/how-to/model.md, its own block of code, on a tiny model of that family."""
    text = (ROOT / "docs" / "how-to" / "model.md").read_text()
    block = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setattr(architectures, "ARCHITECTURES", table := dict(ARCHITECTURES))
    exec(block, {})
    assert set(table) - set(ARCHITECTURES) == {"olmo2"}
    words = tiny.tokenizer()
    config = Olmo2Config(vocab_size=len(words), num_hidden_layers=3, **tiny.FAMILIES["llama"][2])
    tiny.save(tiny.Pair(tiny.drawn(Olmo2ForCausalLM, config, torch.float64, 0), words), tmp_path)
    lm = load(tmp_path, device="cpu", dtype="float64")
    check_whole_pass(lm)
    check_partial_pass(lm)
    assert lm.mlp_norm(0) is not None

    monkeypatch.setitem(table, "olmo2", dataclasses.replace(table["olmo2"], mlp_norm=None))
    with pytest.raises(ModelError, match="the entry of 'olmo2' in ARCHITECTURES does not fit: a "):
        load(tmp_path)


def test_a_family_is_registered_once(monkeypatch):
    monkeypatch.setattr(architectures, "ARCHITECTURES", dict(ARCHITECTURES))
    register("mine", ARCHITECTURES["llama"])
    register("mine", ARCHITECTURES["llama"])
    with pytest.raises(ModelError, match="an architecture 'mine' is registered already"):
        register("mine", ARCHITECTURES["gpt2"])
