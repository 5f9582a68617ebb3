"""WeakNAS: weak predictors fitted again and again, each sampling from a smaller set on top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from search.arrays.pareto import best_first, rank_fronts
from search.engines.array_nsga2 import make_offspring
from search.engines.rounds import complete_initial, fit_models
from search.engines.surrogates import LEAST_ROWS, fill_round, make_score
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import admissible_sample, fresh_rows
from search.strategy import FitPredictor, Strategy, require_fit

SUMMARY = "weak predictors in turn, sampling from a shrinking predicted top (Wu et al. 2021)"
Rows = NDArray[np.int16]


@dataclass(frozen=True)
class WeakNas:
    """WeakNAS (Wu et al. 2021, arXiv 2102.10490, section 3): label, fit, sample from the top.

    All labels are kept for every fit. For several objectives the top are the first fronts of the
    pool by non-dominated rank. A space too large to list is represented by a pool that is half
    random and half bred from the best labelled, since a random pool alone hardly reaches a front.

    Args:
        fit: Fits a predictor to one expensive quantity.
        initial: Random architectures labelled first; as published for NAS-Bench-101.
        batch: Labels per round; as published.
        top: Size of the first set that is sampled from.
        least_top: Size below which it does not shrink; the published, constant size.
        shrink: Factor of the size from one round to the next.
        pool: Architectures ranked in a round.
    """

    has_first_sample = True
    batch_size = complete_initial
    models = fit_models

    fit: FitPredictor
    initial: int = 100
    batch: int = 10
    top: int = 1000
    least_top: int = 100
    shrink: float = 0.8
    pool: int = 10_000

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if len(history) < self.initial or (~history.failed).sum() < LEAST_ROWS:
            return fresh_rows(problem, history, count, rng)
        models = self.models(problem, history, int(rng.integers(2**31)))
        rows = self.candidates(problem, history, rng)
        objectives, violations = make_score(problem, models)(rows)
        top = max(self.top_size(len(history)), count)
        best = best_first(objectives, violations, top)
        return fill_round(problem, history, rows[rng.permutation(best)], count, rng)

    def top_size(self, evaluated: int) -> int:
        """Size of the set that is sampled from when so many are labelled."""
        rounds = max(evaluated - self.initial, 0) // self.batch
        return max(round(self.top * self.shrink**rounds), self.least_top)

    def candidates(self, problem: SearchProblem, history: History, rng: Generator) -> Rows:
        """What is ranked: unlabelled rows of a given pool, else random rows and descendants."""
        if problem.pool is not None:
            return history.new(problem.pool[problem.admits(problem.pool)])
        half = self.pool // 2
        random = admissible_sample(problem, rng, half)
        usable = ~history.failed
        points = problem.minimised(history.values[usable])
        excess = np.maximum(problem.violations(history.values[usable]), 0).sum(1)
        place = np.lexsort((rank_fronts(points), excess))
        parents = history.positions[usable][place[: max(len(place) // 4, 2)]]
        children = make_offspring(problem.space, parents, lambda a, b: a < b, half, rng)
        rows = unique_rows(np.concatenate((random, problem.project(children))))
        return history.new(rows[problem.admits(rows)])


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults.

    Raises:
        InputError: No ``fit``.
    """
    return WeakNas(require_fit(fit, "weaknas"))
