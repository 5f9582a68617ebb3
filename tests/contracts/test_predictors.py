"""Every method in ``predictors/models`` keeps the predictor contract, and a broken one does not."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import predictors.models
from predictors.models import ridge
from predictors.predictor import Predictor
from predictors.testing.predictor_contract import CHECKS, check_predictor

NAMES = sorted(module.name for module in pkgutil.iter_modules(predictors.models.__path__))


@pytest.fixture(params=NAMES)
def method(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(f"predictors.models.{request.param}")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check, method: ModuleType) -> None:
    check(method)


def test_there_is_something_to_test() -> None:
    assert {"ridge", "gaussian_process", "support_vector", "random_forest"} <= set(NAMES)
    assert {"gradient_boosting", "ensemble", "mlp"} <= set(NAMES)


class Altered:
    """A predictor with some of its answers changed."""

    def __init__(self, model: Predictor, **changes: object) -> None:
        self.__dict__ = {name: getattr(model, name) for name in ("report", "held_out")}
        self.mean, self.predict = model.mean, model.predict
        self.__dict__.update(changes)


def copying(model: Predictor) -> Altered:
    held_out = SimpleNamespace(**{**vars(model.held_out), "mean": model.held_out.values})
    return Altered(model, held_out=held_out)


def certain(model: Predictor) -> Altered:
    return Altered(model, predict=lambda rows: (model.mean(rows), np.zeros(len(rows))))


def guessing(model: Predictor) -> Altered:
    rng = np.random.default_rng()
    return Altered(model, mean=lambda rows: rng.normal(size=len(rows)))


def method_with(**changes: object) -> ModuleType:
    module = ModuleType("somewhere.ridge")
    module.SUMMARY, module.fit = ridge.SUMMARY, ridge.fit
    for name, value in changes.items():
        setattr(module, name, value)
    return module


def fitting(change):
    def fit(space, positions, values, *, seed, statistics=None):
        return change(ridge.fit(space, positions, values, seed=seed, statistics=statistics))

    return fit


def overwriting(space, positions, values, *, seed, statistics=None):
    model = ridge.fit(space, positions, values, seed=seed, statistics=statistics)
    values[:] = 0
    return model


def forgiving(space, positions, values, *, seed, statistics=None):
    return ridge.fit(space, positions, np.nan_to_num(values), seed=seed, statistics=statistics)


def blind(space, positions, values, *, seed, statistics=None):
    return ridge.fit(space, positions, values, seed=seed)


def demanding(space, positions, values, *, seed, layers, statistics=None):
    return ridge.fit(space, positions, values, seed=seed, statistics=statistics)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (method_with(SUMMARY="two\nlines"), "several lines"),
        (method_with(fit=demanding), "fit needs 'layers'"),
        (method_with(fit=lambda space, positions, values: None), "does not take 'seed'"),
        (method_with(fit=fitting(copying)), "repeats its value"),
        (method_with(fit=fitting(certain)), "standard deviation is not above 0"),
        (method_with(fit=fitting(guessing)), "correlation with the truth"),
        (method_with(fit=overwriting), "values were changed"),
        (method_with(fit=forgiving), "nothing was refused"),
        (method_with(fit=blind), "with the answer as a statistic"),
    ],
)
def test_a_method_that_breaks_the_contract_does_not_pass(broken, complaint) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_predictor(broken)


def test_a_method_of_a_user_passes() -> None:
    check_predictor(method_with())
