"""Which facts a model knows: greedy completions and p(o_true) (METHODS section 1)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from locedit.engine import log_probs, passes, sampling
from locedit.facts.formats import LISTS
from locedit.facts.record import EXCLUDED, KEPT, one_remark
from locedit.model.language_model import LanguageModel
from locedit.model.memory import in_batches
from locedit.text.subjects import in_template


@torch.inference_mode()
def add_knowledge(
    lm: LanguageModel,
    rows: Sequence[dict[str, Any]],
    *,
    completion_tokens: int = 36,
    batch: int = 64,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Fill in is_correct, completion and p_true of kept rows, in place.

    is_correct: o_true, lower-cased, is a substring of the greedy completion, which ends soon after
    it where it is. Rows whose prompt does not fit the model, or whose subject or object its
    tokenizer does not know, become excluded; those whose prompt and target the tokenizer would
    merge, or that hold a text that it changes, get a remark.
    """
    usable = [row for row in rows if row["status"] == KEPT and _fits(lm, row, completion_tokens)]
    usable.sort(key=lambda row: (len(lm.encode(row["prompt"])), row["case_id"]))

    def said_of(chunk: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        objects = [row["target_true"].lower() for row in chunk]

        def said(index: int, text: str) -> bool:
            return objects[index] in text.lower()

        prompts = [row["prompt"] for row in chunk]
        completions = sampling.complete(lm, prompts, completion_tokens, said)
        p_true = _p_true(lm, chunk)
        progress(len(chunk))
        return [
            {"completion": text, "is_correct": said(index, text), "p_true": p}
            for index, (text, p) in enumerate(zip(completions, p_true, strict=True))
        ]

    for row, found in zip(usable, in_batches(said_of, usable, "facts", batch), strict=True):
        row.update(found)


def _fits(lm: LanguageModel, row: dict[str, Any], extra: int) -> bool:
    """Whether the model can read the fact's longest prompt with its completion or either object.

    And has tokens for subject and objects. Texts that the tokenizer changes are a remark.
    """
    texts = (row["prompt"], *(text for name in LISTS for text in row[name]))
    names = ("target_true", "target_new")
    try:
        objects = {
            name: [len(lm.encode_target(row[name], text)) for text in texts] for name in names
        }
        start = in_template(row["template"], row["subject"])
        targets = [row[name] for name in names]
        unknown = lm.unknown(row["prompt"], row["subject"], start, targets, texts)
    except ValueError as error:
        row.update(status=EXCLUDED, reason=str(error), remark=None)
        return False
    tokens = max(len(lm.encode(text)) for text in texts)
    extra = max(extra, *(max(counts) for counts in objects.values()))
    limit = lm.context_length
    if limit is not None and tokens + extra > limit:
        reason = f"a prompt of {tokens} tokens and {extra} more exceed the model's {limit}"
    else:
        empty = [name for name, counts in objects.items() if not min(counts)]
        reason = f"{empty[0]} holds no token of the model's" if empty else unknown
    if reason:
        row.update(status=EXCLUDED, reason=reason, remark=None)
        return False
    merged = [row[name] for name in names if lm.text.merges(row["prompt"], row[name])]
    said = [f"as one text, the prompt and {target!r} have other tokens" for target in merged]
    changed = lm.text.changes(list(dict.fromkeys((*texts, *targets))))
    row["remark"] = one_remark(row["remark"], *said, changed)
    return True


def _p_true(lm: LanguageModel, rows: Sequence[dict[str, Any]]) -> list[float]:
    prompts = [lm.encode(row["prompt"]) for row in rows]
    targets = [lm.encode_target(row["target_true"], row["prompt"]) for row in rows]
    full = [prompt + target[:-1] for prompt, target in zip(prompts, targets, strict=True)]
    ids, _ = passes.pad(full, lm.device)
    hidden = passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
    ends = [len(prompt) - 1 for prompt in prompts]
    return log_probs.target_log_probs(lm, hidden, range(len(rows)), ends, targets).exp().tolist()
