"""Evolutionary search on predictions: NSGA-II on arrays, with operators for discrete choices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search.arrays.format_runs import change_runs, mutate_formats
from search.arrays.neighbourhood import one_change, row_keys
from search.arrays.pareto import best_first, nondominated
from search.engines.contract import Rows, Score, Visited
from supernet.space import SearchSpace

_MOST_EXPANDED = 100
_ATTEMPTS = 8


def make_offspring(
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

    A tenth of the children is the mother, mutated. Number formats also change by whole runs.
    """
    children = space.crossover(mothers, fathers, rng)
    single = rng.random(len(mothers)) < 0.1
    children[single] = mothers[single]
    return mutate_formats(space, space.mutate(children, rng), rng)


def evolve(
    space: SearchSpace,
    score: Score,
    seeds: Rows,
    *,
    population: int,
    generations: int,
    rng: np.random.Generator,
) -> Visited:
    """Run NSGA-II (Deb et al. 2002) on cheap or predicted values.

    Objects for individuals cost ten times what scoring them does, so that generations are arrays.

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
    keys = _Keys()
    rows = np.asarray(seeds[: max(population, 1)], dtype=np.int16)
    keys.add(rows)
    scored = [(rows, *score(rows))]
    parents, objectives, violations = scored[0]
    place = np.argsort(best_first(objectives, violations))
    for _ in range(generations):
        children = _children(space, parents, place, population, keys, rng)
        if not len(children):
            break
        scored.append((children, *score(children)))
        parents = np.concatenate((parents, scored[-1][0]))
        objectives = np.concatenate((objectives, scored[-1][1]))
        violations = np.concatenate((violations, scored[-1][2]))
        kept = best_first(objectives, violations, population)
        parents, objectives, violations = parents[kept], objectives[kept], violations[kept]
        place = np.arange(len(kept))
    return Visited(*(np.concatenate(column) for column in zip(*scored, strict=True)))


class _Keys:
    """Which rows were seen."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, rows: Rows) -> NDArray[np.bool_]:
        """Remember rows ``(n, d)``; which of them are new, ``(n,)``."""
        keys = row_keys(rows)
        listed = keys.tolist()
        _, first = np.unique(keys, return_index=True)
        fresh = np.zeros(len(rows), dtype=bool)
        fresh[first] = True
        fresh &= ~np.fromiter(map(self._seen.__contains__, listed), dtype=bool, count=len(rows))
        self._seen.update(listed)
        return fresh


def _children(
    space: SearchSpace,
    parents: Rows,
    place: NDArray[np.intp],
    count: int,
    keys: _Keys,
    rng: np.random.Generator,
) -> Rows:
    """Up to ``count`` children that were never seen; the lower ``place`` wins a tournament."""
    found: list[Rows] = []
    missing = count
    for _ in range(_ATTEMPTS):
        rows = make_offspring(space, parents, lambda a, b: place[a] < place[b], missing, rng)
        rows = rows[keys.add(rows)]
        found.append(rows)
        missing -= len(rows)
        if missing <= count // 10:
            break
    return np.concatenate(found)


def polish(space: SearchSpace, score: Score, visited: Visited, steps: int) -> Visited:
    """Pareto local search: look at every one-choice change of the front found, a few times over.

    Evolution finds the region, and this finds the last improvements, at a fraction of the cost of
    the generations that would stumble upon them.

    Args:
        space: Where to search.
        score: As for :func:`evolve`.
        visited: What an inner search looked at.
        steps: How often the changed front is expanded.

    Returns:
        The same rows and the new ones.
    """
    expanded: set[bytes] = set()
    keys = _Keys()
    keys.add(visited.positions)
    for _ in range(steps):
        rows = np.flatnonzero(visited.feasible)
        rows = rows[nondominated(visited.objectives[rows])]
        front = [r for r in visited.positions[rows] if r.tobytes() not in expanded]
        expanded.update(row.tobytes() for row in front)
        if not front:
            break
        edge = np.stack(front[:_MOST_EXPANDED])
        near = np.concatenate((one_change(space, edge), change_runs(space, edge)))
        near = near[keys.add(near)]
        if not len(near):
            break
        objectives, violations = score(near)
        visited = Visited(
            np.concatenate((visited.positions, near)),
            np.concatenate((visited.objectives, objectives)),
            np.concatenate((visited.violations, violations)),
        )
    return visited
