"""Facts: reading data sets, saying what is wrong with a record, and which facts a model knows.

METHODS section 1. A record that cannot be used becomes an excluded row with its reason.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from locedit import passes, sampling, seeds
from locedit.models import LanguageModel

KEPT, EXCLUDED = "kept", "excluded"


class DataError(ValueError):
    """A data file that cannot be read as what it is said to be."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """(subject, relation, object) with its prompts; `template` holds one `{}` for the subject."""

    case_id: str
    relation_id: str
    subject: str
    template: str
    target_true: str
    target_new: str
    paraphrases: list[str] = field(default_factory=list)
    neighbourhood: list[str] = field(default_factory=list)
    generation_prompts: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        return self.template.replace("{}", self.subject)


Raw = Mapping[str, Any]


def _native(record: Raw) -> dict[str, Any]:
    return dict(record)


def _counterfact(record: Raw) -> dict[str, Any]:
    """ROME's CounterFact record (Meng et al. 2022, appendix D)."""
    rewrite = record["requested_rewrite"]
    return {
        "case_id": record["case_id"],
        "relation_id": rewrite.get("relation_id", ""),
        "subject": rewrite["subject"],
        "template": rewrite["prompt"],
        "target_true": rewrite["target_true"]["str"],
        "target_new": rewrite["target_new"]["str"],
        "paraphrases": record.get("paraphrase_prompts", []),
        "neighbourhood": record.get("neighborhood_prompts", []),
        "generation_prompts": record.get("generation_prompts", []),
    }


FORMATS: dict[str, Callable[[Raw], dict[str, Any]]] = {
    "native": _native,
    "counterfact": _counterfact,
}


def read_records(path: str | Path, format: str, n: int | None = None) -> list[dict[str, Any]]:
    """Rows for the first n records of a JSON data file, each kept or excluded with its reason.

    Raises DataError for an unknown format, a file that is not a JSON list, or n < 1.
    """
    if format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"unknown data format {format!r} (known: {', '.join(sorted(FORMATS))}){hint}"
        )
    if n is not None and n < 1:
        raise DataError(f"n facts must be at least 1, got {n}")
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such data file; check `path` of the data set") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not JSON ({error}); expected a list of {format} records"
        ) from error
    if not isinstance(records, list):
        raise DataError(
            f"{path} holds a JSON {type(records).__name__}; expected a list of {format} records"
        )
    return list(_rows(records[:n], FORMATS[format]))


def _rows(
    records: Iterable[Any], reader: Callable[[Raw], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for index, record in enumerate(records):
        try:
            if not isinstance(record, Mapping):
                raise TypeError(f"expected a JSON object, got {type(record).__name__}")
            values = reader(record)
        except KeyError as error:
            values, reason = {}, f"{error.args[0]} is missing"
        except (TypeError, AttributeError, ValueError) as error:
            values, reason = {}, f"record cannot be read: {error}"
        else:
            reason = _fault(values)
        case_id = str(values.get("case_id", f"record-{index}"))
        if not reason and case_id in seen:
            reason = f"case_id {case_id} occurs before in the file"
        seen.add(case_id)
        yield _row(case_id, values, reason)


def _row(case_id: str, values: Raw, reason: str) -> dict[str, Any]:
    def text(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else ""

    def texts(name: str) -> list[str]:
        value = values.get(name)
        return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []

    fact = Fact(
        case_id=case_id,
        relation_id=text("relation_id"),
        subject=text("subject"),
        template=text("template"),
        target_true=text("target_true").strip(),
        target_new=text("target_new").strip(),
        paraphrases=texts("paraphrases"),
        neighbourhood=texts("neighbourhood"),
        generation_prompts=texts("generation_prompts"),
    )
    status = EXCLUDED if reason else KEPT
    return {**asdict(fact), "prompt": fact.prompt, "status": status, "reason": reason}


def _fault(values: Raw) -> str:
    """Why a record cannot be used, naming the field; "" if it can."""
    for name in ("subject", "template", "target_true", "target_new"):
        value = values.get(name)
        if value is None:
            return f"{name} is missing"
        if not isinstance(value, str):
            return f"{name}: expected text, got {type(value).__name__}"
        if not value.strip():
            return f"{name} is empty"
    for name in ("paraphrases", "neighbourhood", "generation_prompts"):
        value = values.get(name, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            return f"{name}: expected a list of texts"
        if any(not v.strip() for v in value):
            return f"{name} holds an empty prompt"
    holes = values["template"].count("{}")
    if holes != 1:
        return f"template: the prompt lacks the subject: expected one {{}}, found {holes}"
    if values["target_true"].strip() == values["target_new"].strip():
        return "target_new equals target_true"
    return ""


def from_row(row: Raw) -> Fact:
    """The Fact of a facts-table row."""
    values: dict[str, Any] = {
        name: list(row[name]) if name in _LISTS else row[name] for name in Fact.__dataclass_fields__
    }
    return Fact(**values)


_LISTS = ("paraphrases", "neighbourhood", "generation_prompts")


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
    it where it is. Rows whose prompt does not fit the model become excluded.
    """
    usable = [row for row in rows if row["status"] == KEPT and _fits(lm, row, completion_tokens)]
    usable.sort(key=lambda row: (len(lm.encode(row["prompt"])), row["case_id"]))
    for low in range(0, len(usable), batch):
        chunk = usable[low : low + batch]
        objects = [row["target_true"].lower() for row in chunk]

        def said(index: int, text: str, objects: list[str] = objects) -> bool:
            return objects[index] in text.lower()

        prompts = [row["prompt"] for row in chunk]
        completions = sampling.complete(lm, prompts, completion_tokens, said)
        for index, (row, text, p) in enumerate(
            zip(chunk, completions, _p_true(lm, chunk), strict=True)
        ):
            row.update(completion=text, is_correct=said(index, text), p_true=p)
        progress(len(chunk))


def _fits(lm: LanguageModel, row: dict[str, Any], extra: int) -> bool:
    limit = getattr(lm.config, "max_position_embeddings", None)
    tokens = max(
        len(lm.encode(text)) for text in (row["prompt"], *row["paraphrases"], *row["neighbourhood"])
    )
    if limit is None or tokens + extra <= limit:
        return True
    reason = f"a prompt of {tokens} tokens and {extra} more exceed the model's {limit}"
    row.update(status=EXCLUDED, reason=reason)
    return False


def _p_true(lm: LanguageModel, rows: Sequence[dict[str, Any]]) -> list[float]:
    prompts = [lm.encode(row["prompt"]) for row in rows]
    targets = [lm.encode_target(row["target_true"]) for row in rows]
    full = [prompt + target[:-1] for prompt, target in zip(prompts, targets, strict=True)]
    ids, _ = passes.pad(full, lm.device)
    hidden = passes.run(lm, passes.embed(lm, ids), passes.whole(lm, ids.shape[1]))
    ends = [len(prompt) - 1 for prompt in prompts]
    return passes.target_log_probs(lm, hidden, range(len(rows)), ends, targets).exp().tolist()


def known(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a facts table that the model knows, indexed by case_id (still a column)."""
    is_correct = table["is_correct"].astype("boolean").fillna(False).astype(bool)
    return table[is_correct].set_index("case_id", drop=False)


def study_order(case_ids: Iterable[str], seed: int) -> list[str]:
    """Case ids in a seeded order of which every prefix is a sample: a larger study extends it."""
    return sorted(case_ids, key=lambda case_id: (seeds.derive(seed, "study", case_id), case_id))
