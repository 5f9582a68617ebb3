"""BigNAS's coarse-to-fine selection: a grid over the whole network, then small local changes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.arrays.pareto import best_first
from search.engines.rounds import keep_batch
from search.engines.surrogates import cost_column, fill_round, front_neighbours, relative_size
from search.history import History
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy, predict_nothing
from supernet.space import SearchSpace

SUMMARY = "coarse grid over kinds of choices, then local changes per cost bin (Yu et al. 2020)"
Rows = NDArray[np.int16]
_MOST_LEVELS = 5
_DRAWS = 8


@dataclass(frozen=True)
class CoarseToFine:
    """Coarse-to-fine architecture selection of BigNAS (Yu et al. 2020, section 3.3).

    All choices of a kind move together in the coarse phase; its best architecture of a cost bin is
    the skeleton whose choices are then moved one step, a few at a time. No predictor is needed.

    Args:
        coarse: Most evaluations of the grid; it has as many levels for each kind, up to five, as
            fit, and always the smallest, the middle and the largest network.
        bins: Cost bins, spaced logarithmically.
        batch: Evaluations of a round.
        rate: Probability that a choice of the skeleton moves a step up or down.
    """

    has_first_sample = True
    batch_size = keep_batch
    models = predict_nothing

    coarse: int = 60
    bins: int = 12
    batch: int = 48
    rate: float = 0.1

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        grid = problem.project(coarse_grid(problem.space, self.coarse))
        grid = history.new(grid[problem.admits(grid)])[:count]
        if len(grid) == count or history.failed.all():
            return fill_round(problem, history, grid, count, rng)
        known = history.append(grid, np.full((len(grid), len(problem.quantities)), np.nan), _LAST)
        fine = self.fine(problem, known, count - len(grid), rng)
        if len(fine) < count - len(grid):
            # What is one step from the front comes before anything random.
            fine = np.concatenate((fine, front_neighbours(problem, known, rng)))
        return fill_round(problem, history, np.concatenate((grid, fine)), count, rng)

    def fine(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """New rows near the best of every bin, within the bin where costs are known beforehand."""
        rows = np.flatnonzero(~history.failed)
        column = cost_column(problem)
        values = history.values[rows]
        exact = column is None or not problem.quantities[column].expensive
        if column is None:
            cost = relative_size(problem, history.positions[rows])
        else:
            cost = values[:, column]
        edges = bin_edges(cost, self.bins)
        where = np.digitize(cost, edges)
        best = _best_of_bins(problem, values, column, where)
        found: list[Rows] = []
        share = -(-count // len(best))
        for number, member in best.items():
            skeleton = history.positions[rows[member]]
            near = _moved(problem.space, np.tile(skeleton, (_DRAWS * share, 1)), self.rate, rng)
            near = problem.project(near)
            near = history.new(near[problem.admits(near)])
            if exact and len(near):
                new_cost = (
                    relative_size(problem, near)
                    if column is None
                    else problem.quantities[column].evaluate(near)
                )
                near = near[np.digitize(new_cost, edges) == number]
            found.append(near[:share])
        order = [
            near[i] for i in range(share) for near in found if i < len(near)
        ]  # one of every bin before the second of any
        return unique_rows(np.stack(order))[:count] if order else history.positions[:0]


_LAST = 2**62


def coarse_grid(space: SearchSpace, most: int) -> Rows:
    """Rows in which all choices of a kind stand at the same relative level, at most ``most``.

    The corners and the middle come first. Where even two levels for each kind are too many, the
    grid is thinned evenly.
    """
    kinds = list(dict.fromkeys(choice.kind for choice in space.choices))
    most_of = {
        kind: max(len(choice.values) for choice in space.choices if choice.kind == kind)
        for kind in kinds
    }
    levels = dict.fromkeys(kinds, 1)
    # One more level for the kind that has the fewest, as long as the grid stays within bounds.
    while True:
        more = [k for k in kinds if levels[k] < min(most_of[k], _MOST_LEVELS)]
        fits = [k for k in more if prod(levels.values()) // levels[k] * (levels[k] + 1) <= most]
        if not fits:
            break
        levels[min(fits, key=lambda k: levels[k])] += 1
    steps = [np.linspace(0, 1, levels[k]) if levels[k] > 1 else np.array([0.5]) for k in kinds]
    ends = [tuple(np.full(len(kinds), share)) for share in (0.0, 0.5, 1.0)]
    shares = np.array([*ends, *product(*steps)])
    kind_of = np.array([kinds.index(choice.kind) for choice in space.choices])
    rows = np.rint(shares[:, kind_of] * (space.cardinalities - 1)).astype(np.int16)
    return unique_rows(space.canonical(rows))


def bin_edges(cost: NDArray[np.floating], bins: int) -> NDArray[np.float64]:
    """Inner edges ``(bins - 1,)`` between logarithmic bins; linear where costs reach 0."""
    low, high = float(np.min(cost)), float(np.max(cost))
    if low > 0:
        return np.geomspace(low, high, bins + 1)[1:-1]
    return np.linspace(low, high, bins + 1)[1:-1]


def _best_of_bins(
    problem: SearchProblem,
    values: NDArray[np.float64],
    column: int | None,
    where: NDArray[np.intp],
) -> dict[int, int]:
    """For each bin that is not empty the row that is best in everything but the cost.

    Bins without a row within the limits are left out, as long as there are others: small steps
    from there seldom lead within.
    """
    others = [i for i in range(len(problem.objectives)) if i != column]
    points = problem.minimised(values)[:, others]
    violations = problem.violations(values)
    within = (violations <= 0).all(axis=1)
    best = {}
    for number in np.unique(where[within] if within.any() else where):
        members = np.flatnonzero(where == number)
        first = best_first(points[members], violations[members], 1)
        best[int(number)] = int(members[first[0]])
    return best


def _moved(space: SearchSpace, rows: Rows, rate: float, rng: Generator) -> NDArray[np.int16]:
    """Rows with choices moved one step up or down at a rate, and at least one of them."""
    change = rng.random(rows.shape) < rate
    forced = rng.integers(rows.shape[1], size=len(rows))
    change[np.arange(len(rows)), forced] = True
    step = np.where(rng.random(rows.shape) < 0.5, -1, 1)
    moved = np.clip(rows + change * step, 0, space.cardinalities - 1)
    return space.canonical(moved.astype(np.int16))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return CoarseToFine()
