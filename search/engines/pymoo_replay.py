"""Evolution on real evaluations: pymoo's algorithms rebuilt from a history, with our operators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.util.reference_direction import (
    UniformReferenceDirectionFactory,
    get_partition_closest_to_points,
)

from search.arrays.pareto import nondominated
from search.engines.array_nsga2 import vary
from search.history import History
from search.problem import SearchProblem
from search.sampling.first_sample import fresh_rows, initial_rows
from search.strategy import Model

Rows = NDArray[np.int16]
Points = NDArray[np.float64]
Indices = NDArray[np.intp]
Better = Callable[[Indices, Indices, np.random.Generator], NDArray[np.bool_]]

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

    Scaling by what is known now, also for earlier rounds, keeps an early outlier from squeezing
    the front into a corner. Without feasible rows the range of all rows is used.
    """
    usable = np.flatnonzero(~history.failed)
    values = history.values[usable]
    points, violations = problem.minimised(values), problem.violations(values)
    feasible = (violations <= 0).all(axis=1)
    inside = points[feasible] if feasible.any() else points
    front = inside[nondominated(inside)]
    low = front.min(0) if len(front) else np.zeros(points.shape[1])
    span = front.max(0) - low if len(front) else np.ones(points.shape[1])
    wide = points.max(0, initial=-np.inf) - low
    span = np.where(span > 0, span, np.where((wide > 0) & np.isfinite(wide), wide, 1.0))
    return Evaluated(
        history.positions[usable],
        (points - low) / span,
        np.minimum(violations, _MOST_EXCESS),
        history.batches[usable],
        low,
        span,
    )


def directions(objectives: int, most: int) -> Points:
    """Evenly spread weight vectors ``(k, objectives)``, the most that are not more than ``most``.

    Das and Dennis 1998; never fewer than one for each objective.
    """
    parts = max(get_partition_closest_to_points(most, objectives), 1)
    return np.asarray(UniformReferenceDirectionFactory(objectives, n_partitions=parts).do())


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
    with quiet():
        algorithm.setup(view(seen), termination=NoTermination(), seed=0, verbose=False)
        for rows in generations(seen, population):
            algorithm.tell(infills=individuals(seen, rows))
    return algorithm


@contextmanager
def quiet() -> Iterator[None]:
    """Silence divisions by empty ranges inside pymoo, which also changes the warning filters."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


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
    excess = seen.excess[rows]

    def wins(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        mine, theirs = excess[first], excess[second]
        limited = (mine > 0) | (theirs > 0)
        by_limit = np.where(mine == theirs, coins(len(first), rng), mine < theirs)
        return np.where(limited, by_limit, better(first, second, rng))

    def select(count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        draws = rng.integers(len(rows), size=(4, count))
        mother = np.where(wins(draws[0], draws[1], rng), draws[0], draws[1])
        father = np.where(wins(draws[2], draws[3], rng), draws[2], draws[3])
        return rows[mother], rows[father]

    return select


def coins(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Random booleans, ``(count,)``."""
    return np.asarray(rng.random(count) < 0.5)


def by_chance(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The tournament that either side wins."""
    return coins(len(first), rng)


def dominance(points: Points) -> Better:
    """The tournament among points ``(k, m)`` that a dominating one wins; else chance."""

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        mine, theirs = points[first], points[second]
        wins = (mine <= theirs).all(axis=1) & (mine < theirs).any(axis=1)
        loses = (theirs <= mine).all(axis=1) & (theirs < mine).any(axis=1)
        return wins | (~loses & coins(len(first), rng))

    return better


def numbers(survivors: Population, name: str, missing: float) -> Points:
    """An attribute that survival has set, ``(k,)``; ``missing`` where it has not (infeasible)."""
    found = [missing if value is None else value for value in survivors.get(name, to_numpy=False)]
    return np.array(found, dtype=np.float64)
