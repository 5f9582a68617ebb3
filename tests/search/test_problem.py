"""Objectives, constraints and directions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search import Constraint, Objective, SearchProblem
from search.arrays.additive import AdditiveTerms, total
from search.sampling.first_sample import admissible_sample, spread_sample
from tests.toys.problems import line_space, tradeoff


def flat(name="accuracy", direction="maximize", source="evaluated"):
    return Objective(name, "x", direction, lambda rows: np.zeros(len(rows)), source)


def test_directions_are_turned_at_one_place_and_back():
    problem = tradeoff()
    values = np.array([[0.9, 12.0], [0.5, 7.0]])
    assert problem.minimised(values).tolist() == [[-0.9, 12.0], [-0.5, 7.0]]
    assert problem.natural(problem.minimised(values)).tolist() == values.tolist()


def test_expensive_columns_are_left_open_by_cheap_values():
    problem = tradeoff(choices=2)
    values = problem.cheap_values(np.array([[0, 0], [1, 2]]))
    assert np.isnan(values[:, 0]).all()
    assert values[:, 1].tolist() == [5.0, 10.0]


def test_violations_are_relative_and_failures_violate():
    limit = Constraint("latency_ms", at_most=10.0)
    assert limit.violation(np.array([5.0, 10.0, 15.0])).tolist() == [-0.5, 0.0, 0.5]
    assert Constraint("accuracy", at_least=0.5).violation(np.array([0.25])).tolist() == [0.5]
    assert limit.violation(np.array([np.nan]))[0] > 0


def test_a_quantity_may_be_limited_without_being_optimised():
    size = Objective("size_bytes", "bytes", "minimize", lambda x: 10.0 * x.sum(1), "analytic")
    base = tradeoff(choices=3)
    problem = SearchProblem(
        base.space, base.objectives, (Constraint("size_bytes", at_most=20),), (size,)
    )
    rows = np.array([[0, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert problem.admits(rows).tolist() == [True, True, False]
    assert problem.minimised(problem.cheap_values(rows)).shape == (3, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: flat(direction="maximise"), "unknown direction 'maximise'.*did you mean 'maxim"),
        (lambda: flat(source="guess"), "unknown source 'guess'"),
        (lambda: Constraint("a"), "needs either at_most or at_least"),
        (lambda: Constraint("a", at_most=1, at_least=0), "needs either at_most or at_least"),
        (lambda: Constraint("a", at_most=float("nan")), "has the limit nan"),
        (lambda: SearchProblem(line_space(), (flat(),)), "at least two objectives; got 1"),
        (lambda: SearchProblem(line_space(), (flat(), flat())), "'accuracy' is listed twice"),
        (
            lambda: tradeoff(constraints=(Constraint("latency", at_most=1),)),
            "unknown constrained objective 'latency'.*did you mean 'latency_ms'",
        ),
        (lambda: tradeoff().column("acuracy"), "did you mean 'accuracy'"),
    ],
)
def test_bad_input_is_one_clear_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_additive_quantity_is_the_sum_of_its_terms() -> None:
    block = np.arange(9.0).reshape(3, 3)
    terms = AdditiveTerms(((0, 2), (1,), ()), (block, np.array([0.0, 5.0, 7.0]), np.array(2.0)), 1)
    rows = np.array([[2, 1, 0], [0, 0, 1]], np.int16)
    assert terms(rows).tolist() == [1 + 2 + 6 + 5, 1 + 2 + 1 + 0]
    assert total([terms, terms.scaled(2)])(rows).tolist() == [42, 12]
    with pytest.raises(ValueError, match="has a table of 1 axes; it needs 2"):
        AdditiveTerms(((0, 1),), (np.zeros(3),))
    with pytest.raises(ValueError, match="2 groups have 1 tables"):
        AdditiveTerms(((0,), (1,)), (np.zeros(3),))


def test_a_pool_confines_a_search_and_rows_are_projected_to_its_nearest() -> None:
    problem = tradeoff()
    pool = problem.space.sample(np.random.default_rng(0), 40)
    confined = replace(problem, pool=pool)
    inside = {row.tobytes() for row in pool}
    rows = confined.project(problem.space.sample(np.random.default_rng(1), 200))
    assert {row.tobytes() for row in rows} <= inside
    near = pool[3].copy()
    near[0] = (near[0] + 1) % 3
    assert (confined.project(near[None])[0] != pool[3]).sum() <= 1
    assert (problem.project(near[None])[0] == near).all()
    for sample in (spread_sample, admissible_sample):
        found = sample(confined, np.random.default_rng(2), 50)
        assert {row.tobytes() for row in found} <= inside
    with pytest.raises(ValueError, match="cannot be searched; it needs at least one row of 12"):
        replace(problem, pool=pool[:0])


def test_noise_is_a_number_or_a_function_of_the_values() -> None:
    fixed = replace(tradeoff().objectives[0], noise=0.1)
    grows = replace(fixed, noise=lambda values: values / 10)
    assert fixed.deviation(np.array([1.0, 2.0])).tolist() == [0.1, 0.1]
    assert grows.deviation(np.array([1.0, 2.0])).tolist() == [0.1, 0.2]
