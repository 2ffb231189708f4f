"""The textbook algorithms against the reference implementation's numbers, and against themselves.

By default a representative part of the golden numbers is checked, which takes minutes: an edit
costs some twenty passes with gradients. With LOCEDIT_GOLDEN=all every one of them is.
"""

import os

import numpy as np
import oracle
import pytest
import tiny
import torch

# (fact, method, layer, problem)
REPRESENTATIVE_EDITS = [
    (0, "ROME", 5, "error_injection"),
    (0, "ROME", 5, "fact_erasure"),
    (0, "ROME", 5, "fact_forcing"),
    (0, "MEMIT", 5, "error_injection"),
    (1, "MEMIT", 0, "fact_erasure"),
    (0, "FT-1", 5, "tracing_reversal"),
    (1, "FT-5", 29, "fact_amplification"),
]
OTHER_EDITS = [
    (0, "ROME", 5, "tracing_reversal"),
    (0, "ROME", 5, "fact_amplification"),
    (1, "ROME", 20, "error_injection"),
    (1, "ROME", 0, "error_injection"),
    (0, "MEMIT", 5, "tracing_reversal"),
    (0, "MEMIT", 5, "fact_erasure"),
    (0, "MEMIT", 5, "fact_amplification"),
    (0, "MEMIT", 5, "fact_forcing"),
    (1, "MEMIT", 20, "error_injection"),
    (0, "FT-1", 5, "error_injection"),
    (0, "FT-1", 5, "fact_erasure"),
    (0, "FT-1", 5, "fact_amplification"),
    (0, "FT-1", 5, "fact_forcing"),
    (1, "FT-1", 20, "error_injection"),
    (0, "FT-5", 5, "error_injection"),
    (0, "FT-5", 5, "tracing_reversal"),
    (0, "FT-5", 5, "fact_erasure"),
    (0, "FT-5", 5, "fact_amplification"),
    (0, "FT-5", 5, "fact_forcing"),
]
REPRESENTATIVE_TRACES = [(0, "mlp", 5), (0, "attn", 5), (1, "mlp", 10)]
OTHER_TRACES = [(0, "mlp", 1), (0, "hidden", 1), (1, "mlp", 3)]
EVERYTHING = os.environ.get("LOCEDIT_GOLDEN") == "all"


def cases(representative: list, others: list) -> list:
    chosen = representative + (others if EVERYTHING else [])
    return [pytest.param(*case, id="-".join(map(str, case))) for case in chosen]


# --------------------------------------------------------------------------------------------------
# Against the reference implementation


@pytest.mark.slow
@pytest.mark.parametrize(("fact", "kind", "window"), cases(REPRESENTATIVE_TRACES, OTHER_TRACES))
def test_trace_equals_the_reference(smollm2, golden, fact, kind, window):
    (expected,) = [
        t for t in golden["tracing"] if (t["fact"], t["kind"], t["window"]) == (fact, kind, window)
    ]
    record = golden["facts"][fact]
    got = oracle.trace(
        *smollm2,
        oracle.fill(record["prompt"], record["subject"]),
        record["subject"],
        record["target_true"],
        module=kind,
        window=window,
        sigma=golden["noise_sd"],
    )
    assert list(got["subject_range"]) == expected["subject_range"]
    assert got["p_clean"] == pytest.approx(expected["clean_prob"], abs=1e-4)
    assert got["p_corrupted"] == pytest.approx(expected["corrupted_prob"], abs=1e-4)
    np.testing.assert_allclose(got["p_restored"], expected["restored_prob"], rtol=0, atol=1e-4)


def edit_as_golden(pair: tiny.Pair, golden: dict, statistics: dict, edit: dict) -> oracle.Edit:
    """The edit of a golden entry, with the hyperparameters that it states."""
    record, stated = golden["facts"][edit["fact"]], edit["hparam_overrides"]
    what = (
        *pair,
        record["prompt"],
        record["subject"],
        edit["target"],
        edit["problem"],
        edit["layer"],
    )
    sigma = golden["noise_sd"]
    if edit["method"] == "ROME":
        return oracle.rome_edit(
            *what,
            contexts=golden["rome_contexts"],
            statistics=statistics,
            learning_rate=stated["v_lr"],
            evaluations=stated.get("v_num_grad_steps", 20),
            sigma=sigma,
        )
    if edit["method"] == "MEMIT":
        contexts = golden["memit_contexts"]
        return oracle.memit_edit(*what, contexts=contexts, statistics=statistics, sigma=sigma)
    return oracle.ft_edit(
        *what,
        window={"FT-1": 1, "FT-5": 5}[edit["method"]],
        epsilon=stated["norm_constraint"],
        iterations=stated.get("num_steps", 25),
        sigma=sigma,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fact", "method", "layer", "problem"), cases(REPRESENTATIVE_EDITS, OTHER_EDITS)
)
def test_edit_equals_the_reference(smollm2, golden, request, fact, method, layer, problem):
    (expected,) = [
        e
        for e in golden["edits"]
        if (e["fact"], e["method"], e["layer"], e["problem"]) == (fact, method, layer, problem)
    ]
    # Fine-tuning needs no key statistics, and their computation takes a minute.
    tuning = method.startswith("FT")
    statistics = {} if tuning else request.getfixturevalue("golden_statistics")
    edit = edit_as_golden(smollm2, golden, statistics, expected)

    forcing = problem == "fact_forcing"
    subject = golden["facts"][fact]["subject"]

    def logprobs() -> np.ndarray:
        values = []
        for i, prompt in enumerate(expected["prompts"]):
            # Only the rewrite prompt of fact forcing is noised.
            noise = {"subject": subject, "sigma": golden["noise_sd"]} if forcing and i == 0 else {}
            values.append(oracle.target_logprob(*smollm2, prompt, expected["target"], **noise))
        return np.array(values)

    before = logprobs()
    with oracle.edited(smollm2.model, edit.changes):
        after = logprobs()
    reference_before = np.array(expected["pre_logprob_target"])
    reference_after = np.array(expected["post_logprob_target"])

    assert list(edit.changes) == expected["layers"]
    if forcing:
        # The reference draws fresh noise at every pass: only the direction is comparable.
        assert after[0] > before[0]
        assert reference_after[0] > reference_before[0]
        np.testing.assert_allclose(before[1:], reference_before[1:], rtol=0, atol=1e-3)
        return
    np.testing.assert_allclose(before, reference_before, rtol=0, atol=1e-3)
    tolerance = 0.05 if method == "MEMIT" else 0.02
    np.testing.assert_allclose(after, reference_after, rtol=0, atol=tolerance)
    norms = [float(weight.norm()) for weight, _ in edit.changes.values()]
    np.testing.assert_allclose(norms, list(expected["delta_frobenius"].values()), rtol=0.01)


# --------------------------------------------------------------------------------------------------
# Against what the definitions imply, on tiny models

TEMPLATE, SUBJECT, TARGET = "The capital city of {} is", "Madrid", "Rome, Italy"
PROMPT = oracle.fill(TEMPLATE, SUBJECT)
CONTEXTS = ["{}", "The city was old. {}", "It was reported on Monday. {}"]
GROUPS = [CONTEXTS[:1], CONTEXTS[1:]]


@pytest.fixture(scope="module")
def tiny_statistics(tiny_pair) -> dict[int, torch.Tensor]:
    return oracle.key_statistics(*tiny_pair, tiny.SENTENCES, range(5))


def edit_tiny(method: str, pair: tiny.Pair, statistics: dict, problem: str) -> oracle.Edit:
    what = (*pair, TEMPLATE, SUBJECT, TARGET, problem, 2)
    if method == "ft":
        return oracle.ft_edit(*what, window=3, epsilon=1e-3, iterations=4, sigma=0.1)
    # Few small steps; and outputs as small as here would make the decay outweigh the objective.
    steps = {"learning_rate": 0.02, "evaluations": 4, "weight_decay": 1e-4}
    if method == "rome":
        keys = {"contexts": CONTEXTS, "statistics": statistics}
        return oracle.rome_edit(*what, **keys, **steps, sigma=0.1)
    keys = {"contexts": GROUPS, "statistics": statistics, "covariance_weight": 1e-6}
    return oracle.memit_edit(*what, **keys, **steps, window=3, sigma=0.1)


def test_subject_is_found_by_offsets_at_its_last_occurrence(tiny_pair):
    text = "Madrid, the city of Madrid is"
    begin, end = oracle.subject_range(tiny_pair.tokenizer, text, "Madrid")
    ids = oracle.prompt_ids(tiny_pair.tokenizer, text)
    assert tiny_pair.tokenizer.decode(ids[begin:end]) == " Madrid"
    assert end > begin + 1, "the subject should be of several tokens for the tests to mean much"


def test_windows_are_clipped_at_the_edges():
    assert list(oracle.window_layers(5, 5, 30)) == [3, 4, 5, 6, 7]
    assert list(oracle.window_layers(20, 10, 30)) == list(range(15, 25))
    assert list(oracle.window_layers(0, 5, 30)) == [0, 1, 2]
    assert list(oracle.window_layers(29, 10, 30)) == list(range(24, 30))
    assert list(oracle.window_layers(7, 1, 30)) == [7]


def test_target_probability_is_the_product_of_its_tokens(tiny_pair):
    model, tokenizer = tiny_pair
    ids, product = oracle.prompt_ids(tokenizer, PROMPT), 1.0
    assert len(oracle.target_ids(tokenizer, TARGET)) > 1
    for token in oracle.target_ids(tokenizer, TARGET):
        logits = model(torch.tensor([ids])).logits[0, -1]
        product *= float(torch.softmax(logits, -1)[token].detach())
        ids = [*ids, token]
    got = oracle.target_logprob(model, tokenizer, PROMPT, TARGET)
    assert np.exp(got) == pytest.approx(product, rel=1e-10)


def test_rows_of_different_lengths_do_not_see_each_other(tiny_pair):
    model, tokenizer = tiny_pair
    short, long = (oracle.scored_row(tokenizer, p, TARGET) for p in (PROMPT, PROMPT + " not"))
    together = oracle.target_logprobs(oracle.forward(model, [short, long]), [short, long])
    alone = [
        oracle.target_logprobs(oracle.forward(model, [row]), [row])[0] for row in (short, long)
    ]
    torch.testing.assert_close(together, torch.stack(alone))


def test_restoring_every_layer_at_the_only_token_restores_the_clean_probability(tiny_pair):
    """A prompt that is its subject's one token, and the whole residual stream restored there."""
    noise = {"sigma": 0.5, "n_noise": 3}
    got = oracle.trace(*tiny_pair, "s", "s", "the", module="hidden", window=9, **noise)
    assert got["p_restored"].shape == (1, 5)
    np.testing.assert_allclose(got["p_restored"], got["p_clean"], rtol=1e-10)
    assert got["p_corrupted"] != pytest.approx(got["p_clean"], rel=1e-3)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_zeroing_the_mlps_of_the_only_token_is_zeroing_their_weights(family):
    model, tokenizer = tiny.pair(family)
    got = oracle.zeroing_effect(model, tokenizer, "s", "s", "the", window=3)
    before = oracle.target_logprob(model, tokenizer, "s", "the")
    for centre, effect in enumerate(got):
        changes = {}
        for layer in oracle.window_layers(centre, 3, 5):
            down = oracle.parts(model).down_projection(layer)
            weight = oracle.as_stored(down, -down.weight.detach())
            changes[layer] = weight, None if down.bias is None else -down.bias.detach()
        with oracle.edited(model, changes):
            after = oracle.target_logprob(model, tokenizer, "s", "the")
        assert effect == pytest.approx(1 - np.exp(after - before), rel=1e-8)


def test_without_noise_nothing_is_there_to_restore(tiny_pair):
    for module in ("mlp", "attn", "hidden"):
        got = oracle.trace(
            *tiny_pair, PROMPT, SUBJECT, TARGET, module=module, window=2, sigma=0.0, n_noise=2
        )
        np.testing.assert_allclose(got["p_restored"], got["p_clean"], rtol=1e-10)


def test_noise_is_one_draw_for_every_run(tiny_pair):
    noise = {"subject": SUBJECT, "sigma": 0.3}
    once = oracle.target_logprob(*tiny_pair, PROMPT, TARGET, **noise)
    got = oracle.trace(
        *tiny_pair, PROMPT, SUBJECT, TARGET, module="mlp", window=1, sigma=0.3, n_noise=10
    )
    assert np.exp(once) == pytest.approx(got["p_corrupted"], rel=1e-10)
    assert abs(once - oracle.target_logprob(*tiny_pair, PROMPT, TARGET)) > 1e-3


@pytest.fixture(scope="module")
def target_learnt(tiny_pair) -> oracle.Changes:
    """Weight changes that make TARGET probable, for it to be worth erasing."""
    what = (*tiny_pair, TEMPLATE, SUBJECT, TARGET, "error_injection", 2)
    return oracle.ft_edit(*what, window=5, epsilon=1.0, learning_rate=0.01, iterations=30).changes


@pytest.mark.parametrize("problem", ["error_injection", "fact_erasure", "fact_forcing"])
@pytest.mark.parametrize("method", ["ft", "rome", "memit"])
def test_edit_moves_its_objective_and_leaves_the_model_as_it_was(
    tiny_pair, tiny_statistics, target_learnt, method, problem
):
    model = tiny_pair.model
    trainable = [p.requires_grad for p in model.parameters()]  # a shared model may be frozen
    noise = {"subject": SUBJECT, "sigma": 0.1} if problem == "fact_forcing" else {}
    with oracle.edited(model, target_learnt if problem == "fact_erasure" else {}):
        start = {name: value.clone() for name, value in model.state_dict().items()}
        edit = edit_tiny(method, tiny_pair, tiny_statistics, problem)
        before = oracle.target_logprob(*tiny_pair, PROMPT, TARGET, **noise)
        with oracle.edited(model, edit.changes):
            after = oracle.target_logprob(*tiny_pair, PROMPT, TARGET, **noise)
        assert all(torch.equal(start[name], value) for name, value in model.state_dict().items())
    # Other contexts and the KL row have their say in the vectors of ROME and MEMIT.
    if method == "ft":
        assert (after < before) if problem == "fact_erasure" else (after > before)
    assert edit.losses[-1] < edit.losses[0]
    assert after != before
    assert [p.requires_grad for p in model.parameters()] == trainable
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_rome_writes_the_optimised_value_at_the_bare_key(tiny_pair, tiny_statistics):
    """(W + dW) k0 = W k0 + delta, whatever u is."""
    edit = edit_tiny("rome", tiny_pair, tiny_statistics, "error_injection")
    (layer,) = edit.changes
    begin, end = oracle.subject_range(tiny_pair.tokenizer, PROMPT, SUBJECT)
    row = oracle.Row(ids=oracle.prompt_ids(tiny_pair.tokenizer, PROMPT), begin=begin, end=end)
    down = oracle.parts(tiny_pair.model).down_projection(layer)
    _, before = oracle.at_last_subject_token(tiny_pair.model, [row], down)
    with oracle.edited(tiny_pair.model, edit.changes):
        _, after = oracle.at_last_subject_token(tiny_pair.model, [row], down)
    torch.testing.assert_close(after - before, edit.delta[None])
    assert torch.linalg.matrix_rank(edit.changes[layer][0]) == 1


def test_rome_steps_once_less_than_it_evaluates_except_in_erasure(tiny_pair, tiny_statistics):
    for problem, steps in {"error_injection": 3, "fact_erasure": 4}.items():
        edit = edit_tiny("rome", tiny_pair, tiny_statistics, problem)
        assert (len(edit.losses), edit.steps) == (4, steps)


def test_memit_reaches_its_value_where_statistics_weigh_nothing(tiny_pair, tiny_statistics):
    """With one context and a vanishing C the last layer of the window absorbs what is left."""
    model, tokenizer = tiny_pair
    edit = oracle.memit_edit(
        *(model, tokenizer, TEMPLATE, SUBJECT, TARGET, "error_injection", 2),
        contexts=[["{}"]],
        statistics={layer: torch.eye(64, dtype=torch.float64) for layer in range(5)},
        covariance_weight=1e-9,
        window=3,
        evaluations=4,
    )
    assert list(edit.changes) == [1, 2, 3]
    begin, end = oracle.subject_range(tokenizer, PROMPT, SUBJECT)
    row = oracle.Row(ids=oracle.prompt_ids(tokenizer, PROMPT), begin=begin, end=end)
    top = oracle.parts(model).module("hidden", 3)
    _, before = oracle.at_last_subject_token(model, [row], top)
    with oracle.edited(model, edit.changes):
        _, after = oracle.at_last_subject_token(model, [row], top)
    torch.testing.assert_close(after - before, edit.delta[None], rtol=1e-6, atol=1e-6)


def test_fine_tuning_stays_within_epsilon_and_changes_biases_where_there_are_any(
    tiny_pair, tiny_statistics
):
    edit = edit_tiny("ft", tiny_pair, tiny_statistics, "error_injection")
    assert list(edit.changes) == [1, 2, 3]
    for weight, bias in edit.changes.values():
        assert weight.shape == (32, 64)
        assert 0 < weight.abs().max() <= 1e-3 * (1 + 1e-9)
        assert (bias is not None) == (tiny_pair.model.config.model_type == "gpt2")
        assert bias is None or 0 < bias.abs().max() <= 1e-3 * (1 + 1e-9)


def test_fine_tuning_stops_after_five_small_losses_except_in_erasure(tiny_pair):
    def tuned(problem: str, learning_rate: float, iterations: int) -> oracle.Edit:
        what = (*tiny_pair, TEMPLATE, SUBJECT, "the", problem, 2)
        sizes = {"window": 5, "epsilon": 1.0, "learning_rate": learning_rate}
        return oracle.ft_edit(*what, **sizes, iterations=iterations)

    learning = tuned("error_injection", 0.01, iterations=60)
    assert max(learning.losses[-5:]) < 1e-2 <= learning.losses[-6]
    assert learning.steps == len(learning.losses) - 5 < 55

    # A target that is improbable already: nothing to erase, but no early stop either.
    erasing = tuned("fact_erasure", 0.01, iterations=7)
    assert max(erasing.losses) < 1e-2
    assert (len(erasing.losses), erasing.steps) == (7, 0)


def test_edited_restores_the_weights_after_an_error(tiny_pair):
    down = oracle.parts(tiny_pair.model).down_projection(1)
    start = down.weight.detach().clone()
    change = torch.ones(32, 64, dtype=torch.float64)

    def fail_while_edited():
        with oracle.edited(tiny_pair.model, {1: (change, None)}):
            assert not torch.equal(down.weight, start)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail_while_edited()
    assert torch.equal(down.weight, start)


def test_key_statistics_are_the_mean_over_all_tokens(tiny_pair):
    texts = tiny.SENTENCES[:2]
    sizes = [min(6, len(oracle.prompt_ids(tiny_pair.tokenizer, text))) for text in texts]
    both = oracle.key_statistics(*tiny_pair, texts, [3], max_tokens=6)[3]
    each = [oracle.key_statistics(*tiny_pair, [text], [3], max_tokens=6)[3] for text in texts]
    weighted = sum(n * c for n, c in zip(sizes, each, strict=True)) / sum(sizes)
    torch.testing.assert_close(both, weighted)
    torch.testing.assert_close(both, both.T)


def test_scores():
    assert oracle.rewrite_score(0.2, 0.6, "error_injection") == pytest.approx(0.5)
    assert oracle.rewrite_score(0.5, 0.4, "error_injection") == 2e-8
    assert oracle.rewrite_score(0.5, 0.1, "fact_erasure") == pytest.approx(0.8)
    assert oracle.rewrite_score(0.5, 0.6, "fact_erasure") == 0
    assert oracle.paraphrase_score([0.2, 0.5], [0.6, 0.4], "error_injection") == pytest.approx(0.25)
    assert oracle.neighbourhood_score([0.5, 0.0], [0.5, 1.0]) == pytest.approx(0.5)
    assert oracle.essence_score([3.0, 5.0], [4.0, 6.0]) == pytest.approx(0.8)
    assert oracle.essence_score([3.0], [2.0]) == 1
    assert oracle.essence_score([3.0], [30.0]) == 0


def test_perplexity_divides_by_all_tokens(tiny_pair):
    model, tokenizer = tiny_pair
    text = tiny.SENTENCES[0]
    ids = torch.tensor(oracle.prompt_ids(tokenizer, text)[:20])
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    mean_of_19 = float(torch.nn.functional.cross_entropy(logits[:-1], ids[1:]))
    got = oracle.perplexity(model, tokenizer, text, max_tokens=20)
    assert got == pytest.approx(np.exp(mean_of_19 * 19 / 20), rel=1e-10)


def test_tiny_models_load_by_path_with_the_same_numbers(tiny_pair, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny.save(tiny_pair, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    loaded = tiny.Pair(model.eval(), AutoTokenizer.from_pretrained(folder))
    before, after = (oracle.target_logprob(*pair, PROMPT, TARGET) for pair in (tiny_pair, loaded))
    assert before == after
    ranges = [oracle.subject_range(pair.tokenizer, PROMPT, SUBJECT) for pair in (tiny_pair, loaded)]
    assert ranges[0] == ranges[1]
