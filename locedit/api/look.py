"""What one prompt is looked at with: the default configuration, a model, its noise, its texts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from locedit.engine import gguf, loading, noise, sampling
from locedit.errors import LoceditError
from locedit.facts import bundled
from locedit.model import language_model
from locedit.stated import check_layers
from locedit.store import assets, folders, hashing, hub, shipped
from locedit.text import joining, subjects
from locedit.workflow import config as configuration
from locedit.workflow import plugins
from locedit.workflow.model_file import load_model
from locedit.workflow.sections import Config
from locedit.workflow.validation import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Look:
    """config: config.yaml's. name, settings: the model's (models/NAME.yaml; or of a plain folder).

    configured: whether the model has such a file, and so perhaps a study. say: is told what takes
    time, and where texts and statistics are from. device: as `loading.load` has it.
    """

    config: Config
    name: str
    settings: Mapping[str, Any]
    configured: bool
    say: Callable[[str], None] = logger.info
    device: str = "auto"

    @cached_property
    def cache(self) -> Path:
        return assets.cache_dir()

    @cached_property
    def identity(self) -> str:
        """What tells the model's weights from another's, in short."""
        return assets.model_identity(self.settings)[:12]

    @cached_property
    def lm(self) -> language_model.LanguageModel:
        """The model, in the configured dtype.

        Raises ModelError for a device or dtype that there is not: before weights are fetched.
        """
        loading.pick_device(self.device)
        loading.pick_dtype(self.config.dtype)
        lm = loading.load(self.folder, device=self.device, dtype=self.config.dtype)
        check_layers(
            self.settings.get("n_layers"), lm.n_layers, f"the file of {self.name}", self.folder
        )
        return lm

    def without(self) -> "Look":
        """The same, not holding the model."""
        return replace(self)

    def having(self, lm: language_model.LanguageModel) -> "Look":
        """The same with that model, loaded from it before."""
        found = self.without()
        found.__dict__["lm"] = lm  # where the cached property would keep it
        return found

    @cached_property
    def weights(self) -> str:
        """A hash of what lies in the model's folder, as a study's files tell it."""
        return hashing.weights(self.folder)

    @cached_property
    def folder(self) -> Path:
        """Where the weights are; what is pinned, on the hub or in a GGUF file is put there."""
        folder = assets.model_folder(self.name, self.settings, self.cache)
        if assets.is_folder(self.settings) or (folder / "config.json").is_file():
            return folder
        if "path" in self.settings:
            self.say(f"Unpacking {self.settings['path']}, once ...")
            return gguf.unpack_file(Path(self.settings["path"]), folder)
        self.say(f"Fetching {self.name}, once ...")
        if "hub" in self.settings:
            return hub.download(self.settings["hub"], self.settings["revision"], folder)
        return gguf.unpack(assets.named(self.settings["asset"]), folder, cache=self.cache)

    def asset(self, name: str) -> Path:
        """A pinned file, from the cache, $LOCEDIT_ASSETS or the network."""
        return assets.resolve(assets.named(name), cache=self.cache)

    def sigma(self, given: float | str | None) -> tuple[float, str]:
        """sigma of the tracing noise and how it came about; deviations are the bundled subjects'.

        These are the subjects of the default study, whose sigma it therefore is.
        """
        wanted = self.settings["noise"] if given is None else given
        if not isinstance(wanted, str):
            return float(wanted), f"sigma {wanted:g}"
        records = bundled.build_records(shipped.root() / "data")[: self.config.facts.n]
        sd = noise.subject_embedding_sd(self.lm, [record["subject"] for record in records])
        sigma = noise.parse_sigma(wanted, sd)
        times = wanted.removesuffix("sd")
        of = f"{len(records)} bundled subjects' token embeddings"
        return sigma, f"sigma {sigma:.3g} ({times} sd of {of})"


def look(
    model: str | None,
    *,
    say: Callable[[str], None] = logger.info,
    device: str = "auto",
    plugged: Sequence[str] = (),
    **changes: Any,
) -> Look:
    """The default configuration with a model: of models/, a YAML file, or weights themselves.

    say, device: as `Look` has them. plugged: the plug-ins of --plugin, beside the configuration's;
    they may bring the model's family. changes: of the configuration's top level, such as `dtype`.
    Raises ConfigError where there is no such model, or for a configuration that is not valid.
    """
    root = shipped.root()
    config = _default(root).model_copy(update=changes)
    plugins.load(plugged, [Path.cwd(), root], named="--plugin")
    made = partial(Look, config=config, say=say, device=device)
    name = config.model if model is None else model
    weights = _weights_named(name)
    if weights is not None:
        path = weights.resolve()
        label = path.name if path.is_dir() else path.stem
        settings: dict[str, Any] = {"label": label, "noise": "3sd", "path": str(weights)}
        return made(name=label, settings=settings, configured=False)
    try:
        name, settings = load_model(name, root)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("config: ")) from error
    return made(name=name, settings=settings, configured=True)


def _default(root: Path) -> Config:
    """config.yaml, with the methods and families of models that it names registered."""
    file = root / "config.yaml"
    values = configuration.load_yaml(file)
    plugins.load(configuration.plugin_names(values), [Path.cwd(), root])
    return configuration.read(values, str(file))


def _weights_named(name: str) -> Path | None:
    """The folder or GGUF file of that name; None where it is none."""
    try:
        path = Path(name).expanduser()
        return path if path.is_dir() or (folders.is_gguf(path) and path.is_file()) else None
    except (OSError, RuntimeError):  # a name too long, or ~nobody's home
        return None


def check_length(lm: language_model.LanguageModel, texts: list[str], target: str) -> None:
    """Raise LoceditError where a prompt and the target do not fit the model's context."""
    limit = lm.context_length
    for text in texts:
        tokens = len(lm.encode(text)) + len(lm.encode_target(target, text))
        if limit is not None and tokens > limit:
            raise LoceditError(
                f"the prompt and its target have {tokens} tokens, and the model reads {limit}; "
                "shorten them"
            )


def check_known(
    lm: language_model.LanguageModel, template: str, subject: str, texts: list[str], target: str
) -> None:
    """Raise LoceditError where the tokenizer does not know the subject or the target."""
    prompt, start = template.replace("{}", subject), subjects.in_template(template, subject)
    if unknown := lm.unknown(prompt, subject, start, [target], texts):
        raise LoceditError(f"{unknown}; write it otherwise, or take another model")


def next_word(lm: language_model.LanguageModel, prompt: str) -> str:
    """The first word of the model's greedy continuation, "" where it says none."""
    return continued(lm, prompt)[1]


def continued(lm: language_model.LanguageModel, prompt: str) -> tuple[str, str]:
    """The model's greedy continuation, and its first word: "" where there is none."""
    text = sampling.complete(lm, [prompt], 8)[0].partition(joining.PART)[0]
    words = text.split()
    return text, joining.first_word(words[0].lstrip(".,;:!?\"'()")) if words else ""
