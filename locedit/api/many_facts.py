"""Many facts: the layer that a search by them recommends, and their edits as one to take home.

Each function's errors are `locedit.errors.LoceditError`: one sentence that says what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from locedit.api import keeping, recommending
from locedit.api.keeping import Edited, Targets
from locedit.api.one_fact import check_layer, check_one_of, prepared, seen_as
from locedit.api.recommending import Wanted
from locedit.errors import LoceditError
from locedit.exchange.model_card import Line
from locedit.facts import formats, record, records
from locedit.facts.formats import SEPARATOR
from locedit.facts.record import Fact
from locedit.facts.records import CALL, Asker
from locedit.messages import shown
from locedit.methods import METHODS
from locedit.methods.problems import PROBLEMS
from locedit.model.language_model import LanguageModel
from locedit.study.advice import Advice
from locedit.study.budget import Budget, Purse

Say = Callable[[str], None]


def recommend(
    lm: LanguageModel,
    *,
    folder: str | Path,
    facts: str | Path | None = None,
    format: str = "native",
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    editors: Sequence[str] | None = None,
    problem: str = "error_injection",
    budget: str = "20m",
    seed: int = 0,
    results: str | Path | None = None,
    tokens: int | None = None,
) -> dict[str, Advice]:
    """Which layer to edit, and how: each editor's answer, by a search on facts the model knows.

    folder: where what was done is kept; the same call goes on there, and makes nothing twice.
    facts: a file of them in a `format` (`locedit.facts.formats.FORMATS`), None: the bundled ones;
    every other one is held out of the search. columns: of a table of your own, our fields to its
    columns, {"subject": "entity"}; separator: between the prompts in one of its cells. editors:
    methods' names, None: config.yaml's. problem: one of `locedit.methods.problems.PROBLEMS`.
    budget: of all editors together, a time ("20m", "1h30m"), a number of edits ("600 edits"), or
    "none". seed: of the facts' order. results, tokens: as `edit` takes them, of all layers.

    An answer's `chosen` is its row of the table `recommended`: `layer`, `overall` with
    `overall_low` and `overall_high` (a 95 % interval) on held-out facts; None where the budget did
    not allow an answer. `settings` are the hyperparameters; `left_undone` says what there was no
    room for; `locedit.study.advice.certainty` how sure it is.

    Raises LoceditError for a method, problem or file that does not exist, a budget that is none,
    too few known facts, a folder with another question's search, or a model that is not one of
    `load`.
    """
    seen = seen_as(lm)
    check_one_of("problem", problem, PROBLEMS)
    if isinstance(editors, str):
        raise LoceditError(f"editors: expected a list of methods, got the text {shown(editors)}")
    wanted = Wanted(
        facts=None if facts is None else Path(facts),
        format=format,
        columns=columns or {},
        separator=separator,
        editors=seen.config.recommending.methods if editors is None else editors,
        problem=problem,
        budget=Budget.parse(budget),
        folder=Path(folder),
        seed=seed,
        results=None if results is None else Path(results),
        tokens=tokens,
    )
    purse = Purse(budget=wanted.budget)
    answer = recommending.recommend(seen, wanted, purse, say=seen.say)
    advice = list(answer.advice)
    recommending.keep(wanted.folder, answer, advice)
    return {one.method: one for one in advice}


def apply(
    lm: LanguageModel,
    facts: str | Path | Sequence[Mapping[str, Any]],
    *,
    layer: int,
    method: str = "MEMIT",
    together: bool = False,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    preset: str = "paper",
    tuned: str = "unsaturated",
    hyperparameters: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    tokens: int | None = None,
    save: str | Path | None = None,
    save_delta: str | Path | None = None,
    save_lora: str | Path | None = None,
) -> Edited:
    """Write many facts into a model, as one difference of weights; the model stays as it is.

    facts: a file of them, whose format is recognised where `format` does not name it, or records as
    in one: `subject`, `template`, `target_true`, `target_new`, and perhaps `paraphrases` and
    `neighbourhood`. Each is written into the model that those before it left, or all `together` in
    one update, by a method that can (MEMIT, EMMET, AlphaEdit, FT-M). columns, separator: as
    `recommend` takes them. layer, method, preset, tuned, hyperparameters, results, tokens: as
    `edit` takes them. save: a folder for the whole model, which transformers loads; save_delta: a
    safetensors file of the difference alone; save_lora: a folder for it as an adapter, which peft
    loads, where it is of low rank. Each is written whole or not at all, under a name that is free.

    `lines` of what is returned say of each fact what became of it: its status ("ok", or why it was
    left out), p(target) before and after all edits, and scores.

    Raises LoceditError for a layer, method or hyperparameter that does not exist, a file that
    cannot be read, where no fact can be edited, or what is wanted cannot be written.
    """
    seen = seen_as(lm)
    names = (None if one is None else str(one) for one in (save, save_delta, save_lora))
    targets = Targets(**dict(zip(("folder", "delta", "adapter"), names, strict=True)))
    targets.check()
    check_one_of("method", method, METHODS)
    check_layer(lm, layer, method)
    laid_out: dict[str, Any] = {"columns": columns, "separator": separator}
    found, left_out = facts_of(facts, seen.say, format=format, **laid_out)
    hyper, shared = prepared(
        *(seen, method, keeping.PROBLEM.name, layer),
        preset=preset,
        tuned=tuned,
        hyperparameters=hyperparameters,
        results=results,
        tokens=tokens,
    )
    made = keeping.written(seen, found, method, layer, hyper, shared, together=together)
    edited = Edited(delta=made.delta, lines=[*made.lines, *left_out])
    for sentence in keeping.save(seen, edited, targets):
        seen.say(sentence)
    return edited


def facts_of(
    given: str | Path | Sequence[Mapping[str, Any]],
    say: Say,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    asker: Asker = CALL,
) -> tuple[list[Fact], list[Line]]:
    """The facts of a file, or of records, and a line for each that is none.

    format: None: it is recognised, unless `columns` names those of a table of one's own. Raises
    LoceditError where there is none that can be edited.
    """
    if isinstance(given, str | Path):
        path, own = Path(given).expanduser(), None
    else:
        path, own = Path("facts"), list(given)
    if format is None:
        found = records.read_file(path, "facts", asker)[0] if own is None else own
        known = [] if columns else formats.recognise(found)
        format = known[0] if known else "native"
    laid_out: dict[str, Any] = {"columns": columns, "separator": separator, "asker": asker}
    rows = record.read_records(path, format, records=own, say=say, **laid_out)
    out = [row for row in rows if row["status"] == record.EXCLUDED]
    for row in out:
        say(f"{row['case_id']}: left out, {row['reason']}")
    lines = [
        Line(prompt=r["prompt"], target=r["target_new"], status=f"left out: {r['reason']}")
        for r in out
    ]
    facts = [record.from_row(row) for row in rows if row["status"] == record.KEPT]
    if not facts:
        raise LoceditError(f"{path} holds no fact that can be edited; {record.exclusions(rows)}")
    return facts, lines
