"""The logit lens' rise: by how much each layer raises what the lens reads of the object.

nostalgebraist 2020, "interpreting GPT: the logit lens": final norm and head on a block's output as
if it were the last. The rise from layer to layer as a localizer of facts is after Guo et al. 2024
(arXiv 2410.12949), of which only second-hand notes were had.
"""

from collections.abc import Sequence

import numpy as np
import torch

from locedit.engine import log_probs, passes
from locedit.facts.record import Fact
from locedit.localizers import prompts
from locedit.localizers.base import (
    Answer,
    Localization,
    NoSettings,
    Place,
    SharedInputs,
)
from locedit.model.language_model import LanguageModel


def localize(
    lm: LanguageModel,
    facts: Sequence[Fact],
    place: Place,
    settings: NoSettings,
    shared: SharedInputs,
) -> list[Answer]:
    """log p_lens(o; h_l) - log p_lens(o; h_{l-1}) after the prompt, [layers].

    NaN in the first layer: before it is no block's output but the embedding, where the lens reads
    the prompt's own last token. p is METHODS' p(o), of all of the object's tokens. further:
    `last_subject`, the same of the object's first token alone, read at the subject's last.
    """
    rows = [prompts.read(lm, fact) for fact in facts]
    return [answer for part in prompts.batches(lm, rows) for answer in _of_batch(lm, rows[part])]


@torch.inference_mode()
def _of_batch(lm: LanguageModel, rows: Sequence[prompts.Row]) -> list[Answer]:
    longest = max(len(row.target) for row in rows)
    positions = torch.tensor(
        [[*range(row.end, row.end + longest), row.subject[1] - 1] for row in rows]
    ).to(lm.device)
    ids = [row.ids for row in rows]
    found = prompts.outputs(lm, ids, ["hidden"], lambda out: passes.at(out, positions))
    hidden = found["hidden"][1:].flatten(0, 1)  # [L B, longest + 1, d]
    index = [*range(len(hidden))]
    targets = [row.target for row in rows] * lm.n_layers
    columns = [0] * len(index) + [longest] * len(index)
    queries = targets + [target[:1] for target in targets]
    log_p = log_probs.target_log_probs(lm, hidden, index * 2, columns, queries)
    read = log_p.double().reshape(2, lm.n_layers, len(rows)).transpose(1, 2).cpu().numpy()
    rises = np.diff(read, prepend=np.nan)  # [2, B, L]
    return [
        Localization(values=own, passes=1.0, further={"last_subject": other})
        for own, other in zip(*rises, strict=True)
    ]
