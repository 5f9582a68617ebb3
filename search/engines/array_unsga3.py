"""U-NSGA-III on predictions: evolution towards reference directions, beyond two objectives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.core.termination import NoTermination

from search.engines.algorithms.unsga3 import build_algorithm
from search.engines.array_nsga2 import vary
from search.engines.contract import Rows, Score, Visited
from search.engines.pymoo_replay import (
    Evaluated,
    individuals,
    tournament,
    view,
)
from search.engines.pymoo_warnings import quiet_pymoo
from search.engines.tournaments import (
    win_within_niches,
)
from supernet.space import SearchSpace

_ATTEMPTS = 8


def evolve(
    space: SearchSpace,
    score: Score,
    seeds: Rows,
    *,
    population: int,
    generations: int,
    most_directions: int,
    rng: np.random.Generator,
) -> Visited:
    """Run U-NSGA-III (Seada and Deb 2016) on cheap or predicted values.

    The counterpart of :func:`search.engines.array_nsga2.evolve`, with the same arguments and one
    more.

    Args:
        space: Where to search.
        score: Rows in; objectives to minimise and violations out.
        seeds: Distinct canonical rows to start from, at least one.
        population: Survivors of a generation.
        generations: Number of generations after the first.
        most_directions: Reference directions, at most.
        rng: Source of randomness.

    Returns:
        Every distinct row that was scored.
    """
    seen = _join(None, seeds[:population], score)
    algorithm = build_algorithm(population, seen.points.shape[1], most_directions=most_directions)
    known = {row.tobytes() for row in seen.positions}
    with quiet_pymoo():
        algorithm.setup(
            view(seen), termination=NoTermination(), seed=int(rng.integers(2**31)), verbose=False
        )
        algorithm.tell(infills=individuals(seen, np.arange(len(seen))))
        for _ in range(generations):
            children = _children(space, algorithm, seen, population, known, rng)
            if not len(children):
                break
            before = len(seen)
            seen = _join(seen, children, score)
            algorithm.tell(infills=individuals(seen, np.arange(before, len(seen))))
    return Visited(seen.positions, seen.points, seen.violations)


def _children(
    space: SearchSpace,
    algorithm: UNSGA3,
    seen: Evaluated,
    count: int,
    known: set[bytes],
    rng: np.random.Generator,
) -> Rows:
    """New rows by tournaments within niches; they are added to ``known``."""
    select = tournament(algorithm.pop, seen, win_within_niches(algorithm.pop))
    found: list[NDArray[np.int16]] = []
    for _ in range(_ATTEMPTS):
        mothers, fathers = select(count, rng)
        for row in vary(space, seen.positions[mothers], seen.positions[fathers], rng):
            if row.tobytes() not in known and len(found) < count:
                known.add(row.tobytes())
                found.append(row)
        if len(found) == count:
            break
    return np.stack(found) if found else seen.positions[:0]


def _join(seen: Evaluated | None, rows: Rows, score: Score) -> Evaluated:
    """What was scored so far and these rows."""
    positions, batches = rows, np.zeros(len(rows), np.int64)
    objectives, violations = score(rows)
    if seen is not None:
        positions = np.concatenate((seen.positions, positions))
        objectives = np.concatenate((seen.points, objectives))
        violations = np.concatenate((seen.violations, violations))
        batches = np.concatenate((seen.batches, batches + int(seen.batches[-1]) + 1))
    count = objectives.shape[1]
    return Evaluated(positions, objectives, violations, batches, np.zeros(count), np.ones(count))
