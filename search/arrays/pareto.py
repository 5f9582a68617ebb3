"""Dominance, crowding and hypervolume of points to be minimised."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

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


def rank_fronts(points: NDArray[np.floating], enough: int | None = None) -> NDArray[np.int64]:
    """Front number of each point ``(n, m)``: 0 for the front, 1 for the front of the rest, ...

    Args:
        points: Values to be minimised; rows with NaN come last.
        enough: Stop once so many points are ranked; the others share the next number.
    """
    values = np.asarray(points, dtype=np.float64)
    result = np.full(len(values), -1, dtype=np.int64)
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    goal = len(left) if enough is None else min(enough, len(left))
    number = 0
    if len(left) and values.shape[1] == 2:
        found = _ranks_2d(values[left], goal)
        result[left], number = found, int(found.max())
    elif len(left):
        for front in _sorting().do(values[left], n_stop_if_ranked=goal):
            result[left[front]] = number
            number += 1
        result[left[result[left] < 0]] = number
    result[result < 0] = number + 1
    return result


def _ranks_2d(points: Points, goal: int) -> NDArray[np.int64]:
    """Fronts peeled off one sorted list, so that each costs one running minimum."""
    order = np.lexsort((points[:, 1], points[:, 0]))
    x, y = points[order, 0], points[order, 1]
    # Equal points share a front: they do not dominate each other.
    first = np.concatenate(([True], (x[1:] != x[:-1]) | (y[1:] != y[:-1])))
    copies = np.diff(np.concatenate((np.flatnonzero(first), [len(x)])))
    height, ranked, number = y[first], 0, 0
    found = np.full(len(height), -1, dtype=np.int64)
    left = np.arange(len(height))
    while len(left) and ranked < goal:
        open_ = height[left]
        best = np.ones(len(left), dtype=bool)
        best[1:] = open_[1:] < np.minimum.accumulate(open_)[:-1]
        found[left[best]] = number
        ranked += int(copies[left[best]].sum())
        left, number = left[~best], number + 1
    found[left] = number
    result = np.empty(len(points), dtype=np.int64)
    result[order] = np.repeat(found, copies)
    return result


def measure_crowding(
    points: NDArray[np.floating], fronts: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """Crowding distance of each point ``(n, m)`` within its front; the ends are infinite.

    Deb et al. 2002, section III-B: the sum over objectives of the gap between both neighbours, as
    a share of the front's range.

    Args:
        points: Values without NaN.
        fronts: Front numbers ``(n,)`` as from :func:`rank_fronts`; by default all are one front.
    """
    values = np.asarray(points, dtype=np.float64)
    number = np.zeros(len(values), dtype=np.int64) if fronts is None else np.asarray(fronts)
    distance = np.zeros(len(values))
    if not len(values):
        return distance
    group = np.sort(number)
    starts = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
    ends = np.concatenate((starts[1:], [len(group)])) - 1
    for column in values.T:
        order = np.lexsort((column, number))
        sorted_ = column[order]
        span = np.repeat(sorted_[ends] - sorted_[starts], ends - starts + 1)
        inside = np.ones(len(group), dtype=bool)
        inside[starts] = inside[ends] = False
        at = np.flatnonzero(inside & (span > 0))
        distance[order[at]] += (sorted_[at + 1] - sorted_[at - 1]) / span[at]
        distance[order[starts]] = distance[order[ends]] = np.inf
    return distance


def best_first(
    objectives: NDArray[np.floating],
    violations: NDArray[np.floating],
    enough: int | None = None,
) -> NDArray[np.intp]:
    """Indices in order of survival: least excess over the limits, then front, then crowding.

    Deb et al. 2002, section VI: any feasible point is better than any other.

    Args:
        objectives: To be minimised, ``(n, m)``; rows with NaN come last.
        violations: Relative excess over the limits, ``(n, c)``; at most 0 is feasible.
        enough: How many to order; by default all.

    Returns:
        At most ``enough`` indices.
    """
    excess = np.maximum(violations, 0).sum(axis=1)
    excess[~np.isfinite(objectives).all(axis=1)] = np.inf
    feasible = np.flatnonzero(excess <= 0)
    front = np.full(len(objectives), len(objectives), dtype=np.int64)
    spread = np.zeros(len(objectives))
    front[feasible] = rank_fronts(objectives[feasible], enough)
    spread[feasible] = measure_crowding(objectives[feasible], front[feasible])
    order: NDArray[np.intp] = np.lexsort((-spread, front, excess))
    return order[:enough]


def reference_point(points: NDArray[np.floating], margin: float = 0.1) -> Points:
    """A hypervolume reference ``(m,)``: the worst values plus ``margin`` of the range.

    Freeze it before comparing: volumes with different references say nothing about each other.

    Raises:
        InputError: No finite point.
    """
    values = np.asarray(points, dtype=np.float64)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise InputError("a hypervolume reference needs at least one evaluated point")
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
) -> list[int]:
    """Greedily the candidates that add most hypervolume, each counted as if it came true.

    Args:
        front: Points already there, ``(k, m)``.
        candidates: Points to choose from, ``(n, m)``.
        reference: Bound of the volume, ``(m,)``.
        count: How many to choose at most; the choice ends early when nothing adds volume.

    Returns:
        Indices of the chosen candidates, best first.
    """
    there: Points = np.asarray(front, dtype=np.float64)
    options: Points = np.asarray(candidates, dtype=np.float64)
    if len(reference) == 2:
        return _choose_2d(there, options, reference, count)
    return _choose_lazily(there, options, reference, count)


def _choose_lazily(
    front: Points, candidates: Points, reference: NDArray[np.floating], count: int
) -> list[int]:
    """Greedy choice that computes few volumes: a gain can only shrink as the front grows.

    So a candidate whose gain was just computed and still leads is the best (lazy greedy: Minoux,
    "Accelerated greedy algorithms for maximizing submodular set functions", 1978).
    """
    front = front[(front < reference).all(axis=1)]
    volume = hypervolume(front, reference)

    def gain(i: int) -> float:
        return hypervolume(np.concatenate((front, candidates[i : i + 1])), reference) - volume

    inside = np.flatnonzero((candidates < reference).all(axis=1))
    queue = [(-gain(int(i)), int(i)) for i in inside]
    heapq.heapify(queue)
    chosen: list[int] = []
    while queue and len(chosen) < count:
        _, i = heapq.heappop(queue)
        now = gain(i)
        if queue and -queue[0][0] > now:
            heapq.heappush(queue, (-now, i))
        elif now <= 1e-12 * volume:
            break
        else:
            chosen.append(i)
            front = np.concatenate((front, candidates[i : i + 1]))
            front = front[nondominated(front)]
            volume = hypervolume(front, reference)
    return chosen


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
