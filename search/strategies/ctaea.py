"""C-TAEA on real evaluations: an archive that converges and one that explores beyond limits."""

from __future__ import annotations

import numpy as np
from pymoo.core.population import Population
from pymoo.core.termination import NoTermination

from search.arrays.pareto import nondominated
from search.engines.algorithms.ctaea import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    generations,
    individuals,
    tournament,
    view,
)
from search.engines.pymoo_warnings import quiet_pymoo
from search.engines.tournaments import (
    Indices,
    win_by_dominance,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution with two archives, for limits that are hard to meet (Li et al. 2019)"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Parents from either archive, as their shares of the joint front say (algorithm 5)."""
    convergent, diverse = archives(seen, population)
    front = nondominated(np.concatenate((convergent.get("F"), diverse.get("F"))))
    share = front[: len(convergent)].sum() / len(front)
    from_convergent = share > front[len(convergent) :].sum() / len(front)
    first = tournament(convergent, seen, win_by_dominance(convergent.get("F")))
    second = tournament(diverse, seen, win_by_dominance(diverse.get("F")))

    def select(count: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
        ours, theirs = first(count, rng), second(count, rng)
        fathers = np.where(rng.random(count) < share, ours[1], theirs[1])
        return (ours if from_convergent else theirs)[0], fathers

    return select


def archives(seen: Evaluated, population: int) -> tuple[Population, Population]:
    """The convergence archive and the diversity archive after all evaluations.

    pymoo takes as many of the last ones of archive and children for the children, and never
    returns from an update with fewer rows than that. So everything stays until there are enough,
    and what a short round would have counted twice is left out of the diversity archive.
    """
    algorithm = build_algorithm(population, seen.points.shape[1])
    size = algorithm.pop_size
    everyone = individuals(seen, np.arange(len(seen)))
    if len(seen) <= size:
        return everyone, everyone
    with quiet_pymoo():
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
