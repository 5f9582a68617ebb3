"""U-NSGA-III on real evaluations: NSGA-III whose parents compete within their niche."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.unsga3 import UNSGA3

from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Indices,
    Selection,
    coins,
    directions,
    numbers,
    replay,
    tournament,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "NSGA-III with parents that compete within a niche, for any number of objectives"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """Within a niche the lower rank wins, then the nearer to the direction; else chance.

    Seada and Deb 2016, algorithm 2.
    """
    weights = directions(len(problem.objectives), population)
    algorithm = UNSGA3(weights, pop_size=max(population, len(weights)), output=None)
    survivors = replay(algorithm, seen, population).pop
    niche = numbers(survivors, "niche", -1)
    place = np.lexsort((numbers(survivors, "dist_to_niche", np.inf),
                        numbers(survivors, "rank", np.inf))).argsort()  # fmt: skip

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        same = niche[first] == niche[second]
        return np.where(same, place[first] < place[second], coins(len(first), rng))

    return tournament(survivors, seen, better)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
