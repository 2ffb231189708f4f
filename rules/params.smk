# What inputs, outputs and params of single stages are made of: functions alone, without rules.


@functools.cache
def dataset_identity():
    """A hash of the data that the facts are read from."""
    if DATASET == formats.PLANTED:
        return pinned.model_identity(MODEL_SETTINGS)
    if DATA_FILE is None:
        data = [
            p
            for p in (ROOT / "data").rglob("*")
            if p.suffix in (".csv", ".yaml", ".yml") and p.parent.name != "planted"
        ]
        return [hashing.files(data), code("build_dataset")]
    if DATA_SOURCE and DATA_SOURCE.asset:
        return pinned.named(DATA_SOURCE.asset).sha256
    if not DATA_FILE.is_file():
        return DATA_FILE.name
    # the ending says how it is read; its name and place say nothing
    return [DATA_FILE.suffix.lower(), hashing.content(DATA_FILE)]


def solving(method):
    """The settings of key statistics that a method's own solving reads."""
    return picked("statistics", "ridge") if methods.METHODS[method].statistics else {}


def stops_early(method):
    """Whether a method may leave a fact alone once its loss is small, as fine-tuning does."""
    fields = dataclasses.fields(methods.METHODS[method].settings)
    return any(field.name == "enough" for field in fields)


def edit_layers(method, problem):
    """The layers that a pair is edited at, each fact's own peak perhaps among them."""
    return pairs.of_pair(config["editing"]["layers"], problem, method)


def facts_edited(method, problem, place=""):
    """How many of the study's facts a pair is edited with, once or again; None: all."""
    facts = pairs.of_pair(config["editing"]["facts"], problem, method)
    if not pairs.is_again(place):
        return facts
    repeated = config["editing"]["repeated"]
    return repeated if facts is None else min(facts, repeated)


def edit_inputs(wildcards):
    """The shared inputs that the method takes, beside those of every edit."""
    needs = methods.METHODS[wildcards.method]
    return shared_files(
        statistics=needs.statistics,
        contexts=needs.contexts,
        again=pairs.is_again(wildcards.get("layer", "")),
    )


def localize_inputs(wildcards):
    """The shared inputs that the localizer takes, beside the study and the model."""
    needs = localizers.LOCALIZERS[wildcards.localizer].needs
    files = {"noise": f"{OUT}/noise.json"} if "noise" in needs else {}
    if "records" in needs:
        files["records"] = f"{OUT}/facts.parquet"
    if "planting" in needs:
        files["planting"] = PLANTING
    return files | shared_files(
        statistics="key_statistics" in needs, contexts="contexts" in needs
    )


def shared_files(statistics, contexts, again=False):
    """Of what is made once for a model, what is asked for; `again`: for repeated edits."""
    files = {}
    if statistics:
        files["statistics"] = f"{SHARED}/key_statistics.safetensors"
    if contexts:
        files["contexts"] = f"{SHARED}/contexts{'_again' if again else ''}.parquet"
    return files


def table_of(localizer, module, window):
    """The table that a localizer fills for one place; tracing's holds its cells."""
    pattern = TRACE if localizer == localizers.TRACING else LOCALIZE
    return pattern.format(
        localizer=localizer, kind=module, module=module, window=window
    )


def peak_inputs(wildcards):
    """What tells where each fact peaks, if it is edited there."""
    return {"peaks": PEAKS} if wildcards.layer == pairs.PEAK else {}


def text_inputs(_wildcards):
    """The paragraphs whose perplexity is taken under each edit, if any are."""
    return {"held_out": HELD_OUT} if config["scores"]["text_paragraphs"] else {}


def localizer_settings(name):
    """A localizer's settings, the configuration's over its own defaults."""
    given = config["localizing"]["settings"].get(name, {})
    return vars(localizers.LOCALIZERS[name].settings(**given))


def localizer_solving(name):
    """The settings of key statistics that a localizer's own solving reads."""
    solves = "key_statistics" in localizers.LOCALIZERS[name].needs
    return picked("statistics", "ridge") if solves else {}


def localizer_noise(name):
    """The settings of the noise that a localizer draws; sigma is an input."""
    noised = "noise" in localizers.LOCALIZERS[name].needs
    return picked("tracing", "n_noise", "noise_seed") if noised else {}


def table_outputs(name, caption):
    """A table as Parquet, CSV and a page, which is in Snakemake's own report too."""
    return {
        "parquet": f"{OUT}/analysis/{name}.parquet",
        "csv": f"{OUT}/tables/{name}.csv",
        "html": report(
            f"{OUT}/tables/{name}.html",
            caption=f"../analysis/words/{caption}.md",
            category="Tables",
            labels={"table": name.replace("_", " ")},
        ),
    }


def page_code(caption):
    """A hash of what lays a table out as a page; no number depends on it."""
    modules = [ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in LAID_OUT]
    texts = [TEMPLATES / f"{name}.html.jinja" for name in ("table", "grid")]
    texts.append(ROOT / "analysis" / "words" / f"{caption}.md")
    return [
        *(hashing.code(path, ROOT, BESIDE) for path in modules),
        hashing.files(texts),
    ]


def described(name):
    """What the page of a table is made of beside its rows, and its caption's names."""
    function, _, arguments, inputs, label = TABLES[name]
    scored = {"problem": PROBLEMS, "method": METHODS, "score": SCORES}
    return {
        "function": function,
        "arguments": arguments,
        "title": label.replace("R2", "R²"),
        "model_label": MODEL_SETTINGS["label"],
        "dataset": DATASET_WORDS,
        "own": OWN if "effects" in inputs else {},
        "orders": scored if "scores" in inputs else {},
        "caption": f"{function}.md",
    }


def tables_of(*names):
    """The inputs of a figure by the names that its R function gives them."""
    paths = {name: f"{OUT}/{name}.parquet" for name in ("scores", "effects")}
    paths["cells"] = f"{OUT}/analysis/heatmap_cells.parquet"
    return {name: paths.get(name, f"{OUT}/analysis/{name}.parquet") for name in names}


def r2_figure(score, **settings):
    """R2 of one score, bars by problem and method."""
    return (
        "r2",
        "r2_by_problem",
        {**AT, "score": score, **settings},
        tables_of("r2"),
    )


def figure_sources(file):
    """Labels and R files of a figure, in their order: those of every figure, and its own."""
    return [LABELS, "frames.R", "theme.R", "figures.R", f"figures_{file}.R"]


def edits_again():
    """Tables of the primary comparison's edits that are made again.

    None of an editor that takes no contexts, whose edits would be the same, nor of edits that
    several facts share.
    """
    pair = [config["analysis"]["primary"][key] for key in ("method", "problem")]
    if not config["editing"]["repeated"] or tuple(pair) not in PAIRS:
        return []
    if TOGETHER[0] > 1 or not methods.METHODS[pair[0]].contexts:
        return []
    return [
        EDIT.format(
            method=pair[0], problem=pair[1], layer=pairs.place(layer, again=True)
        )
        for layer in pairs.listed(edit_layers(*pair))
    ]


def seed(place=""):
    """What edits draw by: other numbers where they are made again."""
    return config["seed"] + pairs.is_again(place)


def edits_of(together):
    """Tables of edits at layers that every fact of a pair is edited at, so many in one update."""
    return [
        EDIT.format(method=method, problem=problem, layer=pairs.place(layer, together))
        for method, problem in PAIRS
        for layer in pairs.everywhere(edit_layers(method, problem))
    ]
