"""Batches are cut by what the machine holds, always in the same places."""

import os
from types import SimpleNamespace

import pytest
import torch

from locedit.model import memory


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many bytes, and a model of so wide layers on it."""

    def make(total: int, inner: int, hidden: int, dtype=torch.float32, device="cpu"):
        monkeypatch.setattr(
            os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": total // 4096}.get
        )
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        return SimpleNamespace(
            inner_size=inner, hidden_size=hidden, dtype=dtype, device=torch.device(device)
        )

    return make


def test_a_wide_model_gets_an_eighth_of_the_memory(machine):
    lm = machine(2**33, inner=16384, hidden=4096)
    assert memory.token_budget(lm) == 2**30 // ((3 * 16384 + 8 * 4096) * 4)


def test_a_cpu_gets_no_more_than_its_caches_profit_from(machine):
    assert memory.token_budget(machine(2**36, inner=1536, hidden=576)) == memory.CPU_TOKENS


def test_a_card_is_filled(machine):
    wide = {"inner": 16384, "hidden": 4096, "device": "cuda"}
    single = memory.token_budget(machine(2**36, dtype=torch.float32, **wide))
    assert single > memory.CPU_TOKENS
    assert memory.token_budget(machine(2**36, dtype=torch.bfloat16, **wide)) // 2 == single


def test_at_least_one_row(machine):
    assert memory.token_budget(machine(4096, inner=16384, hidden=4096)) == 1
