"""Predictor-guided search: evaluate, fit, evolve on predictions, evaluate what promises most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.arrays.pareto import choose_by_hypervolume, nondominated, rank_fronts, reference_point
from search.arrays.row_pool import all_rows
from search.engines.array_nsga2 import evolve, polish
from search.engines.contract import Engine, Score, Visited
from search.engines.rounds import fit_models
from search.engines.surrogates import LEAST_ROWS, make_score
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, fresh_rows, initial_rows
from search.strategy import FitPredictor, Model, Strategy, require_fit

SUMMARY = "iterates predictor and evolution as LINAS does; the default"
Rows = NDArray[np.int16]
# With three objectives a predicted front alone has hundreds of points.
_LEAST_CANDIDATES = 600
# Scoring so many takes less time than evolving towards the best of them.
_MOST_ENUMERATED = 20_000


@dataclass(frozen=True)
class PredictorGuided:
    """A loop in the manner of LINAS (Cummings et al. 2022) with smaller rounds and no re-measuring.

    Args:
        fit: Fits a predictor to one expensive quantity.
        engine: Evolves on predictions; by default NSGA-II on arrays, whatever the objectives.
        initial: Size of the first sample, spread over the cheap objective.
        batch: Most evaluations per round. Early rounds are smaller, a twelfth of what is known,
            because early predictors improve the most.
        least_batch: Fewest evaluations per round.
        population: Survivors of the evolution on predictions.
        generations: Its generations.
        descents: Rounds of local search on the predicted front after it.
        optimism: Standard deviations by which predictions are improved when choosing.
    """

    has_first_sample = True
    models = fit_models

    fit: FitPredictor
    engine: Engine = evolve
    initial: int = 30
    batch: int = 25
    least_batch: int = 6
    population: int = 100
    generations: int = 10
    descents: int = 2
    optimism: float = 0.5

    def batch_size(self, evaluated: int) -> int:
        """``initial`` at first, then a twelfth of what is known within the limits of a round."""
        if evaluated == 0:
            return self.initial
        return max(1, min(self.batch, max(evaluated // 12, self.least_batch)))

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if not len(history):
            return initial_rows(problem, count, rng)
        usable = ~history.failed
        if usable.sum() < LEAST_ROWS:
            return fresh_rows(problem, history, count, rng)
        models = self.models(problem, history, int(rng.integers(2**31)))
        visited = self._visit(problem, history, make_score(problem, models), rng)
        rows = self._choose(problem, history, models, visited, count)
        if len(rows) < count:
            rows = history.new(np.concatenate((rows, fresh_rows(problem, history, count, rng))))
        return rows[:count]

    def _visit(
        self, problem: SearchProblem, history: History, score: Score, rng: Generator
    ) -> Visited:
        """Predictions of what is worth looking at: of everything, where that is little enough."""
        rows = problem.pool
        if rows is None:
            rows = all_rows(problem.space, _MOST_ENUMERATED)
        if rows is not None:
            return Visited(rows, *score(rows))
        visited = self.engine(
            problem.space,
            score,
            self._seeds(problem, history, rng),
            population=self.population,
            generations=self.generations,
            rng=rng,
        )
        return polish(problem.space, score, visited, self.descents)

    def _seeds(self, problem: SearchProblem, history: History, rng: Generator) -> Rows:
        """Best evaluated rows, and as many new ones."""
        usable = np.flatnonzero(~history.failed)
        objectives = problem.minimised(history.values[usable])
        excess = np.maximum(problem.violations(history.values[usable]), 0).sum(1)
        half = self.population // 2
        order = np.lexsort((rank_fronts(objectives), excess))
        best = history.positions[usable[order[:half]]]
        random = admissible_sample(problem, rng, self.population)
        return unique_rows(np.concatenate((best, random)))[: self.population]

    def _choose(
        self,
        problem: SearchProblem,
        history: History,
        models: Mapping[str, Model],
        visited: Visited,
        count: int,
    ) -> Rows:
        """The candidates that would add most hypervolume if predictions came true."""
        ok = ~history.failed & (problem.violations(history.values) <= 0).all(axis=1)
        evaluated = problem.minimised(history.values[ok])
        pool = np.flatnonzero(visited.feasible)
        # So many of the best that enough are left when the evaluated ones are taken out.
        candidates = max(12 * count, _LEAST_CANDIDATES)
        most = candidates + len(history)
        order = rank_fronts(visited.objectives[pool], enough=most)
        pool = pool[np.argsort(order, kind="stable")[:most]]
        keys = history.keys
        pool = np.array([i for i in pool if visited.positions[i].tobytes() not in keys], np.intp)
        pool = pool[:candidates]
        if not len(pool):
            return visited.positions[:0]
        rows = visited.positions[pool]
        hopeful = visited.objectives[pool].copy()
        for column, objective in enumerate(problem.objectives):
            if objective.name in models:
                _, std = models[objective.name].predict(rows)
                hopeful[:, column] -= self.optimism * std
        bound = reference_point(np.concatenate((evaluated, hopeful)))
        front = evaluated[nondominated(evaluated)]
        chosen = choose_by_hypervolume(front, hopeful, bound, count)
        rest = [i for i in range(len(rows)) if i not in set(chosen)]
        return rows[chosen + rest]


def build(fit: FitPredictor | None = None, *, engine: Engine = evolve) -> Strategy:
    """The strategy with its defaults.

    Args:
        fit: Fits a predictor to one expensive quantity.
        engine: Evolves on predictions.

    Raises:
        InputError: No ``fit``.
    """
    return PredictorGuided(require_fit(fit, "predictor_guided"), engine)
