"""Dominance that noise cannot fake: which points may belong to the front after all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.history import History
from search.problem import SearchProblem
from search.stops import usable
from supernet.errors import InputError

# The one-sided 95 % quantile of the normal distribution.
Z_ONE_SIDED_95 = 1.645


def probable_front(
    problem: SearchProblem, history: History, z: float = Z_ONE_SIDED_95
) -> NDArray[np.intp]:
    """Rows of a history that no other row dominates beyond noise.

    A point is dominated beyond noise when another one is at least as good in every objective even
    after the interval of their difference, ``z`` standard deviations of the two evaluations added
    in squares, is granted to it. The deviations are :meth:`search.problem.Objective.deviation`;
    for exact objectives this is ordinary dominance, and every point of the front stays. (Teich,
    "Pareto-front exploration with uncertain objectives", 2001: dominance between intervals.)

    Evaluations on the same samples vary together, so that independent deviations are an upper
    bound: the probable front is rather too long than too short.

    Args:
        problem: Objectives with their noise, and limits.
        history: What was evaluated; failures and points beyond a limit are left out.
        z: Width of the interval in standard deviations; 0 gives ordinary dominance.

    Returns:
        Rows of the history, ascending, ``(k,)``.

    Raises:
        InputError: ``z`` is negative.
    """
    if not z >= 0:
        raise InputError(f"z = {z} is impossible; it counts standard deviations, at least 0")
    rows = np.flatnonzero(usable(problem, history))
    values = history.values[rows]
    points = problem.minimised(values)
    variance = np.stack(
        [o.deviation(values[:, i]) ** 2 for i, o in enumerate(problem.objectives)], axis=1
    )
    kept = [i for i in range(len(rows)) if not _dominated(points, variance, i, z)]
    return rows[kept]


def indistinguishable(
    problem: SearchProblem, history: History, z: float = Z_ONE_SIDED_95
) -> NDArray[np.intp]:
    """Rows that are off the front, but dominated only within noise, ascending, ``(k,)``."""
    plain = probable_front(problem, history, 0.0)
    return np.setdiff1d(probable_front(problem, history, z), plain)


def _dominated(
    points: NDArray[np.float64], variance: NDArray[np.float64], row: int, z: float
) -> bool:
    """Whether some point beats ``row`` by more than the interval of their difference."""
    lead = points[row] - points
    margin = z * np.sqrt(variance + variance[row])
    return bool(((lead >= margin).all(axis=1) & (lead > 0).any(axis=1)).any())
