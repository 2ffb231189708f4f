"""Text that the model itself writes: completions, context templates, essence texts, o_noise.

All of it through `passes.decode`, right-padded, with draws that belong to a row and not to a batch.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from locedit import passes, seeds
from locedit.models import LanguageModel
from locedit.noise import place

Choose = Callable[[int, Tensor], Tensor]
REVERSAL_TOKENS = 12  # of the released code's target of tracing reversal, prompt included
MEMIT_STARTS = ("The", "Therefore", "Because", "I", "You")


def greedy(_step: int, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def top_k(uniforms: np.ndarray, k: int, barred: Sequence[int]) -> Choose:
    """Sample among the k likeliest tokens; uniforms [B, steps] in [0, 1) are the row's own draws.

    `barred` tokens (end of text, chat marks) are never chosen.
    """

    def choose(step: int, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[:, list(barred)] = -torch.inf
        values, tokens = logits.topk(k, dim=-1)
        edges = values.double().softmax(dim=-1).cumsum(dim=-1)
        draw = torch.from_numpy(uniforms[:, step : step + 1].copy()).to(edges)
        index = (draw > edges).sum(dim=-1, keepdim=True).clamp(max=k - 1)
        return tokens.gather(1, index)[:, 0]

    return choose


@torch.inference_mode()
def sample(
    lm: LanguageModel, prompts: Sequence[str], steps: int, row_seeds: Sequence[int], *, k: int = 5
) -> list[str]:
    """Each prompt with `steps` sampled tokens behind it, one seed a row."""
    if steps <= 0 or not prompts:
        return list(prompts)
    uniforms = np.stack([np.random.RandomState(seed).random_sample(steps) for seed in row_seeds])
    ids = [lm.encode(prompt) for prompt in prompts]
    tokens = passes.decode(lm, ids, steps, top_k(uniforms, k, lm.special_ids))
    return [lm.decode(row + new) for row, new in zip(ids, tokens.tolist(), strict=True)]


@torch.inference_mode()
def complete(
    lm: LanguageModel,
    prompts: Sequence[str],
    steps: int,
    enough: Callable[[int, str], bool] = lambda _row, _text: False,
) -> list[str]:
    """Greedy continuations of `steps` tokens, without the prompt, cut at the end of text.

    A row whose text so far is `enough(row, text)` may end early.
    """
    ends = {*lm.special_ids, -1}

    def text(tokens: list[int]) -> str:
        return lm.decode(
            tokens[: next((i for i, t in enumerate(tokens) if t in ends), len(tokens))]
        )

    def done(rows: Tensor, tokens: Tensor) -> Tensor:
        written = zip(rows.tolist(), tokens.tolist(), strict=True)
        finished = [not ends.isdisjoint(new) or enough(row, text(new)) for row, new in written]
        return torch.tensor(finished, device=lm.device)

    ids = [lm.encode(prompt) for prompt in prompts]
    return [text(new) for new in passes.decode(lm, ids, steps, greedy, done=done).tolist()]


def rome_contexts(lm: LanguageModel, lengths: Sequence[tuple[int, int]], seed: int) -> list[str]:
    """ "{}" and, for each (tokens, count), `count` samples of that length that begin with "The"."""
    contexts = ["{}"]
    for tokens, count in lengths:
        contexts += _templates(lm, ["The"] * count, tokens, seed)
    return contexts


def memit_contexts(lm: LanguageModel, tokens: int, seed: int) -> list[list[str]]:
    """{bare} and one prefixed template for each of MEMIT's five first words."""
    return [["{}"], _templates(lm, MEMIT_STARTS, tokens, seed)]


def _templates(lm: LanguageModel, starts: Sequence[str], tokens: int, seed: int) -> list[str]:
    row_seeds = [seeds.derive(seed, "context", tokens, i) for i in range(len(starts))]
    new = tokens - len(lm.encode(starts[0]))
    texts = sample(lm, starts, new, row_seeds)
    return [text.replace("{", " ").replace("}", " ") + ". {}" for text in texts]


def essence_texts(
    lm: LanguageModel, subject: str, *, count: int, tokens: int, seed: int
) -> list[str]:
    """Samples of "{subject} is a", `tokens` tokens in all, the same for every edit of a fact."""
    prompt = f"{subject} is a"
    row_seeds = [seeds.derive(seed, "essence", subject, i) for i in range(count)]
    return sample(lm, [prompt] * count, tokens - len(lm.encode(prompt)), row_seeds)


def corrupted_continuation(
    lm: LanguageModel,
    prompt: str,
    subject: str,
    *,
    sigma: float,
    n_noise: int,
    seed: int,
    max_tokens: int = 5,
) -> str:
    """o_noise: the first word of the greedy continuation of the corrupted prompt (section 3).

    Next-token probabilities are averaged over the noise rows. The first token is chosen among
    those that begin a word, so that o_noise is an object as the others are: " " + o_noise.
    """
    noise = _noised(lm, prompt, subject, sigma, n_noise, seed)
    tokens = _corrupted_greedy(lm, prompt, max_tokens, noise, first=_word_starts(lm))
    return lm.decode(tokens).split()[0].rstrip(".,;:!?\"')")


def corrupted_text(
    lm: LanguageModel,
    prompt: str,
    subject: str,
    *,
    sigma: float,
    n_noise: int,
    seed: int,
    tokens: int = REVERSAL_TOKENS,
) -> str:
    """The quirk's o_noise: the prompt and that continuation, `tokens` tokens in all (section 8).

    A prompt as long as that stands alone.
    """
    ids, noise = lm.encode(prompt), _noised(lm, prompt, subject, sigma, n_noise, seed)
    return lm.decode(ids + _corrupted_greedy(lm, prompt, tokens - len(ids), noise))


def _noised(
    lm: LanguageModel, prompt: str, subject: str, sigma: float, n_noise: int, seed: int
) -> Tensor:
    """The tracing noise on a prompt's subject, [n_noise, T, d]."""
    ranges = [lm.subject_range(prompt, subject)] * n_noise
    return place(lm, ranges, len(lm.encode(prompt)), sigma=sigma, seed=seed)


@torch.inference_mode()
def _corrupted_greedy(
    lm: LanguageModel, prompt: str, steps: int, noise: Tensor, first: Tensor | None = None
) -> list[int]:
    """Tokens of the largest mean probability over the noise rows; `first` admits a first one."""
    if steps <= 0:
        return []

    def choose(step: int, logits: Tensor) -> Tensor:
        mean = logits.softmax(dim=-1).mean(dim=0)
        if step == 0 and first is not None:
            mean = mean.masked_fill(~first, 0.0)
        return mean.argmax().expand(logits.shape[0])

    prompts = [lm.encode(prompt)] * len(noise)
    return passes.decode(lm, prompts, steps, choose, noise=noise)[0].tolist()


@functools.lru_cache(maxsize=4)
def _word_starts(lm: LanguageModel) -> Tensor:
    """[vocabulary] bool: tokens whose text is a space and then a letter or digit."""
    texts = lm.continuation([[i] for i in range(lm.vocabulary_size)])
    marks = [len(text) > 1 and text[0] == " " and text[1].isalnum() for text in texts]
    return torch.tensor(marks, device=lm.device)
