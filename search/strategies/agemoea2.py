"""AGE-MOEA-II on real evaluations: survivors follow the estimated shape of the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.engines.algorithms.agemoea2 import build_algorithm
from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Selection,
    replay,
    tournament,
)
from search.engines.tournaments import (
    Indices,
    read_attribute,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that models the shape of the front (Panichella 2022); needs numba"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """The lower rank wins, then the larger survival score: proximity over closeness to others."""
    survivors = replay(build_algorithm(population, len(problem.objectives)), seen, population).pop
    rank, score = (
        read_attribute(survivors, "rank", np.inf),
        read_attribute(survivors, "crowding", 0.0),
    )
    place = np.lexsort((-np.nan_to_num(score), rank)).argsort()

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.asarray(place[first] < place[second])

    return tournament(survivors, seen, better)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
