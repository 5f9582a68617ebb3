"""An impossible budget is recognised before anything is evaluated, and says what is possible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search import Constraint, InfeasibleError, Objective, SearchProblem, check_feasible
from search.sampling.feasibility import least_violation
from search.sampling.first_sample import admissible_sample, initial_rows
from tests.toys.problems import tradeoff


def test_a_budget_below_the_fastest_names_the_fastest():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=4.0),))
    with pytest.raises(InfeasibleError, match=r"latency_ms at most 4; the nearest.* 5 ms") as error:
        check_feasible(problem)
    assert error.value.nearest == 5.0
    assert error.value.objective == "latency_ms"


def test_the_callers_exact_minimum_decides_when_given():
    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=4.5),))
    with pytest.raises(InfeasibleError, match=r"nearest feasible value is latency_ms 4.75 ms"):
        check_feasible(problem, exact_best={"latency_ms": lambda: 4.75})


def test_the_minimum_is_found_where_smallest_is_not_fastest():
    # Kernels of middle size are fastest here, as on some accelerators.
    base = tradeoff(choices=15)
    odd = Objective("latency_ms", "ms", "minimize", lambda x: 1 + np.abs(x - 1.0).sum(1), "table")
    objectives = (base.objectives[0], odd)
    possible = SearchProblem(base.space, objectives, (Constraint("latency_ms", at_most=1.0),))
    assert check_feasible(possible).tolist() == [1] * 15
    impossible = SearchProblem(base.space, objectives, (Constraint("latency_ms", at_most=0.9),))
    with pytest.raises(InfeasibleError) as error:
        check_feasible(impossible)
    assert error.value.nearest == 1.0


def test_limits_that_exclude_each_other_are_told_apart_from_impossible_ones():
    size = Objective("size_bytes", "bytes", "minimize", lambda x: 100.0 - x.sum(1), "analytic")
    base = tradeoff()
    problem = SearchProblem(
        base.space,
        base.objectives,
        (Constraint("latency_ms", at_most=6), Constraint("size_bytes", at_most=80)),
        (size,),
    )
    with pytest.raises(InfeasibleError, match="meets all constraints at once"):
        check_feasible(problem)


def test_the_nearest_value_of_a_pool_is_one_of_its_rows():
    base = tradeoff(constraints=(Constraint("latency_ms", at_most=20.0),))
    pool = np.full((3, 12), 2, dtype=np.int16)
    pool[1, :6] = 1
    with pytest.raises(InfeasibleError, match="the nearest feasible value is latency_ms 140 ms"):
        check_feasible(replace(base, pool=pool))


def test_without_cheap_constraints_there_is_nothing_to_check():
    assert check_feasible(tradeoff(constraints=(Constraint("accuracy", at_least=99.0),))) is None


def test_tight_budgets_are_sampled_without_rejecting_everything():
    # One in about twenty million uniform samples of this space is inside the budget.
    problem = tradeoff(choices=20, constraints=(Constraint("latency_ms", at_most=30.0),))
    _, violations = least_violation(problem)
    assert (violations <= 0).all()
    rows = admissible_sample(problem, np.random.default_rng(0), 300)
    assert len(rows) > 200
    assert problem.admits(rows).all()
    assert len(np.unique(rows, axis=0)) > 40


def test_the_first_sample_has_the_corners_and_spreads_over_cost():
    problem = tradeoff()
    rows = initial_rows(problem, 30, np.random.default_rng(0))
    assert len(np.unique(rows, axis=0)) == 30
    assert rows[0].tolist() == [0] * 12
    assert rows[1].tolist() == [2] * 12
    cost = problem.objectives[1].evaluate(rows)
    counts, _ = np.histogram(cost, bins=5, range=(5, 161))
    assert (counts >= 4).all()
