"""Dominance, crowding and hypervolume of points to be minimised."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def nondominated(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which points ``(n, m)`` no other point dominates (less is better).

    Equal points do not dominate each other: all copies are kept. A point with NaN is never kept.
    """
    values = np.asarray(points, dtype=np.float64)
    keep: NDArray[np.bool_] = np.asarray(~np.isnan(values).any(axis=1))
    rows = np.flatnonzero(keep)
    if values.shape[1] == 2:
        keep[rows] = _nondominated_2d(values[rows])
        return keep
    keep[:] = False
    if len(rows):
        keep[rows[_sorting().do(values[rows], only_non_dominated_front=True)]] = True
    return keep


def _sorting() -> Any:
    # Imported late: two objectives, the common case, do without pymoo.
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    return NonDominatedSorting()


def _nondominated_2d(points: Points) -> NDArray[np.bool_]:
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order, 0], points[order, 1]
    if not len(x):
        return np.zeros(0, dtype=bool)
    start = np.concatenate(([True], x[1:] > x[:-1]))
    group = np.cumsum(start) - 1
    # Within a column of equal x only the lowest y can stay, and it must beat every column left.
    lowest = y[start]
    before = np.concatenate(([np.inf], np.minimum.accumulate(lowest)[:-1]))
    keep = np.zeros(len(x), dtype=bool)
    keep[order] = (y == lowest[group]) & (lowest < before)[group]
    return keep


def ranks(points: NDArray[np.floating], enough: int | None = None) -> NDArray[np.int64]:
    """Front number of each point ``(n, m)``: 0 for the front, 1 for the front of the rest, ...

    Args:
        points: Values to be minimised; rows with NaN come last.
        enough: Stop once so many points are ranked; the others share the next number.
    """
    values = np.asarray(points, dtype=np.float64)
    result = np.full(len(values), -1, dtype=np.int64)
    number = 0
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    goal = len(values) if enough is None else enough
    if values.shape[1] > 2 and len(left):
        for front in _sorting().do(values[left], n_stop_if_ranked=goal):
            result[left[front]] = number
            number += 1
        left = left[result[left] < 0]
    while len(left) and (result >= 0).sum() < goal:
        front = nondominated(values[left])
        result[left[front]] = number
        left, number = left[~front], number + 1
    result[left] = number
    result[result < 0] = number + 1
    return result


def crowding(points: NDArray[np.floating]) -> Points:
    """Crowding distance of each point ``(n, m)`` (Deb et al. 2002); the extremes are infinite."""
    values = np.asarray(points, dtype=np.float64)
    distance = np.zeros(len(values))
    if len(values) < 3:
        return np.full(len(values), np.inf)
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def reference_point(points: NDArray[np.floating], margin: float = 0.1) -> Points:
    """A hypervolume reference ``(m,)``: the worst values plus ``margin`` of the range.

    Freeze it before comparing: volumes with different references say nothing about each other.

    Raises:
        ValueError: No finite point.
    """
    values = np.asarray(points, dtype=np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ValueError("a hypervolume reference needs at least one evaluated point")
    worst, best = values.max(0), values.min(0)
    return worst + margin * np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1.0))


def hypervolume(points: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Volume dominated by points ``(n, m)`` and bounded by ``reference`` ``(m,)``; less is better.

    Points that do not beat the reference in every objective contribute nothing. Exact: a sweep in
    two dimensions, pymoo's implementation beyond.
    """
    values = np.asarray(points, dtype=np.float64).reshape(-1, len(reference))
    bound = np.asarray(reference, dtype=np.float64)
    values = values[(values < bound).all(axis=1)]
    if not len(values):
        return 0.0
    values = values[nondominated(values)]
    if len(bound) == 2:
        values = np.unique(values, axis=0)
        ceilings = np.concatenate(([bound[1]], values[:-1, 1]))
        return float(((bound[0] - values[:, 0]) * (ceilings - values[:, 1])).sum())
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=bound)(values))


def choose_by_hypervolume(
    front: NDArray[np.floating],
    candidates: NDArray[np.floating],
    reference: NDArray[np.floating],
    count: int,
    rng: np.random.Generator,
) -> list[int]:
    """Greedily the candidates that add most hypervolume, each counted as if it came true.

    Args:
        front: Points already there, ``(k, m)``.
        candidates: Points to choose from, ``(n, m)``.
        reference: Bound of the volume, ``(m,)``.
        count: How many to choose at most; the choice ends early when nothing adds volume.
        rng: Draws the sample points beyond two objectives, where gains are estimated.

    Returns:
        Indices of the chosen candidates, best first.
    """
    there: Points = np.asarray(front, dtype=np.float64)
    options: Points = np.asarray(candidates, dtype=np.float64)
    if len(reference) == 2:
        return _choose_2d(there, options, reference, count)
    box = np.concatenate((there, options))
    low = np.minimum(box.min(0), reference)
    sample = low + rng.random((4096, len(reference))) * (reference - low)
    open_ = ~_covered(there, sample)
    sample = sample[open_]
    covers = np.stack([(row <= sample).all(axis=1) for row in options]) if len(options) else None
    chosen: list[int] = []
    while covers is not None and len(chosen) < count:
        gains = covers.sum(1)
        best = int(np.argmax(gains))
        if gains[best] == 0:
            break
        chosen.append(best)
        covers = covers[:, ~covers[best]]
    return chosen


def _covered(front: Points, sample: Points) -> NDArray[np.bool_]:
    covered = np.zeros(len(sample), dtype=bool)
    for row in front:
        covered |= (row <= sample).all(axis=1)
    return covered


def _choose_2d(
    front: Points, candidates: Points, reference: NDArray[np.floating], count: int
) -> list[int]:
    front = front[(front < reference).all(axis=1)]
    chosen: list[int] = []
    while len(chosen) < count:
        gains = gains_2d(front, candidates, reference)
        gains[chosen] = 0.0
        best = int(np.argmax(gains)) if len(gains) else 0
        if not len(gains) or gains[best] <= 0:
            break
        chosen.append(best)
        front = np.concatenate((front, candidates[best : best + 1]))
    return chosen


def gains_2d(front: Points, candidates: Points, reference: NDArray[np.floating]) -> Points:
    """Hypervolume each candidate ``(n, 2)`` would add to ``front`` ``(k, 2)`` on its own."""
    stairs = np.unique(front[nondominated(front)], axis=0) if len(front) else front.reshape(0, 2)
    # Strip i spans x from left[i] to right[i]; below it the front leaves y under ceiling[i] open.
    left = np.concatenate(([-np.inf], stairs[:, 0]))
    right = np.concatenate((stairs[:, 0], [reference[0]]))
    ceiling = np.concatenate(([reference[1]], stairs[:, 1]))
    width = right[None] - np.maximum(left[None], candidates[:, :1])
    height = ceiling[None] - candidates[:, 1:]
    gains: Points = (np.maximum(width, 0) * np.maximum(height, 0)).sum(1)
    return gains
