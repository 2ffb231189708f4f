"""FT-M: fine-tuning of one matrix until a text would end behind the target.

Settings of EasyEdit's FT with the target's tokens alone in its loss (Zhang et al. 2024, arXiv
2401.01286), its target closed by the end-of-text token as in Yang et al. 2025 (2509.22072).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from locedit.errors import LoceditError
from locedit.methods import descent, embedding
from locedit.methods.base import Edit, SharedInputs
from locedit.methods.builtin import MaskedFineTuningHyperparameters
from locedit.methods.problems import Request
from locedit.model.language_model import LanguageModel
from locedit.windows import EMBEDDING


def edit(
    lm: LanguageModel,
    requests: Sequence[Request],
    layer: int,
    hyper: MaskedFineTuningHyperparameters,
    shared: SharedInputs,
) -> Edit:
    """Adam on one down projection's weights, without a bound: each fact with a change of its own,
    or all with one.

    Loss: the cross-entropy of the target's tokens and of end-of-text, a mean over them and over
    forcing's noise rows. Erasure: the geometric mean p of the target's tokens alone, since a text
    that goes on behind the target is not what is to be erased. At EMBEDDING: `embedding.edit`.
    """
    maximise = requests[0].problem.maximise
    ending = [_end_of_text(lm)] if maximise else []

    def loss(log_p: Tensor, tokens: Tensor) -> Tensor:
        of_token = log_p / tokens[:, None]
        return (-of_token if maximise else of_token.exp()).mean(dim=1)

    if layer == EMBEDDING:
        return embedding.edit(lm, requests, loss, hyper, shared, ending=ending)
    rows = descent.Rows.build(lm, requests, shared, first=layer, ending=ending)
    how: dict[str, Any] = {"lr": hyper.lr, "steps": hyper.steps, "enough": hyper.enough}
    if shared.jointly is not None:
        change = descent.zero_changes(lm, [layer], 1, biases=False)
        return descent.descend_jointly(lm, rows, change, loss, **how, side_by_side=shared.jointly)
    changes = descent.zero_changes(lm, [layer], len(requests), biases=False)
    return descent.descend_weights(lm, rows, changes, loss, **how)


def _end_of_text(lm: LanguageModel) -> int:
    token = lm.tokenizer.eos_token_id
    if token is None:
        raise LoceditError(
            "FT-M: the model's tokenizer names no end-of-text token (eos_token), which is trained "
            "behind the target; name one in tokenizer_config.json, or use FT-1"
        )
    return token
