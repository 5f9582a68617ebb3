"""Aging evolution on real evaluations: the oldest die, however good they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.engines.pymoo_replay import Evaluated, evaluated, weighted
from search.engines.rounds import start_with_population
from search.history import History
from search.problem import SearchProblem
from search.sampling.breeding import breed
from search.sampling.first_sample import fresh_rows, initial_rows
from search.strategy import FitPredictor, Strategy, predict_nothing
from supernet.space import SearchSpace

SUMMARY = "mutates winners of small tournaments among the youngest (Real et al. 2019)"
Rows = NDArray[np.int16]


@dataclass(frozen=True)
class AgingEvolution:
    """Regularised evolution (Real et al. 2019, algorithm 1) for several objectives.

    Published: population 100 and sample 25 over 20,000 evaluations. A search of a few hundred
    would end before the first of a hundred had died, so the population is smaller here. Every
    tournament has its own random weighting of the objectives (augmented Tchebycheff), which turns
    one best network into a front. Failed evaluations never enter the population.

    Args:
        population: How many of the last successful evaluations are alive.
        sample: Size of a tournament, drawn with replacement.
        batch: Children per round; those of a round do not know each other.
    """

    has_first_sample = True
    batch_size = start_with_population
    models = predict_nothing

    population: int = 50
    sample: int = 25
    batch: int = 10

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if not len(history):
            return initial_rows(problem, count, rng)
        seen = evaluated(problem, history)
        if not len(seen):
            return fresh_rows(problem, history, count, rng)

        def make_children(many: int) -> Rows:
            return change_one(problem.space, seen.positions[self.winners(seen, many, rng)], rng)

        return breed(problem, history, make_children, count, rng)

    def winners(self, seen: Evaluated, count: int, rng: Generator) -> NDArray[np.intp]:
        """Rows that win a tournament among the last ``population``, ``(count,)``.

        Least excess over the limits first, then the best weighted value.
        """
        alive = np.arange(max(0, len(seen) - self.population), len(seen))
        entrants = alive[rng.integers(len(alive), size=(count, self.sample))]
        weights = rng.dirichlet(np.ones(seen.points.shape[1]), size=(count, 1))
        value = weighted(seen.points[entrants], weights)
        excess = seen.excess[entrants]
        value = np.where(excess > excess.min(axis=1, keepdims=True), np.inf, value)
        return entrants[np.arange(count), value.argmin(axis=1)]


def change_one(space: SearchSpace, parents: Rows, rng: Generator) -> Rows:
    """Every parent ``(n, len(space))`` with one active choice changed to another value."""
    sizes = space.cardinalities
    free = space.active(parents) & (sizes > 1)
    column = np.where(free, rng.random(parents.shape), -1.0).argmax(axis=1)
    at = np.arange(len(parents))
    others = np.maximum(sizes[column] - 1, 1)
    shift = 1 + (rng.random(len(parents)) * others).astype(np.int16)
    changed = parents.copy()
    changed[at, column] = (parents[at, column] + shift) % sizes[column]
    return space.canonical(changed)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return AgingEvolution()
