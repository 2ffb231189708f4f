"""AlphaEdit's projection as EasyEdit and its own code keep it: `null_space_project.pt`.

float32 [layers, d_ff, d_ff], P = U U^T of each edited layer in their order. It is a pickle, so it
is written and never read.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from locedit.engine.key_statistics import KeyMoments
from locedit.methods.alphaedit import null_space
from locedit.methods.builtin import AlphaEditHyperparameters
from locedit.store.files import atomic


def write(
    path: Path,
    moments: KeyMoments,
    layers: Sequence[int],
    width: int,
    hyper: AlphaEditHyperparameters,
) -> list[int]:
    """Write the projection of these layers, all or nothing; the rank of each layer's, of `width`.

    Raises LoceditError where a layer's null space is empty or all there is.
    """
    projections, ranks = torch.empty(len(layers), width, width), []
    for index, layer in enumerate(layers):
        space = null_space(moments, layer, width, hyper)
        projections[index] = (space @ space.T).float().cpu()
        ranks.append(space.shape[1])
    with atomic(path) as temporary:
        torch.save(projections, temporary)
    return ranks
