"""`locedit export`: key statistics, settings, projections and results for other people's code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from locedit.api.look import Look, look
from locedit.api.one_fact import check_layer, hyperparameters_of
from locedit.cli import terminal
from locedit.cli.naming import check_layer_named, edit_layer, method_named
from locedit.cli.options import Export as Options
from locedit.cli.saying import layers_words, say
from locedit.engine import key_statistics
from locedit.errors import LoceditError
from locedit.exchange import easyedit_results, easyedit_settings, moments_npz, projection
from locedit.store.files import atomic
from locedit.windows import window_layers

PROBLEM = "error_injection"


def run(options: Options) -> None:
    """Write what is asked for."""
    if options.what == "results":  # which needs no model
        return _results(options)
    seen = look(options.model, say=say, plugged=options.plugin)
    terminal.quieten()
    {"statistics": _statistics, "settings": _settings, "projection": _projection}[options.what](
        seen, options
    )
    return None


def _results(options: Options) -> None:
    if options.run is None:
        raise LoceditError(
            "--run: name a run's folder, results/MODEL/DATASET/rome/METHOD/run_ID, as `snakemake "
            "rome_layout` writes them"
        )
    cases = easyedit_results.read_run(Path(options.run))
    easyedit_results.write(Path(options.out), cases)
    say(f"{options.out}: {len(cases)} edited facts")


def _file(seen: Look, options: Options) -> Path:
    of_study = Path("results", seen.name, "key_statistics.safetensors")
    file = of_study if options.statistics is None else Path(options.statistics)
    if not file.is_file():
        raise LoceditError(f"--statistics: no file {file}; a study makes it, or an import")
    key_statistics.check_size(file, seen.lm)
    return file


def _statistics(seen: Look, options: Options) -> None:
    file, folder = _file(seen, options), Path(options.out)
    moments, tokens = key_statistics.moments_of(file)
    if tokens is None:
        raise LoceditError(f"{file} does not say of how many tokens it is the mean")
    written = []
    for layer, moment in moments:
        path = moments_npz.path_of(
            folder,
            options.name or seen.name,
            options.dataset,
            moments_npz.module_of(seen.lm, layer),
            options.samples,
        )
        moments_npz.write(path, moment, tokens, options.samples)
        written.append(path)
    if not written:
        raise LoceditError(f"{file} has no layer's key statistics; collect them again")
    say(f"{written[0].parent}: {layers_words(len(written), tokens)}")
    say(f"their readers find it as {options.samples} documents, which is what they ask for")


def _settings(seen: Look, options: Options) -> None:
    method, layer, hyper = _hyper(seen, options)
    values = easyedit_settings.settings(
        seen.lm,
        method,
        layer,
        hyper,
        model_name=options.name or str(seen.settings.get("hub") or seen.folder),
        stats_dir="./data/stats",
    )
    with atomic(options.out) as temporary:
        temporary.write_text(easyedit_settings.text(values), encoding="utf-8")
    say(f"{options.out}: {method} at layers {', '.join(map(str, values['layers']))}")


def _projection(seen: Look, options: Options) -> None:
    _, layer, hyper = _hyper(seen, replace(options, method="AlphaEdit"))
    layers = window_layers(layer, hyper.window, seen.lm.n_layers)
    moments = key_statistics.moments_from_file(_file(seen, options), seen.lm.device)
    width = seen.lm.inner_size
    ranks = projection.write(Path(options.out), moments, layers, width, hyper)
    for edited, rank in zip(layers, ranks, strict=True):
        say(f"layer {edited}: rank {rank} of {width}")
    say(f"{options.out}: at the {hyper.threshold_kind} threshold {hyper.threshold:g}")


def _hyper(seen: Look, options: Options) -> tuple[str, int, Any]:
    method = method_named(options.method)
    check_layer_named(options.layer, options.tuned)
    layer = edit_layer(seen, method, PROBLEM, options.layer)
    check_layer(seen.lm, layer, None, "--layer")
    return method, layer, hyperparameters_of(seen, method, PROBLEM, options.preset, options.tuned)
