"""Objectives to be minimised on one scale, and limits turned into part of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.arrays.pareto import nondominated

Points = NDArray[np.float64]


def front_range(points: Points, feasible: NDArray[np.bool_]) -> tuple[Points, Points]:
    """The best values of the front and how far its worst ones are above them, ``(m,)`` each.

    Scaling by the front, instead of by everything, keeps an outlier from squeezing the front into
    a corner.

    Args:
        points: To be minimised, ``(n, m)``.
        feasible: Which of them are within the limits, ``(n,)``; without any all of them count.

    Returns:
        What counts as 0, and what above it counts as 1; never 0 itself.
    """
    inside = points[feasible] if feasible.any() else points
    front = inside[nondominated(inside)]
    low = front.min(0) if len(front) else np.zeros(points.shape[1])
    span = front.max(0) - low if len(front) else np.ones(points.shape[1])
    wide = points.max(0, initial=-np.inf) - low
    return low, np.where(span > 0, span, np.where((wide > 0) & np.isfinite(wide), wide, 1.0))


def penalise(points: Points, excess: Points) -> Points:
    """Objectives ``(n, m)`` in which every infeasible point is worse than all feasible ones.

    After Deb (2000): beyond a limit the objectives are replaced by the worst feasible value plus
    the excess, the same in all of them. For algorithms that know no limits.

    Args:
        points: To be minimised, scaled, ``(n, m)``.
        excess: Summed violations, ``(n,)``; 0 is feasible.
    """
    feasible = excess <= 0
    worst = points[feasible].max() if feasible.any() else 1.0
    penalised: Points = np.where(feasible[:, None], points, worst + excess[:, None])
    return penalised
