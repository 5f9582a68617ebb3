"""Fronts, budgets and knees."""

from __future__ import annotations

import numpy as np
import pytest
from toys import tradeoff

from search import Constraint, History, InfeasibleError, knee, pareto_front, pick


def history_of(problem, values):
    positions = np.zeros((len(values), len(problem.space)), dtype=np.int16)
    positions[:, 0] = np.arange(len(values)) % 3
    positions[:, 1] = np.arange(len(values)) // 3
    return History.empty(problem.names, len(problem.space)).append(positions, np.array(values), 0)


VALUES = [[0.9, 10.0], [0.5, 1.0], [0.89, 3.0], [0.4, 2.0], [np.nan, 0.5], [0.95, 30.0]]


def test_front_leaves_out_dominated_failed_and_infeasible_points():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=20),))
    front = pareto_front(problem, history_of(problem, VALUES))
    assert front.values.tolist() == [[0.5, 1.0], [0.89, 3.0], [0.9, 10.0]]
    assert front.rows.tolist() == [1, 2, 0]
    assert front.hypervolume(np.array([0.0, 20.0])) == pytest.approx(
        0.5 * 19 + 0.39 * 17 + 0.01 * 10
    )


def test_pick_is_the_best_within_the_budget():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, VALUES))
    at = pick(front, [Constraint("latency_ms", at_most=9.9)])
    assert front.values[at].tolist() == [0.89, 3.0]
    at = pick(front, [Constraint("accuracy", at_least=0.9)])
    assert front.values[at].tolist() == [0.9, 10.0]
    assert front.values[pick(front, [])][0] == 0.95
    assert front.values[pick(front, [], best="latency_ms")][1] == 1.0


def test_pick_below_the_fastest_names_it():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, VALUES))
    with pytest.raises(
        InfeasibleError, match=r"latency_ms at most 0.7; the nearest has 1"
    ) as error:
        pick(front, [Constraint("latency_ms", at_most=0.7)])
    assert error.value.nearest == 1.0
    both = [Constraint("latency_ms", at_most=2), Constraint("accuracy", at_least=0.9)]
    with pytest.raises(InfeasibleError, match="all constraints at once"):
        pick(front, both)


def test_knee_is_the_bend():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, VALUES))
    assert front.values[knee(front)].tolist() == [0.89, 3.0]


def test_an_empty_front_is_an_error_not_an_index():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, [[np.nan, 1.0]]))
    for choose in (knee, lambda f: pick(f, [])):
        with pytest.raises(ValueError, match="front is empty"):
            choose(front)
