"""Evolution on real evaluations: pymoo's algorithms rebuilt from a history, with our operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination

from search.arrays.scaling import front_range
from search.engines.array_nsga2 import vary
from search.engines.pymoo_warnings import quiet_pymoo
from search.engines.tournaments import Better, Indices, Points, prefer_feasible
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows, initial_rows
from search.strategy import Model

Rows = NDArray[np.int16]

_ATTEMPTS = 12
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
Selection = Callable[[int, np.random.Generator], tuple[Indices, Indices]]
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

    rebuild: Rebuild
    population: int = 20
    batch: int = 20

    has_first_sample = True

    def batch_size(self, evaluated: int) -> int:
        """``population`` at first, then ``batch``."""
        return self.population if evaluated == 0 else self.batch

    def propose(
        self, problem: SearchProblem, history: History, count: int, rng: np.random.Generator
    ) -> Rows:
        """Up to ``count`` distinct rows ``(k, len(space))`` that are not in the history."""
        if not len(history):
            return initial_rows(problem, count, rng)
        seen = evaluated(problem, history)
        if len(seen) < 2:
            return fresh_rows(problem, history, count, rng)
        select = self.rebuild(problem, seen, self.population)
        return children(problem, history, seen.positions, select, count, rng)

    def models(self, problem: SearchProblem, history: History, seed: int) -> Mapping[str, Model]:
        """None: nothing is predicted."""
        return {}


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


def children(
    problem: SearchProblem,
    history: History,
    parents: Rows,
    select: Selection,
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """Up to ``count`` distinct admissible children that are not in the history.

    Uniform crossover and reset mutation; random rows where the parents' surroundings are used up.
    """
    rows = np.zeros((0, len(problem.space)), dtype=np.int16)
    for _ in range(_ATTEMPTS):
        mothers, fathers = select(2 * count, rng)
        made = problem.project(vary(problem.space, parents[mothers], parents[fathers], rng))
        rows = history.new(np.concatenate((rows, made[problem.admits(made)])))
        if len(rows) >= count:
            return rows[:count]
    return history.new(np.concatenate((rows, fresh_rows(problem, history, count, rng))))[:count]


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

    def select(count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        draws = rng.integers(len(rows), size=(4, count))
        mother = np.where(wins(draws[0], draws[1], rng), draws[0], draws[1])
        father = np.where(wins(draws[2], draws[3], rng), draws[2], draws[3])
        return rows[mother], rows[father]

    return select
