"""Pareto fronts of evaluated architectures, and choosing one point from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.feasibility import InfeasibleError
from search.history import History
from search.pareto import hypervolume, nondominated
from search.problem import Constraint, SearchProblem


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


def pick(front: ParetoFront, constraints: Sequence[Constraint], *, best: str | None = None) -> int:
    """The index of the best point that meets the constraints.

    Args:
        front: Evaluated points.
        constraints: Budgets, such as ``Constraint("latency_ms", at_most=0.5)``.
        best: The objective to be best in; by default the first that is not constrained, else the
            first.

    Raises:
        ValueError: Empty front or unknown objective.
        InfeasibleError: No point meets the constraints; the nearest value is named.
    """
    if not len(front):
        raise ValueError("the front is empty: no evaluation succeeded within the limits")
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
            nearest = float(column[np.argmin(violation)])
            side = "at most" if constraint.at_most is not None else "at least"
            raise InfeasibleError(
                f"no point of the front has {constraint.objective} {side} {constraint.limit:g}; "
                f"the nearest has {nearest:.6g}",
                constraint.objective,
                nearest,
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
    # Among equals the one that is cheapest in everything else.
    ties = [*front.minimised.T[::-1], merit]
    order = [i for i in np.lexsort(ties) if within[i]]
    return int(order[0])


def knee(front: ParetoFront) -> int:
    """The index of the point farthest beyond the plane through the front's extremes.

    Objectives are scaled to the front's own range. Fronts of fewer than three points return the
    middle one, which is the only sensible compromise they offer.

    Raises:
        ValueError: The front is empty.
    """
    if not len(front):
        raise ValueError("the front is empty: no evaluation succeeded within the limits")
    values = front.minimised
    if len(front) < 3:
        return len(front) // 2
    span = values.max(0) - values.min(0)
    scaled = (values - values.min(0)) / np.where(span > 0, span, 1.0)
    # The chord between the extremes of a normalised front is the plane where coordinates sum to 1.
    return int(np.argmin(scaled.sum(1)))
