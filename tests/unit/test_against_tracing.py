"""Cheap localizers beside exact tracing: the correlations that docs/results.md gives."""

import against_tracing
import numpy as np
import pandas as pd
import pytest


def test_layers_are_compared_by_rank_fact_by_fact():
    values = {"same order": [1, 2, 9, 30], "turned": [4, 3, 2, 1], "flat": [1, 1, 1, 1]}
    values |= {"tied": [1, 1, 2, 3], "without the first": [np.nan, 1, 2, 3]}
    exact = {case: [0.0, 0.1, 0.2, 0.3] for case in values} | {"without the first": [9, 1, 3, 2]}
    rows = pd.DataFrame(
        [
            {"case_id": case, "layer": layer, "value": value, "effect_max": exact[case][layer]}
            for case, of_case in values.items()
            for layer, value in enumerate(of_case)
        ]
    )
    found = against_tracing.over_layers(rows.sample(frac=1, random_state=0), "value", "effect_max")
    assert np.isnan(found["flat"])
    expected = {"same order": 1, "turned": -1, "tied": 0.9486833, "without the first": 0.5}
    assert {case: found[case] for case in expected} == pytest.approx(expected)
