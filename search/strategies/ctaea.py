"""C-TAEA on real evaluations: an archive that converges and one that explores beyond limits."""

from __future__ import annotations

import numpy as np
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.core.population import Population
from pymoo.core.termination import NoTermination

from search.arrays.pareto import nondominated
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Indices,
    Selection,
    directions,
    dominance,
    generations,
    individuals,
    quiet,
    tournament,
    view,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution with two archives, for limits that are hard to meet (Li et al. 2019)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents from either archive, as their shares of the joint front say (algorithm 5)."""
    convergent, diverse = archives(seen, directions(len(problem.objectives), population))
    front = nondominated(np.concatenate((convergent.get("F"), diverse.get("F"))))
    share = front[: len(convergent)].sum() / len(front)
    from_convergent = share > front[len(convergent) :].sum() / len(front)
    first = tournament(convergent, seen, dominance(convergent.get("F")))
    second = tournament(diverse, seen, dominance(diverse.get("F")))

    def select(count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        ours, theirs = first(count, rng), second(count, rng)
        fathers = np.where(rng.random(count) < share, ours[1], theirs[1])
        return (ours if from_convergent else theirs)[0], fathers

    return select


def archives(seen: Evaluated, weights: np.ndarray) -> tuple[Population, Population]:
    """The convergence archive and the diversity archive after all evaluations.

    pymoo takes the last ``len(weights)`` of archive and children for the children, and never
    returns from an update with fewer rows than that. So everything stays until there are enough,
    and what a short round would have counted twice is left out of the diversity archive.
    """
    size = len(weights)
    everyone = individuals(seen, np.arange(len(seen)))
    if len(seen) <= size:
        return everyone, everyone
    algorithm = CTAEA(weights, output=None)
    with quiet():
        algorithm.setup(view(seen), termination=NoTermination(), seed=0, verbose=False)
        for rows in generations(seen, size):
            if algorithm.da is not None:
                counted = algorithm.pop[len(rows) :].get("row") if len(rows) < size else rows[:0]
                algorithm.da = algorithm.da[~np.isin(algorithm.da.get("row"), counted)]
            algorithm.tell(infills=everyone[rows])
    return algorithm.pop, algorithm.da


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
