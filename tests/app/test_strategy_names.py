"""Strategies by name: the list of them, and those that need an optional package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.runs import plugins
from app.searching.request import SearchRequest
from predictors import fit


@pytest.mark.parametrize(("name", "package"), [("agemoea2", "numba"), ("optuna_cmaes", "cmaes")])
def test_a_missing_optional_package_is_named_with_what_installs_it(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in (f"search.strategies.{name}", f"search.engines.algorithms.{name}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        plugins.load_strategy(name)
    assert str(caught.value) == (
        f"strategy '{name}' needs {package}, which is not installed; "
        f"run: pip install 'supernet[evolution]'"
    )


def test_strategies_are_listed_without_loading_what_they_need():
    code = (
        "import sys; from app.runs.plugins import list_strategies\n"
        "print('\\n'.join(list_strategies()))\n"
        "assert not {'numba', 'cmaes', 'optuna', 'torch'} & set(sys.modules)\n"
    )
    lines = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(lines) == len(plugins.list_names(plugins.STRATEGY))
    for name in ("nsga3", "optuna_tpe", "agemoea2", "aging_evolution"):
        line = next(line for line in lines if line.split()[0] == name)
        assert len(line.split()) > 3


@pytest.mark.parametrize("name", ["predictor_guided", "integer_program", "optuna_tpe"])
def test_fewer_evaluations_than_the_first_sample_are_refused(name):
    strategy = plugins.load_strategy(name).build(fit)
    first = strategy.batch_size(0)
    enough = SearchRequest(run=Path(), strategy=name, evaluations=first)
    enough.check_first_sample(strategy)
    few = SearchRequest(run=Path(), strategy=name, evaluations=first - 1)
    with pytest.raises(ValueError, match=f"fewer than the {first} of the first sample of {name}"):
        few.check_first_sample(strategy)


@pytest.mark.parametrize("name", ["random_search", "optuna_random", "mix_and_match"])
def test_strategies_that_need_no_first_sample_take_few(name):
    request = SearchRequest(run=Path(), strategy=name, evaluations=5)
    request.check_first_sample(plugins.load_strategy(name).build(fit))


def test_a_strategy_from_before_there_was_a_choice_has_a_first_sample():
    class Older:
        def batch_size(self, evaluated: int) -> int:
            return 10

    few = SearchRequest(run=Path(), strategy="mine.older", evaluations=9)
    with pytest.raises(ValueError, match=r"fewer than the 10 of the first sample of mine\.older"):
        few.check_first_sample(Older())
