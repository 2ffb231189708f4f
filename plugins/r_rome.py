"""r-ROME: ROME with the mean key and the mean output throughout (Gupta et al. 2024, 2403.07175)."""

from locedit.methods import Method, register
from locedit.methods.builtin import ROME_PRESETS, RomeHyperparameters


def edit(lm, requests, layer, hyper, shared):
    """dW = ((v0 + delta) - w) u^T / (k . u), with k and w means over the contexts."""
    from locedit.methods import rome, values  # here: torch takes a second to import

    found = rome.solve(lm, requests, layer, hyper, shared)
    mean_output = values.mean_over_sets(found.outputs, shared)
    return found.at(layer, found.mean_key, mean_output)


register(
    Method(
        name="r-ROME",
        function=edit,
        settings=RomeHyperparameters,
        presets=ROME_PRESETS,
        contexts="rome",
        statistics=True,
    )
)
