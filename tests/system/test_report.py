"""The report: what its page shows of a study, and how a browser without a network finds it.

The page is made of two studies: the tiny one, and a hand-made one in which everything that can be
missing is missing. Both are opened from disk in headless Chromium.
"""

import itertools
import json
import math
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from locedit.report import grids, layouts, rbridge
from locedit.report.labels import Labels
from locedit.report.page import LARGEST_SVG, Figure, Table, arranged, read_figure
from locedit.store import tables
from workflow_scripts import explorer, report

WIDTHS = (1200, 390)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="60pt" viewBox="0 0 90 60">'
    '<rect width="90" height="60" fill="#0072B2"/></svg>'
)
WORDS = {"title": "Bars & layers", "caption": "Two < three.", "alt": "A blue rectangle."}
KEYS = {"localizer": "tracing", "module": "mlp", "window": 3, "effect": "value"}


def r2_rows() -> pd.DataFrame:
    """What the table `r2` has of two scores: one number is missing, and another tracing there."""
    numbers = "r2_layer r2_tracing r2_both diff p rmse_layer rmse_both mae_layer mae_both".split()
    numbers += [f"published_{name}" for name in ("layer", "tracing", "both", "diff")]
    numbers += ["partial_r2", "partial_r2_adjusted"]
    rows = [
        {"problem": "error_injection", "method": method, "score": score, "window": window}
        for score in ("rewrite", "essence")
        for method in ("FT-1", "ROME")
        for window in (3, 1)
    ]
    table = pd.DataFrame(rows).assign(
        localizer="tracing", module="mlp", effect="value", subset="all"
    )
    table = table.assign(n=8, n_facts=4, reason="", **dict.fromkeys(numbers, 0.5))
    at = (table["method"] == "ROME") & (table["score"] == "rewrite")
    table.loc[at, numbers] = float("nan")
    table.loc[at, "reason"] = "no edits <here>"
    return table


def unpacked(archive: Path, folder: Path) -> Path:
    """The report's folder, out of its zip."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    assert [path.name for path in folder.iterdir()] == ["report"]
    return folder / "report"


# ---- a hand-made study ---------------------------------------------------------------------------


def fact_rows(count: int) -> list[dict[str, Any]]:
    return [{"case_id": str(i), "status": "kept", "is_correct": True} for i in range(count)]


def described(name: str) -> dict[str, Any]:
    """What the workflow says about a table's page."""
    return {
        "title": f"{name} & more",
        "model_label": "Tiny <Llama>",
        "dataset": "hand-made",
        "own": {**KEYS, "subset": "all"},
        "orders": {"score": ["rewrite", "essence"]},
        "caption": f"{name}_table.md",
        "arguments": {"splits": 20},
    }


def hand_made(out: Path, figures: tuple[str, ...], analysis: dict[str, pd.DataFrame]) -> Path:
    """Make the report of a study with these tables, whose figures were (or were not) drawn before.

    Nothing was studied: of three known facts none was edited.
    """
    inputs = {name: out / f"{name}.parquet" for name in ("facts", "study")}
    tables.write(
        inputs["facts"], fact_rows(3), "facts", {"rule": "filter_facts", "fingerprint": "f00"}
    )
    tables.write(inputs["study"], [], "facts", {"rule": "study"})
    inputs["effects"] = out / "effects.parquet"
    tables.write(inputs["effects"], [], "effects", {"rule": "effects"})
    made = {"rule": "regressions", "fingerprint": "ab12", "versions": {"numpy": "1.2"}}
    for name, table in analysis.items():
        tables.write(out / f"analysis/{name}.parquet", table, None, made)
        (out / "tables").mkdir(exist_ok=True)
        table.to_csv(out / f"tables/{name}.csv", index=False)
        (out / f"tables/{name}.html").write_text("<html></html>")
    inputs["explorer"] = out / "facts.html"
    inputs["explorer"].write_text(empty_explorer(out, inputs))
    params = SimpleNamespace(
        design={
            "model": "Tiny <Llama>",
            "dataset": "hand-made",
            "problems": ["error_injection"],
            "methods": ["ROME"],
            **KEYS,
        },
        figures=figures,
        tables={name: described(name) for name in analysis},
    )
    named = SimpleNamespace(
        **inputs,
        analysis=[out / f"analysis/{name}.parquet" for name in analysis],
        upstream=[inputs[name] for name in ("facts", "study", "effects")],
    )
    config = {"model": "tiny", "editing": {"layers": [0, 2]}}
    report.make(out / "report.zip", named, params, config, {"R": "9.8.7"})
    return out / "report.zip"


def empty_explorer(out: Path, inputs: dict[str, Path]) -> str:
    """The page of single facts of a study that traced and edited nothing."""
    tables.write(out / "scores.parquet", [], "scores", {})
    named = SimpleNamespace(**inputs, scores=out / "scores.parquet", localized=[], edits=[])
    said = SimpleNamespace(model="Tiny <Llama>", dataset="hand-made", places={}, pairs=[])
    return explorer.made(named, said)


def write_figure(out: Path, name: str, **parts: str) -> None:
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in parts.items():
        (folder / f"{name}.{kind}").write_text(content)


R2 = r2_rows()


@pytest.fixture(scope="module")
def lacking(tmp_path_factory) -> Path:
    """The report of a study that lacks facts, a figure's words, a drawing, a table's rows."""
    out = tmp_path_factory.mktemp("lacking")
    write_figure(out, "r2_by_problem", svg=SVG, json=json.dumps(WORDS))
    write_figure(out, "tracing_peaks", svg=SVG)
    write_figure(out, "heatmap", svg="<svg")
    archive = hand_made(
        out,
        ("r2_by_problem", "tracing_peaks", "heatmap", "value", "newly_invented"),
        {"r2": R2, "value": R2.head(0).assign(strategy="")},
    )
    return unpacked(archive, out / "unpacked")


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory) -> Path:
    """The report of the tiny study."""
    return unpacked(study.out / "report.zip", tmp_path_factory.mktemp("whole"))


# ---- what the page holds -------------------------------------------------------------------------


def test_the_page_holds_its_style_and_figures_and_asks_for_nothing(lacking):
    page = (lacking / "index.html").read_text()
    assert "<script" not in page
    assert '<link rel="stylesheet"' not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count('src="data:image/svg+xml;base64,') == 2


def test_versions_are_those_of_the_tables_and_of_r(lacking):
    assert "numpy 1.2, R 9.8.7." in (lacking / "index.html").read_text()
    assert {"R", "ggplot2"} <= rbridge.versions(report.DRAWING).keys()


def test_names_that_look_like_markup_are_shown_as_they_are(lacking):
    page = (lacking / "index.html").read_text()
    assert "Tiny &lt;Llama&gt;" in page
    assert "Tiny <Llama>" not in page
    assert "Bars &amp; layers" in page


def test_the_zip_holds_figures_tables_and_configuration_for_use_elsewhere(lacking):
    names = {str(path.relative_to(lacking)) for path in lacking.rglob("*") if path.is_file()}
    assert names >= {"index.html", "study.yaml", "tables/r2.csv", "figures/r2_by_problem.svg"}
    settings = yaml.safe_load((lacking / "study.yaml").read_text())
    assert settings == {"model": "tiny", "editing": {"layers": [0, 2]}}


def test_the_same_study_makes_the_same_zip(tmp_path):
    first, second = (hand_made(tmp_path, (), {"r2": R2}).read_bytes() for _ in range(2))
    assert first == second


def test_a_figure_without_its_words_is_shown_and_says_so(lacking):
    page = (lacking / "index.html").read_text()
    assert '<h3 id="title-tracing_peaks">Tracing peaks</h3>' in page
    assert "This figure has no caption: tracing_peaks.json is missing." in page


def test_a_figure_that_was_not_drawn_keeps_its_place_and_says_so(lacking):
    page = (lacking / "index.html").read_text()
    assert "heatmap.svg is not a whole drawing." in page
    assert "value.svg and value.png are missing." in page


def shown(folder: Path, rows: pd.DataFrame) -> Table:
    return report.laid_out(folder, "r2", rows, described("r2"))


def test_a_table_without_rows_or_without_its_page_says_so(tmp_path):
    assert shown(tmp_path, R2.head(0)).missing == "it has no rows"
    assert shown(tmp_path, R2[R2["window"] == 1]).missing == "it has no rows of this tracing"
    (tmp_path / "r2.csv").touch()
    whole = shown(tmp_path, R2)
    assert whole.missing == ""
    assert list(whole.files) == ["csv"]


def test_a_table_is_shown_as_on_its_page_without_what_is_folded_there(tmp_path, lacking):
    about = grids.described(SimpleNamespace(**described("r2")), report.ANALYSIS)
    own = ElementTree.fromstring(grids.page(R2, layouts.LAYOUTS["r2"], about)).find("body")
    html = (lacking / "index.html").read_text()
    start = html.index('<section class="table" aria-labelledby="table-r2">')
    text = html[start : html.index("</section>", start) + len("</section>")]
    section = ElementTree.fromstring(text)
    assert section.findtext("h3") == "r2 & more"

    def tables(part) -> list[list[str]]:
        return [["".join(cell.itertext()) for cell in table.iter("td")] for table in part]

    at_once = [*section.findall("div/table"), *section.findall("details/div/table")]
    assert tables(at_once) == tables(own.findall("div/table"))
    titles = [*section.findall("h4"), *section.findall("details/h4")]
    assert [title.text for title in titles] == [title.text for title in own.findall("h2")]
    assert [title.text for title in section.findall("h4")] == ["R²: Rewrite score"]
    assert section.findtext("details/summary") == "More of this table"
    assert [note.text for note in section.findall("ol/li")] == ["no edits <here>"]
    paragraphs = ["".join(p.itertext()) for p in section.findall("div[@class='text']/p")]
    assert paragraphs == ["".join(p.itertext()) for p in own.findall("div[@class='text']/p")]
    assert own.find("details") is not None
    assert all(div.get("tabindex") == "0" for div in section.iter("div") if div.find("table"))


def test_words_that_are_not_json_name_the_file(tmp_path):
    write_figure(tmp_path, "heatmap", svg=SVG, json="{")
    with pytest.raises(ValueError, match=r"heatmap.json is not JSON .* delete it"):
        read_figure(tmp_path / "figures", "heatmap")


def test_a_huge_drawing_is_shown_by_its_png(tmp_path):
    rows = "<!--" + "x" * LARGEST_SVG + "-->"
    write_figure(tmp_path, "cloud", svg=SVG.replace("<rect", rows + "<rect"), png="PNG")
    figure = read_figure(tmp_path / "figures", "cloud")
    assert figure.source.startswith("data:image/png;base64,")
    assert (figure.width, figure.height) == (120, 80)  # 90 x 60 points


def test_every_figure_has_one_place_under_its_question():
    names = ["newly_invented", "r2_paraphrase", "correlations_by_layer", "rewrite_by_layer"]
    names += ["out_of_fold", "heatmap", "r2_by_problem"]
    figures = [Figure(name=name, title="", caption="", alt="", files={}) for name in names]
    placed = {section.id: [figure.name for figure in mine] for section, mine in arranged(figures)}
    assert placed == {
        "tracing": ["heatmap"],
        "editing": ["rewrite_by_layer"],
        "informing": ["r2_by_problem", "correlations_by_layer", "r2_paraphrase"],
        "certainty": ["out_of_fold"],
        "more": ["newly_invented"],
    }


def test_the_report_of_the_tiny_study_has_every_figure_and_table(study, whole):
    drawn = {path.name for path in (study.out / "figures").glob("*.svg")}
    written = {path.name for path in (study.out / "tables").glob("*.csv")}
    assert {path.name for path in (whole / "figures").glob("*.svg")} == drawn
    assert {path.name for path in (whole / "tables").glob("*.csv")} == written
    page = (whole / "index.html").read_text()
    assert "missing" not in page.split("</style>")[1]
    for name in ("scores", "facts"):
        assert tables.provenance(study.out / f"{name}.parquet")["fingerprint"] in page


# ---- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium that keeps its console's messages and its requests."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for path in map(shutil.which, names) if path), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its chromedriver here; scripts/setup.sh --tests installs it")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture(params=["whole", "lacking"])
def page(request, browser):
    """The browser with a report's page open, and the folder that it is in."""
    folder = request.getfixturevalue(request.param)
    browser.get_log("performance")  # forgets what came before
    browser.get_log("browser")
    resize(browser, WIDTHS[0])
    browser.get((folder / "index.html").as_uri())
    return browser, folder


def resize(browser, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requests_of(browser) -> list[str]:
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [entry for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    return [entry["params"]["request"]["url"] for entry in sent]


def test_every_figure_loads(page):
    browser, folder = page
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth, i.alt])"
    )
    whole_drawings = [p for p in (folder / "figures").glob("*.svg") if p.stat().st_size > 10]
    assert len(sizes) == len(whole_drawings) > 0
    for complete, natural, shown, alt in sizes:
        assert complete
        assert natural > 0
        assert shown > 0
        assert alt


# How many columns each row of a table reaches over, with the cells that reach down into it
WIDTHS_OF_ROWS = """
let open = [];
return [...arguments[0].rows].map(row => {
  for (const c of row.cells) for (let i = 0; i < c.colSpan; i++) open.push(c.rowSpan);
  const width = open.length;
  open = open.map(n => n - 1).filter(n => n > 0);
  return width;
});
"""


def test_every_table_has_rows_and_headers(page):
    browser, _ = page
    found = browser.find_elements(By.TAG_NAME, "table")
    assert found
    for table in found:
        assert table.find_elements(By.CSS_SELECTOR, "tbody tr")
        assert table.find_elements(By.CSS_SELECTOR, "thead th[scope]")
        assert len(set(browser.execute_script(WIDTHS_OF_ROWS, table))) == 1


def test_the_page_asks_for_nothing_and_complains_of_nothing(page):
    browser, folder = page
    assert browser.get_log("browser") == []
    urls = requests_of(browser)
    assert (folder / "index.html").as_uri() in urls
    assert [url for url in urls if not url.startswith(("file://", "data:"))] == []


def test_every_link_leads_somewhere(page):
    browser, folder = page
    links = [a.get_dom_attribute("href") for a in browser.find_elements(By.TAG_NAME, "a")]
    for link in links:
        if link.startswith("#"):
            assert browser.find_elements(By.ID, link[1:]), link
        else:
            assert (folder / link).is_file(), link


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_reaches_beyond_the_window(page, width):
    browser, _ = page
    resize(browser, width)
    widest = browser.execute_script("return document.documentElement.scrollWidth")
    assert widest <= width


def test_a_screen_reader_finds_its_way(page):
    browser, _ = page
    for landmark in ("header", "nav", "main", "footer"):
        assert len(browser.find_elements(By.TAG_NAME, landmark)) == 1
    assert len(browser.find_elements(By.TAG_NAME, "h1")) == 1
    ids = [e.get_dom_attribute("id") for e in browser.find_elements(By.CSS_SELECTOR, "[id]")]
    assert len(ids) == len(set(ids))
    for element in browser.find_elements(By.CSS_SELECTOR, "[aria-labelledby]"):
        assert element.get_dom_attribute("aria-labelledby") in ids
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
    )
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


CONTRAST = """
const channel = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 };
const light = ([r, g, b]) => .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b);
const colour = text => text.match(/[\\d.]+/g).map(Number);
const behind = e => { for (; e; e = e.parentElement) {
    const c = colour(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
  return [255, 255, 255] };
return [...document.querySelectorAll('h1,h2,h3,p,a,th,td,b,code')].filter(e => e.innerText)
  .map(e => { const a = light(colour(getComputedStyle(e).color)), b = light(behind(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.outerHTML.slice(0, 90)] });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme):
    """At least 4.5 : 1 (WCAG 2.2, 1.4.3)."""
    browser, _ = page
    scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme_feature]})
    try:
        pairs = browser.execute_script(CONTRAST)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert pairs
    assert [pair for pair in pairs if pair[0] < 4.5] == []


def test_the_first_paragraph_is_the_studys_answer(whole, browser):
    browser.get((whole / "index.html").as_uri())
    first = browser.find_element(By.CSS_SELECTOR, "main p")
    assert first.text.startswith("The comparison that was named before the study is ")
    assert "Tiny Llama knows 9 of the 10 facts of the data set hand-made" in first.text
    assert "(2 more could not be used); 6 of these were traced and edited." in first.text
    conclusion = first.find_elements(By.TAG_NAME, "strong")
    assert [one.text.startswith("That is too little to say") for one in conclusion] == [True]


def test_an_empty_study_says_that_nothing_could_be_computed(lacking, browser):
    browser.get((lacking / "index.html").as_uri())
    first = browser.find_element(By.CSS_SELECTOR, "main p").text
    assert "knows 3 of the 3 facts" in first
    assert "none was traced or edited" in first
    named = "The comparison that was named before the study is missing: its table is empty. "
    assert first.startswith(f"{named}This study does not say whether tracing tells where to edit.")


# ---- single facts, in a browser ------------------------------------------------------------------


def show(browser, folder: Path, case: str = "") -> None:
    """Open the page of single facts at a fact, and wait for its charts."""
    address = (folder / "facts.html").as_uri() + (f"#fact={quote(case, safe='')}" if case else "")
    browser.get(address)
    wait_for(browser, case)


def wait_for(browser, case: str = "") -> None:
    def ready(driver) -> bool:
        opened = driver.execute_script("return document.getElementById('fact').dataset.ready")
        return opened == case if case else bool(opened)

    WebDriverWait(browser, 30).until(ready)


@pytest.fixture
def facts_page(whole, browser):
    """The browser with the tiny study's facts open, wide; what it logged before is forgotten."""
    browser.get_log("performance")
    browser.get_log("browser")
    resize(browser, WIDTHS[0])
    browser.get("about:blank")  # an address that differs behind the # alone loads nothing
    show(browser, whole)
    return browser


def rows_of(browser, name: str) -> dict[str, list[str]]:
    """A table's cells by its rows' headers; it is unfolded first."""
    script = """
      const place = document.getElementById('fact');
      for (const d of place.querySelectorAll('details')) {
        d.open = true; d.dispatchEvent(new Event('toggle')); }
      const table = place.querySelector(`[data-table="${arguments[0]}"]`);
      return [...table.rows].map(row => [...row.cells].map(cell => cell.textContent));"""
    return {first: rest for first, *rest in browser.execute_script(script, name)}


def same(shown: str, value: float) -> bool:
    """A number as the page rounds it; a dash for none."""
    if math.isnan(value):
        return shown == "–"
    return math.isclose(float(shown), value, rel_tol=1e-4, abs_tol=1e-300)


def numbers_equal(shown: list[list[str]], told: list[list[float]]) -> bool:
    assert [len(row) for row in shown] == [len(row) for row in told]
    pairs = zip(itertools.chain(*shown), itertools.chain(*told), strict=True)
    return all(same(text, value) for text, value in pairs)


def opened(browser, folder: Path, facts: list[dict[str, Any]]) -> Iterator[str]:
    """Open fact after fact, by its address; their names."""
    for fact in facts:
        show(browser, folder, fact["case_id"])
        title = browser.find_element(By.ID, "fact-title").text
        assert title == f"{fact['prompt']} {fact['target_true']}"
        assert browser.find_elements(By.CSS_SELECTOR, ".chart svg")
        yield fact["case_id"]


def test_every_fact_opens_with_the_numbers_of_its_localizers(study, facts_page, whole):
    effects = tables.read(study.out / "effects.parquet", "effects")
    traced = {
        f"tracing/{path.parent.name}/{path.stem}": tables.read(path, "tracing")
        for path in study.out.glob("tracing/*/*.parquet")
    }
    labels = Labels.read(report.ANALYSIS / "labels.yaml")
    facts = tables.records(study.out / "study.parquet", "facts")
    assert len(facts) == 6
    assert len(traced) > 1
    for case in opened(facts_page, whole, facts):
        for name, cells in traced.items():
            mine = cells[cells["case_id"] == case]
            grid = mine.pivot(index="token", columns="layer", values="p_restored")
            shown = rows_of(facts_page, name)
            assert shown.pop("token") == [str(layer) for layer in grid.columns]
            assert numbers_equal(list(shown.values()), grid.to_numpy().tolist())
        values = rows_of(facts_page, "values")
        layers = values.pop("localizer")[:-1]
        mine = effects[effects["case_id"] == case]
        for place, rows in mine.groupby(["localizer", "module", "window"]):
            at = dict(zip(("module", "window"), place[1:], strict=True))
            where = ", ".join(labels.place(at)) or "no module"
            row = values.pop(f"{labels.of('localizer', place[0])}, {where}")
            assert layers == [str(layer) for layer in rows["layer"]]
            assert numbers_equal([row[:-1]], [rows["value"].tolist()])
        assert not values
    assert facts_page.get_log("browser") == []
    urls = requests_of(facts_page)
    assert [url for url in urls if not url.startswith(("file://", "data:", "about:"))] == []


def test_every_edit_of_every_fact_is_shown_with_its_scores_and_texts(study, facts_page, whole):
    scores = tables.read(study.out / "scores.parquet", "scores")
    names = explorer.explorer.scored(scores)
    editing = study.settings["editing"]
    pairs = [(m, p) for m in editing["methods"] for p in editing["problems"]]
    facts = tables.records(study.out / "study.parquet", "facts")
    for case in opened(facts_page, whole, facts):
        for i, (method, problem) in enumerate(pairs):
            Select(facts_page.find_element(By.ID, "pair")).select_by_index(i)
            of = scores[["case_id", "method", "problem"]] == [case, method, problem]
            mine = scores[of.all(axis=1)].sort_values("layer")
            shown = rows_of(facts_page, "scores")
            assert len(shown.pop("layer")) == len(names) + 1
            assert numbers_equal([row[:-1] for row in shown.values()], mine[names].values.tolist())
            for row, status in zip(shown.values(), mine["status"], strict=True):
                if status != "ok":
                    assert row[-1] == status
                else:
                    assert (row[-1] == "–") != ("–" in row[:-1])
            layers = mine.loc[mine["listed"] & (mine["status"] == "ok"), "layer"]
            if not layers.empty:
                path = f"editing/{method}/{problem}/layer-{layers.iloc[0]}.parquet"
                table = tables.read(study.out / path, "editing").set_index("case_id").loc[case]
                texts = rows_of(facts_page, "texts")
                assert texts["before"] == ["\n\n".join(table["generations_before"])]
                after = next(t for k, t in texts.items() if k.split()[0] == str(layers.iloc[0]))
                assert after == ["\n\n".join(table["generations_after"])]
    assert facts_page.get_log("browser") == []


def listed(browser) -> list[list[str]]:
    """The facts of the list, each with its number."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#facts a')]"
        ".map(a => [a.dataset.fact, a.lastChild.textContent])"
    )


def test_facts_are_sorted_and_filtered_by_a_score(study, facts_page):
    scores = tables.read(study.out / "scores.parquet", "scores")
    editing = study.settings["editing"]
    at = {"method": editing["methods"][0], "problem": editing["problems"][0]}
    layer = int(scores.loc[scores["listed"], "layer"].min())
    mine = scores[(scores[[*at]] == pd.Series(at)).all(axis=1) & (scores["layer"] == layer)]
    Select(facts_page.find_element(By.ID, "score")).select_by_visible_text("Rewrite log odds")
    Select(facts_page.find_element(By.ID, "layer")).select_by_value(str(layer))
    Select(facts_page.find_element(By.ID, "order")).select_by_value("down")
    told = mine.set_index("case_id")["rewrite_log_odds"].dropna().sort_values(ascending=False)
    facts = listed(facts_page)
    shown = [pair for pair in facts if pair[1] != "–"]
    assert sorted(case for case, _ in shown) == sorted(told.index)
    assert numbers_equal([[number for _, number in shown]], [told.tolist()])
    bound = shown[len(shown) // 2][1]  # as it is shown: what the filter compares is rounded so
    facts_page.find_element(By.ID, "low").send_keys(bound)
    left = {case for case, _ in listed(facts_page)}
    assert left == {case for case, number in shown if float(number) >= float(bound)}
    assert 0 < len(left) < len(facts)


def test_the_keyboard_alone_leads_from_fact_to_fact(facts_page):
    first, second = (case for case, _ in listed(facts_page)[:2])
    wait_for(facts_page, first)
    link = facts_page.find_element(By.CSS_SELECTOR, "#facts li:nth-child(2) a")
    facts_page.execute_script("document.querySelector('#facts a').focus()")
    facts_page.switch_to.active_element.send_keys(Keys.TAB)
    assert facts_page.switch_to.active_element == link
    link.send_keys(Keys.ENTER)
    wait_for(facts_page, second)
    assert facts_page.current_url.endswith(f"#fact={quote(second, safe='')}")
    facts_page.find_element(By.ID, "previous").send_keys(Keys.ENTER)
    wait_for(facts_page, first)


def test_an_address_of_an_unknown_fact_says_so(whole, browser):
    browser.get("about:blank")
    browser.get((whole / "facts.html").as_uri() + "#fact=<b>nobody</b>")
    said = browser.find_element(By.ID, "fact").text
    assert "the study has no fact named <b>nobody</b>" in said


def test_a_study_without_facts_has_a_page_of_them_that_says_so(lacking, browser):
    browser.get_log("browser")
    browser.get((lacking / "facts.html").as_uri())
    assert "no fact was traced or edited" in browser.find_element(By.ID, "fact").text
    assert "Tiny <Llama>" in browser.find_element(By.TAG_NAME, "header").text
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_part_of_a_fact_reaches_beyond_the_window(facts_page, whole, width):
    resize(facts_page, width)
    facts_page.refresh()
    wait_for(facts_page)
    widest = facts_page.execute_script("return document.documentElement.scrollWidth")
    assert widest <= width
    heads = facts_page.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
    )
    assert all(b - a <= 1 for a, b in itertools.pairwise(heads))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_about_a_fact_stands_out_from_its_ground(facts_page, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    facts_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        pairs = facts_page.execute_script(CONTRAST)
    finally:
        facts_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert [pair for pair in pairs if pair[0] < 4.5] == []
