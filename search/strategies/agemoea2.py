"""AGE-MOEA-II on real evaluations: survivors follow the estimated shape of the front."""

from __future__ import annotations

# pymoo answers a missing numba with a bare Exception; imported first, it is named.
import numba  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.age2 import AGEMOEA2

from search.evolution import Evaluated, Evolution, Indices, Selection, numbers, replay, tournament
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that models the shape of the front (Panichella 2022); needs numba"


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """The lower rank wins, then the larger survival score: proximity over closeness to others."""
    survivors = replay(AGEMOEA2(pop_size=population, output=None), seen, population).pop
    rank, score = numbers(survivors, "rank", np.inf), numbers(survivors, "crowding", 0.0)
    place = np.lexsort((-np.nan_to_num(score), rank)).argsort()

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.asarray(place[first] < place[second])

    return tournament(survivors, seen, better)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
