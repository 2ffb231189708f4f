"""What may be typed: each command's arguments, what they may be, and how its help says it.

typer reads a command off its class here, and makes an object of it. Nothing heavy is imported:
help, and what is wrong with the arguments, are told at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from locedit import messages
from locedit.errors import LoceditError
from locedit.facts import wording
from locedit.facts.formats import FORMATS, SEPARATOR
from locedit.localizers.base import MODULES
from locedit.messages import listed, nearest, shown
from locedit.methods.base import PRESETS
from locedit.methods.problems import PROBLEMS
from locedit.study.budget import Budget
from locedit.windows import EMBEDDING, EMBEDDING_NAME

# ---- what a value may be; a default comes by here too --------------------------------------------


def _prompt(text: str) -> str:
    if fault := messages.fault(text):
        raise BadParameter(f"expected UTF-8 text, got {shown(text)}, which holds {fault}")
    if not wording.bare(text)[0]:
        raise BadParameter("expected a text, got an empty one")
    return text


def _neighbour(text: str) -> str:
    if wording.HOLE in _prompt(text):
        raise BadParameter(
            f"a neighbour is of another subject; write that in place of {{}} in {shown(text)}"
        )
    return text


def _template(text: str) -> str:
    holes = _prompt(text).count(wording.HOLE)
    if holes != 1:
        raise BadParameter(f"expected one {{}} for the subject in {shown(text)}, found {holes}")
    return text


def _layer(text: str) -> int:
    if text == EMBEDDING_NAME:
        return EMBEDDING
    try:
        layer = int(text)
    except ValueError as error:
        said = f"expected a whole number, or {EMBEDDING_NAME}, got {shown(text)}"
        raise BadParameter(said) from error
    if layer < 0:  # -1 is the embedding's own number within, and elsewhere often the last layer
        raise BadParameter(
            f"layers are counted from 0, got {shown(text)}; the input embedding is "
            f"{EMBEDDING_NAME}, the last of N layers N - 1"
        )
    return layer


def _whole(low: int, high: int) -> Callable[[str | int], int]:
    digits = len(str(high))

    def number(given: str | int) -> int:
        text = str(given)
        plain = text.isascii() and text.isdigit() and len(text) <= digits
        if not plain or not low <= int(text) <= high:
            raise BadParameter(f"expected a whole number from {low} to {high}, got {shown(text)}")
        return int(text)

    return number


def _noise(text: str) -> float | str:
    try:
        value = float(text.removesuffix("sd"))
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise BadParameter(f"expected a positive number or, as 3sd, deviations: {shown(text)}")
    return text if text.endswith("sd") else value


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def choice(text: str) -> str:
        if text not in choices:
            near = nearest(text, choices)
            raise BadParameter(f"expected one of {listed(choices)}, got {shown(text)}{near}")
        return text

    return choice


def _column(text: str) -> tuple[str, str]:
    ours, equals, column = text.partition("=")
    if not (ours and equals and column):
        raise BadParameter(f"expected FIELD=COLUMN, as subject=entity, got {shown(text)}")
    return ours, column


def _budget(given: str | Budget) -> Budget:
    try:
        return given if isinstance(given, Budget) else Budget.parse(given)
    except LoceditError as error:
        raise BadParameter(str(error)) from error


def _option(metavar: str, help: str, parser: Callable[[str], Any] = str, **more: Any) -> Any:
    return Option(metavar=metavar, help=help, parser=parser, **more)


_COUNT, _SEED = _whole(1, 999_999_999), _whole(0, 2**32 - 1)
_EXPORTS, _IMPORTS = ("statistics", "settings", "projection", "results"), ("statistics", "settings")
_SETS = ("unsaturated", "saturating", "recommended", "none")  # of a model's hyperparameters

# ---- the commands --------------------------------------------------------------------------------

Template = Annotated[
    str,
    Argument(metavar="TEMPLATE", help="the prompt, with {} for the subject", parser=_template),
]
Subject = Annotated[str, _option("TEXT", "the subject", _prompt)]
Model = Annotated[
    str | None, _option("MODEL", "a name in models/, a YAML file, a folder, or a GGUF file")
]

Plugin = Annotated[
    list[str],
    _option(
        "FILE",
        "of methods, localizers, families of models (.py); any number",
        default_factory=list,
        show_default=False,
    ),
]
Preset = Annotated[
    str | None, _option("|".join(PRESETS), "whose hyperparameters", _one_of(PRESETS))
]
Tuned = Annotated[
    str | None, _option("SET", f"the model's own: {', '.join(_SETS)}", _one_of(_SETS))
]
Results = Annotated[str, _option("FOLDER", "of a study, for its key statistics")]
Tokens = Annotated[int | None, _option("N", "behind key statistics that are not there", _COUNT)]

_FORMAT = f"of its records: {', '.join(FORMATS)}"
Column = Annotated[
    list[Any],
    _option(
        "FIELD=COLUMN",
        "of one's own table, as subject=entity; any number",
        _column,
        default_factory=list,
        show_default=False,
    ),
]
Separator = Annotated[str, _option("TEXT", "between prompts in one cell of it")]

Save = Annotated[str | None, _option("DIR", "keep the edited model, as a new folder")]
SaveDelta = Annotated[str | None, _option("FILE", "keep the difference alone (.safetensors)")]
SaveLora = Annotated[str | None, _option("DIR", "keep it as an adapter, where of low rank")]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Causal tracing of one prompt, as a heat map."""

    template: Template
    subject: Subject
    model: Model = None
    target: Annotated[
        str | None, _option("TEXT", "the object; if none, the model's next word", _prompt)
    ] = None
    module: Annotated[
        str | None, _option("|".join(MODULES), "what is restored", _one_of(MODULES))
    ] = None
    window: Annotated[int | None, _option("N", "layers restored together", _COUNT)] = None
    noise: Annotated[
        Any | None, _option("SIGMA", "a number, or 3sd; if none, the model's own", _noise)
    ] = None
    n_noise: Annotated[int | None, _option("N", "corrupted runs to average over", _COUNT)] = None
    seed: Annotated[int | None, _option("N", "of the noise", _SEED)] = None
    out: Annotated[str | None, _option("PNG", "save the heat map as a picture, too")] = None
    plugin: Plugin


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit, with predictions before and after."""

    template: Template
    subject: Subject
    to: Annotated[str, _option("TEXT", "the object to be edited in", _prompt)]
    layer: Annotated[
        int | None, _option("N", "the edit layer, from 0, or embedding; or the recommended", _layer)
    ] = None
    true: Annotated[
        str | None,
        _option("TEXT", "the object that KN writes over; if none, the model's next word", _prompt),
    ] = None
    model: Model = None
    method: Annotated[str, _option("NAME", "an editing method")] = "ROME"
    plugin: Plugin
    preset: Preset = None
    tuned: Tuned = None
    paraphrase: Annotated[
        str | None, _option("TEXT", "a prompt; {} stands for the subject", _prompt)
    ] = None
    neighbour: Annotated[
        str | None, _option("TEXT", "a prompt about another subject", _neighbour)
    ] = None
    top: Annotated[int, _option("N", "predictions shown", _COUNT)] = 5
    save: Save = None
    save_delta: SaveDelta = None
    save_lora: SaveLora = None
    results: Results = "results"
    tokens: Tokens = None


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Many edits, or a difference that was kept, into a model to take home."""

    file: Annotated[
        str, Argument(metavar="FILE", help="of facts, or a difference (.safetensors)", parser=str)
    ]
    layer: Annotated[
        int | None, _option("N", "the edit layer, from 0, of facts; or the recommended one", _layer)
    ] = None
    method: Annotated[str, _option("NAME", "an editing method")] = "MEMIT"
    together: Annotated[
        bool, Option("--together", metavar="", help="all in one update, not one after another")
    ] = False
    format: Annotated[
        str | None, _option("FORM", f"{_FORMAT}; if none, as it looks", _one_of(tuple(FORMATS)))
    ] = None
    column: Column
    separator: Separator = SEPARATOR
    model: Model = None
    save: Save = None
    save_delta: SaveDelta = None
    save_lora: SaveLora = None
    plugin: Plugin
    preset: Preset = None
    tuned: Tuned = None
    results: Results = "results"
    tokens: Tokens = None


@dataclass(frozen=True, kw_only=True)
class Localize:
    """Where each cheap localizer puts one fact, layer by layer."""

    template: Template
    subject: Subject
    target: Annotated[str, _option("TEXT", "the object", _prompt)]
    to: Annotated[
        str | None, _option("TEXT", "an object to edit in, for localizers that look at it", _prompt)
    ] = None
    model: Model = None
    localizer: Annotated[
        list[str],
        _option("NAME", "not all cheap ones; any number", default_factory=list, show_default=False),
    ]
    plugin: Plugin
    module: Annotated[
        str | None,
        _option("|".join(MODULES), "whose outputs, where one can choose", _one_of(MODULES)),
    ] = None
    window: Annotated[
        int | None, _option("N", "layers taken together, where one can choose", _COUNT)
    ] = None
    results: Results = "results"
    out: Annotated[str | None, _option("PNG", "save the heat map as a picture, too")] = None
    table: Annotated[str | None, _option("PARQUET", "save all values as a table, too")] = None


@dataclass(frozen=True, kw_only=True)
class Export:
    """Key statistics, settings, projections and results for other people's code."""

    what: Annotated[
        str,
        Argument(metavar="WHAT", help=", ".join(_EXPORTS), parser=_one_of(_EXPORTS)),
    ]
    out: Annotated[str, _option("PATH", "the file; of statistics, their stats_dir")]
    model: Model = None
    method: Annotated[str, _option("NAME", "an editing method, of settings")] = "ROME"
    layer: Annotated[
        int | None, _option("N", "the edit layer, from 0; or the recommended one", _layer)
    ] = None
    statistics: Annotated[
        str | None, _option("FILE", "key statistics; if none, the model's study's")
    ] = None
    preset: Preset = None
    tuned: Tuned = None
    name: Annotated[str | None, _option("NAME", "what they call the model")] = None
    dataset: Annotated[str, _option("NAME", "what they call the text")] = "wikipedia"
    samples: Annotated[int, _option("N", "documents that they ask for", _COUNT)] = 100000
    run: Annotated[
        str | None, _option("FOLDER", "a run in the ROME suite's layout, of results")
    ] = None
    plugin: Plugin


@dataclass(frozen=True, kw_only=True)
class Import:
    """Other people's key statistics and settings, checked, as a study takes them."""

    what: Annotated[
        str,
        Argument(metavar="WHAT", help=", ".join(_IMPORTS), parser=_one_of(_IMPORTS)),
    ]
    source: Annotated[
        str, Argument(metavar="PATH", help="npz files' folder; settings' YAML", parser=str)
    ]
    model: Model = None
    out: Annotated[str | None, _option("FILE", "where it goes; settings: else shown")] = None
    plugin: Plugin


@dataclass(frozen=True, kw_only=True)
class Recommend:
    """Which layer to edit in a model, and how: a search by edits of facts that it knows."""

    model: Annotated[
        str,
        Argument(metavar="MODEL", help="a name in models/, a YAML file, a folder, or a GGUF file"),
    ]
    facts: Annotated[str | None, _option("FILE", "of facts; if none, the bundled ones")] = None
    format: Annotated[str, _option("FORM", _FORMAT, _one_of(tuple(FORMATS)))] = "native"
    column: Column
    separator: Separator = SEPARATOR
    editors: Annotated[
        list[str],
        _option(
            "NAME",
            "a method; any number, as `--editors A --editors B` or A,B; if none, config.yaml's",
            default_factory=list,
            show_default=False,
        ),
    ]
    plugin: Plugin
    problem: Annotated[
        str, _option("NAME", "what edits do, as fact_erasure", _one_of(tuple(PROBLEMS)))
    ] = "error_injection"
    budget: Annotated[
        Any, _option("AMOUNT", "a time (20m, 1h30m), `600 edits`, or none", _budget)
    ] = "20m"
    out: Annotated[
        str | None,
        _option("DIR", "where it is kept, and goes on"),
    ] = None
    seed: Annotated[int, _option("N", "of the facts' order", _SEED)] = 0
    results: Results = "results"
    tokens: Tokens = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a Parquet file of a study was made."""

    file: Annotated[str, Argument(metavar="FILE", help="the file", parser=str)]
    json: Annotated[bool, Option("--json", metavar="", help="all of it, as it is stored")] = False


Options = Trace | Edit | Apply | Localize | Recommend | Export | Import | Provenance
