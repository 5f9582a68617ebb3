"""Operators change what they claim to, and the inner search finds known fronts."""

from __future__ import annotations

import numpy as np
import pytest

from search.arrays.neighbourhood import neighbourhood, unique_rows
from search.arrays.pareto import hypervolume, nondominated
from search.engines.array_nsga2 import evolve, make_offspring, polish
from search.engines.contract import Visited
from tests.toys.problems import line_space, nested_space, tradeoff, true_front


def first_wins(a, b):
    return np.ones(len(a), dtype=bool)


def test_reset_mutation_changes_one_choice_in_n_on_average():
    space = line_space(choices=20, values=3)
    parents = np.ones((2, 20), dtype=np.int16)
    children = make_offspring(space, parents, first_wins, 5000, np.random.default_rng(0))
    rate = (children != 1).mean()
    assert rate == pytest.approx(1 / 20, rel=0.05)
    changed = children[children != 1]
    assert (changed == 0).mean() == pytest.approx(0.5, abs=0.03)


def test_crossover_takes_each_choice_from_either_parent():
    space = line_space(choices=30, values=2)
    parents = np.stack((np.zeros(30), np.ones(30))).astype(np.int16)
    children = make_offspring(space, parents, first_wins, 4000, np.random.default_rng(1))
    assert children.mean() == pytest.approx(0.5, abs=0.03)
    # Half of the pairs are two different parents; their children are mixtures.
    mixed = (children.mean(1) > 0.2) & (children.mean(1) < 0.8)
    assert mixed.mean() == pytest.approx(0.45, abs=0.05)


def test_children_are_canonical():
    space = nested_space()
    rng = np.random.default_rng(2)
    children = make_offspring(space, space.sample(rng, 20), first_wins, 200, rng)
    assert (children == space.canonical(children)).all()


def test_neighbourhood_is_the_union_of_single_neighbourhoods():
    space = nested_space()
    rows = space.sample(np.random.default_rng(3), 5)
    expected = {n.tobytes() for row in rows for n in space.neighbours(row)}
    found = neighbourhood(space, rows)
    assert {row.tobytes() for row in found} == expected
    assert len(found) == len(expected)


def test_unique_rows_keep_the_order_of_appearance():
    rows = np.array([[3, 1], [0, 0], [3, 1], [1, 2]], dtype=np.int16)
    assert unique_rows(rows).tolist() == [[3, 1], [0, 0], [1, 2]]


def score_of(problem):
    def score(rows):
        values = problem.cheap_values(rows)
        values[:, 0] = problem.objectives[0].evaluate(rows)
        return problem.minimised(values), problem.violations(values)

    return score


def test_the_inner_search_finds_most_of_a_known_front_and_polishing_adds_to_it():
    problem = tradeoff()
    rng = np.random.default_rng(4)
    seeds = unique_rows(problem.space.sample(rng, 60))
    visited = evolve(
        problem.space, score_of(problem), seeds, population=60, generations=25, rng=rng
    )
    front = true_front(problem)
    bound = np.array([1.0, 170.0])
    best = hypervolume(problem.minimised(front), bound)
    evolved = hypervolume(visited.objectives, bound)
    assert len(unique_rows(visited.positions)) == len(visited.positions)
    assert evolved >= 0.9 * best
    polished = polish(problem.space, score_of(problem), visited, 6)
    assert isinstance(polished, Visited)
    assert hypervolume(polished.objectives, bound) >= max(evolved, 0.97 * best)
    assert len(unique_rows(polished.positions)) == len(polished.positions)


def test_limits_hold_on_the_feasible_part():
    from search import Constraint

    problem = tradeoff(constraints=(Constraint("latency_ms", at_most=40.0),))
    rng = np.random.default_rng(5)
    seeds = unique_rows(problem.space.sample(rng, 40))
    visited = evolve(
        problem.space, score_of(problem), seeds, population=40, generations=20, rng=rng
    )
    inside = visited.objectives[visited.feasible]
    assert len(inside) > 100
    assert (inside[:, 1] <= 40).all()
    exact = true_front(problem)
    reachable = exact[exact[:, 1] <= 40, 0].max()
    assert -inside[nondominated(inside)][:, 0].min() >= 0.9 * reachable
