"""LINAS as published: validate a population, fit predictors, evolve a fresh population on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.arrays.pareto import best_first
from search.arrays.row_pool import all_rows
from search.engines import array_nsga2, array_unsga3
from search.engines.contract import Engine, Visited
from search.engines.rounds import fit_models
from search.engines.surrogates import LEAST_ROWS, fill_round, make_score
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, fresh_rows
from search.strategy import FitPredictor, Model, Strategy, require_fit

SUMMARY = "LINAS with its published settings (Cummings et al. 2022)"
Rows = NDArray[np.int16]
_MOST_LISTED = 100_000


@dataclass(frozen=True)
class Linas:
    """The loop of LINAS (Cummings et al. 2022, arXiv 2205.10358, algorithm 1), settings kept.

    Where the reference implementation differs from its description, the description holds:
    no architecture is measured twice, and what the last evolution found is validated.

    Args:
        fit: Fits a predictor to one expensive quantity, anew from everything evaluated.
        engine: Evolves on predictions. The default stands for what is published: NSGA-II, and
            U-NSGA-III beyond two objectives.
        population: Size of the validated and of the evolved population.
        inner_evaluations: Predictions that one evolution may spend.
        directions: Reference directions of that U-NSGA-III, at most.
    """

    has_first_sample = True
    models = fit_models

    fit: FitPredictor
    engine: Engine = array_nsga2.evolve
    population: int = 50
    inner_evaluations: int = 20_000
    directions: int = 20

    @property
    def generations(self) -> int:
        """Generations of one evolution, the initial population included."""
        return max(self.inner_evaluations // self.population, 1)

    def batch_size(self, evaluated: int) -> int:
        """Always ``population``."""
        return self.population

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if (~history.failed).sum() < LEAST_ROWS:
            return fresh_rows(problem, history, count, rng)
        models = self.models(problem, history, int(rng.integers(2**31)))
        visited = self.evolve(problem, models, rng)
        return fill_round(
            problem, history, self._final(problem, history, visited, count), count, rng
        )

    def evolve(
        self, problem: SearchProblem, models: Mapping[str, Model], rng: Generator
    ) -> Visited:
        """Evolution on predictions alone, from a random population.

        A pool, or a space of fewer architectures than an evolution would look at, is looked at
        as a whole.
        """
        score = make_score(problem, models)
        pool = problem.pool
        if pool is None and problem.space.size <= self.inner_evaluations:
            pool = all_rows(problem.space, _MOST_LISTED)
        if pool is not None:
            return Visited(pool, *score(pool))
        start = unique_rows(admissible_sample(problem, rng, 4 * self.population))
        start = start[: self.population]
        engine = self.engine
        if engine is array_nsga2.evolve and len(problem.objectives) > 2:
            engine = partial(array_unsga3.evolve, most_directions=self.directions)
        return engine(
            problem.space,
            score,
            start,
            population=self.population,
            generations=self.generations - 1,
            rng=rng,
        )

    def _final(
        self, problem: SearchProblem, history: History, visited: Visited, count: int
    ) -> Rows:
        """The final population, had evaluated architectures not taken part."""
        rows = visited.positions
        known = history.keys
        left = np.array([i for i, row in enumerate(rows) if row.tobytes() not in known], np.intp)
        # Predicted limits rank; only the ones known for certain exclude.
        left = left[problem.admits(rows[left])]
        order = best_first(visited.objectives[left], visited.violations[left], 2 * count)
        return rows[left[order]]


def build(fit: FitPredictor | None = None, *, engine: Engine = array_nsga2.evolve) -> Strategy:
    """The strategy with its published settings.

    Args:
        fit: Fits a predictor to one expensive quantity.
        engine: Evolves on predictions.

    Raises:
        InputError: No ``fit``.
    """
    return Linas(require_fit(fit, "linas"), engine)
