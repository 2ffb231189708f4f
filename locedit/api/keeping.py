"""Edits to take home: many facts written into a model, and what is kept of edits on a disk."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from locedit import outcomes
from locedit.api.look import Look, check_known, check_length
from locedit.api.one_fact import scores_of
from locedit.errors import LoceditError
from locedit.exchange import edited_weights, model_card
from locedit.exchange.edited_weights import Delta
from locedit.exchange.model_card import Line
from locedit.facts.record import Fact
from locedit.methods import METHODS, SharedInputs
from locedit.methods import together as joint
from locedit.methods.problems import PROBLEMS, Request
from locedit.model.language_model import LanguageModel
from locedit.shards import BATCH_FACTS, batches
from locedit.store import folders
from locedit.study import measure as measuring
from locedit.study.batching import together_or_alone
from locedit.windows import EMBEDDING, layer_words

PROBLEM = PROBLEMS["error_injection"]
TERMS = ("LICENSE*", "LICENCE*", "NOTICE*", "*TERMS*", "USE_POLICY*")  # they go with the weights


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A model's edits as one difference of weights, with what became of each fact."""

    delta: Delta
    lines: Sequence[Line]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Where what is kept goes: a folder for the whole model, a file for the difference, a folder
    for an adapter. None: not wanted.
    """

    folder: str | None = None
    delta: str | None = None
    adapter: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in dataclasses.astuple(self))

    def check(self) -> None:
        """Raise LoceditError where something is there: nothing of the user's is replaced.

        So too where two have one name, or a difference one by which `apply` does not know it.
        """
        given = [Path(one) for one in dataclasses.astuple(self) if one is not None]
        if self.delta is not None and Path(self.delta).suffix != ".safetensors":
            raise LoceditError(
                f"{self.delta}: a difference is a safetensors file; give it a name that ends in "
                ".safetensors"
            )
        if len({path.resolve() for path in given}) < len(given):
            raise LoceditError(
                f"{given[0]}: each of what is kept takes a name of its own, and two have the same"
            )
        for path in given:
            if path.exists() and not (path.is_dir() and not any(path.iterdir())):
                raise LoceditError(f"{path} is there already; give a new name, or take it away")
            if not path.absolute().parent.is_dir():
                raise LoceditError(f"{path}: there is no folder {path.parent}; make it first")


def about(
    seen: Look, method: str, layer: int, hyper: Any, requests: Sequence[Request]
) -> dict[str, str]:
    """What a difference says of its origin."""
    facts = [{"prompt": r.template, "subject": r.subject, "target": r.target} for r in requests]
    return {
        "base_model": seen.settings["label"],
        "base_weights": seen.weights,
        "editor": method,
        "layer": str(layer),
        "settings": json.dumps(dataclasses.asdict(hyper), default=str),
        "facts": json.dumps(facts, ensure_ascii=False),
    }


# ---- many facts ----------------------------------------------------------------------------------


def written(
    seen: Look,
    facts: Sequence[Fact],
    method: str,
    layer: int,
    hyper: Any,
    shared: SharedInputs,
    *,
    together: bool = False,
    progress: Callable[[Line], None] = lambda _line: None,
) -> Edited:
    """Write each fact's target_new into the model (error injection), as one difference of weights.

    Each into the model that those before it left, or all `together` in one update, by a method that
    can. Contexts and key statistics stay those of the unedited model, as in the published
    sequential edits, and the model itself is as before in the end. Scores are of all edits; of a
    fact that cannot be edited the status says why. progress: told of each fact once it is written
    or not.

    Raises LoceditError where facts `together` are written one at a time, by a method that does no
    more or at the embedding, or no fact was edited.
    """
    lm, requests, of = seen.lm, [_request(fact) for fact in facts], METHODS[method]
    if together and layer == EMBEDDING:
        raise LoceditError(
            "--together: at the embedding facts are written one after another; leave it out, or "
            "name a layer"
        )
    if together and not of.jointly:
        able = ", ".join(name for name, one in METHODS.items() if one.jointly)
        raise LoceditError(
            f"--together: {method} writes one fact at a time; leave it out, or choose a method "
            f"that writes many in one update ({able})"
        )
    statuses = {request: _unfit(lm, request) for request in requests}

    def told(request: Request, status: str) -> None:
        statuses[request] = status if together else status.removesuffix(joint.WITHOUT)
        progress(Line(prompt=request.prompt, target=request.target, status=statuses[request]))

    fit = [request for request in requests if statuses[request] == outcomes.OK]
    for request in requests:
        if request not in fit:
            told(request, statuses[request])
    made = joint.edit(
        *(lm, of if together else dataclasses.replace(of, jointly=False), fit, layer, hyper),
        *(shared,),
        side_by_side=BATCH_FACTS,
        told=told,
    )
    became = [statuses[request] for request in requests]
    advice = "mend the facts, or choose another layer or smaller settings"
    outcomes.refuse_all_failed(became, f"{method} at {layer_words(layer)}", "edited", advice)
    if outcomes.OK not in became:
        raise LoceditError(f"{method} at {layer_words(layer)}: there is no fact to edit")
    done = [request for request in requests if statuses[request] == outcomes.OK]
    origin = about(seen, method, layer, hyper, done)
    total = edited_weights.of_updates(lm, made.updates, origin)
    return Edited(delta=total, lines=_lines(lm, facts, requests, became, total))


def _request(fact: Fact) -> Request:
    return Request(
        case_id=fact.case_id,
        template=fact.template,
        subject=fact.subject,
        target=fact.target_new,
        problem=PROBLEM,
        true=fact.target_true,
    )


def _unfit(lm: LanguageModel, request: Request) -> str:
    """The status of a fact that the model cannot read; ok of any other."""
    try:
        check_length(lm, [request.prompt], request.target)
        check_known(lm, request.template, request.subject, [request.prompt], request.target)
    except LoceditError as error:
        return outcomes.failure(error)
    return outcomes.OK


def _lines(
    lm: LanguageModel,
    facts: Sequence[Fact],
    requests: Sequence[Request],
    statuses: Sequence[str],
    total: Delta,
) -> list[Line]:
    """Each fact's scores without and with all edits."""
    ok = [i for i, status in enumerate(statuses) if status == outcomes.OK]
    probes = [_probe(facts[i], requests[i]) for i in ok]
    before = _measured(lm, probes)
    with edited_weights.changed(lm, total):
        after = _measured(lm, probes)
    found: dict[int, dict[str, Any]] = {}
    for i, was, becomes in zip(ok, before, after, strict=True):
        failed = was.get("status") or becomes.get("status")
        if failed:
            found[i] = {"status": f"edited, not measured: {failed}"}
            continue
        scores = scores_of(was["measured"], becomes["measured"], maximise=True)
        names = ("p_before", "p_after", "rewrite", "paraphrase", "neighbourhood")
        found[i] = {name: getattr(scores, name) for name in names}
    return [
        Line(prompt=r.prompt, target=r.target, **({"status": s} | found.get(i, {})))
        for i, (r, s) in enumerate(zip(requests, statuses, strict=True))
    ]


def _probe(fact: Fact, request: Request) -> measuring.Probe:
    return measuring.Probe(
        request=request,
        other=fact.target_true,
        paraphrases=fact.paraphrases,
        neighbourhood=fact.neighbourhood,
    )


def _measured(lm: LanguageModel, probes: Sequence[measuring.Probe]) -> list[dict[str, Any]]:
    def together(some: Sequence[measuring.Probe]) -> list[dict[str, Any]]:
        return [{"measured": one} for one in measuring.measure(lm, some)]

    return [
        row for batch in batches(probes, BATCH_FACTS) for row in together_or_alone(together, batch)
    ]


# ---- what is kept --------------------------------------------------------------------------------


def save(seen: Look, edited: Edited, targets: Targets) -> list[str]:
    """Write what is wanted, each whole or not at all; what was written, in sentences.

    Raises LoceditError where something is there already, the model is not the difference's base, or
    an adapter is wanted of a change that is not of low rank: before anything is written.
    """
    targets.check()
    lm, delta, said = seen.lm, edited.delta, []
    edited_weights.check_base(lm, delta)
    if targets.adapter is not None:
        edited_weights.check_adapter(lm, delta)
    if targets.folder is not None:
        dtype = _dtype(seen)
        told = _rounding(lm, delta, dtype)
        card = model_card.card("The whole model", delta.about, delta.base, edited.lines, told)
        terms = {p.name: p for pattern in TERMS for p in sorted(seen.folder.glob(pattern))}
        edited_weights.write_folder(lm, delta, targets.folder, card=card, dtype=dtype, beside=terms)
        said.append(f"the model: {targets.folder} ({told})")
    if targets.delta is not None:
        edited_weights.write(targets.delta, delta)
        said.append(f"the difference: {targets.delta}")
    if targets.adapter is not None:
        base = str(seen.settings.get("hub") or seen.folder)
        told = f"Its numbers are {str(lm.dtype).removeprefix('torch.')}; peft loads it on the base."
        card = model_card.card("A LoRA adapter", delta.about, delta.base, edited.lines, told)
        edited_weights.write_adapter(lm, delta, targets.adapter, base=base, card=card)
        said.append(f"the adapter: {targets.adapter}")
    return said


def _dtype(seen: Look) -> torch.dtype:
    """What the base model's own folder keeps its weights in."""
    config = folders.own_config(seen.folder)
    parts = [config, config.get("text_config")]
    for part in (one for one in parts if isinstance(one, Mapping)):
        for name in ("dtype", "torch_dtype"):
            found = getattr(torch, str(part.get(name)), None)
            if isinstance(found, torch.dtype):
                return found
    return seen.lm.dtype


def _rounding(lm: LanguageModel, delta: Delta, dtype: torch.dtype) -> str:
    lost = edited_weights.rounding(lm, delta, dtype)
    name = str(dtype).removeprefix("torch.")
    return f"Its weights are {name}, as the base's; rounding them loses {lost:.2g} of the change."
