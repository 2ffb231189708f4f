"""Which layer to edit in a model: a search by known facts, with the default study's settings."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from locedit.api.inputs import shared_inputs, sources
from locedit.api.look import Look
from locedit.engine.loading import pick_dtype
from locedit.errors import LoceditError
from locedit.facts import bundled, record
from locedit.facts.formats import SEPARATOR
from locedit.facts.record import KEPT, Fact
from locedit.facts.records import CALL, Asker
from locedit.localizers import LOCALIZERS
from locedit.localizers import SharedInputs as LocalizerInputs
from locedit.messages import unknown
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS
from locedit.store import files, hashing, shipped, tables
from locedit.study import recommending, tuning
from locedit.study.advice import Advice
from locedit.study.budget import Budget, Purse
from locedit.study.edit import Measuring
from locedit.study.knowledge import add_knowledge
from locedit.study.recommending import Costs, Editor, Question
from locedit.study.trials import Clock
from locedit.workflow.sections import Config

ASKING = 0.15  # of the budget, beyond which no more facts are asked, where enough are known
_CHUNK = 32  # facts asked at once
_LISTS = ("layers", "localizers")  # columns that hold several; in a CSV file a blank is between

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for. facts: a file of them in a `format`, None for the bundled ones.

    columns, separator, asker: of that file, as `formats.read` takes them. editors: methods' names;
    problem: one of PROBLEMS; results: the folder of studies that key statistics and contexts are
    taken from, if there is one.
    """

    facts: Path | None = None
    format: str = "native"
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str = SEPARATOR
    asker: Asker = CALL
    editors: Sequence[str] = ()
    problem: str = "error_injection"
    budget: Budget
    folder: Path
    seed: int = 0
    results: Path | None = Path("results")
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """question: what was asked of which facts; silent: localizers that say nothing, and why;
    said: about the facts, in sentences; advice: an editor's after the other, made as they are asked
    for.
    """

    question: Question
    silent: Mapping[str, str]
    said: Sequence[str]
    advice: Iterator[Advice]


def recommend(
    seen: Look,
    wanted: Wanted,
    purse: Purse,
    *,
    clock: Clock = time.perf_counter,
    say: Say = lambda _: None,
) -> Answer:
    """Prepare a search, or take it up again, in `wanted.folder`; it goes on as advice is asked for.

    say: is told what is being done. Raises LoceditError for what does not exist, a folder with
    another question's search, or too few known facts.
    """
    _check(wanted)
    settings = seen.config.recommending
    rows, notes = usable_records(wanted)
    asked = {
        "model": seen.identity,
        "dtype": str(pick_dtype(seen.config.dtype)).removeprefix("torch."),
        "facts": str(wanted.facts or "bundled"),
        "editors": list(wanted.editors),
        "problem": wanted.problem,
        "seed": wanted.seed,
        "grid": {name: settings.grid.get(name, {}) for name in wanted.editors},
        "the number of facts": settings.facts,
        # the same file or configuration may say another thing by now
        "a hash of the facts": hashing.digest(rows),
        "a hash of the configuration": hashing.digest(_configured(seen.config, wanted)),
        "tokens": wanted.tokens,
        # a study may have been run, or run again, in the meantime
        "a hash of contexts and key statistics": hashing.digest(
            sources(seen, wanted.editors, wanted.results, wanted.tokens)
        ),
    }
    wanted.folder.mkdir(parents=True, exist_ok=True)
    recommending.check_question(wanted.folder / "question.json", asked)
    costs = Costs(wanted.folder / "costs.json", purse, clock)
    say("loading the model")
    with costs.paid("loading the model"):
        lm = seen.lm
    say("asking which facts it knows")
    usable, kinds, said = recommending.usable(rows)
    with costs.paid("asking which facts it knows"):
        known = _known(seen, usable, wanted, settings.facts, clock)
    how = measuring(seen.config)
    with costs.paid("measuring the unedited model"):
        facts = [(record.from_row(row), row["p_true"]) for row in known]
        least = seen.config.facts.min_p_erase
        problem = PROBLEMS[wanted.problem]
        if problem.noised or problem.target == "noise":
            how = replace(how, sigma=seen.sigma(None)[0])
        subjects = recommending.subjects_of(lm, problem, facts, how, least)
    editors = []
    for name in wanted.editors:
        say(f"{name}: contexts and key statistics")
        with costs.paid(f"contexts and key statistics of {name}"):
            editors.append(editor_of(seen, name, wanted, how))
    question = Question(
        label=seen.settings["label"],
        dataset="bundled" if wanted.facts is None else wanted.facts.stem,
        problem=problem,
        editors=editors,
        subjects=subjects,
        how=how,
        kinds=kinds,
        aggregate=seen.config.scores.aggregate,
    )
    tracing = seen.config.tracing
    noise: dict[str, Any] = {"n_noise": tracing.n_noise, "noise_seed": tracing.noise_seed}
    noise["sigma"] = seen.sigma(None)[0]
    found, silent = recommending.peaks(
        lm,
        [name for name, one in LOCALIZERS.items() if one.cheap],
        [subject.fact for subject in question.pools["search"][: recommending.LOCALIZED]],
        localizing(question, [record.from_row(row) for row in rows], noise, seen.config.seed),
        seen.config.localizing.settings,
        wanted.folder,
        purse,
        costs,
        window=seen.config.analysis.window,
        say=say,
    )
    question = replace(question, peaks=found)
    advice = recommending.recommend(lm, question, wanted.folder, purse, clock=clock, say=say)
    return Answer(
        question=question, silent=silent, said=[*notes, *filter(None, [said])], advice=advice
    )


def _configured(config: Config, wanted: Wanted) -> dict[str, Any]:
    """What the configuration says of how facts are edited, measured and localized in a search."""
    whole = {name: choices(config, name, wanted.problem)[1] for name in wanted.editors}
    return {
        "hyperparameters": {name: [*map(asdict, some)] for name, some in whole.items()},
        "measuring": asdict(measuring(config)),
        "aggregate": config.scores.aggregate,
        "least p to erase": config.facts.min_p_erase,
        "localizing": config.localizing.settings,
        "window": config.analysis.window,
    }


def _check(wanted: Wanted) -> None:
    for name in wanted.editors:
        if name not in METHODS:
            raise LoceditError(f"editors: {unknown('method', name, METHODS)}")


def usable_records(wanted: Wanted) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of the facts' records that can be used, with what is to be said of them.

    Raises LoceditError where there is none.
    """
    if wanted.facts is None:
        return [_row(raw) for raw in bundled.build_records(shipped.root() / "data")], []
    notes: list[str] = []
    rows = record.read_records(
        wanted.facts,
        wanted.format,
        columns=wanted.columns,
        separator=wanted.separator,
        seed=wanted.seed,
        asker=wanted.asker,
        prompts=(),  # what there is none of is told with what the score is without
        say=notes.append,
    )
    kept = [row for row in rows if row["status"] == KEPT]
    if not kept:
        raise LoceditError(
            f"{wanted.facts}: no record of {len(rows)} can be used ({record.exclusions(rows)})"
        )
    if out := record.left_out(rows, len(rows)):
        notes.append(f"{wanted.facts}: {out}")
    return kept, notes


def _row(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A bundled record, which is in order, as a row of the facts table."""
    values = {name: raw[name] for name in Fact.__dataclass_fields__}
    fact = Fact(**values)
    return {**values, "prompt": fact.prompt, "status": KEPT, "reason": "", "remark": None}


def _known(
    seen: Look, rows: Sequence[Mapping[str, Any]], wanted: Wanted, most: int, clock: Clock
) -> list[dict[str, Any]]:
    """The first known facts in a seeded order; as many as wanted, or as the budget has time for."""
    file = wanted.folder / "facts.parquet"
    if file.is_file():
        return tables.records(file, "facts")
    by_id = {row["case_id"]: dict(row) for row in rows}
    order = record.study_order(by_id, wanted.seed)
    known: list[dict[str, Any]] = []
    budget, start = wanted.budget, clock()
    for low in range(0, len(order), _CHUNK):
        late = budget.cost(clock() - start, 0) > ASKING * budget.amount
        if len(known) >= most or (late and len(known) >= 2 * recommending.LEAST_FACTS):
            break
        some = [by_id[case_id] for case_id in order[low : low + _CHUNK]]
        add_knowledge(seen.lm, some, completion_tokens=seen.config.facts.completion_tokens)
        known += [row for row in some if row.get("is_correct")]
    known = known[:most]
    tables.write(file, known, "facts")
    return known


def measuring(config: Config) -> Measuring:
    """What is measured of each edit: the configuration's, without generated texts."""
    scores, tracing = config.scores, config.tracing
    return Measuring(
        paraphrases=scores.paraphrases,
        neighbours=scores.neighbours,
        generations=0,
        generation_tokens=0,
        n_noise=tracing.n_noise,
        noise_seed=tracing.noise_seed,
        seed=config.seed,
    )


def editor_of(seen: Look, name: str, wanted: Wanted, how: Measuring) -> Editor:
    """A method with its settings to be tried and what it takes, for edits at any layer."""
    settings, hyper = choices(seen.config, name, wanted.problem)
    shared = shared_inputs(seen, name, range(seen.lm.n_layers), wanted.results, wanted.tokens)
    shared = replace(shared, sigma=how.sigma, seed=how.noise_seed, n_noise=how.n_noise)
    return Editor(method=name, settings=settings, hyper=hyper, shared=shared)


def choices(config: Config, name: str, problem: str) -> tuple[list[dict[str, Any]], list[Any]]:
    """The settings of a method that are tried, as they are said and whole.

    Without a grid of its own it is tried as the configuration has it, which says nothing.
    """
    editing = config.editing
    grid = list(tuning.settings(config.recommending.grid.get(name, {})))
    own = editing.hyperparameters.get(name, {})
    method = METHODS[name]
    whole = [
        method.hyperparameters(problem, editing.preset, own, {"all": values, problem: values})
        for values in grid
    ]
    return grid, whole


def localizing(
    question: Question, records: Sequence[Fact], noise: Mapping[str, Any], seed: int
) -> Callable[[str], LocalizerInputs | None]:
    """What each localizer takes, of what the editors have; None where they have no statistics.

    records: of the data set. noise: sigma, n_noise and noise_seed.
    """
    shared = [editor.shared for editor in question.editors]
    moments = next((one.moments for one in shared if one.moments is not None), None)
    of_rome = (one for one in question.editors if METHODS[one.method].contexts == "rome")
    contexts = next((one.shared.contexts for one in of_rome), SharedInputs().contexts)

    def inputs(name: str) -> LocalizerInputs | None:
        needs = LOCALIZERS[name].needs
        if "planting" in needs or ("key_statistics" in needs and moments is None):
            return None
        return LocalizerInputs(
            study=[subject.fact for subject in question.pools["search"]],
            records=records,
            moments=moments,
            contexts=contexts,
            seed=seed,
            **(noise if "noise" in needs else {}),
        )

    return inputs


def keep(folder: Path, answer: Answer, advice: Sequence[Advice]) -> Path:
    """Write layers.parquet, whose path is returned, and what goes beside it."""
    table = folder / "layers.parquet"
    tables.write(table, [row for one in advice for row in one.rows], "recommended")
    write_beside(answer.question, advice, folder)
    return table


def write_beside(question: Question, advice: Sequence[Advice], folder: Path) -> None:
    """Write layers.csv, from the table beside it, and recommended.yaml, for a model's file."""
    table = tables.read(folder / "layers.parquet", "recommended")
    lists = {name: [" ".join(map(str, one)) for one in table[name]] for name in _LISTS}
    with files.atomic(folder / "layers.csv") as path:
        table.assign(**lists).to_csv(path, index=False)
    with files.atomic(folder / "recommended.yaml") as path:
        made = {"recommended": section(question, advice)}
        path.write_text(yaml.safe_dump(made, sort_keys=False))


def section(question: Question, advice: Sequence[Advice]) -> dict[str, Any]:
    """The section `recommended` of a model's file: by method and problem, and how it was found.

    Without what writes nothing, which nobody should edit by.
    """
    found: dict[str, Any] = {}
    for one in advice:
        own = one.chosen
        if own is None or not one.writes:
            continue
        held = own["n_held_out"]
        score, facts = (own["overall"], held) if held else (own["searched"], own["n_searched"])
        found.setdefault(one.method, {})[one.problem] = {
            "layer": own["layer"],
            "hyperparameters": dict(one.settings),
            "overall": round(score, 3),
            "origin": (
                f"`locedit recommend`: {one.n_edits} edits of known facts of the data set "
                f"{question.dataset!r}; mean overall score on {facts} "
                f"{'held-out facts' if held else 'facts that it was chosen by'}"
            ),
        }
    return found
