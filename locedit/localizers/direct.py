"""Direct logit attribution: what each module writes along the logit difference, as it stands.

Elhage et al. 2021, "A mathematical framework for transformer circuits"; Wang et al. 2023 (arXiv
2211.00593). The residual stream is a sum of the embedding and of what the layers add,
and with the final norm's scale frozen logits are linear in it: module by module they add up.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from locedit.engine import passes
from locedit.facts.record import Fact
from locedit.localizers import prompts
from locedit.localizers.base import (
    Answer,
    Localization,
    NoSettings,
    Place,
    SharedInputs,
    Unavailable,
)
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """(W_U[o] - W_U[o']) . a_l at the prompt's last token, [layers], behind the frozen final norm.

    a_l: what the module adds to the residual stream (`hidden`: the whole block). o, o': the first
    tokens of the true object and of the one that an edit would write; Unavailable where they are
    the same. A cap on logits is left out, as it is not linear.
    """
    answers: list[Answer] = [
        Unavailable(reason="the true and the new object begin with the same token") for _ in facts
    ]
    rows, others, index = [], [], []
    for i, fact in enumerate(facts):
        row, new = prompts.read(lm, fact), lm.encode_target(fact.target_new, fact.prompt)
        if new[0] != row.target[0]:
            rows.append(row)
            others.append(new[0])
            index.append(i)
    for part in prompts.batches(lm, rows):
        values = _of_batch(lm, rows[part], others[part], place.module)
        for i, own in zip(index[part], values.cpu().numpy(), strict=True):
            answers[i] = Localization(values=own, passes=1.0)
    return answers


@torch.inference_mode()
def _of_batch(
    lm: LanguageModel, rows: Sequence[prompts.Row], others: Sequence[int], module: str
) -> Tensor:
    """[B, L]."""
    ends = torch.tensor([[row.end] for row in rows], device=lm.device)
    ids = [row.prompt for row in rows]
    found = prompts.outputs(lm, ids, ["hidden", "mlp"], lambda out: passes.at(out, ends)[:, 0])
    stream, mlp = found["hidden"], found["mlp"]  # [L + 1, B, d], [L, B, d]
    true = torch.tensor([row.target[0] for row in rows], device=lm.device)
    towards = lm.head.weight[true].double() - lm.head.weight[list(others)].double()
    added = stream.double().diff(dim=0)
    if module != "hidden":  # attention's part is what the MLP's leaves, whatever norms are behind
        norms = [lm.mlp_norm(layer) for layer in range(lm.n_layers)]
        of_mlp = [out if norm is None else norm(out) for norm, out in zip(norms, mlp, strict=True)]
        written = torch.stack(of_mlp).double()
        added = written if module == "mlp" else added - written
    return (added * before_norm(lm, stream[-1], towards)).sum(dim=-1).T


@torch.inference_mode()
def before_norm(lm: LanguageModel, hidden: Tensor, towards: Tensor) -> Tensor:
    """A direction behind the final norm as one before it, with the scale that `hidden` has.

    All [B, d]. The final norm is n(x) = g c(x) / s(x) + b, where c takes the mean away (LayerNorm)
    or does nothing (RMS norms), and g, s, b are read off what it makes of chosen vectors, since
    families keep them in their own ways. With s frozen, n(x) . u = x . c(g u) / s + a constant.
    """
    signs = torch.ones(lm.hidden_size, dtype=lm.dtype, device=lm.device)
    signs[1::2] = -1
    bias = lm.final_norm(torch.zeros_like(signs)).double()
    gain = (lm.final_norm(1e3 * signs).double() - bias) * signs  # far above the norm's epsilon
    of_constant = lm.final_norm(torch.ones_like(signs)).double() - bias
    is_centred = bool(of_constant.norm() < 0.5 * gain.norm())

    def centred(x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if is_centred else x

    unscaled = gain * centred(hidden.double())
    normed = lm.final_norm(hidden).double() - bias
    scale = unscaled.square().sum(dim=-1) / (unscaled * normed).sum(dim=-1)
    return centred(gain * towards) / scale[:, None]
