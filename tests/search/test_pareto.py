"""Dominance and hypervolume against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from search.arrays.pareto import (
    choose_by_hypervolume,
    gains_2d,
    hypervolume,
    measure_crowding,
    nondominated,
    rank_fronts,
    reference_point,
)


def brute_front(points):
    return np.array(
        [
            not any((q <= p).all() and (q < p).any() for q in points) and not np.isnan(p).any()
            for p in points
        ]
    )


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_nondominated_equals_brute_force_with_ties_and_copies(objectives):
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        points = rng.integers(0, 6, (size, objectives)).astype(float)
        assert (nondominated(points) == brute_front(points)).all()


def test_a_point_with_nan_is_never_on_the_front_and_dominates_nothing():
    points = np.array([[np.nan, 0.0], [1.0, 1.0], [0.0, 2.0]])
    assert nondominated(points).tolist() == [False, True, True]
    assert rank_fronts(points).tolist()[0] > max(rank_fronts(points).tolist()[1:])


def test_ranks_peel_fronts_one_by_one():
    points = np.array([[1, 1], [2, 2], [3, 3], [0, 4], [1, 5]], float)
    assert rank_fronts(points).tolist() == [0, 1, 2, 0, 1]
    assert rank_fronts(points, enough=1).tolist() == [0, 1, 1, 0, 1]
    wide = np.concatenate((points, np.zeros((5, 1))), axis=1)
    assert rank_fronts(wide).tolist() == [0, 1, 2, 0, 1]
    assert rank_fronts(wide, enough=1).tolist() == [0, 1, 1, 0, 1]


def test_hypervolume_of_the_textbook_front_is_six():
    points = np.array([[1, 3], [2, 2], [3, 1]], float)
    assert hypervolume(points, np.array([4.0, 4.0])) == 6.0
    worse = np.array([[3.5, 3.5], [4, 0], [9, -9], [2, 2]], float)
    assert hypervolume(np.concatenate((points, worse)), np.array([4.0, 4.0])) == 6.0


def test_hypervolume_of_a_box_in_any_dimension():
    for m in (2, 3, 4, 5):
        assert hypervolume(np.full((1, m), 0.5), np.ones(m)) == pytest.approx(0.5**m)
    assert hypervolume(np.zeros((0, 3)), np.ones(3)) == 0.0


@pytest.mark.parametrize("objectives", [2, 3])
def test_hypervolume_equals_counting_grid_cells(objectives):
    rng = np.random.default_rng(1)
    cells = np.stack(np.meshgrid(*[np.arange(6)] * objectives), -1).reshape(-1, objectives)
    for _ in range(20):
        points = rng.integers(0, 7, (12, objectives)).astype(float)
        covered = (points[None] <= cells[:, None]).all(2).any(1).sum()
        assert hypervolume(points, np.full(objectives, 6.0)) == pytest.approx(covered)


def test_gains_are_differences_of_hypervolume():
    rng = np.random.default_rng(2)
    bound = np.array([1.0, 1.0])
    for size in (0, 1, 9):
        front, candidates = rng.random((size, 2)), rng.random((30, 2)) * 1.2
        gains = gains_2d(front, candidates, bound)
        before = hypervolume(front, bound)
        for point, gain in zip(candidates, gains, strict=True):
            after = hypervolume(np.concatenate((front, point[None])), bound)
            assert gain == pytest.approx(after - before, abs=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_greedy_choice_takes_the_best_first_and_stops_when_nothing_is_gained(objectives):
    bound = np.ones(objectives)
    front = np.full((1, objectives), 0.5)
    best, dominated = np.full(objectives, 0.1), np.full(objectives, 0.9)
    corner = np.array([0.05] + [0.45] * (objectives - 1))
    candidates = np.stack((dominated, corner, best))
    assert choose_by_hypervolume(front, candidates, bound, 3) == [2, 1]
    assert choose_by_hypervolume(front, candidates[:1], bound, 3) == []


def test_crowding_prefers_extremes_and_gaps():
    points = np.array([[0, 10], [1, 9], [2, 8], [9, 1], [10, 0]], float)
    distance = measure_crowding(points)
    assert np.isinf(distance[[0, 4]]).all()
    assert distance[1] < distance[2]
    assert distance[1] == pytest.approx(0.4)


def test_reference_point_is_beyond_the_worst_and_ignores_failures():
    points = np.array([[0.0, 10.0], [1.0, 20.0], [np.nan, 99.0]])
    assert reference_point(points).tolist() == pytest.approx([1.1, 21.0])
    with pytest.raises(ValueError, match="at least one evaluated point"):
        reference_point(points[2:])
