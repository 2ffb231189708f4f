"""What a run was asked for by name that no configuration could ask for."""

import pytest

from locedit.workflow import planned
from locedit.workflow.config import read
from locedit.workflow.validation import ConfigError

NOTHING = "config: tuning.aims.saturating.grid: nothing to try for KN"
GATHER: planned.Job = ("sweep_table", {})


def sweep(method):
    return ("sweep", {"method": method, "problem": "error_injection"})


def check(*jobs, methods=("ROME",)):
    editing = {"methods": list(methods), "layers": [0]}
    config = read({"editing": editing, "tuning": {"aim": "saturating"}})
    return planned.check(jobs, config, 4)


@pytest.mark.parametrize("place", ["4", "4-again", "4-together-10"])
def test_edits_at_a_layer_beyond_the_model_are_refused(place):
    pair = {"method": "ROME", "problem": "error_injection"}
    said = "layer 4 is beyond the model, whose 4 layers are numbered 0 to 3"
    with pytest.raises(ConfigError, match=f"^ROME, error_injection: {said}$"):
        check(("edit", {**pair, "layer": place}))
    others = [place.replace("4", "3"), "peak", "embedding"]
    assert check(*(("edit", {**pair, "layer": one}) for one in others)) == []


def test_tuning_is_refused_where_no_method_has_a_grid():
    with pytest.raises(ConfigError, match=f"^{NOTHING}; give values there"):
        check(GATHER, methods=["KN"])
    assert check(("filter_facts", {}), methods=["KN"]) == []
    assert check(sweep("ROME"), GATHER) == []


def test_methods_that_tuning_leaves_out_are_told():
    (said,) = check(sweep("ROME"), GATHER, methods=["ROME", "KN"])
    assert said.startswith(f"{NOTHING}, left out of the tuning; give values there")


def test_a_sweep_without_a_grid_is_refused():
    with pytest.raises(ConfigError, match=f"^{NOTHING}; "):
        check(sweep("ROME"), sweep("KN"))
    assert check(sweep("ROME"), methods=["ROME", "KN"]) == []
