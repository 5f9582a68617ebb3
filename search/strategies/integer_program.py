"""Exact selection under additive surrogates: fit sums over groups of choices, solve, evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.additive import AdditiveTerms, total
from search.arrays.pareto import nondominated
from search.arrays.row_pool import all_rows
from search.engines.rounds import fit_models, start_with_initial
from search.engines.surrogates import LEAST_ROWS, cost_column, fill_round, front_neighbours
from search.history import History
from search.integer.additive_fit import AdditiveFit, design, fit_additive
from search.integer.binaries import SolverError
from search.integer.exact import Program
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, initial_rows
from search.strategy import FitPredictor, Strategy

SUMMARY = "integer programs on additive surrogates, one for each cost budget"
Rows = NDArray[np.int16]
_FREE_ROWS = 2000
# The best of neighbouring budgets are often the same; after a few of them one is enough.
_TRIES = 3
_MOST_CUT = 30
_FEW = 30_000


@dataclass(frozen=True)
class IntegerProgram:
    """For each of several cost budgets the best architecture that an additive surrogate has.

    Expensive quantities are fitted by ridge regression over groups of choices. Cheap ones use the
    sum they come with, or are fitted in the same way to free values; their true values then
    decide what is admissible. Half of the programs use weights drawn from the posterior (Thompson
    sampling), because the best of one surrogate are all alike.

    Args:
        fit: For the predictors that are reported in the end; ``None`` for none.
        initial: Size of the first sample, spread over the cheap objective.
        batch: Programs solved, and so evaluations per round.
        gap: Distance from the surrogate's best that ends a program, relative to it.
        exploration: Posterior deviations, times this, are added to every other program's weights.
    """

    has_first_sample = True
    batch_size = start_with_initial
    models = fit_models

    fit: FitPredictor | None = None
    initial: int = 50
    batch: int = 25
    gap: float = 1e-3
    exploration: float = 1.0

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if (~history.failed).sum() < LEAST_ROWS:
            return fill_round(problem, history, initial_rows(problem, count, rng), count, rng)
        fits = surrogates(problem, history, rng)
        rows = self._solutions(problem, history, fits, count, rng)
        near = front_neighbours(problem, history, rng)
        return fill_round(problem, history, np.concatenate((rows, near)), count, rng)

    def _solutions(
        self,
        problem: SearchProblem,
        history: History,
        fits: Mapping[str, AdditiveTerms | AdditiveFit],
        count: int,
        rng: Generator,
    ) -> Rows:
        """One solution for each budget, none of them evaluated or proposed before."""
        column = cost_column(problem)
        names = [o.name for o in problem.objectives]
        cost = names[column] if column is not None else None
        free = [name for name in names if name != cost]
        limits = _budgets(problem, history, column, count)
        span = np.ptp(problem.minimised(history.values[~history.failed]), axis=0)
        found: list[NDArray[np.int16]] = []
        # Of a few thousand rows the best is found sooner by looking at them all.
        pool = all_rows(problem.space, _FEW) if problem.pool is None else problem.pool
        known = list(history.positions)
        best = history.positions[_front(problem, history)][:_MOST_CUT]
        for i in rng.permutation(count):
            scale = self.exploration if i % 2 else 0.0
            now = {name: _terms(fit, rng, scale) for name, fit in fits.items()}
            shares = rng.dirichlet(np.ones(len(free))) if len(free) > 1 else np.ones(1)
            gain = total(
                [
                    now[name].scaled(-objective.sign * share / max(span[names.index(name)], 1e-12))
                    for name, share in zip(free, shares, strict=True)
                    for objective in (problem.objectives[names.index(name)],)
                ]
            )
            limited = [(now[cost], float(limits[i]))] if cost is not None else []
            limited += _constraints(problem, now)
            program = Program(problem.space, gain, tuple(t for t, _ in limited), pool, self.gap)
            try:
                row = program.best(
                    [b for _, b in limited], known, tries=_TRIES, cut=[*best, *found]
                )
            except SolverError:
                # One budget less: the round is filled up.
                continue
            if row is not None and problem.admits(row[None])[0]:
                found.append(row)
                known.append(row)
        return np.stack(found) if found else history.positions[:0]


def surrogates(
    problem: SearchProblem, history: History, rng: Generator
) -> dict[str, AdditiveTerms | AdditiveFit]:
    """Every quantity as a sum: its own where it has one, else fitted.

    Cheap quantities without a sum are fitted to 2,000 free values, expensive ones to the history.
    """
    known = [q.additive for q in problem.quantities if q.additive is not None]
    shape = design(problem.space, known)
    result: dict[str, AdditiveTerms | AdditiveFit] = {}
    for quantity in problem.quantities:
        if quantity.additive is not None:
            result[quantity.name] = quantity.additive
        elif quantity.expensive:
            values = history.values[:, problem.column(quantity.name)]
            good = np.isfinite(values)
            result[quantity.name] = fit_additive(shape, history.positions[good], values[good])
        else:
            rows = np.concatenate((history.positions, admissible_sample(problem, rng, _FREE_ROWS)))
            result[quantity.name] = fit_additive(shape, rows, quantity.evaluate(rows)).terms
    return result


def _terms(fit: AdditiveTerms | AdditiveFit, rng: Generator, scale: float) -> AdditiveTerms:
    if isinstance(fit, AdditiveTerms):
        return fit
    return fit.draw(rng, scale) if scale > 0 else fit.terms


def _budgets(
    problem: SearchProblem, history: History, column: int | None, count: int
) -> NDArray[np.float64]:
    """Cost limits from the cheapest evaluated to the dearest of the front, or to a limit on it."""
    if column is None:
        return np.zeros(count)
    values = history.values[~history.failed]
    feasible = (problem.violations(values) <= 0).all(axis=1)
    values = values[feasible] if feasible.any() else values
    high = float(values[nondominated(problem.minimised(values)), column].max())
    for constraint in problem.constraints:
        if problem.column(constraint.objective) == column and constraint.at_most is not None:
            high = min(high, constraint.limit) if feasible.any() else constraint.limit
    return np.linspace(float(values[:, column].min()), high, count)


def _front(problem: SearchProblem, history: History) -> NDArray[np.intp]:
    usable = np.flatnonzero(~history.failed)
    return usable[nondominated(problem.minimised(history.values[usable]))]


def _constraints(
    problem: SearchProblem, terms: Mapping[str, AdditiveTerms]
) -> list[tuple[AdditiveTerms, float]]:
    limits = []
    for constraint in problem.constraints:
        factor = 1.0 if constraint.at_most is not None else -1.0
        limits.append((terms[constraint.objective].scaled(factor), factor * constraint.limit))
    return limits


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` serves the reported predictors only."""
    return IntegerProgram(fit)
