"""Fronts as values: their points and objectives, and the choice of one point within a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.records.quantities import Quantity, counted_quantities, stored_quantity
from search.front import best_index, knee_index, weight_vector, weighted_index
from search.noise import Z95 as Z_ONE_SIDED
from search.problem import Constraint
from supernet.space import Value

# Half the width of a 95 % interval in standard deviations.
_Z95 = 1.96


@dataclass(frozen=True)
class Estimate:
    """One objective of one point, in the objective's stored unit; ``None`` is "not known".

    ``value`` is what was evaluated or measured (or, with source ``table``, looked up); ``test``
    is the same on the test split, which no search has seen.
    """

    predicted: float | None
    value: float | None
    source: str
    low: float | None
    high: float | None
    test: float | None

    @property
    def best(self) -> float | None:
        """The value, or the prediction while there is no value."""
        return self.predicted if self.value is None else self.value

    def interval_around(self, centre: float | None) -> tuple[float, float] | None:
        """Lengths of the error bar below and above ``centre`` if the interval contains it."""
        if centre is None or self.low is None or self.high is None:
            return None
        return (centre - self.low, self.high - centre) if self.low <= centre <= self.high else None


@dataclass(frozen=True)
class Point:
    """One architecture of a search with everything known about it."""

    digest: str
    choices: Mapping[str, Value]
    on_front: bool
    verified: bool
    estimates: Mapping[str, Estimate]
    breakdown: tuple[tuple[str, float], ...]
    indistinguishable: bool = False

    def estimate(self, name: str) -> Estimate:
        """The estimate of an objective or count; all ``None`` when the file has none."""
        return self.estimates.get(name, Estimate(None, None, "", None, None, None))

    def best(self, name: str) -> float | None:
        """The value of an objective or count, else its prediction, else ``None``."""
        return self.estimate(name).best


@dataclass(frozen=True)
class Hypervolume:
    """Hypervolume of the front found after so many evaluations, and of random search's."""

    evaluations: int
    value: float | None
    baseline: float | None = None


@dataclass(frozen=True)
class Front:
    """What one search found; points on the front and the evaluated ones behind it."""

    search: str
    device: str
    strategy: str
    seed: int | None
    evaluations: int | None
    space_digest: str
    objectives: tuple[Quantity, ...]
    limits: Mapping[str, float]
    points: tuple[Point, ...]
    hypervolume: Mapping[str, float]
    reports: Mapping[str, Mapping[str, Any]]
    latency_method: str
    unmeasured: tuple[str, ...] = ()
    failed: int = 0
    stopped: str = ""

    @property
    def quality(self) -> Quantity:
        """What a budget is spent on: the first objective that is not a cost, or among costs only
        the first that is no latency."""
        gained = [o for o in self.objectives if o.is_quality]
        costs = [o for o in self.objectives if not o.per_device]
        return (gained or costs or list(self.objectives))[0]

    @property
    def cost(self) -> Quantity:
        """What a budget limits: the latency (of the first device), searched for or not, or else
        the next objective."""
        others = [o for o in self.axes if o.name != self.quality.name]
        latencies = [o for o in others if o.per_device]
        found = next((o for o in latencies if o.device in ("", self.device)), None)
        return found or (latencies or others or [self.quality])[0]

    @property
    def axes(self) -> tuple[Quantity, ...]:
        """Everything a point can be placed by: the objectives, then what else is known."""
        named = {o.name for o in self.objectives}
        carried = dict.fromkeys(name for p in self.points for name in p.estimates)
        found = (stored_quantity(name) for name in carried)
        extras = [*(q for q in found if q.per_device), *counted_quantities()]
        known = [
            q
            for q in extras
            if q.name not in named and any(p.best(q.name) is not None for p in self.points)
        ]
        return (*self.objectives, *known)

    def named(self, name: str) -> Quantity:
        """The axis called ``name``; a plain one without a unit when the front has none."""
        plain = stored_quantity(name, "", "maximize")
        return next((o for o in self.axes if o.name == name), plain)

    def point(self, digest: str) -> Point:
        """The point of an architecture; KeyError when the front does not hold it."""
        found = next((p for p in self.points if p.digest == digest), None)
        if found is None:
            raise KeyError(f"no architecture {digest} among the points of search {self.search}")
        return found

    def on_front(self) -> tuple[Point, ...]:
        """Front points by rising cost (those of unknown cost last)."""
        members = [p for p in self.points if p.on_front]
        return tuple(sorted(members, key=lambda p: _or_infinity(p.best(self.cost.name))))


@dataclass(frozen=True)
class Pick:
    """The answer to a budget: a point within it, or the nearest feasible one outside.

    ``ties`` are the other points within it whose quality differs from the chosen one's by less
    than noise, by rising cost: nothing says that the chosen one is better than they are.
    """

    point: Point | None
    nearest: Point | None
    ties: tuple[Point, ...] = ()


def measured(front: Front) -> tuple[Point, ...]:
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
    return tuple(sorted(found, key=lambda p: (_or_infinity(p.estimate(name).value), p.digest)))


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
        constraints: In stored units.
    """
    points = measured(front)
    if not points:
        return Pick(None, None)
    limited = {constraint.objective for constraint in constraints}
    wanted = (front.quality, front.cost, *front.objectives)
    best = next((o for o in wanted if o.name not in limited), front.quality)
    violations = [
        c.violation(np.array([_or_nan(p.estimate(c.objective).value) for p in points]))
        for c in constraints
    ]
    excess = np.max(violations, axis=0) if violations else np.zeros(len(points))
    within = excess <= 0
    if not within.any():
        return Pick(None, points[int(np.argmin(excess))])
    merit = minimised(points, [best])[:, 0]
    chosen = points[best_index(minimised(points, [front.quality, front.cost]), merit, within)]
    others = [p for p, fits in zip(points, within, strict=True) if fits and p is not chosen]
    ties = tuple(p for p in others if not told_apart(chosen, p, best.name))
    return Pick(chosen, None, ties)


def told_apart(first: Point, second: Point, name: str) -> bool:
    """Whether two points differ in an objective by more than the noise of their evaluations."""
    one, other = first.estimate(name), second.estimate(name)
    if one.value is None or other.value is None:
        return True
    spread = math.hypot(_deviation(one), _deviation(other))
    return abs(one.value - other.value) > Z_ONE_SIDED * spread if spread > 0 else True


def knee(front: Front) -> Point | None:
    """The verified front point farthest beyond the plane through the ends of the front.

    ``None`` when nothing was verified.
    """
    points = [p for p in measured(front) if p.on_front]
    return points[knee_index(minimised(points, front.objectives))] if points else None


def by_weights(front: Front, weights: Mapping[str, float]) -> Point | None:
    """The verified front point that suits preference weights best; ``None`` without any.

    Raises:
        ValueError: An unknown objective, a negative weight or none above 0.
    """
    vector = weight_vector([o.name for o in front.objectives], weights)
    points = [p for p in measured(front) if p.on_front]
    return points[weighted_index(minimised(points, front.objectives), vector)] if points else None


def minimised(points: Sequence[Point], objectives: Sequence[Quantity]) -> NDArray[np.float64]:
    """Values ``(n, m)`` with signs turned so that less is better."""
    return np.array(
        [[(p.best(o.name) or 0.0) * (-1 if o.maximize else 1) for o in objectives] for p in points]
    )


def _deviation(estimate: Estimate) -> float:
    if estimate.low is None or estimate.high is None:
        return 0.0
    return (estimate.high - estimate.low) / (2 * _Z95)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value
