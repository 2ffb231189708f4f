"""What jobs ask of a cluster: memory and time by rules/resources.smk, cards by profiles/slurm."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from locedit.model.linear import PACKED_BYTES

ROOT = Path(__file__).resolve().parents[2]
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))

GPTJ = {"n_embd": 4096, "n_inner": None}
SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536}


def resources(folder, config=DEFAULT, shards=1):
    """The names that rules/resources.smk defines, for a model's folder."""
    names = {"config": config, "Path": Path, "MODEL_FOLDER": folder, "shards": lambda stage: shards}
    names["WEIGHTS"] = str(folder / "config.json")
    exec((ROOT / "rules/resources.smk").read_text(), names)
    return names


def fetched(folder, settings, gigabytes, **more):
    """A model's folder as far as resources look at it; its weights are one hole."""
    (folder / "config.json").write_text(json.dumps(settings | more))
    with (folder / "model.safetensors").open("wb") as stream:
        stream.truncate(int(gigabytes * 1e9))
    return folder


def asked(resource, attempt=1):
    return resource(wildcards=None, attempt=attempt)


def test_the_measured_model_asks_for_half_as_much_again_and_for_snakemake(tmp_path):
    known = resources(fetched(tmp_path, SMOLLM2, 0.54))
    assert asked(known["model_memory"](1254)) == 350 + 1254 * 3 / 2 + 540  # weights kept twice
    assert asked(known["memory"](1002)) == 350 + 1002 * 3 / 2
    assert asked(known["memory"](125)) == 1000


def test_memory_grows_with_the_weights_in_float32(tmp_path):
    whole = resources(fetched(tmp_path, GPTJ, 24.2))["model_memory"](1254)
    assert 24_200 + 1254 < asked(whole) < 31_000
    half = resources(fetched(tmp_path, GPTJ, 12.1, dtype="float16"))["model_memory"](1254)
    assert asked(half) == asked(whole)


def test_no_more_of_the_weights_is_counted_twice_than_is_kept_so(tmp_path):
    known = resources(fetched(tmp_path, GPTJ, 24.2))
    assert known["PACKED_MB"] == math.ceil(PACKED_BYTES / 1e6)
    once = math.ceil(1.5 * 1254 + 1.15 * (24_200 - 540) + known["PACKED_MB"])
    assert asked(known["model_memory"](1254)) == 350 + once


def test_memory_grows_with_the_layers_whose_key_moments_are_held(tmp_path):
    known = resources(fetched(tmp_path, GPTJ, 24.2))
    one_layer = 16384**2 * 8 / 1e6
    more = asked(known["model_memory"](1254, moments=28)) - asked(known["model_memory"](1254))
    assert 28 * one_layer <= more < 1.2 * 28 * one_layer


def test_before_the_model_is_fetched_it_is_taken_for_the_measured_one(tmp_path):
    assert asked(resources(tmp_path)["model_memory"](1254, moments=3)) == 350 + 1254 * 3 / 2 + 540


def test_every_attempt_asks_for_more(tmp_path):
    known = resources(tmp_path)
    for resource in (known["memory"](500), known["model_memory"](500), known["minutes"](500)):
        assert [asked(resource, n) for n in (1, 2, 3)] == [n * asked(resource) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("study", "n", "shards", "minutes"),
    [
        (11, 800, 1, 10),  # the measured study: 7.6 minutes are less than ten
        (110, 800, 1, 76),  # ten times as many facts
        (110, 800, 4, 19),  # dealt out to four
        (None, 3300, 1, 760),  # a third of the records, a hundred times the eleven measured
        (None, None, 1, 461),  # of two thousand
    ],
)
def test_time_grows_with_the_facts_of_a_job(tmp_path, study, n, shards, minutes):
    config = DEFAULT | {"facts": {"study": study, "n": n, "known": "only"}}
    known = resources(tmp_path, config, shards)
    assert asked(known["minutes"](152, known["per_fact"]("editing"))) == minutes


@pytest.mark.parametrize(("known", "facts"), [("only", 667), ("any", 2000)])
def test_a_third_of_the_records_is_studied_unless_it_matters_not_what_is_known(
    tmp_path, known, facts
):
    config = DEFAULT | {"facts": {"study": None, "n": 2000, "known": known}}
    assert resources(tmp_path, config)["facts_studied"]() == facts


# ---- the profile ---------------------------------------------------------------------------------


def rules_with(words):
    """Rules that say so, and those that are made of one that does."""
    parts = re.split(r"^ *(?=(?:use )?rule\b)", RULES, flags=re.MULTILINE)
    own = {
        re.match(r"rule (\w+)", part)[1] for part in parts if part[:4] == "rule" and words in part
    }
    return own | {
        new for old, new in re.findall(r"^use rule (\w+) as (\w+)", RULES, re.M) if old in own
    }


def test_the_profile_asks_for_a_card_for_each_rule_that_loads_the_model_and_for_no_other():
    settings = PROFILE["set-resources"]
    assert settings.keys() == rules_with("gpu=GPU")
    assert {value["gpu"] for value in settings.values()} == {1}


def test_the_profiles_groups_name_rules_that_exist():
    names = rules_with("rule ") | {f"merge_{name}" for name in settings_of_sharding()}
    assert PROFILE["groups"].keys() <= names
    groups = set(PROFILE["groups"].values()) | set(re.findall(r'group:\s+"(\w+)"', RULES))
    assert groups == {"facts", *PROFILE["group-components"]}


@pytest.mark.parametrize("kind", ["log_of", "benchmark_of"])
def test_no_two_rules_write_one_log_or_benchmark(kind):
    """Which are named as the output, but for how that ends."""
    named = re.findall(rf"{kind}\((.+?)\),?$", RULES, re.MULTILINE)
    assert len(named) > 20
    twice = Counter(re.sub(r'\.\w+"\)?$', "", name) for name in named)
    either = {'f"{SHARED}/key_statistics'}  # of the rule that makes them, or of that which imports
    assert {name for name, times in twice.items() if times > 1} == either


def settings_of_sharding():
    return re.findall(r'^ {4}"(\w+)": \("(?:tracing|editing)"', RULES, re.MULTILINE)


def test_both_profiles_rerun_for_the_same_reasons():
    local = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())
    assert local.items() <= PROFILE.items()
