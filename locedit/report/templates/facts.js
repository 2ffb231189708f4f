"use strict";
// Texts of facts reach the page as text nodes and as values of charts, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const DASH = "\u2013";
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
  "#8C510A", "#F0E442"];
let shown = []; // the facts of the list, in its order
let current = null; // the fact that is open
let drawn = []; // views of the charts on the page

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const text = number => number === null || number === undefined ? DASH : String(number);
const visible = token => token.replace(/\n/g, "\u23ce").replace(/\t/g, "\u21e5");
const pairLabel = pair => `${pair.method}, ${pair.problem.toLowerCase()}`;
const missing = reason => make("p", {class: "missing"}, `Nothing to show: ${reason}.`);

// ---- the list of facts ----

function options(select, labels) {
  select.replaceChildren(...labels.map(([value, label]) => make("option", {value}, label)));
}

// -1 stands for the embedding
const layerName = layer => layer === null ? "no layer" : layer < 0 ? "embedding" : String(layer);

function layerOptions() {
  const layers = new Set(data.facts.flatMap(fact => fact.edits[+$("pair").value]?.layers ?? []));
  const numbers = [...layers].filter(layer => layer !== null).sort((a, b) => a - b);
  const before = $("layer").value;
  options($("layer"), [["mean", "all layers, their mean"], ["best", "its best layer"],
    ["peak", "its own peak"], ...numbers.map(layer => [String(layer), layer < 0 ? layerName(layer) : `layer ${layer}`])]);
  if ([...$("layer").options].some(option => option.value === before)) $("layer").value = before;
}

function scoreOf(fact) {
  const edit = fact.edits[+$("pair").value];
  if (!edit || edit.reason) return null;
  const column = +$("score").value, at = $("layer").value;
  const rows = edit.layers.map((layer, i) => ({layer, peak: edit.peak[i],
    score: edit.scores[i][column]}));
  const wanted = rows.filter(row => row.score !== null && (at === "mean" || at === "best"
    || (at === "peak" ? row.peak : String(row.layer) === at))).map(row => row.score);
  if (!wanted.length) return null;
  if (at === "best") return Math.max(...wanted);
  const mean = wanted.reduce((sum, score) => sum + score, 0) / wanted.length;
  return Number(mean.toPrecision(data.digits));
}

function list() {
  const bound = id => $(id).value === "" ? null : Number($(id).value);
  const low = bound("low"), high = bound("high"), words = $("words").value.toLowerCase();
  const order = $("order").value;
  const rows = data.facts.map(fact => ({fact, score: scoreOf(fact)})).filter(({fact, score}) =>
    (low === null || (score !== null && score >= low))
    && (high === null || (score !== null && score <= high))
    && [fact.id, fact.relation, fact.prompt, fact.target_true, fact.target_new]
      .some(part => (part ?? "").toLowerCase().includes(words)));
  const key = row => order === "p" ? row.fact.p_true : row.score;
  const sign = order === "up" ? 1 : -1;
  if (order !== "study") {
    rows.sort((a, b) => (key(a) === null) - (key(b) === null) || sign * (key(a) - key(b)));
  }
  shown = rows.map(row => row.fact);
  $("facts").replaceChildren(...rows.map(({fact, score}) => make("li", {}, make("a",
    {href: `#fact=${encodeURIComponent(fact.id)}`, "data-fact": fact.id},
    make("span", {}, `${fact.prompt} ${fact.target_true}`),
    make("span", {class: "number"}, text(order === "p" ? fact.p_true : score))))));
  $("count").textContent = `${shown.length} of ${data.facts.length} facts`
    + (data.pairs.length ? ", each with its score" : "; none was edited, so there are no scores");
  mark();
}

function mark() {
  for (const link of $("facts").querySelectorAll("a")) {
    if (current && link.dataset.fact === current.id) {
      link.setAttribute("aria-current", "true");
      const box = $("facts").parentElement;
      const top = link.offsetTop - box.offsetTop;
      if (top < box.scrollTop || top + link.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = top - box.clientHeight / 3;
      }
    } else link.removeAttribute("aria-current");
  }
  const at = shown.indexOf(current);
  $("previous").disabled = at <= 0;
  $("next").disabled = at >= shown.length - 1;
}

function step(by) {
  const fact = shown[shown.indexOf(current) + by];
  if (fact) location.hash = `fact=${encodeURIComponent(fact.id)}`;
}

// ---- charts and tables ----

function chart(title, description, values, parts) {
  const place = make("div", {class: "chart"});
  const spec = {
    width: "container", autosize: {type: "fit-x", contains: "padding"}, description,
    data: {values}, config: {view: {stroke: null}, font: "sans-serif",
      legend: {orient: "bottom", columns: 1, labelLimit: 0, labelFontSize: 12},
      axis: {labelFontSize: 12, titleFontSize: 12}}, ...parts,
  };
  const draw = async () => {
    const result = await vegaEmbed(place, spec, {mode: "vega-lite", ast: true, actions: false,
      renderer: "svg", defaultStyle: false});
    if (place.isConnected) drawn.push(result); else result.finalize();
  };
  return [make("figure", {}, make("figcaption", {}, title), make("div", {class: "card"}, place)), draw];
}

const AXIS = {field: "layer", type: "ordinal", title: "layer",
  axis: {labelAngle: 0, labelOverlap: true}};

// A method's colour is that of the figures; whatever has none takes one that is left.
function colours(series) {
  const own = series.map(name => data.colours[name]);
  const left = COLOURS.filter(colour => !own.includes(colour));
  return own.map(colour => colour ?? left.shift() ?? "#56606a");
}

function lines(title, values, y, series) {
  return chart(title, `${title}, by layer`, values, {
    height: 130, mark: {type: "line", point: true},
    encoding: {
      x: {field: "layer", type: "quantitative", title: "layer", axis: {tickMinStep: 1, format: "d"}},
      y: {field: "y", type: "quantitative", title: y},
      color: {field: "series", type: "nominal", title: null, sort: series,
        scale: {domain: series, range: colours(series)},
        ...series.length > 1 ? {} : {legend: null}},
      tooltip: [{field: "series", title: "of"}, {field: "layer"}, {field: "y", title: y ?? "value"}],
    },
  });
}

function heatMap(title, map) {
  const names = map.tokens.map((token, i) =>
    `${map.positions[i]} ${visible(token)}${map.subject[i] ? " *" : ""}`);
  const values = map.cells.flatMap((row, i) => row.map((p, j) =>
    ({token: names[i], layer: map.layers[j], p})));
  return chart(title, `p(true object) with a token and layer restored: ${title}`, values, {
    height: 22 * names.length, mark: "rect",
    encoding: {
      x: AXIS, y: {field: "token", type: "ordinal", sort: names, title: null},
      color: {field: "p", type: "quantitative", title: "p restored",
        scale: {scheme: "purples"}},
      tooltip: [{field: "token"}, {field: "layer"}, {field: "p", title: "p restored"}],
    },
  });
}

function table(caption, head, rows, name) {
  return make("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
    make("table", {"data-table": name}, make("thead", {}, make("tr", {},
      ...head.map(cell => make("th", {scope: "col"}, cell)))),
    make("tbody", {}, ...rows.map(([first, ...rest]) => make("tr", {},
      make("th", {scope: "row"}, first), ...rest.map(cell => typeof cell === "string" && cell !== DASH
        ? make("td", {class: "said"}, cell) : make("td", {class: "number"}, cell ?? DASH)))))));
}

// A table that is made when it is opened
function folded(summary, build) {
  const details = make("details", {}, make("summary", {}, summary));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(build());
  });
  return details;
}

// ---- one fact ----

function record(fact) {
  const rows = [["Fact", fact.id], ["Relation", fact.relation], ["Subject", fact.subject],
    ["True object", fact.target_true], ["False object", fact.target_new],
    ["p(true object)", text(fact.p_true)], ["The model goes on", fact.completion],
    ["Remark", fact.remark]];
  return make("dl", {}, ...rows.filter(([, value]) => value).flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, value)]));
}

function section(title, intro, ...parts) {
  return make("section", {}, make("h3", {}, title), make("p", {class: "intro"}, intro), ...parts);
}

function tracing(fact, later) {
  const parts = fact.heat_maps.map((map, i) => {
    const {label: title, file} = data.heat_maps[i];
    if (map.reason) return make("figure", {}, make("figcaption", {}, title), missing(map.reason));
    const [figure, draw] = heatMap(title, map);
    later.push(draw);
    figure.append(folded("Numbers", () => table(title, ["token", ...map.layers.map(String)],
      map.cells.map((row, j) => [`${map.positions[j]} ${visible(map.tokens[j])}`,
        ...row]), `tracing/${file}`)));
    const known = `p clean ${text(map.p_clean)}, corrupted ${text(map.p_corrupted)}`;
    figure.firstChild.append(make("span", {class: "interval"}, ` (${known})`));
    return figure;
  });
  return section("Heat maps", "p(true object) when a token and a window of layers are restored in "
    + "the corrupted run. A star marks the subject's tokens.", parts.length
    ? make("div", {class: "charts"}, ...parts)
    : missing("this study traces nothing (localizing.localizers does not name tracing)"));
}

function values(fact, later) {
  const groups = Map.groupBy
    ? Map.groupBy(data.places.keys(), i => data.places[i].localizer)
    : data.places.reduce((found, place, i) =>
      found.set(place.localizer, [...found.get(place.localizer) ?? [], i]), new Map());
  const parts = [...groups].map(([localizer, places]) => {
    const series = places.map(i => data.places[i].at);
    const title = series.length > 1 ? localizer : `${localizer}, ${series[0]}`;
    const points = places.flatMap((i, k) => (fact.values[i].values ?? []).map((y, j) =>
      ({series: series[k], layer: fact.values[i].layers[j], y})).filter(point => point.y !== null));
    const reasons = places.filter(i => fact.values[i].reason).map(i =>
      missing(`${data.places[i].at}: ${fact.values[i].reason}`));
    if (!points.length) {
      return make("figure", {}, make("figcaption", {}, title), ...reasons);
    }
    const [figure, draw] = lines(title, points, null, series);
    later.push(draw);
    figure.append(...reasons);
    return figure;
  });
  const layers = [...new Set(fact.values.flatMap(value => value.layers ?? []))].sort((a, b) => a - b);
  const numbers = folded("Numbers", () => table("Value by layer",
    ["localizer", ...layers.map(String), "why empty"], data.places.map((place, i) => {
      const {layers: at = [], values: mine = [], reason = ""} = fact.values[i];
      return [`${place.localizer}, ${place.at}`,
        ...layers.map(layer => mine[at.indexOf(layer)] ?? null), reason || DASH];
    }), "values"));
  return section("Value by layer", "What each localizer says of each layer, on its own scale: large "
    + "where the fact is held.", ...(parts.length
    ? [make("div", {class: "charts small"}, ...parts), numbers]
    : [missing("this study localizes nothing")]));
}

function scores(fact, later) {
  const column = +$("score").value, label = data.scores[column]?.label ?? "";
  const problems = [...new Set(data.pairs.map(pair => pair.problem))];
  const methods = [...new Set(data.pairs.map(pair => pair.method))];
  const parts = problems.map(problem => {
    const mine = data.pairs.map((pair, i) => ({...pair, edit: fact.edits[i]}))
      .filter(pair => pair.problem === problem);
    const points = mine.flatMap(({method, edit}) => (edit.layers ?? []).map((layer, i) =>
      ({series: method, layer, y: edit.scores[i][column]})))
      .filter(point => point.y !== null && point.layer !== null);
    if (!points.length) {
      const why = [...new Set(mine.flatMap(({edit}) => edit.reason ?? edit.status))];
      return make("figure", {}, make("figcaption", {}, problem),
        missing(why.filter(status => status !== "ok").join("; ") || "there is no such score"));
    }
    const [figure, draw] = lines(methods.length > 1 ? problem : `${methods[0]}, ${problem}`,
      points, label, methods);
    later.push(draw);
    return figure;
  });
  return section("Scores by layer", `${label || "Scores"} of this fact's edits; another score is `
    + "chosen above.", parts.length ? make("div", {class: "charts small"}, ...parts)
    : missing("this study edits nothing"));
}

function edit(fact) {
  const i = +$("pair").value, pair = data.pairs[i];
  if (!pair) return section("One edit", "Scores and texts of one editor and problem.",
    missing("this study edits nothing"));
  const title = `One edit: ${pairLabel(pair)}`, mine = fact.edits[i];
  if (mine.reason) return section(title, "Another is chosen above.", missing(mine.reason));
  const layers = mine.layers.map((layer, j) =>
    `${layerName(layer)}${mine.peak[j] ? " (peak)" : ""}`);
  const why = j => mine.status[j] !== "ok" ? mine.status[j]
    : mine.scores[j].includes(null) ? "the fact has no prompts of this kind, or it was not measured"
      : DASH;
  const numbers = table(`Scores: ${title}`, ["layer", ...data.scores.map(score => score.label),
    "why empty"], mine.layers.map((_, j) => [layers[j], ...mine.scores[j], why(j)]), "scores");
  const said = [];
  if (!mine.texts) said.push(missing("its texts had no room on this page; they are in the tables of "
    + "editing/, in generations_before and generations_after"));
  else if (!mine.texts.before.length) said.push(missing("no text was generated"));
  else said.push(table(`Generated text: ${title}`, ["layer", "text"], [
    ["before", mine.texts.before.join("\n\n")], ...mine.texts.after.map((after, j) =>
      [layers[j], after.join("\n\n") || `none: ${mine.status[j]}`])], "texts"));
  return section(title, `The edit makes for \u201c${mine.target}\u201d. Another editor or problem is `
    + "chosen above.", numbers, make("h4", {}, "Generated text, before and after"), ...said);
}

function show() {
  drawn.forEach(result => result.finalize());
  drawn = [];
  const later = [];
  $("fact-title").textContent = `${current.prompt} ${current.target_true}`;
  $("fact").replaceChildren(record(current), tracing(current, later), values(current, later),
    scores(current, later), edit(current));
  const fact = $("fact");
  fact.dataset.ready = "";
  const opened = current;
  Promise.all(later.map(draw => draw())).then(() => {
    if (opened === current) fact.dataset.ready = opened.id;
  });
}

function open() {
  if (location.hash && !location.hash.startsWith("#fact=")) return;
  let id = location.hash.slice("#fact=".length);
  try { id = decodeURIComponent(id); } catch { /* shown as it is */ }
  current = id ? data.facts.find(fact => fact.id === id) ?? null : shown[0] ?? null;
  if (current) show();
  else {
    $("fact-title").textContent = id ? "No such fact" : "No fact";
    $("fact").replaceChildren(missing(id ? `the study has no fact named ${id}`
      : "no fact was traced or edited"));
  }
  mark();
}

options($("pair"), data.pairs.map((pair, i) => [String(i), pairLabel(pair)]));
options($("score"), data.scores.map((score, i) => [String(i), score.label]));
layerOptions();
for (const id of ["low", "high", "words"]) $(id).addEventListener("input", list);
for (const id of ["layer", "order"]) $(id).addEventListener("change", list);
for (const id of ["pair", "score"]) $(id).addEventListener("change", () => {
  layerOptions();
  list();
  if (current) show();
});
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
addEventListener("hashchange", open);
list();
open();
