"""Points that noise alone puts behind the front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search import History, SearchProblem, pareto_front, probable_front
from search.noise import indistinguishable
from tests.toys.problems import tradeoff


def problem_of(noise, latency_noise=0.0) -> SearchProblem:
    base = tradeoff()
    first, second = base.objectives
    return replace(
        base, objectives=(replace(first, noise=noise), replace(second, noise=latency_noise))
    )


def history_of(problem, pairs) -> History:
    rows = problem.space.sample(np.random.default_rng(0), len(pairs))
    return History.empty(problem.names, len(problem.space)).append(rows, np.array(pairs), 0)


def test_without_noise_it_is_the_plain_front():
    rng = np.random.default_rng(1)
    problem = problem_of(0.0)
    history = history_of(problem, rng.random((60, 2)))
    assert set(probable_front(problem, history)) == set(pareto_front(problem, history).rows)
    noisy = problem_of(0.1)
    assert set(probable_front(noisy, history, 0.0)) == set(pareto_front(noisy, history).rows)


def test_points_within_noise_of_a_cheaper_one_stay():
    # accuracy, latency: the second is behind by 0.005, the third by 0.05, the fourth is slower
    # than the first by nothing that noise could explain, and equally accurate.
    pairs = [(0.900, 10.0), (0.895, 11.0), (0.850, 12.0), (0.900, 13.0)]
    problem = problem_of(0.01)
    history = history_of(problem, pairs)
    assert pareto_front(problem, history).rows.tolist() == [0]
    # The interval of a difference of two evaluations: 1.645 * 0.01 * sqrt(2) = 0.0233.
    assert probable_front(problem, history).tolist() == [0, 1, 3]
    assert indistinguishable(problem, history).tolist() == [1, 3]
    assert probable_front(problem, history, 0.2).tolist() == [0, 3]


def test_the_interval_is_that_of_a_difference():
    problem = problem_of(0.01)
    edge = 1.645 * 0.01 * np.sqrt(2)
    for gap, kept in ((edge - 1e-6, True), (edge + 1e-6, False)):
        history = history_of(problem, [(0.9, 10.0), (0.9 - gap, 11.0)])
        assert (1 in probable_front(problem, history)) is kept


def test_noise_may_depend_on_the_value_and_both_axes_may_be_noisy():
    binomial = problem_of(lambda p: np.sqrt(p * (1 - p) / 100))
    history = history_of(binomial, [(0.99, 10.0), (0.96, 11.0), (0.55, 9.0), (0.50, 9.5)])
    # Near one an evaluation of 100 samples is known to 1 or 2 points, at a half to 5.
    assert probable_front(binomial, history).tolist() == [0, 1, 2, 3]
    history = history_of(binomial, [(0.999, 10.0), (0.96, 11.0)])
    assert probable_front(binomial, history).tolist() == [0]
    both = problem_of(0.01, latency_noise=1.0)
    history = history_of(both, [(0.9, 10.0), (0.8, 11.0), (0.8, 20.0)])
    assert probable_front(both, history).tolist() == [0, 1], "one millisecond is within noise"


def test_the_probable_front_covers_the_true_front_that_noise_hides():
    rng = np.random.default_rng(0)
    latency = np.linspace(1, 2, 40)
    truth = 0.8 + 0.15 * (latency - 1)
    problem = problem_of(0.01)
    found, plain = [], []
    for _ in range(20):
        measured = truth + rng.normal(0, 0.01, len(truth))
        history = history_of(problem, np.stack((measured, latency), 1))
        found.append(len(probable_front(problem, history)) / len(truth))
        plain.append(len(pareto_front(problem, history)) / len(truth))
    # Every point is truly on the front: noise drops most from the plain one, few from this one.
    assert np.mean(plain) < 0.5
    assert np.mean(found) > 0.9


def test_failures_and_limits_are_left_out_and_a_negative_width_is_refused():
    problem = problem_of(0.1)
    history = history_of(problem, [(np.nan, 1.0), (0.9, 10.0)])
    assert probable_front(problem, history).tolist() == [1]
    with pytest.raises(ValueError, match="z = -1 is impossible"):
        probable_front(problem, history, -1)
