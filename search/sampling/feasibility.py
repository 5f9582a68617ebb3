"""Can the constraints be met at all, and if not, what is the nearest that can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from search.arrays.neighbourhood import neighbourhood
from search.problem import Constraint, SearchProblem
from supernet.errors import InputError

_STARTS = 6
_DRAWS = 512
# Seeds the descent below; a fixed number so that the answer is a property of the problem.
_SEED = 20260


class InfeasibleError(InputError):
    """No architecture meets a constraint; ``nearest`` is the closest value there is."""

    def __init__(self, message: str, objective: str, nearest: float) -> None:
        super().__init__(message)
        self.objective = objective
        self.nearest = nearest


def check_feasible(
    problem: SearchProblem, *, exact_best: Mapping[str, Callable[[], float]] | None = None
) -> NDArray[np.int16] | None:
    """Make sure that the constraints on cheap quantities can be met, before anything is spent.

    Args:
        problem: The problem to check; constraints on expensive quantities are not looked at.
        exact_best: For a constrained quantity, a function giving the true minimum (maximum for
            ``at_least``) over the space, such as the exact minimum of an additive table.

    Returns:
        An architecture meeting them all, ``(len(space),)``; ``None`` without such constraints.

    Raises:
        InfeasibleError: A constraint cannot be met; the message names the nearest feasible value.
    """
    expensive = {quantity.name for quantity in problem.expensive}
    constraints = [c for c in problem.constraints if c.objective not in expensive]
    if not constraints:
        return None
    for constraint in constraints:
        known = (exact_best or {}).get(constraint.objective)
        if known is not None:
            _require(problem, constraint, float(known()))
    row, violations = least_violation(problem)
    if (violations <= 0).all():
        return row
    for constraint in constraints:
        # One at a time tells a limit that nothing meets from limits that exclude each other.
        alone = replace(problem, constraints=(constraint,))
        nearest, _ = least_violation(alone)
        value = problem.cheap_values(nearest[None])[0, problem.column(constraint.objective)]
        _require(problem, constraint, float(value))
    constraint = constraints[int(np.argmax(violations))]
    value = float(problem.cheap_values(row[None])[0, problem.column(constraint.objective)])
    raise InfeasibleError(
        f"no architecture meets all constraints at once; the closest one has "
        f"{_text(problem, constraint.objective, value)}, limit {constraint.limit:g}",
        constraint.objective,
        value,
    )


def least_violation(problem: SearchProblem) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """The row with the smallest worst violation of the cheap constraints, and its violations.

    Descent over one-choice changes from the smallest, the largest and the best of random
    architectures. Exact when each choice's effect does not depend on the others; otherwise the
    best that several starts found.
    """
    space = problem.space

    def violations(rows: NDArray[np.int16]) -> NDArray[np.float64]:
        return problem.violations(problem.cheap_values(rows), cheap_only=True)

    if problem.pool is not None:
        excess = violations(problem.pool)
        least = int(np.argmin(excess.max(1)))
        return problem.pool[least], excess[least]
    corners = space.encode([space.smallest, space.largest])
    starts = np.concatenate((corners, space.sample(np.random.default_rng(_SEED), _DRAWS)))
    scores = violations(starts).max(1)
    starts = starts[np.argsort(scores, kind="stable")[:_STARTS]]
    found = [_descend(problem, start, violations) for start in starts]
    best = min(found, key=lambda row: float(violations(row[None]).max()))
    return best, violations(best[None])[0]


def _descend(
    problem: SearchProblem,
    row: NDArray[np.int16],
    violations: Callable[[NDArray[np.int16]], NDArray[np.float64]],
) -> NDArray[np.int16]:
    score = float(violations(row[None]).max())
    while score > 0:
        around = neighbourhood(problem.space, row[None])
        scores = violations(around).max(1) if len(around) else np.array([np.inf])
        best = int(np.argmin(scores))
        if scores[best] >= score:
            break
        row, score = around[best], float(scores[best])
    return row


def _require(problem: SearchProblem, constraint: Constraint, best: float) -> None:
    if constraint.violation(np.array([best]))[0] <= 0:
        return
    nearest = _text(problem, constraint.objective, best)
    raise InfeasibleError(
        f"no architecture has {constraint}; the nearest feasible value is {nearest}",
        constraint.objective,
        best,
    )


def _text(problem: SearchProblem, name: str, value: float) -> str:
    return f"{name} {value:.6g} {problem.quantities[problem.column(name)].unit}"
