"""The configuration: every key with its type, its default and what it means, this once.

`config.yaml`, the JSON schema for editors and the reference page are written from here (`make
config`). What machine a study runs on is no part of it: see MOVED. No heavy imports: Snakemake
reads this each time it starts.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from locedit.errors import LoceditError
from locedit.facts.formats import FORMATS, SEPARATOR
from locedit.localizers import LOCALIZERS, MODULES
from locedit.localizers.builtin import BUILTIN
from locedit.methods import METHODS
from locedit.methods.base import Preset
from locedit.methods.problems import PROBLEMS
from locedit.registry import ALL, FOLDER_NAME, FOLDER_RULE
from locedit.settings import Dtype, field_types, mapping, overlay
from locedit.study.budget import Budget
from locedit.workflow.pairs import PEAK
from locedit.workflow.validation import Registered, Section, fits, names, said, unique

# 2147483647: tables and R hold integers of 32 bits; 4294967295: numpy's largest seed
Count = Annotated[int, Field(ge=1, le=2147483647)]
Layer = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Unique = AfterValidator(unique)

Module = Annotated[str, Registered(lambda: names(MODULES), fixed=True)]
Problem = Annotated[str, Registered(lambda: names(PROBLEMS), fixed=True)]
Place = Annotated[str, Registered(lambda: names([ALL, *PROBLEMS]), fixed=True)]
Format = Annotated[str, Registered(lambda: names(FORMATS), fixed=True)]
Column = Annotated[str, Registered(lambda: names(FORMATS["native"].reads), fixed=True)]
Method = Annotated[str, Registered(lambda: names(METHODS))]
MethodOrAll = Annotated[str, Registered(lambda: names([ALL, *METHODS]))]
Together = Annotated[list[Count], Field(min_length=1), Unique]
EditLayers = Annotated[list[Layer | Literal["peak", "embedding"]], Field(min_length=1), Unique]
LocalizerName = Annotated[str, Registered(lambda: names(LOCALIZERS))]
PluginNames = Annotated[list[Text], Unique]
TunedSet = Literal["unsaturated", "saturating", "none"]
TUNED: tuple[str, ...] = get_args(TunedSet)
RECOMMENDED = "recommended"  # of one edit in place of a set: what a model's file keeps of a search


def _overlays() -> Any:
    """Settings of each method, for all problems or for one."""
    of = {name: dict[Place, overlay(method.settings)] for name, method in METHODS.items()}  # type: ignore[misc]
    return mapping("Hyperparameters", of)


def _grids() -> Any:
    """Values of each method's settings, at least one of each."""

    def values(kind: Any) -> Any:
        return Annotated[list[kind], Field(min_length=1)]

    def grid(settings: type) -> Any:
        return {name: values(kind) for name, kind in field_types(settings).items()}

    of = {name: mapping(name, grid(method.settings)) for name, method in METHODS.items()}
    return mapping("Grid", of)


def _localizers_settings() -> Any:
    of = {name: overlay(localizer.settings) for name, localizer in LOCALIZERS.items()}
    return mapping("Settings", of)


Overlays = Annotated[dict[str, Any], Registered(_overlays)]
Grids = Annotated[dict[str, Any], Registered(_grids)]
LocalizersSettings = Annotated[dict[str, Any], Registered(_localizers_settings)]


def _ascending(ends: list[float]) -> list[float]:
    low, high = ends
    if low > high:
        raise said(f"no score lies within {low} and {high}; give the smaller one first")
    return ends


def _aims() -> Any:
    ends = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_ascending)]
    aim = mapping("Aim", {"rewrite": ends, "grid": Grids})
    return mapping("Aims", {"unsaturated": aim, "saturating": aim})


def _budget(text: str) -> str:
    try:
        Budget.parse(text)
    except LoceditError as error:
        raise said(str(error)) from None
    return text


Aims = Annotated[dict[str, Any], Registered(_aims, fixed=True)]

_names_a_folder = fits(FOLDER_NAME, f"it names a folder: {FOLDER_RULE}")
# as the files are called that a model's data sets share, which lie beside their folders, and as
# the logs and benchmarks of these
_names_no_file = fits(
    r"(?!.*\.(parquet|safetensors|log|tsv)$).*", "it names a folder: leave the ending out"
)


class Dataset(Section):
    """The facts' source."""

    name: Annotated[str, AfterValidator(_names_a_folder), AfterValidator(_names_no_file)] = Field(
        "bundled",
        description='names the results folder; "bundled" is built from data/, and "counterfact" is '
        "downloaded where no path is given",
    )
    format: Format = Field("native", description=" | ".join(FORMATS))
    path: Text | None = Field(None, description="a JSON, JSON Lines (.jsonl), CSV or Parquet file")
    columns: dict[Column, Text] = Field(
        {}, description="of a native table: our fields to its columns, {target_true: answer}"
    )
    separator: Text = Field(SEPARATOR, description="between the prompts in one cell of a table")


class Facts(Section):
    """Which of them are studied."""

    n: Count | None = Field(
        800, description="first n records of the data set; null: all (paper: 2000)"
    )
    completion_tokens: Count = Field(
        36, description="o_true within so many greedy tokens: the model knows the fact"
    )
    min_p_erase: Share = Field(
        0.02, description="erasure only of facts with at least this p(o_true)"
    )
    known: Literal["only", "any"] = Field(
        "only",
        description="only | any: whether facts are studied that the model does not know; if so, "
        "all of the analysis is of both",
    )
    study: Count | None = Field(
        24, description="known facts traced and edited, a seeded sample; null: all of them"
    )


class Localizing(Section):
    """Where facts are looked for, and by what."""

    localizers: Annotated[list[LocalizerName], Field(min_length=1), Unique] = Field(
        ["tracing", *(one.name for one in BUILTIN if one.cheap), "depth", "middle", "random"],
        description="of those in docs/explanation/localizers.md and those of plug-ins; here "
        "causal tracing, all that cost little beside it, and three that look at nothing",
    )
    modules: Annotated[list[Module], Field(min_length=1), Unique] = Field(
        ["mlp"], description="of mlp, attn, hidden: whose outputs they look at"
    )
    windows: Annotated[list[Count], Field(min_length=1), Unique] = Field(
        [1, 3, 5, 10], description="layers taken together, centred at each layer in turn"
    )
    settings: LocalizersSettings = Field(
        {}, description="a localizer's own, as in {NAME: {SETTING: VALUE}}"
    )


class Tracing(Section):
    """Causal tracing."""

    n_noise: Count = Field(10, description="corrupted rows; sigma is the model's `noise`")
    noise_seed: int = Field(
        1, ge=0, le=4294967295, description="of those rows, the same for every fact"
    )
    clean_reference: Literal["clean", "max"] = Field(
        "clean", description="clean | max (the released code's normalisation)"
    )


class Statistics(Section):
    """Key statistics."""

    tokens: Count | None = Field(None, description="tokens behind the key moments; null: 10 x d_ff")
    max_tokens: Count = Field(256, description="of one paragraph")
    path: Text | None = Field(
        None, description="a file of key statistics (`locedit import`), in place of collecting them"
    )
    ridge: Share = Field(
        0,
        description="added to the moments' diagonal, as a share of its mean; for layers with units "
        "that are never active, 1e-6",
    )


class Contexts(Section):
    """Context templates."""

    rome: list[Annotated[list[Count], Field(min_length=2, max_length=2)]] = Field(
        [[5, 1], [10, 1]], description="[tokens, count] (paper: [[5, 10], [10, 10]])"
    )
    memit_tokens: int = Field(10, ge=2, description="length of MEMIT's five prefixes")


class Essence(Section):
    """Essence texts."""

    texts: int = Field(2, ge=0, description="paper: 5")
    tokens: int = Field(50, ge=2, description="paper: 100")


_EDIT_LAYERS: Any = {
    "all": [2, PEAK],
    "error_injection": {"all": [2, 14, PEAK], "ROME": [0, 1, 2, 4, 7, 14, 24, PEAK]},
}
_EDITED_FACTS: Any = {"all": 8, "error_injection": {"all": 8, "ROME": None}}


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise said(
            "it names a set of the model's file: write saturating for the former true, none for "
            f"false, or unsaturated; got {value}"
        )
    return value


class Editing(Section):
    """The grid of edits."""

    methods: Annotated[list[Method], Field(min_length=1), Unique] = Field(
        ["FT-1", "FT-5", "ROME", "MEMIT"],
        description="the paper's; also r-ROME, FT-M, EMMET, AlphaEdit, KN",
    )
    problems: Annotated[list[Problem], Field(min_length=1), Unique] = Field(
        [*PROBLEMS], description="all there are"
    )
    layers: EditLayers | dict[Place, EditLayers | dict[MethodOrAll, EditLayers]] = Field(
        _EDIT_LAYERS,
        description="zero-based; a list for all, or by problem and by method in it; `peak`: each "
        "fact also at its own peak by what `analysis` shows; `embedding`: the rows of its "
        "subject there, by FT-1, FT-5 and FT-M. Have the mean effect's peak among the layers "
        "(`snakemake tracing`, then figures/tracing_effect_by_layer.svg, say it; the report, too)",
    )
    facts: Count | dict[Place, Count | dict[MethodOrAll, Count | None] | None] | None = Field(
        _EDITED_FACTS,
        description="of the study, its first so many; likewise a number for all, or by problem and "
        "by method; null: all of them",
    )
    together: Count | Together = Field(
        1,
        description="facts that share an update: 1, each has an edit of its own; a list compares "
        "them, [1, 10, 100], each a multiple of the one before",
    )
    repeated: int = Field(
        0,
        ge=0,
        description="of the facts of analysis.primary, edited once more at its listed layers with "
        "other contexts: how far its score repeats, in the table `within` (40 tell); none by an "
        "editor without contexts, or where facts share an update",
    )
    preset: Preset = Field(
        "paper", description="paper | released: hyperparameters as in METHODS, section 4"
    )
    tuned: Annotated[TunedSet, BeforeValidator(_no_flag)] = Field(
        "unsaturated",
        description="unsaturated | saturating | none: which of the model's own hyperparameters "
        "(models/<name>.yaml) are laid over them",
    )
    hyperparameters: Overlays = Field(
        {
            "FT-1": {"fact_forcing": {"steps": 25}},
            "FT-5": {"fact_forcing": {"steps": 25}},
        },
        description="laid over both, as in {ROME: {all: {lr: 0.5}}}; here half the paper's steps, "
        "since each runs ten noise rows",
    )


class Scores(Section):
    """What is measured of an edit."""

    aggregate: Literal["mean", "first"] = Field(
        "mean", description="mean | first: several paraphrases or neighbours of a fact"
    )
    paraphrases: Count | None = Field(
        2, description="prompts scored of each kind at most; null: all"
    )
    neighbours: Count | None = Field(
        5, description="likewise, of prompts about other subjects with the same object"
    )
    generations: int = Field(1, ge=0, description="generation prompts continued after each edit")
    generation_tokens: int = Field(20, ge=0, description="0: none; for the n-gram entropy")
    greedy_tokens: int = Field(
        0,
        ge=0,
        description="written greedily behind the prompt and its paraphrases, where target and "
        "other object are looked for (20: success by generation); 0: none",
    )
    text_paragraphs: int = Field(
        0,
        ge=0,
        description="held-out paragraphs of Wikipedia whose perplexity is taken under each edit, "
        "for the score `text` (50); 0: none",
    )
    text_tokens: int = Field(64, ge=2, description="of each of them, its first so many")


class Primary(Section):
    """The comparison that is tested for itself."""

    problem: Problem = "error_injection"
    method: Method = "ROME"
    score: Literal[
        "rewrite_log_odds", "paraphrase_log_odds", "neighbourhood_log_odds", "essence", "overall"
    ] = "paraphrase_log_odds"


class Power(Section):
    """What size of a study would tell."""

    effect: float = Field(0.2, gt=0, lt=1, description="correlation of score and value in a fact")
    wanted: float = Field(0.8, gt=0, lt=1, description="share of studies that find it")


class Analysis(Section):
    """Statistics and figures."""

    localizer: LocalizerName = Field(
        "tracing", description="that figures show, and pages first; the tables have all"
    )
    module: Module = Field("mlp", description="likewise, where the localizer looks at it")
    window: Count = Field(5, description="likewise; one of localizing.windows")
    effect: Literal["value", "effect_max", "fraction_last", "effect_last"] = Field(
        "value",
        description="a localizer's own value (of tracing, the fraction restored at the best "
        "token); of tracing also effect_max | fraction_last | effect_last",
    )
    heatmap: str | None = Field(
        None, description="case_id of the heat map's fact; null: the study's first"
    )
    primary: Primary = Field(
        Primary(),
        description="the one comparison that is decided before the study is run, of the "
        "localizer, module and window above; tested at .05; the score's other problems and "
        "methods are adjusted as one family",
    )
    permutations: Count = Field(2000, description="of the facts' values, behind each p")
    splits: Count = Field(
        20, description="of the facts into halves, each choosing layers for the other"
    )
    planted: Text | None = Field(
        None,
        description="another study's table of hits, .../analysis/hits.parquet: how often each "
        "localizer finds planted facts, shown beside its answers here",
    )
    power: Power = Field(
        Power(), description="correlation within facts that a study should find, and how often"
    )
    layer: Layer | None = Field(
        None,
        description="edit layer of the one-layer scatter; null: the edited one nearest the middle "
        "of the model",
    )
    usual_layers: dict[Method, Annotated[list[Layer], Unique]] = Field(
        {"ROME": [], "MEMIT": []},
        description="marked among the tracing peaks, where any are published for the model "
        "(GPT-J: ROME 5, MEMIT 3 to 8; zero-based)",
    )


class Tuning(Section):
    """A sweep of hyperparameters."""

    aim: Literal["unsaturated", "saturating"] = Field(
        "unsaturated",
        description="which of `aims`: unsaturated (edits succeed in part, so that layers can "
        "differ; fine-tuning takes all its steps) | saturating (as the paper)",
    )
    facts: Count = Field(16, description="known ones that are not of the study")
    layer: Layer = Field(5, description="the edit layer")
    problems: Annotated[list[Problem], Field(min_length=1), Unique] = Field(
        ["error_injection", "fact_erasure"],
        description="the first one's settings serve all others",
    )
    aims: Aims = Field(
        {
            "unsaturated": {
                "rewrite": [0.5, 0.7],
                "grid": {
                    "FT-1": {
                        "eps": [0.0002, 0.0005, 0.0007, 0.001, 0.002, 0.004, 0.006, 0.012],
                        "lr": [0.0005],
                        "enough": [0],
                    },
                    "FT-5": {
                        "eps": [0.00005, 0.0001, 0.00014, 0.0002, 0.0004, 0.0008, 0.0016],
                        "lr": [0.0005],
                        "enough": [0],
                    },
                    "ROME": {
                        "clamp": [0.1, 0.2, 0.5, 0.8, 1.0, 1.5],
                        "kl_factor": [1.0],
                        "lr": [0.5],
                    },
                    "MEMIT": {
                        "clamp": [0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25],
                        "moment_weight": [1.5],
                    },
                    "r-ROME": {
                        "clamp": [0.1, 0.2, 0.5, 0.8, 1.0],
                        "kl_factor": [1.0],
                        "lr": [0.5],
                    },
                    "FT-M": {
                        "lr": [0.00002, 0.00003, 0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.0006],
                        "enough": [0],
                    },
                    "EMMET": {"clamp": [0.02, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25]},
                    "AlphaEdit": {
                        "clamp": [0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4],
                        "l2": [0.1],
                    },
                    "KN": {"share": [0.02, 0.2], "add": [4.0, 8.0, 16.0, 32.0]},
                },
            },
            "saturating": {
                "rewrite": [0, 0.99],
                "grid": {
                    "FT-1": {"eps": [0.001, 0.002, 0.005, 0.01, 0.02, 0.05], "lr": [0.0005, 0.002]},
                    "FT-5": {"eps": [0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008], "lr": [0.0005]},
                    "ROME": {"kl_factor": [0.0625, 0.25, 1.0], "lr": [0.2, 0.5]},
                    "MEMIT": {"moment_weight": [1.5, 15, 150, 1500], "clamp": [0.75, 2.0]},
                },
            },
        },
        description="of each: chosen is the best mean of rewrite and neighbourhood score among "
        "settings with a mean rewrite score within `rewrite`; `grid` has {method: {setting: "
        "values}}, of which all combinations are tried",
    )


class Recommending(Section):
    """Which layer to edit."""

    methods: Annotated[list[Method], Field(min_length=1), Unique] = Field(
        ["ROME", "MEMIT"], description="editors, each with an answer of its own"
    )
    problem: Problem = Field("error_injection", description="what edits are to do")
    budget: Annotated[str, AfterValidator(_budget)] = Field(
        "20m",
        description="of each editor: a time such as 1h30m, `600 edits`, or none for as much as it "
        "takes",
    )
    facts: int = Field(
        80, ge=4, description="known ones at most, outside the study first; half are held out"
    )
    grid: Grids = Field(
        {
            "FT-1": {"eps": [0.006, 0.002, 0.02]},
            "FT-5": {"eps": [0.0015, 0.0004, 0.005]},
            "ROME": {"clamp": [1.5, 0.8, 4.0], "kl_factor": [1.0]},
            "r-ROME": {"clamp": [1.5, 0.8, 4.0], "kl_factor": [1.0]},
            "MEMIT": {"clamp": [0.75, 0.25, 2.0], "moment_weight": [15.0]},
            "EMMET": {"clamp": [0.75, 0.25, 2.0]},
            "AlphaEdit": {"clamp": [0.75, 0.25, 2.0]},
        },
        description="settings to choose from, all combinations, laid over the preset; the first of "
        "each is tried at all layers. A method without any is tried as `editing` has it",
    )


class Quirks(Section):
    """Habits of the released code."""

    reversal_prompt_in_target: bool = Field(
        False, description="tracing reversal's target holds the prompt"
    )
    forcing_noise_position: bool = Field(
        False, description="fact forcing's noise stays at the bare prompt's positions"
    )


class Config(Section):
    """A study: which model, facts, localizers, edits and statistics. No machine's settings."""

    model: Text = Field(
        "smollm2-135m-instruct", description="a file models/<name>.yaml, or the path of one"
    )
    plugins: PluginNames = Field(
        [],
        description="methods, localizers or families of models of your own: .py files, or modules",
    )
    dtype: Dtype = Field(
        "auto", description="auto (float32) | float32 | float64 | bfloat16 | float16"
    )
    seed: int = Field(
        0,
        ge=0,
        le=2147483647,
        description="of everything drawn here: study sample, contexts, texts",
    )
    dataset: Dataset = Dataset()
    facts: Facts = Facts()
    localizing: Localizing = Localizing()
    tracing: Tracing = Field(
        Tracing(), description="causal tracing; edits and scores take its noise too"
    )
    statistics: Statistics = Statistics()
    contexts: Contexts = Field(Contexts(), description="sampled prefixes of the optimised prompts")
    essence: Essence = Field(
        Essence(), description="texts about the subject whose perplexity should not change"
    )
    editing: Editing = Editing()
    scores: Scores = Scores()
    analysis: Analysis = Analysis()
    tuning: Tuning = Field(
        Tuning(),
        description="`snakemake tune`: hyperparameters of a model, off the study's facts",
    )
    recommending: Recommending = Field(
        Recommending(), description="`snakemake recommend`: which layer to edit, and how"
    )
    quirks: Quirks = Field(
        Quirks(),
        description="of the released code; tracing.clean_reference and scores.aggregate are two "
        "more",
    )


# Where keys of earlier versions went: by their path, what to do now
MOVED = {
    "tracing.intervention": "name localizers in localizing.localizers: `restore` is `tracing`, "
    "`zero` is `zeroing`",
    "tracing.modules": "it is localizing.modules now, of all localizers",
    "tracing.windows": "it is localizing.windows now, of all localizers",
    "analysis.equivalence_bound": "leave it out: Diff has no verdict any more; see "
    "analysis.primary",
    "analysis.resamples": "leave it out: intervals leave out one fact at a time",
    "analysis.folds": "leave it out: each fact is predicted from all others",
    "analysis.tracing": "it is analysis.effect now, where `fraction_max` is `value`; for `zeroed` "
    "set analysis.localizer: zeroing",
    "tuning.grid": "it is tuning.aims.saturating.grid now, or tuning.aims.unsaturated.grid",
    "tuning.max_rewrite": "it is the end of tuning.aims.saturating.rewrite now",
    # the machine's, on which no result depends
    "device": "set LOCEDIT_DEVICE (auto, cpu or cuda) in the environment",
    "sharding": "give `--set-scatter tracing=4 editing=8`, or `set-scatter` in a profile",
    "tracing.batch_tokens": "give `--default-resources batch_tokens=4000`, or "
    "`default-resources` in a profile",
    "editing.batch_facts": "give `--default-resources batch_facts=4`, or `default-resources` in a "
    "profile",
    "assets.cache": "set LOCEDIT_CACHE (a folder) in the environment",
    "assets.overrides": "put the files into a folder and set LOCEDIT_ASSETS (that folder) in the "
    "environment",
}
