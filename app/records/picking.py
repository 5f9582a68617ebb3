"""Choosing one point of a front: within a budget, at the knee or by preference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.records.front import Estimate, Front, Point, value_or
from app.records.quantities import Quantity, find_stored_quantity
from search.front import best_index, knee_index, weight_vector, weighted_index
from search.noise import Z_ONE_SIDED_95
from search.problem import Constraint

# Half the width of a 95 % interval in standard deviations.
_Z95 = 1.96


@dataclass(frozen=True)
class Pick:
    """The answer to a budget: a point within it, or the nearest feasible one outside.

    ``ties`` are the other points within it whose quality differs from the chosen one's by less
    than noise, by rising cost: nothing says that the chosen one is better than they are.
    """

    point: Point | None
    nearest: Point | None
    ties: tuple[Point, ...] = ()


def list_measured(front: Front) -> tuple[Point, ...]:
    """Verified points whose quality and cost are both known for real, by rising cost.

    A latency on a device that is not the machine of the search cannot be measured there, and the
    prediction of its table has to do.
    """
    name, found = front.cost.name, []
    remote = front.cost.device in front.unmeasured
    for point in front.points:
        quality, cost = point.estimate(front.quality.name), point.estimate(name)
        # A latency that was only looked up is no measurement, whatever else was verified.
        real = cost.value is not None and (cost.source != "table" or remote)
        if point.verified and quality.value is not None and real:
            found.append(point)
    return tuple(
        sorted(found, key=lambda p: (value_or(math.inf, p.estimate(name).value), p.digest))
    )


def pick(front: Front, budget: float) -> Pick:
    """The best verified point whose measured cost is at most ``budget`` (stored unit).

    Equal quality goes to the cheaper point. When nothing fits, ``nearest`` is the cheapest
    verified point; both are ``None`` when nothing was verified.
    """
    return pick_within(front, [Constraint(front.cost.name, at_most=budget)])


def pick_within(front: Front, constraints: Sequence[Constraint]) -> Pick:
    """The best verified point within limits on any quantities that points carry.

    Best in the quality; where the quality itself is limited, in the cost. Equal ones go to the
    cheaper point; ``nearest`` is the point that violates the limits least.

    Args:
        front: What a search found.
        constraints: Limits, in stored units.
    """
    points = list_measured(front)
    if not points:
        return Pick(None, None)
    limited = {constraint.objective for constraint in constraints}
    wanted = (front.quality, front.cost, *front.objectives)
    best = next((o for o in wanted if o.name not in limited), front.quality)
    violations = [
        c.violation(np.array([value_or(math.nan, p.estimate(c.objective).value) for p in points]))
        for c in constraints
    ]
    excess = np.max(violations, axis=0) if violations else np.zeros(len(points))
    within = excess <= 0
    if not within.any():
        return Pick(None, points[int(np.argmin(excess))])
    merit = orient_values(points, [best])[:, 0]
    chosen = points[best_index(orient_values(points, [front.quality, front.cost]), merit, within)]
    others = [p for p, fits in zip(points, within, strict=True) if fits and p is not chosen]
    ties = tuple(p for p in others if not differ_beyond_noise(chosen, p, best.name))
    return Pick(chosen, None, ties)


def differ_beyond_noise(first: Point, second: Point, name: str) -> bool:
    """Whether two points differ in an objective by more than the noise of their evaluations."""
    one, other = first.estimate(name), second.estimate(name)
    if one.value is None or other.value is None:
        return True
    quantity = find_stored_quantity(name)
    spread = math.hypot(_deviation(one, quantity), _deviation(other, quantity))
    return abs(one.value - other.value) > Z_ONE_SIDED_95 * spread if spread > 0 else True


def pick_knee(front: Front) -> Point | None:
    """The verified front point farthest beyond the plane through the ends of the front.

    ``None`` when nothing was verified.
    """
    points = [p for p in list_measured(front) if p.on_front]
    return points[knee_index(orient_values(points, front.objectives))] if points else None


def pick_by_weights(front: Front, weights: Mapping[str, float]) -> Point | None:
    """The verified front point that suits preference weights best; ``None`` without any.

    Raises:
        ValueError: An unknown objective, a negative weight or none above 0.
    """
    vector = weight_vector([o.name for o in front.objectives], weights)
    points = [p for p in list_measured(front) if p.on_front]
    return (
        points[weighted_index(orient_values(points, front.objectives), vector)] if points else None
    )


def orient_values(points: Sequence[Point], objectives: Sequence[Quantity]) -> NDArray[np.float64]:
    """Values ``(n, m)`` with signs turned so that less is better."""
    return np.array(
        [[(p.best(o.name) or 0.0) * (-1 if o.maximize else 1) for o in objectives] for p in points]
    )


def _deviation(estimate: Estimate, quantity: Quantity) -> float:
    low, high, value = estimate.low, estimate.high, estimate.value
    if low is None or high is None:
        return 0.0
    if value is not None and low <= quantity.least and math.isinf(quantity.most):
        # The lower end was cut off where the scale ends; the other one was as far away.
        return (high - value) / _Z95
    return (high - low) / (2 * _Z95)
