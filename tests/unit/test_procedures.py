"""What the engine is timed against says the same as the textbook."""

import numpy as np
import oracle
import procedures
import pytest


@pytest.mark.parametrize("window", [1, 3])
def test_whole_passes_of_all_layers_of_a_token_say_what_one_by_one_say(tiny_lm, window):
    example = procedures.Example("The city of {} is", "Madrid", "old and new", "new", (), ())
    found = procedures.batched_trace(tiny_lm, example, window=window, n_noise=3)
    fact = (example.prompt, example.subject, example.true)
    how = {"module": "mlp", "window": window, "sigma": procedures.SIGMA, "n_noise": 3}
    expected = oracle.trace(tiny_lm.model, tiny_lm.tokenizer, *fact, **how)["p_restored"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=0)
