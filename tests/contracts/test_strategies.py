"""Every strategy in the folder keeps the strategy contract, and a broken one does not."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import numpy as np
import pytest

import search.strategies
from predictors import fit
from search.strategies import random_search
from search.testing import strategy_contract
from search.testing.strategy_contract import CHECKS

OPTIONAL = ("numba", "cmaes")
# Seconds for every row that is proposed, or for every round, and ten to compile; the tests of their
# own are shorter.
SLOW = ("optuna_gp", "agemoea2", "boshnas")
NAMES = sorted(
    module.name
    for module in pkgutil.iter_modules(search.strategies.__path__)
    if not module.name.startswith("_")
)
MARKED = [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NAMES]


@pytest.fixture(params=MARKED)
def strategy(request: pytest.FixtureRequest) -> ModuleType:
    try:
        return importlib.import_module(f"search.strategies.{request.param}")
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{request.param} needs {error.name}, which is not installed")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check, strategy: ModuleType) -> None:
    check(strategy, fit)


def test_there_is_something_to_test() -> None:
    assert {"predictor_guided", "random_search", "nsga2"} <= set(NAMES)


class Altered:
    """Random search with one habit changed."""

    def __init__(self, **changes) -> None:
        self.inner = random_search.build()
        self.changes = changes

    def __getattr__(self, name):
        return self.changes.get(name) or getattr(self.inner, name)

    @property
    def has_first_sample(self):
        return self.changes.get("has_first_sample", False)


def repeat(task, history, count, rng):
    """The same rows in every round."""
    return random_search.build().propose(task, history.empty(task.names, len(task.space)), count,
                                         np.random.default_rng(0))  # fmt: skip


def build_restless() -> Altered:
    rng = np.random.default_rng(0)
    inner = random_search.build()
    return Altered(propose=lambda task, history, count, _: inner.propose(task, history, count, rng))


@pytest.mark.parametrize(
    ("build", "check"),
    [
        (lambda: Altered(propose=repeat), strategy_contract.check_proposals),
        (build_restless, strategy_contract.check_purity),
        (lambda: Altered(has_first_sample=True), strategy_contract.check_first_sample),
        (lambda: Altered(batch_size=lambda _: 0), strategy_contract.check_parts),
    ],
)
def test_a_broken_strategy_is_found(build, check) -> None:
    module = ModuleType("somewhere.broken")
    module.SUMMARY, module.build = "Broken", lambda fit: build()
    with pytest.raises(AssertionError):
        check(module, fit)
