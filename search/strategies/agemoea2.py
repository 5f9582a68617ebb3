"""AGE-MOEA-II on real evaluations: survivors follow the estimated shape of the front."""

from __future__ import annotations

from typing import Any

# pymoo answers a missing numba with a bare Exception; imported first, it is named.
import numba  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.age2 import AGEMOEA2, AGEMOEA2Survival

from search.engines.pymoo_replay import (
    Evaluated,
    Evolution,
    Indices,
    Points,
    Selection,
    numbers,
    replay,
    tournament,
)
from search.problem import SearchProblem
from search.strategy import FitPredictor, Strategy

SUMMARY = "evolution that models the shape of the front (Panichella 2022); needs numba"
# pymoo rounds fronts to twelve digits.
_FLAT = 1e-11


class Survival(AGEMOEA2Survival):  # type: ignore[misc]
    """The survival of AGE-MOEA-II, also where the whole front is copies of one point.

    Such a front has no shape, and pymoo divides by its extent.
    """

    def survival_score(self, front: Points, ideal_point: Points) -> tuple[Points, float, Points]:
        """Scores ``(k,)`` of a front ``(k, m)``, exponent of its shape, and its scale ``(m,)``."""
        if (np.ptp(front, axis=0) < _FLAT).all():
            return np.zeros(len(front)), 1.0, np.ones(front.shape[1])
        found: tuple[Points, float, Points] = super().survival_score(front, ideal_point)
        return found


def algorithm(population: int, **options: Any) -> AGEMOEA2:
    """A new AGE-MOEA-II with so many survivors, and options of pymoo."""
    made = AGEMOEA2(pop_size=population, output=None, **options)
    made.survival = Survival()
    return made


def rebuild(problem: SearchProblem, seen: Evaluated, population: int) -> Selection:
    """The lower rank wins, then the larger survival score: proximity over closeness to others."""
    survivors = replay(algorithm(population), seen, population).pop
    rank, score = numbers(survivors, "rank", np.inf), numbers(survivors, "crowding", 0.0)
    place = np.lexsort((-np.nan_to_num(score), rank)).argsort()

    def better(first: Indices, second: Indices, rng: np.random.Generator) -> NDArray[np.bool_]:
        return np.asarray(place[first] < place[second])

    return tournament(survivors, seen, better)


def build(fit: FitPredictor | None = None) -> Strategy:
    """The strategy with its defaults; ``fit`` is not used."""
    return Evolution(rebuild)
