"""Text that the model writes: what is drawn belongs to a row's seed and to nothing else."""

from itertools import pairwise

import numpy as np
import oracle
import pytest
import tiny
import torch

from locedit import seeds
from locedit.engine import decoding, sampling
from locedit.model.language_model import LanguageModel

PROMPTS = ["The capital city of", "I", "It was reported on Monday that the river is"]
ROW_SEEDS = [11, 12, 13]


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return LanguageModel(*tiny.pair("llama", adds_bos=True))


@pytest.fixture
def lengths_written(monkeypatch) -> list[list[int]]:
    """Of every decoding while a test runs, the tokens of each row at the end."""
    taken = []
    decode = decoding.decode

    def spy(lm, prompts, steps, *arguments, **keywords):
        taken.append([len(row) + count for row, count in zip(prompts, steps, strict=True)])
        return decode(lm, prompts, steps, *arguments, **keywords)

    monkeypatch.setattr(decoding, "decode", spy)
    return taken


@torch.no_grad()
def drawn_by_hand(lm: LanguageModel, prompt: str, steps: int, seed: int, k: int) -> str:
    """Whole passes, the k likeliest allowed tokens in order, and the draw's place among them."""
    ids, draws = lm.encode(prompt), np.random.RandomState(seed).random_sample(steps)
    for u in draws:
        p = lm.model(torch.tensor([ids])).logits[0, -1].softmax(0)
        allowed = [t for t in p.argsort(descending=True).tolist() if t not in lm.special_ids][:k]
        shares = p[allowed] / p[allowed].sum()
        below = [share for share in shares.cumsum(0)[:-1].tolist() if share < u]
        ids.append(allowed[len(below)])
    return lm.decode(ids)


@pytest.mark.parametrize("k", [1, 5])
def test_samples_are_the_row_s_own_draws(tiny_lm, k):
    got = sampling.sample(tiny_lm, PROMPTS, [7, 7, 7], ROW_SEEDS, k=k)
    expected = [
        drawn_by_hand(tiny_lm, prompt, 7, seed, k)
        for prompt, seed in zip(PROMPTS, ROW_SEEDS, strict=True)
    ]
    assert got == expected
    assert all(text.startswith(prompt) for text, prompt in zip(got, PROMPTS, strict=True))


def test_composition_of_a_batch_changes_no_sample(lm):
    steps = [12, 5, 9]
    together = sampling.sample(lm, PROMPTS, steps, ROW_SEEDS)
    assert sampling.sample(lm, PROMPTS[::-1], steps[::-1], ROW_SEEDS[::-1])[::-1] == together
    for prompt, count, seed, text in zip(PROMPTS, steps, ROW_SEEDS, together, strict=True):
        assert sampling.sample(lm, [prompt], [count], [seed]) == [text]
    assert sampling.sample(lm, PROMPTS[:1], steps[:1], [99]) != together[:1]


def test_no_steps_leave_the_prompts(lm):
    assert sampling.sample(lm, PROMPTS, [0, 0, 0], ROW_SEEDS) == PROMPTS
    some = sampling.sample(lm, PROMPTS, [4, -1, 0], ROW_SEEDS)
    assert some == sampling.sample(lm, PROMPTS[:1], [4], ROW_SEEDS[:1]) + PROMPTS[1:]


def test_a_long_prompt_without_steps_leaves_room_for_the_others(lm):
    """No row's positions go beyond what it needs itself, so the model's context is no limit."""
    longest = " ".join(["river"] * (lm.context_length))
    texts = sampling.sample(lm, [longest, PROMPTS[0]], [0, 3], ROW_SEEDS[:2])
    assert texts == [longest, *sampling.sample(lm, PROMPTS[:1], [3], ROW_SEEDS[1:2])]


def test_barred_tokens_are_never_chosen():
    """Not even where they are by far the likeliest, wherever the draw falls."""
    uniforms = torch.arange(200, dtype=torch.float64)[:, None] / 200
    logits = torch.linspace(0, 1, 20).repeat(200, 1)
    logits[:, [3, 7]] = 50.0
    chosen = sampling.top_k(uniforms, 5, [3, 7])(0, torch.arange(200), logits)
    assert set(chosen.tolist()) == {15, 16, 17, 18, 19}
    assert (logits[:, [3, 7]] == 50.0).all(), "the logits are not the sampler's to change"


def test_draws_are_shared_out_in_order_of_probability():
    shares = torch.tensor([0.2, 0.5, 0.3, 1e-9])
    uniforms = torch.tensor([[0.0], [0.49], [0.51], [0.79], [0.81], [0.999]], dtype=torch.float64)
    choose, logits = sampling.top_k(uniforms, 3, []), shares.log().repeat(6, 1)
    assert choose(0, torch.arange(6), logits).tolist() == [1, 1, 2, 2, 0, 0]
    assert choose(0, torch.tensor([1, 4]), logits[:2]).tolist() == [1, 0], "a row's own draws"


def test_special_tokens_are_barred_from_samples(lm, monkeypatch):
    """A model that would always say </s>: its end, by the tokenizer and by its settings."""
    assert set(lm.special_ids) == {0, 1}
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", [1, 40])
    ending = LanguageModel(lm.model, lm.tokenizer)
    assert ending.special_ids == [0, 1, 40]
    whole = ending.logits

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        return whole(hidden).index_fill(-1, torch.tensor(ending.special_ids), 99.0)

    monkeypatch.setattr(ending, "logits", logits)
    texts = sampling.sample(ending, PROMPTS, [10, 10, 10], ROW_SEEDS)
    for text, prompt in zip(texts, PROMPTS, strict=True):
        assert len(text) > len(prompt)
        assert "<s>" not in text
        assert "</s>" not in text
    assert sampling.complete(ending, PROMPTS, 10) == ["", "", ""]


def test_completions_end_with_the_text(lm, monkeypatch):
    words = lm.encode_target("the city is old", "I think that")
    decoded = torch.tensor([[*words[:2], 1, *words[2:]], [*words, words[0]]])
    monkeypatch.setattr(decoding, "decode", lambda *_arguments, **_settings: decoded)
    got = sampling.complete(lm, PROMPTS[:2], decoded.shape[1])
    assert got == [lm.decode(words[:2]), lm.decode([*words, words[0]])]


def test_a_completion_that_is_enough_ends_early_and_changes_no_other(tiny_lm):
    full = sampling.complete(tiny_lm, PROMPTS, 12)
    early = sampling.complete(tiny_lm, PROMPTS, 12, lambda row, text: row == 1 and len(text) > 3)
    assert len(early[1]) < len(full[1])
    assert full[1].startswith(early[1])
    assert early[:1] + early[2:] == full[:1] + full[2:]


def test_completions_are_greedy_and_without_the_prompt(tiny_lm):
    for prompt, text in zip(PROMPTS, sampling.complete(tiny_lm, PROMPTS, 6), strict=True):
        assert tiny_lm.special_ids  # the tiny models never come to an end in so few tokens
        greedy = drawn_by_hand(tiny_lm, prompt, 6, seed=0, k=1)
        assert greedy == tiny_lm.decode(tiny_lm.encode(prompt)) + text


# --------------------------------------------------------------------------------------------------
# Context templates and essence texts


def test_rome_contexts(lm, lengths_written):
    contexts = sampling.rome_contexts(lm, [(6, 3), (12, 2)], seed=0)
    assert contexts[0] == "{}"
    assert len(contexts) == 1 + 3 + 2
    assert len(set(contexts)) == len(contexts)
    for context in contexts[1:]:
        assert context.startswith("The")
        assert context.endswith(". {}")
        assert context.count("{") == context.count("}") == 1
    assert lengths_written == [[6] * 3, [12] * 2]


def test_memit_contexts(lm, lengths_written):
    bare, prefixed = sampling.memit_contexts(lm, 8, seed=0)
    assert bare == ["{}"]
    assert len(prefixed) == 5
    for context, start in zip(prefixed, sampling.MEMIT_STARTS, strict=True):
        assert context.startswith(start)
        assert context.endswith(". {}")
    ((first, *_),) = lengths_written
    assert first == 8


def test_contexts_belong_to_their_seed(lm):
    def everything(seed: int) -> list[str]:
        sets = sampling.memit_contexts(lm, 8, seed)
        return sampling.rome_contexts(lm, [(6, 2), (12, 2)], seed) + sets[1]

    assert everything(0) == everything(0)
    assert all(a != b for a, b in zip(everything(0), everything(1), strict=True) if a != "{}")
    # More samples, or other lengths beside them, leave those there are.
    few, more = (sampling.rome_contexts(lm, lengths, 0) for lengths in ([(6, 2)], [(9, 1), (6, 3)]))
    assert more[2:4] == few[1:]


def test_braces_in_contexts_are_replaced(lm, monkeypatch):
    monkeypatch.setattr(sampling, "sample", lambda *_arguments: ["The {river} of {}"])
    assert sampling.rome_contexts(lm, [(6, 1)], seed=0) == ["{}", "The  river  of   . {}"]


def test_essence_texts(lm, lengths_written):
    def texts_of(*subjects: str, count: int = 4, seed: int = 0) -> list[list[str]]:
        return sampling.essence_texts(lm, subjects, count=count, tokens=20, seed=seed)

    (texts,) = texts_of("Madrid")
    assert len(set(texts)) == 4
    assert all(text.startswith("Madrid is a") for text in texts)
    assert lengths_written == [[20] * 4]
    assert texts_of("Madrid") == [texts]
    assert texts_of("Madrid", count=2) == [texts[:2]]
    assert not set(texts_of("Madrid", seed=1)[0]) & set(texts)
    others = texts_of("the old city of the king")
    assert texts_of("the old city of the king", "Madrid") == [*others, texts], "each its own"
    assert texts_of() == []


def test_seeds_differ_in_every_part():
    made = [
        seeds.derive(0, "essence", "Madrid", 0),
        seeds.derive(1, "essence", "Madrid", 0),
        seeds.derive(0, "context", "Madrid", 0),
        seeds.derive(0, "essence", "Rome", 0),
        seeds.derive(0, "essence", "Madrid", 1),
        seeds.derive(0, "essence", "Madrid0"),
    ]
    assert len(set(made)) == len(made)
    assert all(a != b and 0 <= a < 2**32 for a, b in pairwise(made))
    assert made[0] == seeds.derive(0, "essence", "Madrid", 0)


# --------------------------------------------------------------------------------------------------
# o_noise

NOISED = (["The capital city of Madrid is"], ["Madrid"])
NOISE = {"sigma": 0.5, "n_noise": 4, "seed": 1}


@torch.no_grad()
def continued_by_hand(lm: LanguageModel, steps: int) -> list[int]:
    """Whole noised passes; the first token is the likeliest that begins a word."""
    (prompt,), (subject,) = NOISED
    row = oracle.Row(ids=lm.encode(prompt))
    rows = oracle.with_noise(lm.model, lm.tokenizer, row, prompt, subject, **NOISE)
    chosen: list[int] = []
    for step in range(steps):
        grown = [oracle.replace(r, ids=r.ids + chosen) for r in rows]
        mean = oracle.forward(lm.model, grown)[:, -1].exp().mean(0)
        for token in mean.argsort(descending=True).tolist():
            text = lm.tokenizer.decode([token])
            if step or (len(text) > 1 and text[0] == " " and text[1].isalnum()):
                chosen.append(token)
                break
    return chosen


def test_o_noise_is_the_first_word_of_the_corrupted_continuation(tiny_lm):
    (got,) = sampling.corrupted_continuations(tiny_lm, *NOISED, **NOISE, max_tokens=4)
    text = tiny_lm.decode(continued_by_hand(tiny_lm, 4))
    assert text.startswith(" "), "it begins a word"
    assert got == text.split()[0].rstrip(".,;:!?\"')")


@pytest.mark.parametrize("seed", range(4))
def test_o_noise_is_one_word_whatever_the_noise(tiny_lm, seed):
    draw = {"sigma": 2.0, "n_noise": 3, "seed": seed}
    got, again = (sampling.corrupted_continuations(tiny_lm, *NOISED, **draw) for _ in range(2))
    assert got == again
    (first,) = got
    assert first
    assert first[0].isalnum()
    assert first == first.strip()
    assert len(first.split()) == 1


def test_o_noise_without_noise_is_the_clean_continuation(lm):
    got = [
        sampling.corrupted_continuations(lm, *NOISED, sigma=0.0, n_noise=n, seed=seed)
        for n, seed in ((1, 0), (5, 3))
    ]
    assert got[0] == got[1]


@pytest.mark.parametrize("write", ["corrupted_continuations", "corrupted_texts"])
def test_o_noise_of_a_fact_is_the_same_among_others(tiny_lm, write):
    prompts = [
        *NOISED[0],
        "I said that the mother tongue of the old king is",
        "It was reported on Monday that the mother tongue of the king of Madrid is",
    ]
    subjects = [*NOISED[1], "the old king", "Madrid"]
    write = getattr(sampling, write)
    together = write(tiny_lm, prompts, subjects, **NOISE)
    for prompt, subject, text in zip(prompts, subjects, together, strict=True):
        assert write(tiny_lm, [prompt], [subject], **NOISE) == [text]
