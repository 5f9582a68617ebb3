"""Every sampler in the folder keeps the sampler contract, and a broken one does not."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest

from supernet.testing import sampler_contract
from supernet.testing.sampler_contract import CHECKS, EXACTNESS_CHECKS, FOLDER
from supernet.training.sampler_modules import list_samplers
from supernet.training.samplers import uniform

MARKED = [
    pytest.param(check, marks=pytest.mark.exactness if check in EXACTNESS_CHECKS else ())
    for check in CHECKS
]


@pytest.mark.parametrize("name", list_samplers())
@pytest.mark.parametrize("check", MARKED, ids=lambda check: check.__name__)
def test_contract(check, name: str) -> None:
    check(importlib.import_module(f"{FOLDER}.{name}"))


def test_there_is_something_to_test() -> None:
    expected = {"best_up", "budget", "fair", "panda", "sandwich", "shift", "uniform", "worst_up"}
    assert expected <= set(list_samplers())


class Restless:
    """Draws with a generator that moves on."""

    def __init__(self, space) -> None:
        self.space, self.rng = space, np.random.default_rng(0)

    def draw(self, step, score):
        return tuple(self.space.decode(self.space.sample(self.rng, 2)))


class Global:
    """Draws with numpy's global generator."""

    def __init__(self, space) -> None:
        self.space = space

    def draw(self, step, score):
        rng = np.random.default_rng(np.random.randint(1 << 30))
        return tuple(self.space.decode(self.space.sample(rng, 2)))


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Restless, sampler_contract.check_draws),
        (Restless, sampler_contract.check_resume),
        (Global, sampler_contract.check_global_generators),
    ],
)
def test_a_broken_sampler_is_found(kind, check) -> None:
    module = ModuleType("somewhere.broken")
    module.SUMMARY, module.LARGEST_FIRST = uniform.SUMMARY, uniform.LARGEST_FIRST
    module.build = lambda supernet, recipe, steps: kind(supernet.space)
    with pytest.raises(AssertionError):
        check(module)
