"""Evolution on real evaluations: pymoo's algorithms rebuilt from a history, with our operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from search.arrays.scaling import front_range
from search.engines.algorithms import BuildAlgorithm
from search.engines.array_nsga2 import vary
from search.engines.pymoo_warnings import quiet_pymoo
from search.engines.rounds import start_with_population
from search.engines.tournaments import Better, Compete, Indices, Points, prefer_feasible
from search.history import History
from search.problem import SearchProblem
from search.sampling.breeding import breed
from search.sampling.first_sample import fresh_rows, initial_rows
from search.strategy import predict_nothing

Rows = NDArray[np.int16]

_MOST_EXCESS = 1e6


@dataclass(frozen=True)
class Evaluated:
    """The successful evaluations of a history, ready for a selection.

    Args:
        positions: ``(n, len(space))``.
        points: Objectives to be minimised ``(n, m)``, scaled so that the best values of the
            present front are 0 and its worst ones 1.
        violations: Relative excess over the limits ``(n, c)``; at most 0 is feasible.
        batches: Proposal round of each row, ``(n,)``.
        low: What 0 stands for in each objective to be minimised, ``(m,)``.
        span: What 1 stands for beyond ``low``, ``(m,)``.
    """

    positions: Rows
    points: Points
    violations: Points
    batches: NDArray[np.int64]
    low: Points
    span: Points

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def excess(self) -> Points:
        """Summed violations, ``(n,)``; 0 is feasible."""
        return np.asarray(np.maximum(self.violations, 0).sum(1), dtype=np.float64)


# Draws so many pairs of parents: indices into the evaluated rows of mothers and of fathers.
Selection = Callable[[int, Generator], tuple[Indices, Indices]]
Rebuild = Callable[[SearchProblem, Evaluated, int], Selection]


@dataclass(frozen=True)
class Evolution:
    """A strategy from the rule by which an algorithm chooses parents.

    The published populations of about a hundred assume tens of thousands of evaluations. With a
    few hundred, twenty survivors leave time for enough generations.

    Args:
        rebuild: Given problem, evaluated rows and population size, the state that the algorithm
            has reached, as a selection of parents.
        population: Size of the first sample and of the surviving population.
        batch: Children per round.
    """

    has_first_sample = True
    batch_size = start_with_population
    models = predict_nothing

    rebuild: Rebuild
    population: int = 20
    batch: int = 20

    def propose(self, problem: SearchProblem, history: History, count: int, rng: Generator) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if not len(history):
            return initial_rows(problem, count, rng)
        seen = evaluated(problem, history)
        if len(seen) < 2:
            return fresh_rows(problem, history, count, rng)
        select = self.rebuild(problem, seen, self.population)

        def make_children(many: int) -> Rows:
            mothers, fathers = select(many, rng)
            return vary(problem.space, seen.positions[mothers], seen.positions[fathers], rng)

        return breed(problem, history, make_children, count, rng)


def replay_evolution(build_algorithm: BuildAlgorithm, compete: Compete) -> Evolution:
    """A strategy whose parents are survivors of an algorithm of pymoo.

    Args:
        build_algorithm: Makes the algorithm; its operators are not used.
        compete: Given the survivors, the tournament that the feasible ones hold.
    """
    return Evolution(partial(_rebuild, build_algorithm=build_algorithm, compete=compete))


def _rebuild(
    problem: SearchProblem,
    seen: Evaluated,
    population: int,
    *,
    build_algorithm: BuildAlgorithm,
    compete: Compete,
) -> Selection:
    algorithm = build_algorithm(population, len(problem.objectives))
    survivors = replay(algorithm, seen, population).pop
    return tournament(survivors, seen, compete(survivors))


def evaluated(problem: SearchProblem, history: History) -> Evaluated:
    """The rows of a history without failures, objectives scaled by the range of the front.

    What is known now sets the scale, also for earlier rounds.
    """
    usable = np.flatnonzero(~history.failed)
    values = history.values[usable]
    points, violations = problem.minimised(values), problem.violations(values)
    low, span = front_range(points, np.asarray((violations <= 0).all(axis=1)))
    return Evaluated(
        history.positions[usable],
        (points - low) / span,
        np.minimum(violations, _MOST_EXCESS),
        history.batches[usable],
        low,
        span,
    )


def view(seen: Evaluated, *, constrained: bool = True) -> Problem:
    """pymoo's view of the problem: counts of choices, objectives and limits; never evaluated."""
    limits = seen.violations.shape[1] if constrained else 0
    choices = seen.positions.shape[1]
    return Problem(
        n_var=choices,
        n_obj=seen.points.shape[1],
        n_ieq_constr=limits,
        xl=np.zeros(choices),
        xu=np.ones(choices),
    )


def individuals(seen: Evaluated, rows: Indices) -> Population:
    """pymoo individuals of evaluated rows; each knows its index as ``row``."""
    named = {"X": seen.positions[rows], "F": seen.points[rows], "row": rows}
    if seen.violations.shape[1]:
        named["G"] = seen.violations[rows]
    return Population.new(**named)


def generations(seen: Evaluated, population: int) -> Iterator[Indices]:
    """Indices of the first population, then those of each round in turn, ``population`` at most.

    Algorithms keep everything until their population is full, so that rounds before that point
    may as well count as one.
    """
    yield np.arange(min(population, len(seen)))
    start = population
    while start < len(seen):
        end = int(np.searchsorted(seen.batches, seen.batches[start], side="right"))
        end = min(end, start + population)
        yield np.arange(start, end)
        start = end


def replay(algorithm: Algorithm, seen: Evaluated, population: int) -> Algorithm:
    """Tell a new algorithm every generation, as if it had asked for it.

    Its own random decisions (ties among survivors) come from a fixed seed and are consumed by
    survival alone: the state after a generation is the same in every later replay.

    Args:
        algorithm: New, with its survival and population size; its operators are not used.
        seen: What to tell.
        population: Size of the first generation.
    """
    with quiet_pymoo():
        algorithm.setup(view(seen), termination=NoTermination(), seed=0, verbose=False)
        for rows in generations(seen, population):
            algorithm.tell(infills=individuals(seen, rows))
    return algorithm


def weighted(points: Points, weights: Points) -> Points:
    """One number for several objectives: augmented Tchebycheff (Steuer and Choo 1983).

    Args:
        points: Objectives to be minimised, scaled, ``(..., m)``.
        weights: Nonnegative with sum 1, of a shape that multiplies ``points``.

    Returns:
        ``(...)``; less is better. A twentieth of the weighted sum breaks ties of the worst one.
    """
    product = points * weights
    return np.asarray(product.max(axis=-1) + 0.05 * product.sum(axis=-1), dtype=np.float64)


def tournament(survivors: Population, seen: Evaluated, better: Better) -> Selection:
    """Binary tournaments in which feasible rows beat infeasible ones.

    Args:
        survivors: Individuals that know their ``row`` in ``seen``.
        seen: The evaluated rows.
        better: Given two arrays of places among the survivors and a generator, where the first
            wins among feasible ones.
    """
    rows = survivors.get("row").astype(np.intp)
    wins = prefer_feasible(seen.excess[rows], better)

    def select(count: int, rng: Generator) -> tuple[Indices, Indices]:
        draws = rng.integers(len(rows), size=(4, count))
        mother = np.where(wins(draws[0], draws[1], rng), draws[0], draws[1])
        father = np.where(wins(draws[2], draws[3], rng), draws[2], draws[3])
        return rows[mother], rows[father]

    return select
