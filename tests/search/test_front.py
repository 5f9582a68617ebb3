"""Fronts, budgets and knees."""

from __future__ import annotations

import numpy as np
import pytest

from search import (
    Constraint,
    History,
    InfeasibleError,
    ParetoFront,
    pareto_front,
    pick_by_weights,
    pick_knee,
    pick_within,
)
from search.arrays.pareto import nondominated
from tests.toys.problems import tradeoff


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
    at = pick_within(front, [Constraint("latency_ms", at_most=9.9)])
    assert front.values[at].tolist() == [0.89, 3.0]
    at = pick_within(front, [Constraint("accuracy", at_least=0.9)])
    assert front.values[at].tolist() == [0.9, 10.0]
    assert front.values[pick_within(front, [])][0] == 0.95
    assert front.values[pick_within(front, [], best="latency_ms")][1] == 1.0


def test_pick_below_the_fastest_names_it():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, VALUES))
    with pytest.raises(
        InfeasibleError, match=r"latency_ms at most 0.7; the nearest has 1"
    ) as error:
        pick_within(front, [Constraint("latency_ms", at_most=0.7)])
    assert error.value.nearest == 1.0
    both = [Constraint("latency_ms", at_most=2), Constraint("accuracy", at_least=0.9)]
    with pytest.raises(InfeasibleError, match="all constraints at once"):
        pick_within(front, both)


def test_knee_is_the_bend():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, VALUES))
    assert front.values[pick_knee(front)].tolist() == [0.89, 3.0]


def test_an_empty_front_is_an_error_not_an_index():
    problem = tradeoff()
    front = pareto_front(problem, history_of(problem, [[np.nan, 1.0]]))
    for choose in (pick_knee, lambda f: pick_within(f, [])):
        with pytest.raises(ValueError, match="front is empty"):
            choose(front)


def convex_and_hollow() -> ParetoFront:
    """A front whose middle lies in a hollow, where no weighted sum ever looks."""
    problem = tradeoff()
    values = np.array([(1.0, 10.0), (0.55, 5.5), (0.5, 5.0), (0.45, 4.6), (0.0, 1.0)])
    rows = np.arange(5)
    positions = problem.space.sample(np.random.default_rng(0), 5)
    return ParetoFront(problem, positions, values, rows)


def test_weights_move_along_the_front_and_reach_hollows():
    front = convex_and_hollow()
    share = [
        pick_by_weights(front, {"accuracy": w, "latency_ms": 1.0}) for w in (1e3, 3, 1, 1 / 3, 1e-3)
    ]
    values = front.values[share, 0]
    assert (np.diff(values) <= 0).all()
    assert share[0] == 0
    assert share[-1] == 4
    assert share[2] in (1, 2, 3), "equal weights choose a middle point, although it is hollow"
    assert pick_by_weights(front, {"accuracy": 1.0}) == 0, "an objective left out matters nothing"
    assert pick_by_weights(front, {"accuracy": 2, "latency_ms": 2}) == share[2], "only ratios count"


def test_a_dominated_point_never_suits_weights_best():
    problem = tradeoff()
    rng = np.random.default_rng(0)
    values = rng.random((40, 2))
    front = ParetoFront(problem, np.zeros((40, 12), np.int16), values, np.arange(40))
    plain = set(np.flatnonzero(nondominated(problem.minimised(values))))
    for weight in (0.0, 0.1, 0.5, 1, 2, 10):
        assert pick_by_weights(front, {"accuracy": weight, "latency_ms": 1.0}) in plain


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"acuracy": 1.0}, "no objective 'acuracy'.*did you mean 'accuracy'.*accuracy, latency_ms"),
        ({"accuracy": -1.0}, "weight -1 of 'accuracy' is impossible"),
        ({"accuracy": 0.0}, "all zero"),
        ({}, "all zero"),
    ],
)
def test_weights_that_cannot_work(weights, expected):
    with pytest.raises(ValueError, match=expected):
        pick_by_weights(convex_and_hollow(), weights)
