"""KN: what knowledge neurons write, written anew (Dai et al. 2022, arXiv 2104.08696, section 5).

A layer's neurons that speak for o_true are those whose attribution (`engine.neurons`, at the
prompt's last token) exceeds `share` of the layer's largest. Neuron i writes w_i, column i of the
down projection, which becomes

    w_i + s_i ||w_i|| (add e_new / ||e_new|| - subtract e_old / ||e_old||)        fact erasure: 0

with e_new and e_old of the first tokens of the target and of o_true, and s_i the sign of the
neuron's activation. Where the target is o_true itself, nothing is subtracted; fact forcing takes
attributions and activations as means over its noise rows.

Otherwise than the paper: it compares neurons with the largest attribution of all layers, and keeps
those that many prompts of a fact share; here each layer can be edited, by its one prompt. Its
lambdas 1 and 8 stand bare before e, and in its code before ||w_i|| / ||e||, as here: the length of
embeddings differs between models. e is a row of the head, which BERT's word embeddings are too;
behind a norm of the MLP's output it is what the norm lets through as that row. BERT's activations
are hardly below 0, those of gated MLPs often are: such a neuron writes -w_i, and without s_i the
edit would take away what it means to add.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from locedit.engine import neurons
from locedit.engine.noise import place
from locedit.engine.updates import Dense, LowRank
from locedit.errors import LoceditError
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import NeuronHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: NeuronHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """One layer's value rows, each fact's neurons found by themselves. Nothing is optimised.

    A fact is not edited, with the reason, where its two objects begin alike, or where no neuron or
    each one is kept. Raises LoceditError for a request without o_true, attributions not finite.
    """
    found = [_find(lm, request, layer, hyper, shared) for request in requests]
    weight = lm.down_weight(layer)
    chosen = [torch.zeros_like(weight[0]) if isinstance(one, str) else one for one in found]
    update: LowRank | Dense
    if requests[0].problem.maximise:
        update = LowRank(
            left=torch.stack([_written(lm, request, layer, hyper) for request in requests]),
            right=torch.stack(chosen) * weight.norm(dim=0),
        )
    else:
        update = Dense(weights=[-weight * one.abs() for one in chosen])
    return Edit(
        updates={layer: update},
        steps=[0] * len(requests),
        neurons=[int(one.count_nonzero()) for one in chosen],
        not_edited={i: one for i, one in enumerate(found) if isinstance(one, str)},
    )


def _tokens(lm: LanguageModel, request: Request) -> tuple[list[int], list[int]]:
    """Of o_true and of the target."""
    if request.true is None:
        raise LoceditError("KN writes over the true object, and none is given (`true`)")
    objects = (request.true, request.target)
    old, new = (lm.encode_target(text, request.prompt) for text in objects)
    return old, new


def _find(
    lm: LanguageModel,
    request: Request,
    layer: int,
    hyper: NeuronHyperparameters,
    shared: SharedInputs,
) -> Tensor | str:
    """The signs of the neurons to be rewritten, 0 of the others, [d_ff]; or why there are none."""
    old, new = _tokens(lm, request)
    if request.problem.target != "true" and old[0] == new[0]:
        return "o_true and the target begin with one token, and KN writes first tokens alone"
    attributions, activations = _attributions(lm, request, old, layer, hyper, shared)
    chosen = choose(attributions, hyper.share, layer)
    return chosen if isinstance(chosen, str) else chosen * activations.sign()


def choose(attributions: Tensor, share: float, layer: int) -> Tensor | str:
    """Of a layer's neurons those above a share of the largest, bool [d_ff]; else why none or all.

    attributions: [d_ff]. Raises LoceditError where they are not finite.
    """
    largest = attributions.max()
    if not attributions.isfinite().all():
        raise LoceditError(f"KN: the attributions of layer {layer}'s neurons are not finite")
    if largest <= 0:
        return f"no neuron of layer {layer} speaks for o_true"
    chosen = attributions > share * largest
    if chosen.all():
        return f"a share of {share:g} keeps all {len(chosen)} neurons of layer {layer}; raise it"
    return chosen


def _attributions(
    lm: LanguageModel,
    request: Request,
    target: list[int],
    layer: int,
    hyper: NeuronHyperparameters,
    shared: SharedInputs,
) -> tuple[Tensor, Tensor]:
    """Of p(target) to the layer's neurons at the prompt's last token, and their activations there,
    means over noise rows: [d_ff] each.
    """
    prompt = lm.encode(request.prompt)
    ids = prompt + target[:-1]
    noise = None
    if request.problem.noised:
        subject = lm.subject_range(request.prompt, request.subject, request.subject_start)
        rows = [subject] * shared.n_noise
        noise = place(lm, rows, len(ids), sigma=shared.sigma, seed=shared.seed)
    last = len(prompt) - 1
    way = neurons.walk(lm, ids, target, token=last, steps=hyper.steps, layers=[layer], noise=noise)
    gradients = way.gradients[0] @ lm.down_weight(layer).to(way.gradients)
    return (way.keys[0] * gradients).mean(dim=0), way.keys[0].mean(dim=0)


def _written(
    lm: LanguageModel, request: Request, layer: int, hyper: NeuronHyperparameters
) -> Tensor:
    """What neurons of unit length write the more, [d]."""
    old, new = _tokens(lm, request)
    added = hyper.add * _direction(lm, layer, new[0])
    if request.problem.target == "true":
        return added
    return added - hyper.subtract * _direction(lm, layer, old[0])


def _direction(lm: LanguageModel, layer: int, token: int) -> Tensor:
    """The MLP output of unit length that arrives furthest along the token's row of the head, [d].

    Not what arrives as that row: a norm's gain may be next to 0 for some of its entries.
    """
    row = lm.head.weight[token]
    gain = lm.mlp_gain(layer)
    through = row if gain is None else row * gain
    return through / through.norm()
