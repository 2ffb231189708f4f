"""What is the machine's, and no part of a study: where models run, how much a job does at once."""

from types import SimpleNamespace

import pytest

from locedit import machine
from locedit.engine import loading
from locedit.errors import LoceditError
from locedit.shards import BATCH_FACTS, WHOLE, Shard
from locedit.workflow import job

A_MODEL = SimpleNamespace(device=SimpleNamespace(type="cpu"))


def a_job(**resources) -> SimpleNamespace:
    return SimpleNamespace(rule="edit", resources=resources, wildcards={})


def test_the_environment_says_where_models_run_unless_the_caller_does(monkeypatch):
    monkeypatch.delenv("LOCEDIT_DEVICE", raising=False)
    assert machine.device() == "auto"
    monkeypatch.setattr(loading.torch.cuda, "is_available", lambda: True)
    assert loading.pick_device("auto").type == "cuda"
    monkeypatch.setenv("LOCEDIT_DEVICE", "cpu")
    assert loading.pick_device("auto").type == "cpu"
    assert loading.pick_device("cuda").type == "cuda"


def test_a_misspelt_device_is_named(monkeypatch):
    monkeypatch.setenv("LOCEDIT_DEVICE", "cud")
    said = r"^LOCEDIT_DEVICE: unknown value 'cud' \(known: auto, cpu, cuda\)$"
    with pytest.raises(LoceditError, match=said):
        loading.pick_device("auto")


def test_a_job_takes_the_batches_that_its_resources_allow():
    assert job.batch_tokens(a_job()) is None
    assert job.batch_facts(a_job(), A_MODEL) == BATCH_FACTS
    assert job.batch_tokens(a_job(batch_tokens=100)) == 100
    assert job.batch_facts(a_job(batch_facts=3), A_MODEL) == 3


@pytest.mark.parametrize("given", [0, -1, "many", 2.5, True])
def test_batches_of_no_size_are_named(given):
    said = rf"^the resource batch_facts of edit is {given!r}; give a whole number from 1$"
    with pytest.raises(LoceditError, match=said):
        job.batch_facts(a_job(batch_facts=given), A_MODEL)


def test_a_jobs_shard_is_snakemakes_scatter_item():
    whole, second = a_job(), a_job()
    second.wildcards = {"scatteritem": "2-of-3"}
    assert job.shard_of(whole) == WHOLE
    assert job.shard_of(second) == Shard(index=2, count=3)
