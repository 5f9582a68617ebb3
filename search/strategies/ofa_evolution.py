"""Once-for-All's search: label a random sample, fit a predictor, evolve within each cost budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.pareto import nondominated
from search.engines.rounds import fit_models
from search.engines.surrogates import (
    LEAST_ROWS,
    cost_column,
    fill_round,
    predict_values,
    relative_size,
)
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, fresh_rows
from search.strategy import FitPredictor, Model, Strategy, require_fit

SUMMARY = "random sample, predictor, then evolution within each cost budget (Cai et al. 2020)"
Rows = NDArray[np.int16]
Values = NDArray[np.float64]
_SHRINKS = 6


@dataclass(frozen=True)
class OfaEvolution:
    """EvolutionFinder of Once-for-All (Cai et al. 2020), for many budgets at once.

    The budgets evolve side by side as one array. What breaks its budget is mixed with its parent,
    which does not, instead of being drawn again without end.

    Args:
        fit: Fits a predictor to one expensive quantity.
        sample: Random architectures labelled first: most of the evaluations.
        budgets: Cost budgets, and so winners per round once the sample is labelled. Later rounds
            fit the predictor to earlier winners as well.
        population: Population of one budget; the published one.
        parents: Share of the population that is kept and bred from; as published.
        mutants: Share of the children made by mutation, the rest by crossover; as published.
        mutation: Probability that a choice of a mutant changes; as published.
        generations: Of one evolution. Published are 500; predicted scores settle long before.
    """

    has_first_sample = True
    models = fit_models

    fit: FitPredictor
    sample: int = 200
    budgets: int = 50
    population: int = 100
    parents: float = 0.25
    mutants: float = 0.5
    mutation: float = 0.1
    generations: int = 50

    def batch_size(self, evaluated: int) -> int:
        """What is left of the sample, then one winner per budget."""
        return self.sample - evaluated if evaluated < self.sample else self.budgets

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if len(history) < self.sample or (~history.failed).sum() < LEAST_ROWS:
            return fresh_rows(problem, history, count, rng)
        models = self.models(problem, history, int(rng.integers(2**31)))
        task = budgeted(problem, models, history, count, rng)
        return fill_round(problem, history, _winners(self.evolve(task, rng), history), count, rng)

    def evolve(self, task: Budgeted, rng: Generator) -> Rows:
        """One evolution for each budget; populations ``(k, population, d)``, best first."""
        space = task.problem.space
        if task.problem.pool is not None:
            # A pool is ranked as it is: evolution would spend more predictions than it has rows.
            pool = task.problem.pool
            order = np.argsort(task.merit_of_all(pool), axis=1, kind="stable")
            return pool[order[:, : self.population]]
        rows = self._first(task, rng)
        group, keep = len(rows), max(round(self.population * self.parents), 1)
        mutants = round(self.population * self.mutants)
        merit = task.merit(rows)
        for _ in range(self.generations):
            order = np.argsort(merit, axis=1, kind="stable")[:, :keep]
            elite = np.take_along_axis(rows, order[..., None], axis=1)
            picks = rng.integers(keep, size=(2, group, self.population))
            mother, father = (np.take_along_axis(elite, p[..., None], axis=1) for p in picks)
            first, second = mother[:, :mutants], mother[:, mutants:]
            mutated = space.mutate(first.reshape(-1, len(space)), rng, self.mutation)
            crossed = space.crossover(
                second.reshape(-1, len(space)),
                father[:, mutants:].reshape(-1, len(space)),
                rng,
            )
            children = np.concatenate(
                (mutated.reshape(first.shape), crossed.reshape(second.shape)), axis=1
            )
            children = task.within(children, mother, rng)
            rows = np.concatenate((elite, children), axis=1)
            kept = np.take_along_axis(merit, order, axis=1)
            merit = np.concatenate((kept, task.merit(children)), axis=1)
            merit[_repeated(rows)] = np.inf
        order = np.argsort(merit, axis=1, kind="stable")[:, : self.population]
        return np.take_along_axis(rows, order[..., None], axis=1)

    def _first(self, task: Budgeted, rng: Generator) -> Rows:
        """Random rows, shrunk towards the cheapest one known until each budget holds."""
        drawn = admissible_sample(task.problem, rng, 40 * self.population)
        cost = task.cost(drawn)
        order = np.argsort(cost, kind="stable")
        # Random rows just below a budget are a better start than any that fit.
        end = np.maximum(np.searchsorted(cost[order], task.limits, side="right"), 1)
        start = np.maximum(end - 4 * self.population, 0)
        draws = rng.random((len(end), self.population)) * (end - start)[:, None]
        rows = drawn[order[start[:, None] + draws.astype(np.intp)]]
        anchor = np.broadcast_to(drawn[order[0]], rows.shape)
        return task.within(rows, anchor, rng)


@dataclass(frozen=True)
class Budgeted:
    """What one round optimises: weighted predicted objectives below each of several cost limits.

    Args:
        problem: The problem.
        models: Predictors of its expensive quantities.
        column: Of the cost in value arrays; ``None`` where the size of the network stands for it.
        limits: Cost limits, ascending, ``(k,)``.
        weights: Weights of the objectives, for each limit, ``(k, m)``; 0 for the cost.
        low: What counts as 0 of each objective to be minimised, ``(m,)``.
        span: And what above it as 1, ``(m,)``.
    """

    problem: SearchProblem
    models: Mapping[str, Model]
    column: int | None
    limits: Values
    weights: Values
    low: Values
    span: Values

    @property
    def certain(self) -> bool:
        """Whether costs are exact, so that limits may exclude."""
        return self.column is None or not self.problem.quantities[self.column].expensive

    def cost(self, rows: Rows, values: Values | None = None) -> Values:
        """Costs ``(n,)``, of predicted values where they are there already."""
        if self.column is None:
            return relative_size(self.problem, rows)
        if values is None:
            if self.certain:
                return self.problem.quantities[self.column].evaluate(rows)
            values = predict_values(self.problem, self.models, rows)
        return values[:, self.column]

    def merit(self, rows: Rows) -> Values:
        """What is minimised, of populations ``(k, n, d)``: excess, far above any objective."""
        flat = rows.reshape(-1, rows.shape[2])
        scaled, cost, excess = self._judged(flat)
        value = (scaled.reshape(*rows.shape[:2], -1) * self.weights[:, None]).sum(2)
        return value + self._penalty(cost.reshape(value.shape), excess.reshape(value.shape))

    def merit_of_all(self, rows: Rows) -> Values:
        """The same ``(k, n)`` when every limit looks at the same rows ``(n, d)``."""
        scaled, cost, excess = self._judged(rows)
        return self.weights @ scaled.T + self._penalty(cost[None], excess[None])

    def within(self, rows: Rows, anchors: Rows, rng: Generator) -> Rows:
        """Populations ``(k, n, d)``; rows over their limit mixed with anchors that are below it."""
        if not self.certain:
            return rows
        flat = rows.reshape(-1, rows.shape[2])
        limits = np.repeat(self.limits, rows.shape[1])
        back = anchors.reshape(flat.shape)
        result = flat.copy()
        left = np.arange(len(flat))
        for share in np.linspace(0.0, 1.0, _SHRINKS):
            mixed = np.where(rng.random((len(left), flat.shape[1])) < share, back[left], flat[left])
            mixed = self.problem.space.canonical(mixed)
            result[left] = mixed
            bad = (self.cost(mixed) > limits[left]) | ~self.problem.admits(mixed)
            left = left[bad]
            if not len(left):
                break
        return result.reshape(rows.shape)

    def _judged(self, rows: Rows) -> tuple[Values, Values, Values]:
        values = predict_values(self.problem, self.models, rows)
        scaled = (self.problem.minimised(values) - self.low) / self.span
        excess = np.maximum(self.problem.violations(values), 0).sum(1)
        return scaled, self.cost(rows, values), excess

    def _penalty(self, cost: Values, excess: Values) -> Values:
        scale = max(float(np.ptp(self.limits)), abs(float(self.limits[-1])) * 1e-3, 1e-12)
        over = np.maximum(cost - self.limits[:, None], 0) / scale
        result: Values = 1e3 * (over + excess) + 10.0 * (over + excess > 0)
        return result


def budgeted(
    problem: SearchProblem,
    models: Mapping[str, Model],
    history: History,
    count: int,
    rng: Generator,
) -> Budgeted:
    """Cost limits spread evenly up to the dearest point worth having, or to a limit on the cost.

    The cost is the first cheap objective to be minimised, else the last predicted one, else the
    size of the network. Several other objectives are weighted at random, anew for each limit.
    """
    column = cost_column(problem)
    known = history.positions[~history.failed]
    values = history.values[~history.failed]
    feasible = (problem.violations(values) <= 0).all(axis=1)
    if feasible.any():
        known, values = known[feasible], values[feasible]
    objectives = problem.minimised(values)
    span = np.ptp(objectives, axis=0)
    cost = relative_size(problem, known) if column is None else values[:, column]
    high = float(cost[nondominated(objectives)].max())
    for constraint in problem.constraints:
        if column == problem.column(constraint.objective) and constraint.at_most is not None:
            high = constraint.limit
    free = [i for i in range(len(problem.objectives)) if i != column]
    weights = np.zeros((count, len(problem.objectives)))
    weights[:, free] = rng.dirichlet(np.ones(len(free)), size=count)
    return Budgeted(
        problem=problem,
        models=models,
        column=column,
        limits=np.linspace(float(cost.min()), high, count),
        weights=weights,
        low=objectives.min(0),
        span=np.where(span > 0, span, 1.0),
    )


def _winners(populations: Rows, history: History) -> Rows:
    """The best new row of each population, then the second best of each, and so on."""
    by_place = populations.transpose(1, 0, 2).reshape(-1, populations.shape[2])
    return history.new(by_place)


def _repeated(rows: Rows) -> NDArray[np.bool_]:
    """Which rows of each population ``(k, n, d)`` have an equal one before them, ``(k, n)``."""
    group, size, width = rows.shape
    # Sums of random 64-bit factors tell rows apart as surely as the rows do, and sort far faster.
    factors = np.random.default_rng(width).integers(-(2**62), 2**62, size=width + 1)
    keys = rows.astype(np.int64) @ factors[:width] + np.arange(group)[:, None] * factors[width]
    _, first = np.unique(keys.reshape(-1), return_index=True)
    repeated = np.ones(group * size, dtype=bool)
    repeated[first] = False
    return repeated.reshape(group, size)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults.

    Raises:
        InputError: No ``fit``.
    """
    return OfaEvolution(require_fit(fit, "ofa_evolution"))
