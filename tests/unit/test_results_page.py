"""What docs/results.md prints is the published data's, and what the studies were set to."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from locedit import localizers
from locedit.study import intervals
from locedit.workflow.config import load_yaml
from locedit.workflow.pairs import PEAK, of_pair

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DEFAULT = load_yaml(ROOT / "config.yaml")["editing"]
ROW = re.compile(r"^\| ([a-z ,-]+?)(?: \((\d+)\))?(, the primary one)? \| (.+) \|$", re.M)
NAMES = {
    "edit cost, a control": "edit_cost",
    "integrated gradients": "integrated",
    "direct attribution": "direct",
    "random values, a control": "random",
}
ENDS = ("", "_low", "_high")


# By the folder of a study's data: its section of the page
STUDIES = {
    "smollm2-200": "## The primary comparison on 200 facts",
    "gemma3-270m-primary": "## The same question of Gemma 3 270M",
}


@pytest.fixture(scope="module", params=STUDIES)
def study(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def arena(study) -> pd.DataFrame:
    table = pd.read_csv(DOCS / "data" / study / "arena.csv")
    return table[table["score"] == "paraphrase_log_odds"]


def printed_rows(study: str) -> list[tuple[str, str, list[str]]]:
    """Localizer, window ("" if it has one only), and the other cells of each printed row."""
    section = (DOCS / "results.md").read_text().split(STUDIES[study])[1]
    text = section.split("| localizer (window) |")[1].split("\n\n")[0]
    cells = re.compile(r" *\| *")
    rows = [(name, window, cells.split(rest)) for name, window, _, rest in ROW.findall(text)]
    assert len(rows) == text.count("\n") - 1  # but for the rule below the heading
    return [
        (NAMES.get(name, name.replace(" ", "_")), window, cells) for name, window, cells in rows
    ]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d*\.\d+|-?\d+", cell)]


def known(row: dict[str, float], *columns: str) -> list[float]:
    """What a row has in these columns, of which an empty cell prints nothing."""
    return [row[column] for column in columns if not pd.isna(row[column])]


def close(printed: list[float], exact: list[float], step: float) -> bool:
    """Whether these are the exact ones as they are printed, at a step of the last digit."""
    pairs = zip(printed, exact, strict=True)
    return all(abs(one - other) <= step / 2 + 1e-9 for one, other in pairs)


def test_each_printed_row_is_the_tables(study, arena):
    rows = printed_rows(study)
    assert len(rows) == len(arena) - 2  # depth and middle, which choose one layer for all
    for name, window, cells in rows:
        found = arena[arena["localizer"].eq(name)]
        found = found[found["window"].eq(int(window))] if window else found
        (row,) = found.to_dict("records")
        gain, p, r, rank, passes = (numbers(cell) for cell in cells)
        assert close(gain, known(row, *(f"gain{end}" for end in ENDS)), 0.01), name
        assert close(r, known(row, *(f"r{end}" for end in ENDS)), 0.01), name
        step = 10.0 ** -len(cells[1].split(",")[0].partition(".")[2])
        assert close(p, known(row, "gain_p_adjusted"), step), name
        assert close(rank, known(row, "rank_r"), 0.01), name
        assert close(passes, [row["passes"]], 1), name


def test_no_localizers_use_is_shown(arena):
    assert not (arena["value_low"] > 0).any()  # what the page and the README say of C


# ---- the design: the default study's edit layers, and the doses ----------------------------------


def test_the_mean_effects_peak_that_is_printed_is_edited_in_every_pair_of_the_default_study():
    page = " ".join((DOCS / "results.md").read_text().split("## The default study")[1].split())
    (layer,) = re.findall(r"the tracing effect is largest at layer (\d+), which is edited", page)
    for problem in DEFAULT["problems"]:
        for method in DEFAULT["methods"]:
            layers = of_pair(DEFAULT["layers"], problem, method)
            assert int(layer) - 1 in layers, (problem, method)
            assert PEAK in layers, (problem, method)


def tuned_rows(aim: str) -> list[tuple[str, str, dict[str, float], float]]:
    """Method, problem, setting and mean rewrite score of each printed row of a sweep."""
    text = (DOCS / "results.md").read_text().split("## Tuning of SmolLM2")[1].split(f"`{aim}`")[1]
    lines = text.split("|---|---|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    found = []
    for line in lines:
        method, problem, setting, rewrite, _ = (cell.strip() for cell in line.strip("|").split("|"))
        pairs = (pair.split("=") for pair in setting.split(", "))
        found.append((method, problem, {k: float(v) for k, v in pairs}, float(rewrite)))
    return found


# what the page says of those that no setting of their grid brings to the aim
BEYOND = {"unsaturated": [("KN", "error_injection")], "saturating": [("MEMIT", "fact_erasure")]}


@pytest.mark.parametrize("aim", BEYOND)
def test_each_printed_dose_is_the_models_and_meets_its_aim(aim):
    settings = load_yaml(ROOT / "models" / "smollm2-135m-instruct.yaml")["tuned"][aim]
    low, high = load_yaml(ROOT / "config.yaml")["tuning"]["aims"][aim]["rewrite"]
    rows = tuned_rows(aim)
    assert {method for method, *_ in rows} == settings["hyperparameters"].keys()
    for method, problem, printed, _ in rows:
        place = "all" if problem == "error_injection" else problem
        assert printed.items() <= settings["hyperparameters"][method][place].items(), method
    beyond = [(method, problem) for method, problem, _, got in rows if not low <= got <= high]
    assert beyond == BEYOND[aim]


def test_the_page_of_localizers_has_a_section_for_each():
    page = (DOCS / "explanation" / "localizers.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    told = {name.strip() for heading in headings for name in heading.split(",")}
    controls = {"depth", "middle", "random", "placebo"}  # under one heading
    assert "Controls" in told
    assert localizers.LOCALIZERS.keys() - controls - {"planted"} <= told


# ---- what is said in sentences -------------------------------------------------------------------

PRIMARY = {"localizer": "tracing", "module": "mlp", "window": 5, "score": "paraphrase_log_odds"}


def published(study: str, table: str, **keys) -> pd.DataFrame:
    rows = pd.read_csv(DOCS / "data" / study / f"{table}.csv")
    for column, value in keys.items():
        rows = rows[rows[column].isin(value if isinstance(value, list) else [value])]
    return rows


def one(study: str, table: str, columns: str, **keys) -> list[float]:
    """The numbers of the one row with these keys."""
    rows = published(study, table, **keys)
    assert len(rows) == 1
    return [float(rows[column].iloc[0]) for column in columns.split()]


def of_pairs(table: str, **keys) -> pd.DataFrame:
    chosen = {"score": "paraphrase_log_odds"} | keys
    return published("smollm2-pairs", table, **chosen)


def gains() -> list[float]:
    table = of_pairs("choice")
    table = table[table["p"].notna()]
    found = table[table["p"] < 0.05]
    losses = (found["gain"] < 0).sum()
    return [len(table), len(found), len(table) * 0.05, losses, table["p_adjusted"].min()]


def uses() -> list[float]:
    table = of_pairs("value", strategy="localizer")
    assert not (table["low"] > 0).any()
    return [len(table), table["low"].notna().sum()]


def own_peaks() -> list[float]:
    table = of_pairs("value", strategy="own_peak", localizer="tracing", window=5)
    assert len(table) == 20
    assert not (table["low"] > 0).any()
    worst = table.loc[table["value"].idxmin()]
    assert (worst["method"], worst["problem"]) == ("FT-1", "fact_forcing")
    return [-worst["value"], -worst["high"], -worst["low"]]


def unseen(problem: str, *methods: str, column: str = "diff") -> list[float]:
    keys = PRIMARY | {"score": "rewrite"}
    table = published("smollm2-pairs", "out_of_fold", **keys).set_index(["problem", "method"])
    return [table.loc[(problem, method), column] for method in methods]


def elsewhere() -> list[float]:
    table = published("smollm2-pairs", "out_of_fold", **(PRIMARY | {"score": "rewrite"}))
    erased = (table["problem"] == "fact_erasure") & table["method"].isin(["FT-1", "FT-5"])
    forced = (table["problem"] == "fact_forcing") & (table["method"] != "ROME")
    left = table.loc[~(erased | forced), "diff"]
    return [left.min(), left.max()]


def ends(values: list[float]) -> list[float]:
    return [min(values), max(values)]


class Chosen:
    """Where two localizers of the 200 facts peak, and what the edits there score: A by hand.

    At the edited layers, whose value is the mean over the layers nearest to each, the lower of two.
    """

    def __init__(self, *names: str, seen: bool = True) -> None:
        data = DOCS / "data"
        effects = pd.read_csv(data / "smollm2-200-all" / "effects.csv")
        scores = pd.read_csv(data / "smollm2-200" / "scores.csv")
        relations = scores.groupby("case_id")["relation_id"].first()
        scores = scores[scores["listed"]].pivot(
            index="case_id", columns="layer", values="paraphrase_log_odds"
        )
        layers = list(scores.columns)
        values = {}
        for name in names:
            rows = effects[(effects["localizer"] == name) & (effects["window"] == 5)]
            values[name] = rows.set_index("case_id")[[str(n) for n in range(30)]].dropna()
        facts = sorted(scores.index.intersection(values[names[0]].index))
        left_out = set() if seen else set(pd.read_csv(data / "smollm2-200" / "seen.csv").case_id)
        facts = [fact for fact in facts if fact not in left_out]
        self.facts = [fact for fact in facts if all(fact in values[name].index for name in names)]
        self.values = {name: values[name].loc[self.facts].to_numpy() for name in names}
        nearest = np.array([min(layers, key=lambda e: (abs(e - n), e)) for n in range(30)])
        self.peaks = {
            name: np.stack([one[:, nearest == e].mean(axis=1) for e in layers]).argmax(axis=0)
            for name, one in self.values.items()
        }
        self.scores = scores.loc[self.facts].to_numpy()
        self.relations = relations[self.facts].to_numpy()

    def gains(self, name: str, *, of_one_relation: bool = False) -> np.ndarray:
        """A of all facts, then without each; against all others, or those of the same relation."""
        peaks, relations = self.peaks[name], self.relations

        def gain(kept: np.ndarray) -> float:
            at = self.scores[kept][:, peaks[kept]]  # [a fact, another's peak]
            others = ~np.eye(len(at), dtype=bool)
            if of_one_relation:
                others &= relations[kept][:, None] == relations[kept]
            some = others.any(axis=1)
            of_others = (at * others).sum(axis=1)[some] / others.sum(axis=1)[some]
            return float((np.diag(at)[some] - of_others).mean())

        everything = np.arange(len(self.facts))
        return np.array([gain(everything)] + [gain(np.delete(everything, k)) for k in everything])


def jackknifed(gains: np.ndarray) -> list[float]:
    """The estimate of all facts and its interval, from those without each."""
    estimate, without, n = gains[0], gains[1:], len(gains) - 1
    se = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = intervals.t_quantile(0.975, n - 1) * se
    p = 2 * (1 - intervals.t_distribution(abs(estimate / se), n - 1))
    return [estimate, estimate - half, estimate + half, p]


def against_the_placebo() -> list[float]:
    both = Chosen("tracing", "placebo")
    tracing, placebo = both.gains("tracing"), both.gains("placebo")
    found = one("smollm2-200-all", "choice", "n_facts", **LATER | {"localizer": "placebo"})
    assert found == [len(both.facts)]
    return [tracing[0], *jackknifed(tracing - placebo)]


def of_new_facts(name: str) -> list[float]:
    """Gain and interval; p by 4,000 permutations of the peaks among the facts."""
    new = Chosen(name, seen=False)
    gains, n = new.gains(name), len(new.facts)
    draw = np.random.default_rng(0)
    shuffled = new.scores[
        np.arange(n), np.stack([draw.permutation(new.peaks[name]) for _ in range(4000)])
    ].mean(axis=1)
    everyone = new.scores[:, new.peaks[name]].mean()
    own = new.scores[np.arange(n), new.peaks[name]].mean()
    p = np.mean(np.abs(shuffled - everyone) >= abs(own - everyone))
    return [n, *jackknifed(gains)[:3], p]


def on_new_facts() -> list[float]:
    both = Chosen("tracing", "placebo", seen=False)
    tracing, placebo = both.gains("tracing"), both.gains("placebo")
    apart = jackknifed(tracing - placebo)
    return [
        len(both.facts),
        *jackknifed(placebo)[:3],
        *jackknifed(tracing)[:3],
        *apart[:3],
    ]


def within_relations() -> list[float]:
    found = [Chosen("tracing", seen=seen).gains("tracing", of_one_relation=True) for seen in (1, 0)]
    return [end for gains in found for end in jackknifed(gains)[:3]]


def room_for_a_choice() -> list[float]:
    """How often the layer that is best for all is a fact's own best, and what is to be gained."""
    scores = Chosen("tracing").scores
    best = scores.mean(axis=0).argmax()
    assert best == 0
    oracle = one("smollm2-200", "value", "value high low", strategy="oracle", **PRIMARY)
    gain = (scores.max(axis=1) - scores[:, best]).mean()
    return [100 * np.mean(scores.argmax(axis=1) == best), gain, *(-end for end in oracle)]


def swapped_and_noised() -> list[float]:
    both = Chosen("tracing", "swap_tracing")
    agreed = np.mean(both.peaks["tracing"] == both.peaks["swap_tracing"])
    pairs = zip(both.values["tracing"], both.values["swap_tracing"], strict=True)
    ranks = [np.corrcoef(*(pd.Series(one).rank() for one in pair))[0, 1] for pair in pairs]
    assert min(ranks) > 0
    return [np.mean(ranks), len(ranks), 100 * agreed]


def summary(study: str) -> list[float]:
    return (
        one(study, "choice", "gain low high", **PRIMARY)
        + one(study, "within", "r low high", **PRIMARY)
        + one(study, "value", "value low high", strategy="localizer", **PRIMARY)
    )


def of_planted(table: str, columns: str) -> list[float]:
    pair = {"method": "FT-5", "problem": "error_injection"}
    return one("smollm2-planted", table, columns, **PRIMARY | pair)


def of_full_cost(table: str, columns: str, **more) -> list[float]:
    keys = {"localizer": "edit_cost", "window": 1} | more
    return one("smollm2-200-full-cost", table, columns, **PRIMARY | keys)


LATER = PRIMARY | {"localizer": "swap_tracing"}
FORCED = ("FT-1", "FT-5", "MEMIT")
ERASED = ("FT-1", "FT-5")
# A sentence of the page, # for each of its numbers, and what these are by the published tables
CLAIMS = {
    "errors injected by ROME | 200 | # (# to #) | # (# to #) | # (# to #) |": lambda: summary(
        "smollm2-200"
    ),
    "seen | # | # (# to #) | | |": lambda: of_new_facts("tracing")[:4],
    "the placebo | # | # (# to #) | | |": lambda: on_new_facts()[:4],
    "errors injected by ROME | 64 | # (# to #) | # (# to #) | # (# to #) |": lambda: summary(
        "gemma3-270m-primary"
    ),
    "FT-5 | 45 | # (# to #) | # | none": lambda: (
        of_planted("choice", "gain low high") + of_planted("within", "r")
    ),
    "than those that it picks for others: by # log odds (# to #, p #)": lambda: one(
        "smollm2-200", "choice", "gain low high p", **PRIMARY
    ),
    "Within facts, trace and score correlate by # (# to #)": lambda: one(
        "smollm2-200", "within", "r low high", **PRIMARY
    ),
    "over relations (# to #) it is not": lambda: one(
        "smollm2-200", "within", "relation_low relation_high", **PRIMARY
    ),
    "editing each fact at its own peak costs #, # to #)": lambda: [
        -value
        for value in one(
            "smollm2-200-all", "value", "value high low", strategy="own_peak", **PRIMARY
        )
    ],
    "choosing with the trace adds # to it (C: # to #)": lambda: one(
        "smollm2-200", "value", "value low high", strategy="localizer", **PRIMARY
    ),
    "it gains # log odds (# to #, p #, adjusted #), on the facts": lambda: one(
        "smollm2-200-all", "choice", "gain low high p p_adjusted", **LATER
    ),
    "(rank correlation #, above zero in each of # facts), but pick the same edited layer in # %": (
        swapped_and_noised
    ),
    "gains # (# to #, p #); on these facts tracing gains #, and the difference, #, may be none "
    "(# to #, p #)": lambda: (
        one("smollm2-200-all", "choice", "gain low high p", **LATER | {"localizer": "placebo"})
        + against_the_placebo()
    ),
    "on the # others that have a placebo it gains # (# to #), tracing # (# to #), and the "
    "difference is # (# to #)": on_new_facts,
    "against other facts of its own relation alone the trace gains # (# to #), and # (# to #) on "
    "facts": within_relations,
    "it gains # log odds (# to #, p #, adjusted #), r within facts # (# to #).": lambda: (
        of_full_cost("choice", "gain low high p p_adjusted") + of_full_cost("within", "r low high")
    ),
    "against the one layer that is best for all (C: #, # to #). It was run last": lambda: (
        of_full_cost("value", "value low high", strategy="localizer")
    ),
    "layer 1 is the best edited layer of # % of the facts, taking each fact's best, known "
    "afterwards, would add #, and taking the best by one half of the paraphrases loses # (# to "
    "#) on": room_for_a_choice,
    "the # facts that no earlier study had seen, nor `tune`, alone give # (# to #, p #)": lambda: (
        of_new_facts("tracing")
    ),
    "on the facts that no study had seen # (# to #, p #)": lambda: of_new_facts("swap_tracing")[1:],
    "A is # log odds (# to #, p #), r within facts # (# to #, shown": lambda: (
        one("gemma3-270m-primary", "choice", "gain low high p", **PRIMARY)
        + one("gemma3-270m-primary", "within", "r low high", **PRIMARY)
    ),
    "tracing adds # (# to #) to the one layer": lambda: one(
        "gemma3-270m-primary", "value", "value low high", strategy="localizer", **PRIMARY
    ),
    "Editing each fact at its own peak costs # (# to #). No": lambda: [
        -value
        for value in one(
            "gemma3-270m-primary", "value", "value high low", strategy="own_peak", **PRIMARY
        )
    ],
    "of # gains # have a p below .05, where chance alone gives #, # of them are losses, and the "
    "smallest adjusted p is #.": gains,
    "Of # values of using a localizer (C), # have an interval, and none": uses,
    "costs in six of the 20 pairs, up to # log odds (# to #; FT-1, forcing)": own_peaks,
    "adds # and # to what the layer explains of FT-1's and FT-5's rewrite scores in erasure, "
    "and # to # in forcing by FT-1, FT-5 and MEMIT (# to # elsewhere)": lambda: (
        unseen("fact_erasure", *ERASED) + ends(unseen("fact_forcing", *FORCED)) + elsewhere()
    ),
    "mean over the edited layers adds # and # in erasure and #, # and # in forcing": lambda: (
        unseen("fact_erasure", *ERASED, column="diff_between")
        + unseen("fact_forcing", *FORCED, column="diff_between")
    ),
    "each layer's distance from that mean adds # and #, and # to #.": lambda: (
        unseen("fact_erasure", *ERASED, column="diff_within")
        + ends(unseen("fact_forcing", *FORCED, column="diff_within"))
    ),
}


# Likewise of README.md
README = {
    "By # with causal tracing (p #); # on the # facts that no study had seen, where `placebo`, "
    "the noise on other tokens, has #.": lambda: [
        *one("smollm2-200", "choice", "gain p", **PRIMARY),
        *of_new_facts("tracing")[1::-1],
        on_new_facts()[1],
    ],
    "within a fact? Hardly (r #).": lambda: one("smollm2-200", "within", "r", **PRIMARY),
    "it adds # (# to #).": lambda: summary("smollm2-200")[-3:],
}


@pytest.mark.parametrize(
    ("file", "claim", "exact"),
    [("docs/results.md", *claim) for claim in CLAIMS.items()]
    + [("README.md", *claim) for claim in README.items()],
)
def test_a_sentence_says_what_the_tables_do(file, claim, exact):
    page = " ".join((ROOT / file).read_text(encoding="utf-8").split())
    number = r"(-?\d*\.?\d+)"
    found = re.findall(re.escape(claim).replace(r"\#", number), page)
    assert len(found) == 1
    printed_numbers = [found[0]] if isinstance(found[0], str) else found[0]
    exact = exact()
    assert len(printed_numbers) == len(exact)
    for printed, value in zip(printed_numbers, exact, strict=True):
        step = 10.0 ** -len(printed.partition(".")[2])
        assert abs(float(printed) - value) <= step / 2 + 1e-9, (printed, value)


def test_editing_at_the_traces_peaks_costs_in_as_many_pairs_as_is_said():
    table = of_pairs("value", strategy="own_peak", localizer="tracing", window=5)
    assert (table["high"] < 0).sum() == 6
