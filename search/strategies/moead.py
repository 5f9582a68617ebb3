"""MOEA/D on real evaluations: one scalar problem per weight, neighbours help each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pymoo.core.termination import NoTermination

from search.arrays.scaling import penalise
from search.engines.algorithms.moead import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    generations,
    individuals,
    view,
)
from search.engines.pymoo_warnings import quiet_pymoo
from search.engines.tournaments import (
    Indices,
    Points,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution of one architecture per weighting of the objectives (Zhang, Li 2007)"
_NEAR = 0.9


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents from the neighbourhood of one weight after another, at times from anywhere.

    A published run replaces in the neighbourhood of the weight a child was made for. A history
    does not say which that was, so a child counts for the weight it suits best, which converges
    better as well (Wang et al. 2016, Adaptive replacement strategies for MOEA/D).
    """
    holders, neighbours = assignment(seen, population)

    def select(count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        rounds = -(-count // len(holders))
        weight = np.concatenate([rng.permutation(len(holders)) for _ in range(rounds)])[:count]
        near = neighbours[weight[:, None], rng.integers(neighbours.shape[1], size=(count, 2))]
        anywhere = rng.integers(len(holders), size=(count, 2))
        chosen = holders[np.where(rng.random((count, 1)) < _NEAR, near, anywhere)]
        return chosen[:, 0], chosen[:, 1]

    return select


def assignment(seen: Evaluated, population: int) -> tuple[Indices, Indices]:
    """Which row holds each weight ``(k,)``, and the weights near each, ``(k, t)``."""
    limited = penalised(seen)
    algorithm = build_algorithm(population, seen.points.shape[1])
    weights = algorithm.ref_dirs
    with quiet_pymoo():
        algorithm.setup(
            view(seen, constrained=False), termination=NoTermination(), seed=0, verbose=False
        )
        for rows in generations(seen, len(weights)):
            told = individuals(limited, rows)
            cost = _costs(algorithm.decomposition.do, limited.points[rows], weights)
            if not algorithm.is_initialized:
                algorithm.tell(infills=told[cost.argmin(axis=0)])
            else:
                algorithm.indices = cost.argmin(axis=1)
                algorithm.tell(infills=told)
    return algorithm.pop.get("row").astype(np.intp), algorithm.neighbors


def penalised(seen: Evaluated) -> Evaluated:
    """Rows without limits, in which any infeasible one is worse than every feasible one.

    pymoo's MOEA/D knows no limits.
    """
    points = penalise(seen.points, seen.excess)
    return Evaluated(
        seen.positions, points, seen.violations[:, :0], seen.batches, seen.low, seen.span
    )


def _costs(
    decompose: Callable[..., NDArray[np.float64]], points: Points, weights: Points
) -> Points:
    """Every point under every weight, ``(points, weights)``."""
    ideal = np.minimum(points.min(axis=0), 0.0)
    pairs = np.repeat(points, len(weights), axis=0), np.tile(weights, (len(points), 1))
    cost = decompose(pairs[0], weights=pairs[1], ideal_point=ideal)
    return np.asarray(cost, dtype=np.float64).reshape(len(points), len(weights))


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
