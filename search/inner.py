"""Evolutionary search on predictions: pymoo's NSGA-II with operators that fit discrete choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import NoDuplicateElimination
from pymoo.core.infill import InfillCriterion
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from search.neighbourhood import neighbourhood, unique_rows
from search.pareto import nondominated
from supernet.space import SearchSpace

Rows = NDArray[np.int16]
_MOST_EXPANDED = 100
Score = Callable[[Rows], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Visited:
    """Every distinct row that an inner search looked at.

    Args:
        positions: ``(n, len(space))``.
        objectives: Predicted values, less is better, ``(n, m)``.
        violations: Relative excess over the limits, ``(n, c)``; at most 0 is feasible.
    """

    positions: Rows
    objectives: NDArray[np.float64]
    violations: NDArray[np.float64]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Rows that meet all limits, ``(n,)``."""
        return np.asarray((self.violations <= 0).all(axis=1))


def offspring(
    space: SearchSpace,
    parents: Rows,
    better: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]],
    count: int,
    rng: np.random.Generator,
) -> Rows:
    """Children ``(count, len(space))`` by binary tournament, uniform crossover, reset mutation.

    Real-coded operators with rounding almost never change a choice of three values; the space's
    own operators change each choice at the stated rate.

    Args:
        space: Provides crossover and mutation.
        parents: ``(n, len(space))``.
        better: Given two index arrays, where the first wins the tournament.
        count: Number of children.
        rng: Source of randomness.
    """
    draws = rng.integers(len(parents), size=(4, count))
    mother = np.where(better(draws[0], draws[1]), draws[0], draws[1])
    father = np.where(better(draws[2], draws[3]), draws[2], draws[3])
    return vary(space, parents[mother], parents[father], rng)


def vary(space: SearchSpace, mothers: Rows, fathers: Rows, rng: np.random.Generator) -> Rows:
    """One child of every pair, ``(n, len(space))`` each: uniform crossover, then reset mutation.

    A tenth of the children is the mother, mutated.
    """
    children = space.crossover(mothers, fathers, rng)
    single = rng.random(len(mothers)) < 0.1
    children[single] = mothers[single]
    return space.mutate(children, rng)


def optimise(
    space: SearchSpace,
    score: Score,
    seeds: Rows,
    *,
    population: int,
    generations: int,
    rng: np.random.Generator,
) -> Visited:
    """Run NSGA-II (Deb et al. 2002) on cheap or predicted values.

    Args:
        space: Where to search.
        score: Rows ``(n, len(space))`` in; objectives to minimise ``(n, m)`` and violations
            ``(n, c)`` out.
        seeds: Distinct canonical rows to start from, at least one.
        population: Survivors of a generation.
        generations: Number of generations after the first.
        rng: Source of randomness.

    Returns:
        Every distinct row that was scored.
    """
    problem = _Predicted(space, score, seeds[:1])
    mating = _Mating(space, problem.seen)
    algorithm = NSGA2(
        pop_size=population,
        sampling=seeds[: max(population, 1)],
        mating=mating,
        eliminate_duplicates=NoDuplicateElimination(),
    )
    algorithm.setup(
        problem,
        termination=("n_gen", generations + 1),
        seed=int(rng.integers(2**31)),
        verbose=False,
    )
    while algorithm.has_next():
        algorithm.next()
    return problem.visited()


def polish(space: SearchSpace, score: Score, visited: Visited, steps: int) -> Visited:
    """Pareto local search: look at every one-choice change of the front found, a few times over.

    Evolution finds the region, and this finds the last improvements, at a fraction of the cost of
    the generations that would stumble upon them.

    Args:
        space: Where to search.
        score: As for :func:`optimise`.
        visited: What an inner search looked at.
        steps: How often the changed front is expanded.

    Returns:
        The same rows and the new ones.
    """
    expanded: set[bytes] = set()
    for _ in range(steps):
        rows = np.flatnonzero(visited.feasible)
        rows = rows[nondominated(visited.objectives[rows])]
        front = [r for r in visited.positions[rows] if r.tobytes() not in expanded]
        expanded.update(row.tobytes() for row in front)
        if not front:
            break
        seen = len(visited.positions)
        near = neighbourhood(space, np.stack(front[:_MOST_EXPANDED]))
        near = unique_rows(np.concatenate((visited.positions, near)))[seen:]
        if not len(near):
            break
        objectives, violations = score(near)
        visited = Visited(
            np.concatenate((visited.positions, near)),
            np.concatenate((visited.objectives, objectives)),
            np.concatenate((visited.violations, violations)),
        )
    return visited


class _Predicted(Problem):
    """pymoo's view of the score: whole populations, limits as inequality constraints."""

    def __init__(self, space: SearchSpace, score: Score, sample: Rows) -> None:
        objectives, violations = score(sample)
        super().__init__(
            n_var=len(space),
            n_obj=objectives.shape[1],
            n_ieq_constr=violations.shape[1],
            xl=np.zeros(len(space)),
            xu=space.cardinalities - 1,
            vtype=int,
        )
        self.score = score
        self.seen: set[bytes] = set()
        self.records: list[tuple[Rows, NDArray[np.float64], NDArray[np.float64]]] = []

    def _evaluate(self, x: NDArray[Any], out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        rows = np.ascontiguousarray(x, dtype=np.int16)
        objectives, violations = self.score(rows)
        self.seen.update(row.tobytes() for row in rows)
        self.records.append((rows, objectives, violations))
        out["F"] = objectives
        if violations.shape[1]:
            out["G"] = np.minimum(violations, 1e6)

    def visited(self) -> Visited:
        columns = zip(*self.records, strict=True)
        return Visited(*(np.concatenate(column) for column in columns))


class _Mating(InfillCriterion):
    """All children of a generation at once, as arrays, none seen before."""

    def __init__(self, space: SearchSpace, seen: set[bytes]) -> None:
        super().__init__()
        self.space = space
        self.seen = seen

    def do(
        self,
        problem: Problem,
        pop: Population,
        n_offsprings: int,
        random_state: np.random.Generator | None = None,
        n_max_iterations: int | None = None,
        **kwargs: Any,
    ) -> Population:
        assert random_state is not None
        parents = np.stack([individual.X for individual in pop]).astype(np.int16)
        rank = np.array([individual.get("rank") for individual in pop], dtype=float)
        crowd = np.array([individual.get("crowding") for individual in pop], dtype=float)
        excess = np.array([individual.CV[0] for individual in pop])
        # Survivors that break a limit carry no rank: feasibility first, then rank, then crowding.
        key = np.lexsort((-np.nan_to_num(crowd, nan=0.0), np.nan_to_num(rank, nan=1e9), excess))
        place = np.empty(len(pop), dtype=np.intp)
        place[key] = np.arange(len(pop))
        children: list[NDArray[np.int16]] = []
        fresh: set[bytes] = set()
        for _ in range(8):
            for row in offspring(
                self.space, parents, lambda a, b: place[a] < place[b], n_offsprings, random_state
            ):
                key_ = row.tobytes()
                if key_ not in self.seen and key_ not in fresh and len(children) < n_offsprings:
                    fresh.add(key_)
                    children.append(row)
            if len(children) >= n_offsprings:
                break
        return Population.new("X", np.stack(children)) if children else Population.empty()
