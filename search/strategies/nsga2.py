"""Plain NSGA-II on real evaluations: no predictor, parents chosen from everything evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.arrays.pareto import best_first
from search.engines.array_nsga2 import offspring
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows
from search.strategy import FitPredictor, Model, Strategy

SUMMARY = "evolution on real evaluations without a predictor (Deb et al. 2002)"
_ATTEMPTS = 12


@dataclass(frozen=True)
class Nsga2:
    """Ranks and crowds the whole history, so that it needs no population of its own.

    Args:
        population: Size of the random start, and of the parent set.
        batch: Children per round.
    """

    population: int = 20
    batch: int = 20

    has_first_sample = True

    def batch_size(self, evaluated: int) -> int:
        """``population`` at first, then ``batch``."""
        return self.population if evaluated == 0 else self.batch

    def propose(
        self, problem: SearchProblem, history: History, count: int, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if (~history.failed).sum() < 2:
            return fresh_rows(problem, history, count, rng)
        usable = np.flatnonzero(~history.failed)
        values = history.values[usable]
        order = best_first(problem.minimised(values), problem.violations(values), self.population)
        parents = history.positions[usable[order]]
        rows = np.zeros((0, len(problem.space)), dtype=np.int16)
        for _ in range(_ATTEMPTS):
            # Parents are in order, so that the smaller index wins a tournament.
            children = offspring(problem.space, parents, np.less, 2 * count, rng)
            children = problem.project(children)
            children = children[problem.admits(children)]
            rows = history.new(np.concatenate((rows, children)))
            if len(rows) >= count:
                return rows[:count]
        return history.new(np.concatenate((rows, fresh_rows(problem, history, count, rng))))[:count]

    def models(self, problem: SearchProblem, history: History, seed: int) -> Mapping[str, Model]:
        """None: nothing is predicted."""
        return {}


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Nsga2()
