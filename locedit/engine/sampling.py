"""Text that the model itself writes: completions, context templates, essence texts, o_noise.

All of it through `passes.decode`, right-padded, with draws that belong to a row and not to a batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locedit import seeds
from locedit.engine import decoding
from locedit.engine.noise import place
from locedit.errors import LoceditError
from locedit.model.language_model import LanguageModel
from locedit.text.joining import BLANK, PART, blankless, first_word, gaps

Choose = Callable[[int, Tensor, Tensor], Tensor]  # of `passes.decode`
REVERSAL_TOKENS = 12  # of the released code's target of tracing reversal, prompt included
MEMIT_STARTS = ("The", "Therefore", "Because", "I", "You")


def greedy(_step: int, _rows: Tensor, logits: Tensor) -> Tensor:
    return logits.argmax(dim=-1)


def top_k(uniforms: Tensor, k: int, barred: Sequence[int]) -> Choose:
    """Sample among the k likeliest tokens; uniforms [B, steps] in [0, 1) are the row's own draws.

    `barred` tokens (end of text, chat marks) are never chosen.
    """

    never = torch.tensor([*barred], dtype=torch.long, device=uniforms.device)

    def choose(step: int, rows: Tensor, logits: Tensor) -> Tensor:
        values, tokens = logits.index_fill(1, never, -torch.inf).topk(k, dim=-1)
        edges = values.double().softmax(dim=-1).cumsum(dim=-1)
        index = (uniforms[rows, step, None] > edges).sum(dim=-1, keepdim=True).clamp(max=k - 1)
        return tokens.gather(1, index)[:, 0]

    return choose


@torch.inference_mode()
def sample(
    lm: LanguageModel,
    prompts: Sequence[str],
    steps: Sequence[int],
    row_seeds: Sequence[int],
    *,
    k: int = 5,
) -> list[str]:
    """Prompt i with steps[i] sampled tokens behind it, one seed a row; alone where there are none.

    A row's draws are its seed's, however many tokens the others get.
    """
    most = max(steps, default=0)
    if most <= 0:
        return list(prompts)
    draws = np.stack([np.random.RandomState(seed).random_sample(most) for seed in row_seeds])
    uniforms = torch.from_numpy(draws).to(lm.device)
    ids = [lm.encode(prompt) for prompt in prompts]
    tokens = decoding.decode(lm, ids, steps, top_k(uniforms, k, lm.special_ids)).tolist()
    return [
        lm.decode(row + new[:count]) if count > 0 else prompt
        for prompt, row, new, count in zip(prompts, ids, tokens, steps, strict=True)
    ]


@torch.inference_mode()
def complete(
    lm: LanguageModel,
    prompts: Sequence[str],
    steps: int,
    enough: Callable[[int, str], bool] = lambda _row, _text: False,
) -> list[str]:
    """Greedy continuations of `steps` tokens, without the prompt, cut at the end of text.

    A leading space is kept.

    A row whose text so far is `enough(row, text)` may end early.
    """
    ends = {*lm.special_ids, -1}

    def done(rows: Sequence[int], tokens: Tensor) -> list[bool]:
        written = zip(rows, tokens.tolist(), strict=True)
        return [not ends.isdisjoint(new) or enough(row, until_end(lm, new)) for row, new in written]

    ids = [lm.encode(prompt) for prompt in prompts]
    written = decoding.decode(lm, ids, [steps] * len(ids), greedy, done=done)
    return [until_end(lm, new) for new in written.tolist()]


def until_end(lm: LanguageModel, tokens: list[int]) -> str:
    """What tokens add to a text, up to the end of text; its leading space kept."""
    ends = {*lm.special_ids, -1}
    end = next((i for i, t in enumerate(tokens) if t in ends), len(tokens))
    return lm.continuation([tokens[:end]])[0]


def likeliest_of_groups(group: Sequence[int], device: torch.device) -> Choose:
    """The likeliest token by the mean probability of each group of rows; group: of each row."""
    of_row = torch.tensor(group, device=device)
    sizes = torch.bincount(of_row)

    def choose(_step: int, rows: Tensor, logits: Tensor) -> Tensor:
        if len(sizes) == len(of_row):
            return logits.argmax(dim=-1)
        p = logits.softmax(dim=-1)
        total = p.new_zeros(len(sizes), p.shape[1]).index_add(0, of_row[rows], p)
        return (total / sizes[:, None]).argmax(dim=-1)[of_row[rows]]

    return choose


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
    texts = sample(lm, starts, [new] * len(starts), row_seeds)
    return [text.replace("{", " ").replace("}", " ") + ". {}" for text in texts]


def essence_texts(
    lm: LanguageModel, subjects: Sequence[str], *, count: int, tokens: int, seed: int
) -> list[list[str]]:
    """For each subject `count` samples of "{subject} is a", `tokens` tokens in all.

    The same for every edit of a fact.
    """
    starts = [f"{subject} is a" for subject in subjects for _ in range(count)]
    steps = [tokens - len(lm.encode(start)) for start in starts]
    row_seeds = [
        seeds.derive(seed, "essence", subject, i) for subject in subjects for i in range(count)
    ]
    texts = iter(sample(lm, starts, steps, row_seeds))
    return [[next(texts) for _ in range(count)] for _ in subjects]


def corrupted_continuations(
    lm: LanguageModel,
    prompts: Sequence[str],
    subjects: Sequence[str],
    *,
    sigma: float,
    n_noise: int,
    seed: int,
    starts: Sequence[int] | None = None,
    max_tokens: int = 5,
) -> list[str]:
    """o_noise: the first word of each corrupted prompt's greedy continuation (section 3).

    Next-token probabilities are averaged over the noise rows. The first token is chosen among
    those that begin a word, so that o_noise is an object as the others are: behind a blank, or
    where the prompt's end asks for none, without. starts: each subject's, as
    `LanguageModel.subject_range` takes it. Raises LoceditError where no word comes of it.
    """
    steps = [max_tokens] * len(prompts)
    first = torch.stack(
        [_word_starts(lm, gaps(prompt), any(map(blankless, prompt))) for prompt in prompts]
    )
    noise: dict[str, Any] = {"sigma": sigma, "n_noise": n_noise, "seed": seed, "starts": starts}
    written = _corrupted_greedy(lm, prompts, subjects, steps, first=first, **noise)
    return [
        _first_word(lm.decode(tokens), prompt)
        for tokens, prompt in zip(written, prompts, strict=True)
    ]


def _first_word(text: str, prompt: str) -> str:
    """The first word that a corrupted prompt is continued with; ValueError for none."""
    if any(map(blankless, prompt)):  # letters of several tokens: the last may be cut in two
        text = text.partition(PART)[0]
    word = first_word(text)
    if not word:
        raise LoceditError(f"the model continues the corrupted {prompt!r} with no word")
    return word


def corrupted_texts(
    lm: LanguageModel,
    prompts: Sequence[str],
    subjects: Sequence[str],
    *,
    sigma: float,
    n_noise: int,
    seed: int,
    starts: Sequence[int] | None = None,
    tokens: int = REVERSAL_TOKENS,
) -> list[str]:
    """The quirk's o_noise: each prompt and its continuation, `tokens` tokens in all (section 8).

    A prompt as long as that stands alone.
    """
    ids = [lm.encode(prompt) for prompt in prompts]
    steps = [max(0, tokens - len(row)) for row in ids]
    noise: dict[str, Any] = {"sigma": sigma, "n_noise": n_noise, "seed": seed, "starts": starts}
    written = _corrupted_greedy(lm, prompts, subjects, steps, **noise)
    return [lm.decode(row + new) for row, new in zip(ids, written, strict=True)]


@torch.inference_mode()
def _corrupted_greedy(
    lm: LanguageModel,
    prompts: Sequence[str],
    subjects: Sequence[str],
    steps: Sequence[int],
    *,
    sigma: float,
    n_noise: int,
    seed: int,
    starts: Sequence[int] | None,
    first: Tensor | None = None,
) -> list[list[int]]:
    """steps[i] tokens behind each prompt, the likeliest by the mean over its noise rows.

    first: [prompts, vocabulary] bool, those that may be the first.
    """

    def choose(step: int, _rows: Tensor, logits: Tensor) -> Tensor:
        mean = logits.softmax(dim=-1).unflatten(0, (-1, n_noise)).mean(dim=1)
        if step == 0 and first is not None:
            mean = mean.masked_fill(~first, 0.0)
        return mean.argmax(dim=-1).repeat_interleave(n_noise)

    rows, ranges, counts = [], [], []
    places = [None] * len(prompts) if starts is None else starts
    for prompt, subject, start, count in zip(prompts, subjects, places, steps, strict=True):
        rows += [lm.encode(prompt)] * n_noise
        ranges += [lm.subject_range(prompt, subject, start)] * n_noise
        counts += [count] * n_noise
    draws, length = [*range(n_noise)] * len(prompts), max(map(len, rows))
    noise = place(lm, ranges, length, sigma=sigma, seed=seed, draws=draws)
    written = decoding.decode(lm, rows, counts, choose, noise=noise)[::n_noise].tolist()
    return [new[:count] for new, count in zip(written, steps, strict=True)]


@functools.lru_cache(maxsize=8)
def _word_starts(
    lm: LanguageModel, gaps: tuple[str, str] = (BLANK, BLANK), parts: bool = False
) -> Tensor:
    """[vocabulary] bool: tokens whose text is a gap and then a letter or digit.

    gaps: as `joining.gaps` has them. parts: where there is none, some bytes of a letter will do.
    """

    def begins(text: str) -> bool:
        gap = BLANK if text.startswith(BLANK) else ""
        letter = text[len(gap) : len(gap) + 1]
        if text == PART:
            return parts and not gaps[1]
        return letter.isalnum() and gap == gaps[blankless(letter)]

    texts = lm.continuation([[i] for i in range(lm.vocabulary_size)])
    return torch.tensor([begins(text) for text in texts], device=lm.device)
