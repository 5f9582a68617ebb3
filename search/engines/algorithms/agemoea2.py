"""AGE-MOEA-II (Panichella 2022): survivors follow the estimated shape of the front."""

from __future__ import annotations

# pymoo answers a missing numba with a bare Exception; imported first, it is named.
import numba  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.age2 import AGEMOEA2, AGEMOEA2Survival

Points = NDArray[np.float64]
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


def build_algorithm(population: int, objectives: int, **operators: object) -> AGEMOEA2:
    """A new AGE-MOEA-II with so many survivors."""
    made = AGEMOEA2(pop_size=population, output=None, **operators)
    made.survival = Survival()
    return made
