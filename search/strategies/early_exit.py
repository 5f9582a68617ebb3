"""EEEA-Net's evolution: an initial population below a cost threshold, then few parents, many
children."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.pareto import best_first
from search.engines.surrogates import cost_column, fill_round, relative_size
from search.history import History
from search.problem import Constraint, Objective, SearchProblem
from search.sampling.breeding import breed
from search.sampling.feasibility import InfeasibleError, least_violation
from search.sampling.first_sample import admissible_sample, fresh_rows
from search.strategy import FitPredictor, Strategy, predict_nothing

SUMMARY = "evolution from a population kept below a cost threshold (Termritthikun et al. 2021)"
Rows = NDArray[np.int16]
_SAMPLE = 2000


@dataclass(frozen=True)
class EarlyExit:
    """Early-exit population initialisation of EEEA-Net (Termritthikun et al. 2021), and evolution.

    "Early exit" means leaving the drawing of initial architectures, not an exit of a network. Only
    the first population is below the threshold. Unlike in the reference implementation it has its
    full size, and inversion exchanges two choices instead of copying one over the other.

    Args:
        beta: Largest cost of the first population, in the unit of the first cheap objective that
            is minimised, or of the relative size (0 to 1) where there is none.
        quantile: Without ``beta``: the threshold as this quantile of random architectures.
        population: Size of the population; the published one.
        retained: Share of the population that survives as parents; as published.
        mutation: Probability that a child has one choice drawn anew; as published.
        inversion: Probability that a child has two choices of a kind exchanged; as published.
    """

    has_first_sample = True
    models = predict_nothing

    beta: float | None = None
    quantile: float = 0.5
    population: int = 40
    retained: float = 0.1
    mutation: float = 0.1
    inversion: float = 0.1

    def batch_size(self, evaluated: int) -> int:
        """The population, then what its survivors leave free."""
        if evaluated < self.population:
            return self.population - evaluated
        return self.population - self.survivors

    @property
    def survivors(self) -> int:
        """Parents of a generation, at least two."""
        return max(int(self.population * self.retained), 2)

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history.

        Raises:
            InfeasibleError: No admissible architecture costs at most ``beta``.
        """
        if len(history) < self.population:
            return self._first(problem, history, count, rng)
        if (~history.failed).sum() < 2:
            return fresh_rows(problem, history, count, rng)
        points = problem.minimised(history.values)
        best = best_first(points, problem.violations(history.values), self.survivors)
        parents = history.positions[best]

        def make_children(many: int) -> Rows:
            return self.children(problem, parents, many, rng)

        return breed(problem, history, make_children, count, rng)

    def children(self, problem: SearchProblem, parents: Rows, count: int, rng: Generator) -> Rows:
        """Uniform crossover of two parents, then now and then a mutation and an inversion."""
        space = problem.space
        pairs = rng.integers(len(parents), size=(2, count))
        rows = space.crossover(parents[pairs[0]], parents[pairs[1]], rng)
        mutants = np.flatnonzero(rng.random(count) < self.mutation)
        columns = rng.integers(len(space), size=len(mutants))
        rows[mutants, columns] = (rng.random(len(mutants)) * space.cardinalities[columns]).astype(
            np.int16
        )
        swaps = _exchangeable(problem)
        if len(swaps):
            inverted = np.flatnonzero(rng.random(count) < self.inversion)
            first, second = swaps[rng.integers(len(swaps), size=len(inverted))].T
            kept = rows[inverted, first].copy()
            rows[inverted, first] = rows[inverted, second]
            rows[inverted, second] = kept
        return space.canonical(rows)

    def _first(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        cost = _cost(problem)
        beta = self.beta
        if beta is None:
            # Of the problem alone: later calls for the rest of the population agree on it.
            sample = admissible_sample(problem, np.random.default_rng(_SAMPLE), _SAMPLE)
            beta = float(np.quantile(cost.evaluate(sample), self.quantile))
        limited = (*problem.limited, cost) if cost.name not in problem.names else problem.limited
        below = replace(
            problem,
            limited=limited,
            constraints=(*problem.constraints, Constraint(cost.name, at_most=beta)),
        )
        nearest, excess = least_violation(below)
        if (excess > 0).any():
            value = float(cost.evaluate(nearest[None])[0])
            raise InfeasibleError(
                f"no initial architecture has {cost.name} at most {beta:g}; the nearest feasible "
                f"value is {value:.6g} {cost.unit}",
                cost.name,
                value,
            )
        rows = fresh_rows(below, history, count, rng)
        if self.beta is not None and len(rows):
            return rows
        # A threshold of our own choosing gives way when fewer architectures are below it.
        return fill_round(problem, history, rows, count, rng)


def _cost(problem: SearchProblem) -> Objective:
    column = cost_column(problem)
    if column is not None and not problem.objectives[column].expensive:
        return problem.objectives[column]

    def size(rows: Rows) -> NDArray[np.float64]:
        return relative_size(problem, rows)

    return Objective("relative size", "of 1", "minimize", size, "analytic")


def _exchangeable(problem: SearchProblem) -> NDArray[np.intp]:
    """Neighbouring choices of one kind and number of values, ``(k, 2)``."""
    last: dict[tuple[str, int], int] = {}
    pairs = []
    for i, choice in enumerate(problem.space.choices):
        key = (choice.kind, len(choice.values))
        if key in last:
            pairs.append((last[key], i))
        last[key] = i
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its published settings; ``fit`` is not used."""
    return EarlyExit()
