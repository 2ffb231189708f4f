"""Fine-tuning of one down projection without a bound on how far a weight may go."""

import math
from dataclasses import dataclass

from locedit.methods import Method, register
from locedit.settings import Count, NotNegative, Positive


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """window: layers edited around the edit layer. `enough`: the loss that ends a fact's edit."""

    window: Count = 1
    lr: Positive = 5e-4
    steps: Count = 25
    enough: NotNegative = 1e-2


def edit(lm, requests, layer, hyper, shared):
    """FT-1's edit with eps = infinity."""
    from locedit.methods import ft  # here: torch takes a second to import
    from locedit.methods.builtin import FineTuningHyperparameters

    unbounded = FineTuningHyperparameters(**vars(hyper), eps=math.inf)
    return ft.edit(lm, requests, layer, unbounded, shared)


register(
    Method(
        name="FT-unconstrained",
        function=edit,
        settings=Hyperparameters,
        presets={
            "paper": {"fact_forcing": {"steps": 50}},
            "released": {"fact_forcing": {"steps": 50}},
        },
    )
)
