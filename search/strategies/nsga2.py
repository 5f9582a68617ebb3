"""Plain NSGA-II on real evaluations: no predictor, parents chosen from everything evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from search.arrays.pareto import best_first
from search.engines.array_nsga2 import make_offspring
from search.engines.contract import Rows
from search.engines.rounds import start_with_population
from search.history import History
from search.problem import SearchProblem
from search.sampling.breeding import breed
from search.sampling.first_sample import fresh_rows
from search.strategy import FitPredictor, Strategy, predict_nothing

SUMMARY = "evolution on real evaluations without a predictor (Deb et al. 2002)"


@dataclass(frozen=True)
class Nsga2:
    """Ranks and crowds the whole history, so that it needs no population of its own.

    Args:
        population: Size of the random start, and of the parent set.
        batch: Children per round.
    """

    has_first_sample = True
    batch_size = start_with_population
    models = predict_nothing

    population: int = 20
    batch: int = 20

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if (~history.failed).sum() < 2:
            return fresh_rows(problem, history, count, rng)
        usable = np.flatnonzero(~history.failed)
        values = history.values[usable]
        order = best_first(problem.minimised(values), problem.violations(values), self.population)
        parents = history.positions[usable[order]]

        def make_children(many: int) -> Rows:
            # Parents are in order, so that the smaller index wins a tournament.
            return make_offspring(problem.space, parents, np.less, many, rng)

        return breed(problem, history, make_children, count, rng)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Nsga2()
