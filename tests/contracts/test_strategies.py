"""What every module in ``search/strategies`` has to do."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import search.strategies
from predictors import fit
from search import Constraint, History, Objective, SearchProblem
from search import search as run
from supernet.space import Choice, SearchSpace

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


def problem(
    limit: float | None = None, *, cheap: bool = True, third: bool = False, most_blocks: int = 4
):
    depth = Choice("depth", tuple(range(1, most_blocks + 1)), "depth")
    blocks = [
        Choice(f"b{b}.{kind}", (1, 2, 3), kind, None if b == 0 else ("depth", b + 1))
        for b in range(most_blocks)
        for kind in ("kernel", "expand")
    ]
    space = SearchSpace((depth, *blocks))

    def latency(rows):
        active = space.active(rows)
        return 1.0 + ((rows[:, 1:] + 1.0) * active[:, 1:]).sum(1)

    def accuracy(rows):
        weights = 1.0 / np.arange(1, len(space) + 1)
        return 1 - np.exp(-(rows + space.active(rows)) @ weights / 4)

    objectives = [
        Objective("accuracy", "fraction", "maximize", accuracy, "evaluated"),
        Objective("latency_ms", "ms", "minimize", latency, "table" if cheap else "measured"),
    ]
    if third:
        objectives.append(
            Objective("macs", "MAC", "minimize", lambda x: 1.0 + (x**2).sum(1), "analytic")
        )
    limits = () if limit is None else (Constraint("latency_ms", at_most=limit),)
    return SearchProblem(space, tuple(objectives), limits)


@pytest.fixture(params=MARKED)
def module(request):
    try:
        return importlib.import_module(f"search.strategies.{request.param}")
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"{request.param} needs {error.name}, which is not installed")


def test_there_is_something_to_test():
    assert {"predictor_guided", "random_search", "nsga2"} <= set(NAMES)


def test_it_says_what_it_is(module):
    assert isinstance(module.SUMMARY, str)
    assert "\n" not in module.SUMMARY
    strategy = module.build(fit)
    assert strategy.batch_size(0) >= 1
    assert strategy.batch_size(1000) >= 1


def test_it_says_whether_it_learns_from_a_first_sample(module):
    strategy = module.build(fit)
    assert isinstance(strategy.has_first_sample, bool)
    task = problem(most_blocks=16)
    found = run(task, strategy, evaluations=strategy.batch_size(0), seed=0).history
    opposite = found.values * [-1, 1]
    turned = History(found.names, found.positions, opposite, found.batches)
    proposed = [
        strategy.propose(task, known, 10, np.random.default_rng(1)) for known in (found, turned)
    ]
    # What learns from a first sample goes on differently where its values are turned around.
    learns = not np.array_equal(*proposed)
    assert learns == strategy.has_first_sample


@pytest.mark.parametrize("limit", [None, 12.0])
def test_proposals_are_new_distinct_canonical_and_within_cheap_limits(module, limit):
    task, strategy = problem(limit), module.build(fit)
    history = History.empty(task.names, len(task.space))
    for batch in range(4):
        rng = np.random.default_rng([0, len(history)])
        rows = strategy.propose(task, history, 16, rng)
        assert rows.shape == (16, len(task.space))
        assert rows.dtype == np.int16
        assert (rows == task.space.canonical(rows)).all()
        assert len(history.new(rows)) == 16
        assert task.admits(rows).all()
        values = task.cheap_values(rows)
        values[:, 0] = task.objectives[0].evaluate(rows)
        values[batch, 0] = np.nan
        history = history.append(rows, values, batch)


def test_proposing_is_a_pure_function_of_history_and_generator(module):
    task, strategy = problem(), module.build(fit)
    history = run(task, strategy, evaluations=60, seed=0).history
    first, second = (
        strategy.propose(task, history, 10, np.random.default_rng(3)) for _ in range(2)
    )
    again = module.build(fit).propose(task, history, 10, np.random.default_rng(3))
    assert (first == second).all()
    assert (first == again).all()


@pytest.mark.parametrize("kind", [{"cheap": False}, {"third": True}, {"limit": 14.0}])
def test_it_searches_every_kind_of_problem_reproducibly(module, kind):
    task = problem(**kind)
    first, second = (run(task, module.build(fit), evaluations=90, seed=1) for _ in range(2))
    assert len(first.history.keys) == len(first.history) == 90
    assert (first.history.positions == second.history.positions).all()
    assert len(first.front) > 3
    assert first.trace[-1] > 0


@pytest.mark.parametrize("constant", [False, True])
def test_small_pools_ties_and_choices_of_one_value_are_no_obstacle(module, constant):
    sizes = (1, 3, 3, 1, 3, 3, 3)
    space = SearchSpace(
        tuple(Choice(f"b{i}.expand", tuple(range(n)), "expand") for i, n in enumerate(sizes))
    )
    pool = np.unique(space.sample(np.random.default_rng(0), 150), axis=0)
    objectives = (
        Objective(
            "accuracy", "fraction", "maximize",
            (lambda x: np.full(len(x), 0.5)) if constant else (lambda x: np.sqrt(x).sum(1) / 9),
            "evaluated",
        ),
        Objective("latency_ms", "ms", "minimize", lambda x: 1.0 + x.sum(1), "table"),
    )  # fmt: skip
    task = SearchProblem(space, objectives, (Constraint("latency_ms", at_most=6.5),), pool=pool)
    admitted = {row.tobytes() for row in pool[task.admits(pool)]}
    assert 50 < len(admitted) < len(pool) - 15
    result = run(task, module.build(fit), evaluations=len(pool), seed=0)
    assert result.history.keys == admitted
    assert len(result.history) == len(admitted)


def test_it_survives_failures_of_everything(module):
    task = problem()
    failing = lambda rows: {"accuracy": np.full(len(rows), np.nan)}  # noqa: E731
    result = run(task, module.build(fit), evaluations=70, seed=0, evaluate_batch=failing)
    assert len(result.history) == 70
    assert result.history.failed.all()


def test_models_predict_expensive_quantities_only(module):
    task = problem()
    result = run(task, module.build(fit), evaluations=60, seed=2)
    assert set(result.models) <= {"accuracy"}
    for model in result.models.values():
        assert np.isfinite(model.mean(result.history.positions)).all()
