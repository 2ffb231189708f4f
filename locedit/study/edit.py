"""One cell of the grid: a method, a problem and a layer, over all facts, edited and measured.

The unedited numbers come from the baseline table; nothing that does not depend on the edit is
computed here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from locedit import outcomes, seeds, shards
from locedit.engine import sampling
from locedit.engine.updates import Updates, applied, each_felt, felt, total_norms
from locedit.errors import LoceditError
from locedit.facts.record import Fact
from locedit.methods import METHODS, Edit, SharedInputs, problems, together
from locedit.methods.problems import Problem, Request
from locedit.model.language_model import LanguageModel
from locedit.outcomes import OK
from locedit.study import measure
from locedit.study.batching import together_or_alone
from locedit.study.held_out import HeldOut


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How facts are measured: prompts of each kind at most (None: all), generated tokens, noise.

    greedy_tokens: written greedily behind the prompt and its paraphrases. held_out: paragraphs
    whose perplexity is taken under each edit, if any.
    """

    paraphrases: int | None = None
    neighbours: int | None = None
    generations: int = 1
    generation_tokens: int = 0
    greedy_tokens: int = 0
    sigma: float = 0.0
    n_noise: int = 10
    noise_seed: int = 1
    seed: int = 0
    held_out: HeldOut | None = None

    @classmethod
    def from_settings(
        cls,
        settings: Mapping[str, Any],
        *,
        sigma: float,
        seed: int,
        held_out: HeldOut | None = None,
    ) -> "Measuring":
        """From the configuration's flat names, as in {"scores.neighbours": 10}."""
        named = {name.partition(".")[2]: value for name, value in settings.items()}
        return cls(**named, sigma=sigma, seed=seed, held_out=held_out)


def objects(problem: Problem, fact: Fact, o_noise: str | None) -> tuple[str, str]:
    """(target, other) of a problem for a fact."""
    named = {"true": fact.target_true, "false": fact.target_new, "noise": o_noise}
    target, other = named[problem.target], named[problem.other]
    if target is None or other is None:
        raise LoceditError(f"{problem.name} needs o_noise of fact {fact.case_id}")
    return target, other


def _probe(
    fact: Fact, request: Request, other: str, texts: Sequence[str], how: Measuring
) -> measure.Probe:
    return measure.Probe(
        request=request,
        other=other,
        paraphrases=fact.paraphrases[: how.paraphrases],
        neighbourhood=fact.neighbourhood[: how.neighbours],
        texts=texts,
    )


def _columns(measured: measure.Measurement, suffix: str = "") -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for kind in ("rewrite", "paraphrase", "neighbourhood"):
        target, other = getattr(measured, kind)
        columns |= {f"{kind}_target{suffix}": target, f"{kind}_other{suffix}": other}
    return columns


def generate(
    lm: LanguageModel,
    facts: Sequence[Fact],
    how: Measuring,
    updates: Updates | None = None,
) -> list[list[str]]:
    """Sampled continuations of each fact's generation prompts, under its own edit if given.

    A fact's draws are the same before and after every edit.
    """
    prompts = [fact.generation_prompts[: how.generations] for fact in facts]
    flat = [text for texts in prompts for text in texts]
    if not flat or how.generation_tokens <= 0:
        return [[] for _ in facts]
    row_seeds = [
        seeds.derive(how.seed, "generation", fact.case_id, i)
        for fact, texts in zip(facts, prompts, strict=True)
        for i in range(len(texts))
    ]
    with applied(lm, updates or {}, [len(texts) for texts in prompts]):
        steps = [how.generation_tokens] * len(flat)
        written = iter(sampling.sample(lm, flat, steps, row_seeds))
    return [[next(written) for _ in texts] for texts in prompts]


def baseline(
    lm: LanguageModel,
    problem: Problem,
    facts: Sequence[Fact],
    p_true: Sequence[float],
    how: Measuring,
    min_p_erase: float,
) -> list[dict[str, Any]]:
    """The facts' rows of the baseline table: what the unedited model says of a problem's prompts.

    p_true: [facts], p(o_true), which erasure wants to be at least min_p_erase. Facts are measured
    together; one that cannot be measured tells the reason in its row.
    """
    ready, rows = [], {}
    for fact, p in zip(facts, p_true, strict=True):
        if problem.maximise or p >= min_p_erase:
            ready.append(fact)
        else:
            status = f"{outcomes.NOT_EDITED}p(o_true) = {p:.3g} < {min_p_erase:g}"
            rows[fact.case_id] = {"status": status}
    measured = together_or_alone(lambda some: _unedited(lm, problem, some, how), ready)
    rows |= {fact.case_id: row for fact, row in zip(ready, measured, strict=True)}
    named = ({"case_id": fact.case_id, "problem": problem.name} for fact in facts)
    return [name | rows[name["case_id"]] for name in named]


def _unedited(
    lm: LanguageModel, problem: Problem, facts: Sequence[Fact], how: Measuring
) -> list[dict[str, Any]]:
    o_noise = _o_noise(lm, problem, facts, how)
    compared = [objects(problem, fact, o) for fact, o in zip(facts, o_noise, strict=True)]
    probes = [
        _probe(fact, _request(fact, target, problem), other, (), how)
        for fact, (target, other) in zip(facts, compared, strict=True)
    ]
    measured = _measure(lm, probes, None, how)
    written = generate(lm, facts, how)
    said = _continue(lm, probes, None, how)
    return [
        {
            "target": target,
            "other": other,
            **_columns(of_fact),
            "generations": texts,
            "said": continued,
            "status": OK,
        }
        for (target, other), of_fact, texts, continued in zip(
            compared, measured, written, said, strict=True
        )
    ]


def _o_noise(
    lm: LanguageModel, problem: Problem, facts: Sequence[Fact], how: Measuring
) -> Sequence[str | None]:
    """Each fact's o_noise, where the problem asks for it."""
    if problem.target != "noise":
        return [None] * len(facts)
    prompts, subjects = [fact.prompt for fact in facts], [fact.subject for fact in facts]
    noise: dict[str, Any] = {"sigma": how.sigma, "n_noise": how.n_noise, "seed": how.noise_seed}
    write = (
        sampling.corrupted_texts if problem.prompt_in_target else sampling.corrupted_continuations
    )
    return write(lm, prompts, subjects, starts=[fact.subject_start for fact in facts], **noise)


def _request(fact: Fact, target: str, problem: Problem) -> Request:
    return Request(
        case_id=fact.case_id,
        template=fact.template,
        subject=fact.subject,
        target=target,
        problem=problem,
        true=fact.target_true,
    )


def _measure(
    lm: LanguageModel, probes: Sequence[measure.Probe], updates: Updates | None, how: Measuring
) -> list[measure.Measurement]:
    return measure.measure(
        lm, probes, updates, sigma=how.sigma, n_noise=how.n_noise, seed=how.noise_seed
    )


def _continue(
    lm: LanguageModel, probes: Sequence[measure.Probe], updates: Updates | None, how: Measuring
) -> list[list[str]]:
    noise: dict[str, Any] = {"sigma": how.sigma, "n_noise": how.n_noise, "seed": how.noise_seed}
    return measure.continuations(lm, probes, updates, steps=how.greedy_tokens, **noise)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A fact with what was measured of it before any edit."""

    fact: Fact
    before: Mapping[str, Any]  # its row of the baseline table
    texts: Sequence[str]
    perplexity: Sequence[float]


def unedited(
    lm: LanguageModel,
    problem: Problem,
    facts: Sequence[tuple[Fact, float]],
    how: Measuring,
    min_p_erase: float,
    size: int,
) -> list[Subject]:
    """Facts, each with its p(o_true), with their rows of the baseline table; no essence texts.

    size: facts that are measured side by side.
    """
    subjects = []
    for batch in shards.batches(facts, size):
        some, p_true = [fact for fact, _ in batch], [p for _, p in batch]
        before = baseline(lm, problem, some, p_true, how, min_p_erase)
        subjects += [
            Subject(fact=fact, before=row, texts=[], perplexity=[])
            for fact, row in zip(some, before, strict=True)
        ]
    return subjects


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the grid, with the method's settings there and the quirks that are on.

    layer: the edit layer; None for facts of which none can be edited. together: how many facts
    share an update; 1: each has an edit of its own.
    """

    method: str
    problem: str
    layer: int | None
    hyper: Any
    quirks: Sequence[str] = ()
    together: int = 1


def groups(subjects: Sequence[Subject], n: int) -> list[Sequence[Subject]]:
    """The subjects as n of them are edited together, in the study's order, which is seeded.

    So groups of 10 are parts of those of 100. What is left in the end fills no group, and is not
    edited.
    """
    found = shards.batches(subjects, n)
    if found and len(found[-1]) < n:
        left = found.pop()
        why = f"{outcomes.NOT_EDITED}{len(left)} facts are left, too few for a group of {n}"
        found.append([_unless_ready(subject, why) for subject in left])
    return found


def _unless_ready(subject: Subject, why: str) -> Subject:
    """A subject that could have been edited, with the reason why it is not."""
    if subject.before["status"] != OK:
        return subject
    return replace(subject, before={**subject.before, "status": why})


def batches(lm: LanguageModel, subjects: Sequence[Subject], size: int) -> list[Sequence[Subject]]:
    """The subjects as they are edited together: `size` at a time, those of like length together.

    What is run again of a row is padded to the batch's longest. Those that are not edited at all
    come last.
    """
    ready = [subject for subject in subjects if subject.before["status"] == OK]
    ready.sort(key=lambda subject: _tail_length(lm, subject.fact))
    others = [subject for subject in subjects if subject.before["status"] != OK]
    return [*shards.batches(ready, size), *shards.batches(others, size)]


def edit_cell(
    lm: LanguageModel,
    cell: Cell,
    together: Iterable[Sequence[Subject]],
    shared: SharedInputs,
    how: Measuring,
    *,
    side_by_side: int = shards.BATCH_FACTS,
    progress: Callable[[int], None] = lambda _done: None,
) -> Iterator[dict[str, Any]]:
    """Rows of the editing table, one a subject, in the order of the batches.

    Each fact has an edit of its own; one that fails becomes its row: where a batch fails, its facts
    are tried one by one so that only the bad one is lost. Of a cell whose facts share updates, a
    batch is a group that does; side_by_side: of its facts, those that run in one pass.
    """
    grid = {"method": cell.method, "problem": cell.problem, "layer": cell.layer}
    grid["together"] = cell.together

    def edit(some: Sequence[Subject]) -> list[dict[str, Any]]:
        if cell.together > 1:
            return _edit_group(lm, cell, some, shared, how, side_by_side) if some else []
        return together_or_alone(lambda part: _edit_batch(lm, cell, part, shared, how), some)

    for batch in together:
        ready = [subject for subject in batch if subject.before["status"] == OK]
        rows = {s.fact.case_id: row for s, row in zip(ready, edit(ready), strict=True)}
        for subject in batch:
            case_id = subject.fact.case_id
            found = rows.get(case_id, {"status": subject.before["status"]})
            yield {"case_id": case_id} | grid | found
        progress(len(batch))


def _tail_length(lm: LanguageModel, fact: Fact) -> int:
    """Tokens of the prompt from the subject's end on, the part that optimisation runs again."""
    return len(lm.encode(fact.prompt[fact.subject_start + len(fact.subject) :]))


def _edit_batch(
    lm: LanguageModel, cell: Cell, subjects: Sequence[Subject], shared: SharedInputs, how: Measuring
) -> list[dict[str, Any]]:
    assert cell.layer is not None, "facts without an edit layer are none that can be edited"
    requests, method = _requests(cell, subjects), METHODS[cell.method]
    unfit = method.unfit(cell.layer)
    if unfit is not None:
        return [{"status": outcomes.NOT_EDITED + unfit} for _ in subjects]
    edit = method.edit(lm, requests, cell.layer, cell.hyper, shared)
    if len(edit.not_edited) == len(subjects):
        return [{"status": outcomes.NOT_EDITED + edit.not_edited[i]} for i in range(len(subjects))]
    norms = total_norms(edit.updates)

    def measure_some(some: Sequence[int], updates: Updates) -> list[Measured]:
        return _measured(lm, [subjects[i] for i in some], [requests[i] for i in some], updates, how)

    measured = each_felt(lm, edit.updates, measure_some)
    texts = _texts(lm, how, edit.updates)
    return [
        {"status": outcomes.NOT_EDITED + edit.not_edited[i]}
        if i in edit.not_edited
        else _row(subject, edit, i, norms[i], sorted(edit.updates), *of_fact) | texts[i]
        for i, (subject, of_fact) in enumerate(zip(subjects, measured, strict=True))
    ]


def _texts(lm: LanguageModel, how: Measuring, updates: Updates) -> list[dict[str, Any]]:
    """Columns on held-out paragraphs of each fact that has a change of its own, or of all."""
    if how.held_out is None:
        return [{"text_before": [], "text_after": []} for _ in total_norms(updates)]
    texts = how.held_out
    found = each_felt(lm, updates, lambda _, left: texts.perplexities(lm, left))
    return [{"text_before": list(texts.perplexity), "text_after": after} for after in found]


def _edit_group(
    lm: LanguageModel,
    cell: Cell,
    subjects: Sequence[Subject],
    shared: SharedInputs,
    how: Measuring,
    side_by_side: int,
) -> list[dict[str, Any]]:
    """Rows of facts that share one update, under which each is measured."""
    assert cell.layer is not None, "facts that share an update are edited at one layer"
    requests = _requests(cell, subjects)
    method = METHODS[cell.method]
    what = (requests, cell.layer, cell.hyper, shared)
    made = together.edit(lm, method, *what, side_by_side=side_by_side)
    edited = [i for i, one in enumerate(made.edits) if not isinstance(one, str)]

    texts = _texts(lm, how, made.updates) if edited else []

    def rows_of(some: Sequence[int]) -> list[dict[str, Any]]:
        of_some = ([subjects[i] for i in some], [requests[i] for i in some])
        norm, layers = total_norms(made.updates)[0], sorted(made.updates)
        with felt(lm, made.updates) as left:
            measured = _measured(lm, *of_some, left, how)
        found = []
        for i, of_fact in zip(some, measured, strict=True):
            one = made.edits[i]
            assert not isinstance(one, str)
            edit, place = one
            found.append(_row(subjects[i], edit, place, norm, layers, *of_fact) | texts[0])
        return found

    rows: dict[int, dict[str, Any]] = {}
    for some in shards.batches(edited, side_by_side):
        rows |= dict(zip(some, together_or_alone(rows_of, some), strict=True))
    return [rows.get(i, {"status": one}) for i, one in enumerate(made.edits)]


def _requests(cell: Cell, subjects: Sequence[Subject]) -> list[Request]:
    problem = problems.named(cell.problem, cell.quirks)
    return [_request(s.fact, s.before["target"], problem) for s in subjects]


Measured = tuple[measure.Measurement, list[str], list[str]]


def _measured(
    lm: LanguageModel,
    subjects: Sequence[Subject],
    requests: Sequence[Request],
    updates: Updates,
    how: Measuring,
) -> list[Measured]:
    """What the edited model says of each fact's prompts, and what it writes: at random behind
    generation prompts, greedily behind the prompt and its paraphrases.
    """
    probes = [
        _probe(s.fact, request, s.before["other"], s.texts, how)
        for s, request in zip(subjects, requests, strict=True)
    ]
    with torch.inference_mode():
        measured = _measure(lm, probes, updates, how)
        written = generate(lm, [s.fact for s in subjects], how, updates)
        said = _continue(lm, probes, updates, how)
    return list(zip(measured, written, said, strict=True))


def _row(
    subject: Subject,
    edit: Edit,
    fact: int,
    norm: float,
    layers: Sequence[int],
    after: measure.Measurement,
    written: list[str],
    said: list[str],
) -> dict[str, Any]:
    """What is told of an edit that was made. fact: the subject's place in it."""
    finite = math.isfinite(after.rewrite[0]) and math.isfinite(norm)
    row = {
        "layers": list(layers),
        "target": subject.before["target"],
        "other": subject.before["other"],
        **{f"{name}_before": _plain(subject.before[name]) for name in _columns(after)},
        **_columns(after, "_after"),
        "perplexity_before": list(subject.perplexity),
        "perplexity_after": after.perplexity,
        "generations_before": list(subject.before["generations"]),
        "generations_after": written,
        "said_before": list(subject.before["said"]),
        "said_after": said,
        "update_norm": norm,
        "steps": edit.steps[fact],
        "status": OK if finite else f"{outcomes.FAILED}the edit is not finite",
    }
    if edit.losses:
        row["loss_first"], row["loss_last"] = edit.losses[fact]
    if edit.null_space_rank is not None:
        row["null_space_rank"] = list(edit.null_space_rank)
    if edit.neurons is not None:
        row["neurons"] = edit.neurons[fact]
    return row


def _plain(value: Any) -> Any:
    return value if isinstance(value, float) else list(value)
