"""Shared inputs of one edit: a study's where it has them, else a smaller sample, kept in the cache.

METHODS section 5 asks for 10 x d_ff tokens behind the key statistics; a first answer takes
QUICK_TOKENS x d_ff, only for the layers that are edited, and says so.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from locedit.api.look import Look
from locedit.engine import key_statistics, sampling
from locedit.errors import LoceditError
from locedit.facts import corpus
from locedit.methods import METHODS, SharedInputs
from locedit.stated import check_model
from locedit.store import files, tables
from locedit.workflow import origins

QUICK_TOKENS = 3
PARAGRAPHS = 5  # of an article


def shared_inputs(
    seen: Look, method: str, layers: Sequence[int], results: Path | None, tokens: int | None
) -> SharedInputs:
    """What the method takes of context templates and of the key moments of `layers`.

    results: the folder of studies that these are taken from where they are there. tokens: behind
    key moments that are not.
    """
    needs, study = METHODS[method], _study(seen, results)
    found: dict[str, Any] = {}
    if needs.contexts is not None:
        found["contexts"] = _contexts(seen, needs.contexts, study)
    if needs.statistics:
        found["moments"] = _moments(seen, layers, study, tokens)
    return SharedInputs(**found)


def sources(
    seen: Look, methods: Iterable[str], results: Path | None, tokens: int | None
) -> dict[str, Any]:
    """What `shared_inputs` takes for these methods, told by what it holds, or by how it is made."""
    study, needs = _study(seen, results), [METHODS[method] for method in methods]
    found: dict[str, Any] = {}
    for kind in sorted({one.contexts for one in needs if one.contexts is not None}):
        file = _stored(study, "contexts.parquet")
        made = [seen.config.contexts.model_dump(), seen.config.seed]
        found[f"{kind} contexts"] = made if file is None else tables.context_sets(file, kind)
    if any(one.statistics for one in needs):
        file = None if tokens is not None else _stored(study, "key_statistics.safetensors")
        settings = seen.config.statistics
        found["key statistics"] = (
            [tokens or f"{QUICK_TOKENS} x d_ff", settings.max_tokens]
            if file is None
            else key_statistics.made_of(file)
        )
        found["ridge"] = settings.ridge
    return found


def localizer_inputs(seen: Look, needs: Iterable[str], results: Path) -> dict[str, Any] | None:
    """What a localizer needs of key statistics and contexts; None where no study has made them.

    They are of all layers here, which takes too long for one look.
    """
    study, found = results / seen.name, dict[str, Any]()
    if "key_statistics" in needs:
        if not seen.configured or not (study / "key_statistics.safetensors").is_file():
            return None
        found["moments"] = _moments(seen, range(seen.lm.n_layers), study, None)
    if "contexts" in needs:
        found["contexts"] = _contexts(seen, "rome", study if seen.configured else None)
    return found


def _study(seen: Look, results: Path | None) -> Path | None:
    return results / seen.name if results is not None and seen.configured else None


def _stored(study: Path | None, name: str) -> Path | None:
    """A study's file, where it is there."""
    return study / name if study is not None and (study / name).is_file() else None


def _contexts(seen: Look, kind: str, study: Path | None) -> list[list[str]]:
    stored = _stored(study, "contexts.parquet")
    if stored is not None:
        seen.say(f"contexts: {stored}")
        _check_origin(stored, seen)
        return tables.context_sets(stored, kind)
    settings, seed = seen.config.contexts, seen.config.seed
    if kind == "rome":
        pairs = [(tokens, count) for tokens, count in settings.rome]
        groups = [sampling.rome_contexts(seen.lm, pairs, seed)]
    else:
        groups = sampling.memit_contexts(seen.lm, settings.memit_tokens, seed)
    seen.say(f"contexts: {sum(map(len, groups))}, sampled as config.yaml says")
    return groups


def _moments(
    seen: Look, layers: Sequence[int], study: Path | None, tokens: int | None
) -> key_statistics.KeyMoments:
    ridge = seen.config.statistics.ridge
    stored = None if tokens is not None else _stored(study, "key_statistics.safetensors")
    if stored is not None:
        seen.say(f"key statistics: {stored}")
        _check_origin(stored, seen)
        key_statistics.check_size(stored, seen.lm)
        return key_statistics.moments_from_file(stored, seen.lm.device, ridge=ridge)
    tokens = QUICK_TOKENS * seen.lm.inner_size if tokens is None else tokens
    paths = {layer: _path(seen, layer, tokens) for layer in layers}
    missing = [layer for layer, path in paths.items() if not path.is_file()]
    where = f"kept in {next(iter(paths.values())).parent}"
    if missing:
        seen.say(f"key statistics: from {tokens:,} tokens of Wikipedia, {where};")
        seen.say(f"  a study takes {10 * seen.lm.inner_size:,}, `tokens` sets another number")
        _collect(seen, {layer: paths[layer] for layer in missing}, tokens)
    else:
        seen.say(f"key statistics: of {tokens:,} tokens of Wikipedia, {where}")
    readers = {
        layer: key_statistics.moments_from_file(path, seen.lm.device, ridge=ridge)
        for layer, path in paths.items()
    }
    return _PerLayer(readers)


def _check_origin(file: Path, seen: Look) -> None:
    """Raise StatedError where a study's file was made with another model than the one looked at."""
    remedy = "run that study again, or name another folder with --results"
    check_model(origins.stated(file).get("model"), seen.weights, file, seen.folder, remedy)


class _PerLayer(key_statistics.KeyMoments):
    """Key moments with a file for each layer."""

    def __init__(self, readers: dict[int, key_statistics.KeyMoments]) -> None:
        self._readers = readers

    def solve(self, layer: int, keys: Any) -> Any:
        return self._readers[layer].solve(layer, keys)

    def spectrum(self, layer: int, width: int) -> Any:
        return self._readers[layer].spectrum(layer, width)


def _path(seen: Look, layer: int, tokens: int) -> Path:
    most = seen.config.statistics.max_tokens
    name = f"{seen.identity}-{seen.config.dtype}-{tokens}-of-{most}-layer-{layer}.safetensors"
    return seen.cache / "statistics" / name


def _collect(seen: Look, paths: dict[int, Path], tokens: int) -> None:
    moments, count = key_statistics.key_moments(
        seen.lm,
        _texts(seen),
        layers=list(paths),
        max_tokens=seen.config.statistics.max_tokens,
        tokens=tokens,
    )
    if count < tokens:
        raise LoceditError(f"tokens: there are only {count:,} tokens of text for {tokens:,}")
    for layer, path in paths.items():
        with files.atomic(path) as temporary:
            key_statistics.write_moments(temporary, {layer: moments[layer]}, tokens=str(count))


def _texts(seen: Look) -> Iterator[str]:
    """The first paragraphs of each article in turn: sampled across documents, read as needed."""
    found = corpus.paragraphs(seen.asset("enwiki-shortened"))
    for _, article in itertools.groupby(found, key=lambda paragraph: paragraph.title):
        yield from _first(paragraph.text for paragraph in article)


def _first(texts: Iterable[str]) -> Iterable[str]:
    return itertools.islice(texts, PARAGRAPHS)
