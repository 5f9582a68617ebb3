"""The loop: exact resume, reuse, failures, limits and beating random search."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from predictors import fit
from search import Constraint, Evaluation, History, search
from search.strategies import nsga2, predictor_guided, random_search
from tests.toys.problems import tradeoff, true_front

SMALL = predictor_guided.PredictorGuided(
    fit, initial=15, batch=10, least_batch=10, population=40, generations=5
)


def front_share(problem, result):
    bound = np.array([-0.0, 170.0])
    exact = true_front(problem)
    return result.front.hypervolume(np.array([0.0, 170.0])) / _volume(exact, bound)


def _volume(front, bound):
    from search.arrays.pareto import hypervolume

    return hypervolume(front * np.array([-1, 1]), bound)


def test_guided_beats_random_and_plain_evolution_and_nears_the_true_front():
    problem = tradeoff()
    guided, plain, floor = (
        np.mean(
            [
                front_share(problem, search(problem, strategy, evaluations=80, seed=seed))
                for seed in range(3)
            ]
        )
        for strategy in (SMALL, nsga2.Nsga2(20, 10), random_search.RandomSearch(20))
    )
    assert guided > 0.97
    assert guided > plain > floor


def test_three_objectives_and_both_expensive():
    result = search(tradeoff(third=True, cheap=False), SMALL, evaluations=60, seed=0)
    assert set(result.models) == {"accuracy", "latency_ms"}
    assert result.trace[-1] > result.trace[14] > 0
    assert len(result.front) >= 5
    assert (np.diff(result.trace) >= 0).all()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [3, 15, 20, 38])
def test_a_killed_search_started_again_evaluates_the_same_set(at):
    problem = tradeoff()
    whole = search(problem, SMALL, evaluations=40, seed=7)
    stored: list[Evaluation] = []

    def store(evaluation):
        stored.append(evaluation)
        if len(stored) == at:
            raise KilledError

    with pytest.raises(KilledError):
        search(problem, SMALL, evaluations=40, seed=7, on_evaluated=store)
    history = History.from_rows(problem.names, len(problem.space), stored)
    known = {row.positions.tobytes(): row.values for row in stored}
    fresh: list[bytes] = []
    for kwargs in ({"history": history}, {"known": known}):
        fresh.clear()

        def count(rows, fresh=fresh):
            fresh.extend(row.tobytes() for row in rows)
            return {"accuracy": problem.objectives[0].evaluate(rows)}

        again = search(problem, SMALL, evaluations=40, seed=7, evaluate_batch=count, **kwargs)
        assert (again.history.positions == whole.history.positions).all()
        assert (again.history.values == whole.history.values).all()
        assert (again.history.batches == whole.history.batches).all()
        assert len(fresh) == 40 - at
        assert not set(fresh) & set(known)


def test_a_larger_budget_continues_the_smaller_search():
    problem = tradeoff()
    short = search(problem, SMALL, evaluations=30, seed=1)
    long = search(problem, SMALL, evaluations=45, seed=1)
    assert (long.history.positions[:30] == short.history.positions).all()
    resumed = search(problem, SMALL, evaluations=45, seed=1, history=short.history)
    assert (resumed.history.positions == long.history.positions).all()


def test_values_of_other_searches_are_reused_without_changing_the_path():
    problem = tradeoff()
    first = search(problem, SMALL, evaluations=30, seed=2)
    known = {
        row.tobytes(): {"accuracy": value}
        for row, value in zip(first.history.positions, first.history.values[:, 0], strict=True)
    }
    seen: list[Evaluation] = []
    again = search(problem, SMALL, evaluations=38, seed=2, known=known, on_evaluated=seen.append)
    assert [e.reused for e in seen] == [True] * 30 + [False] * 8
    assert (again.history.positions[:30] == first.history.positions).all()


def test_same_seed_same_search_other_seed_other_search_in_another_process():
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.search.test_run import SMALL\n"
        "from tests.toys.problems import tradeoff\n"
        "from search import search\n"
        "print(hash(search(tradeoff(), SMALL, evaluations=40, seed=3).history.positions.tobytes()))"
    )
    command = [sys.executable, "-c", code]
    outputs = {
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"}
        ).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    other = search(tradeoff(), SMALL, evaluations=40, seed=4)
    same = search(tradeoff(), SMALL, evaluations=40, seed=3)
    assert (other.history.positions != same.history.positions).any()


def test_the_global_generator_is_neither_used_nor_touched():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = search(tradeoff(), SMALL, evaluations=30, seed=5).history.positions
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    second = search(tradeoff(), SMALL, evaluations=30, seed=5).history.positions
    assert (first == second).all()


def test_failures_are_kept_as_failures_and_do_not_poison_the_search():
    problem = tradeoff(fail_every=4)
    result = search(problem, SMALL, evaluations=60, seed=0)
    failed = result.history.failed
    assert 0 < failed.sum() < 60
    assert np.isnan(result.history.values[failed, 0]).all()
    assert np.isfinite(result.front.values).all()
    assert np.isfinite(result.trace).all()


def test_everything_failing_ends_with_an_empty_front_and_no_crash():
    problem = tradeoff(fail_every=1)
    result = search(problem, SMALL, evaluations=30, seed=0)
    assert len(result.history) == 30
    assert len(result.front) == 0
    assert result.trace.tolist() == [0.0] * 30


def test_a_cheap_limit_is_never_broken_and_an_expensive_one_is_approached():
    limits = (Constraint("latency_ms", at_most=50.0), Constraint("accuracy", at_least=8.0))
    result = search(tradeoff(constraints=limits), SMALL, evaluations=60, seed=0)
    assert (result.history.values[:, 1] <= 50).all()
    inside = result.history.values[:, 0] >= 8
    assert inside[30:].mean() > inside[:15].mean()
    assert (result.front.values[:, 0] >= 8).all()


def test_a_small_space_is_exhausted_once_and_the_search_ends():
    result = search(tradeoff(choices=3), SMALL, evaluations=100, seed=0)
    assert len(result.history) == 27
    assert len(result.history.keys) == 27


def test_wrong_shapes_and_budgets_are_refused():
    problem = tradeoff()
    with pytest.raises(ValueError, match="at least 1"):
        search(problem, SMALL, evaluations=0, seed=0)
    with pytest.raises(ValueError, match="must return 1 values of 'accuracy'; got none"):
        search(problem, SMALL, evaluations=5, seed=0, evaluate_batch=lambda rows: {})
    other = History.empty(("loss", "latency_ms"), 12).append(
        np.zeros((1, 12), np.int16), np.zeros((1, 2)), 0
    )
    with pytest.raises(ValueError, match="history holds loss, latency_ms"):
        search(problem, SMALL, evaluations=5, seed=0, history=other)
    with pytest.raises(ValueError, match="needs a fit function"):
        predictor_guided.build()


def test_optimism_and_rounds_are_settings_of_a_value():
    assert [replace(SMALL, batch=20).batch_size(n) for n in (99, 180, 999)] == [10, 15, 20]
    assert [SMALL.batch_size(n) for n in (0, 4, 999)] == [15, 10, 10]
