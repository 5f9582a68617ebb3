"""Choosing one point of a front: within a budget, at the knee or by preference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.records.columns.front_columns import Column
from app.records.quantities import Quantity
from app.records.searches.front import Front, Point
from search.front import best_index, knee_index, weight_vector, weighted_index
from search.problem import Constraint

# Half the width of a 95 % interval in standard deviations.
_Z95 = 1.96
# Two points cannot be told apart where the lesser one is the better one with a probability of a
# third or more, by the quantile of the normal distribution. At a quarter, what is recommended cost
# 9 % less than the best and lost half of what posteriors gain (benchmarks/winners_curse.py).
Z_ALIKE = 0.431


@dataclass(frozen=True)
class Pick:
    """The answer to a budget: a point within it, or the nearest feasible one outside.

    Args:
        point: The recommended one: the cheapest of those that cannot be told apart from ``best``.
        best: The one of the best expected quality within the budget.
        ties: The others that cannot be told apart from it, by rising cost.
        nearest: The point nearest to the budget where none is within it.
        best_by: Name of the quantity that ``best`` is best in: the quality, or where that is
            limited, a cost.
    """

    point: Point | None
    nearest: Point | None
    best: Point | None = None
    ties: tuple[Point, ...] = ()
    best_by: str = ""


def list_measured(front: Front) -> tuple[Point, ...]:
    """Verified points whose quality and cost are both known for real, by rising cost.

    A latency on a device that is not the machine of the search cannot be measured there, and the
    prediction of its table has to do.
    """
    return tuple(front.points[i] for i in front.measured)


def pick(front: Front, budget: float) -> Pick:
    """Recommend a verified point whose measured cost is at most ``budget`` (stored unit).

    See :func:`pick_within`. When nothing fits, ``nearest`` is the cheapest
    verified point; both are ``None`` when nothing was verified.
    """
    return pick_within(front, [Constraint(front.cost.name, at_most=budget)])


def pick_within(front: Front, constraints: Sequence[Constraint]) -> Pick:
    """Recommend a verified point within limits on any quantities that points carry.

    The best one has the best expected quality; where the quality itself is limited, the least
    cost. Of those that cannot be told apart from it the cheapest is recommended: nothing says that
    the others are worth more. ``nearest`` is the point that violates the limits least.

    Args:
        front: What a search found.
        constraints: Limits, in stored units.
    """
    places = front.measured
    if not len(places):
        return Pick(None, None)
    limited = {constraint.objective for constraint in constraints}
    wanted = (front.quality, front.cost, *front.objectives)
    best = next((o for o in wanted if o.name not in limited), front.quality)
    violations = [c.violation(front.column(c.objective).best[places]) for c in constraints]
    excess = np.max(violations, axis=0) if violations else np.zeros(len(places))
    within = excess <= 0
    if not within.any():
        return Pick(None, front.points[places[np.argmin(excess)]])
    merit = _orient_values(front, places, [best])[:, 0]
    chosen = best_index(_orient_values(front, places, [front.quality, front.cost]), merit, within)
    alike = within & ~_differ_beyond_noise(front.column(best.name), best, places, places[chosen])
    alike[chosen] = True
    # By rising cost, which is their order.
    first, *others = np.flatnonzero(alike)
    ties = tuple(front.points[places[i]] for i in others)
    return Pick(front.points[places[first]], None, front.points[places[chosen]], ties, best.name)


def pick_knee(front: Front) -> Point | None:
    """The verified front point farthest beyond the plane through the ends of the front.

    ``None`` when nothing was verified.
    """
    places = _list_verified_front(front)
    if not len(places):
        return None
    return front.points[places[knee_index(_orient_values(front, places, front.objectives))]]


def pick_by_weights(front: Front, weights: Mapping[str, float]) -> Point | None:
    """The verified front point that suits preference weights best; ``None`` without any.

    Raises:
        InputError: An unknown objective, a negative weight or none above 0.
    """
    vector = weight_vector([o.name for o in front.objectives], weights)
    places = _list_verified_front(front)
    if not len(places):
        return None
    values = _orient_values(front, places, front.objectives)
    return front.points[places[weighted_index(values, vector)]]


def _list_verified_front(front: Front) -> NDArray[np.intp]:
    """Places of the measured points on the front, by rising cost, ``(k,)``."""
    return front.measured[front.on_front[front.measured]]


def _orient_values(
    front: Front, places: NDArray[np.intp], objectives: Sequence[Quantity]
) -> NDArray[np.float64]:
    """Values ``(k, m)`` with signs turned so that less is better; 0 for unknown ones."""
    columns = [
        np.nan_to_num(front.column(o.name).best[places]) * (-1 if o.maximize else 1)
        for o in objectives
    ]
    return np.stack(columns, axis=1)


def _differ_beyond_noise(
    column: Column, quantity: Quantity, places: NDArray[np.intp], chosen: np.intp
) -> NDArray[np.bool_]:
    """Which points differ from the chosen one by more than the noise of their evaluations."""
    half = (column.high - column.low) / 2
    if math.isinf(quantity.most):
        # A lower end that was cut off where the scale ends lay as far away as the other one.
        half = np.where(column.low <= quantity.least, column.high - column.best, half)
    # Of a value alone nothing says how much of its error other values share.
    known = ~np.isnan(column.error)
    deviation = np.where(known, column.error, np.nan_to_num(half / _Z95))
    spread = np.hypot(deviation[places], deviation[chosen])
    gap = np.abs(column.best[places] - column.best[chosen])
    # Without noise, and where a value is unknown, nothing says that two points are alike.
    return ~((spread > 0) & (gap <= Z_ALIKE * spread))
