"""Pareto fronts of evaluated architectures, and choosing one point from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.arrays.pareto import hypervolume, nondominated
from search.history import History
from search.problem import Constraint, SearchProblem
from search.sampling.feasibility import InfeasibleError
from supernet.errors import InputError
from supernet.space import nearest

AUGMENTATION = 0.05


@dataclass(frozen=True)
class ParetoFront:
    """The non-dominated, feasible evaluations of a history, cheapest last objective first.

    Args:
        problem: Objectives, directions and limits.
        positions: ``(n, len(space))``.
        values: ``(n, number of quantities)`` in natural directions.
        rows: Where each point stands in the history, ``(n,)``.
    """

    problem: SearchProblem
    positions: NDArray[np.int16]
    values: NDArray[np.float64]
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def minimised(self) -> NDArray[np.float64]:
        """Objectives ``(n, m)`` with signs turned so that less is better."""
        return self.problem.minimised(self.values)

    def hypervolume(self, reference: NDArray[np.floating]) -> float:
        """Dominated volume; ``reference`` ``(m,)`` is given in the objectives' own directions."""
        return hypervolume(self.minimised, self.problem.minimised(np.asarray(reference)[None])[0])


def pareto_front(problem: SearchProblem, history: History) -> ParetoFront:
    """The front of everything evaluated; failures and points beyond a limit are left out."""
    feasible = ~history.failed & (problem.violations(history.values) <= 0).all(axis=1)
    rows = np.flatnonzero(feasible)
    rows = rows[nondominated(problem.minimised(history.values[rows]))]
    rows = rows[np.argsort(problem.minimised(history.values[rows])[:, -1], kind="stable")]
    return ParetoFront(problem, history.positions[rows], history.values[rows], rows)


def pick_within(
    front: ParetoFront, constraints: Sequence[Constraint], *, best: str | None = None
) -> int:
    """The index of the best point that meets the constraints.

    Args:
        front: Evaluated points.
        constraints: Budgets, such as ``Constraint("latency_ms", at_most=0.5)``.
        best: The objective to be best in; by default the first that is not constrained, else the
            first.

    Raises:
        InputError: Empty front or unknown objective.
        InfeasibleError: No point meets the constraints; the nearest value is named.
    """
    _require_points(front)
    problem = front.problem
    names = [objective.name for objective in problem.objectives]
    limited = {constraint.objective for constraint in constraints}
    if best is None:
        best = next((name for name in names if name not in limited), names[0])
    within = np.ones(len(front), dtype=bool)
    for constraint in constraints:
        column = front.values[:, problem.column(constraint.objective)]
        violation = constraint.violation(column)
        if (violation > 0).all():
            closest = float(column[np.argmin(violation)])
            raise InfeasibleError(
                f"no point of the front has {constraint}; the nearest has {closest:.6g}",
                constraint.objective,
                closest,
            )
        within &= violation <= 0
    if not within.any():
        first = constraints[0]
        column = front.values[:, problem.column(first.objective)]
        raise InfeasibleError(
            "no point of the front meets all constraints at once",
            first.objective,
            float(column[np.argmin(first.violation(column))]),
        )
    merit = front.values[:, problem.column(best)] * problem.quantities[problem.column(best)].sign
    return best_index(front.minimised, merit, within)


def pick_knee(front: ParetoFront) -> int:
    """The index of the point farthest beyond the plane through the front's extremes.

    Raises:
        InputError: The front is empty.
    """
    _require_points(front)
    return knee_index(front.minimised)


def pick_by_weights(front: ParetoFront, weights: Mapping[str, float]) -> int:
    """The index of the point that suits preference weights best.

    Args:
        front: Evaluated points.
        weights: How much each objective matters, at least 0; those left out matter nothing.

    Raises:
        InputError: Empty front, unknown objective, a negative weight or none above 0.
    """
    _require_points(front)
    names = [objective.name for objective in front.problem.objectives]
    return weighted_index(front.minimised, weight_vector(names, weights))


def weight_vector(names: Sequence[str], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Weights ``(m,)`` in the order of ``names``.

    Raises:
        InputError: An unknown name, a weight that is negative or not finite, or none above 0.
    """
    for name, weight in weights.items():
        if name not in names:
            raise InputError(
                f"no objective {name!r} on this front{nearest(name, names)}; it has "
                f"{', '.join(names)}"
            )
        if not (np.isfinite(weight) and weight >= 0):
            raise InputError(f"the weight {weight:g} of {name!r} is impossible; use 0 or more")
    vector = np.array([float(weights.get(name, 0.0)) for name in names])
    if not vector.any():
        raise InputError("preference weights are all zero; one at least must be above 0")
    return vector


# The choices themselves, on values to be minimised: one implementation for fronts in memory and
# for fronts read from files.


def best_index(
    points: NDArray[np.floating], merit: NDArray[np.floating], within: NDArray[np.bool_]
) -> int:
    """The row of least ``merit`` among those ``within``; of equals the cheapest otherwise.

    Args:
        points: ``(n, m)``, to be minimised; later columns break ties first.
        merit: What is to be minimised, ``(n,)``.
        within: Which rows may be chosen, ``(n,)``; at least one.

    Raises:
        InputError: No row may be chosen.
    """
    if not within.any():
        raise InputError("no point may be chosen")
    order = np.lexsort([*points.T, merit])
    return int(order[within[order]][0])


def knee_index(points: NDArray[np.floating]) -> int:
    """The row of ``(n, m)`` farthest beyond the plane through the extremes; less is better.

    Columns are scaled to their own range. Fewer than three points give the middle one, which is
    the only sensible compromise they offer.

    Raises:
        InputError: No points.
    """
    if not len(points):
        raise InputError("there is no point to choose from")
    if len(points) < 3:
        return len(points) // 2
    # The chord between the extremes of a normalised front is the plane where coordinates sum to 1.
    return int(np.argmin(_normalised(points).sum(1)))


def weighted_index(points: NDArray[np.floating], weights: NDArray[np.floating]) -> int:
    """The row of ``(n, m)`` nearest to the ideal point in the augmented Tchebycheff metric.

    ``max_i w_i z_i + rho sum_i w_i z_i`` on columns scaled to their own range, weights scaled to a
    sum of 1, ``rho`` 0.05 (Steuer and Choo 1983): every weighting finds a point that none
    dominates, hollows of the front included, which a weighted sum misses.

    Args:
        points: To be minimised.
        weights: How much each column matters, ``(m,)``, at least 0 and not all 0.

    Raises:
        InputError: No points.
    """
    if not len(points):
        raise InputError("there is no point to choose from")
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    distance = _normalised(points) * share
    score = distance.max(1) + AUGMENTATION * distance.sum(1)
    # Objectives without weight decide between equals, so that no dominated point wins.
    return int(np.lexsort([_normalised(points).sum(1), score])[0])


def _normalised(points: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(points, dtype=np.float64)
    low, span = values.min(0), values.max(0) - values.min(0)
    scaled: NDArray[np.float64] = (values - low) / np.where(span > 0, span, 1.0)
    return scaled


def _require_points(front: ParetoFront) -> None:
    if not len(front):
        raise InputError("the front is empty: no evaluation succeeded within the limits")
