"""R-NSGA-III (Vesikar, Deb and Blank 2018): survivors gather around aspiration points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.rnsga3 import RNSGA3

from search.engines.reference_directions import spread_directions
from search.engines.tournaments import select_parents, win_by_chance


def build_algorithm(
    population: int,
    objectives: int,
    *,
    aspirations: NDArray[np.float64] | None = None,
    width: float = 0.5,
    **operators: object,
) -> RNSGA3:
    """A new R-NSGA-III.

    Args:
        population: Survivors, at most.
        objectives: Their number.
        aspirations: Points ``(k, objectives)`` on a scale where the best values of the front are 0
            and its worst ones 1; by default :func:`spread_aspirations`.
        width: Size of the neighbourhood of each on the front, as a share of the whole front.
        operators: As for every algorithm.
    """
    points = spread_aspirations(objectives) if aspirations is None else aspirations
    each = len(spread_directions(objectives, (population - objectives) // len(points)))
    return RNSGA3(
        points,
        pop_per_ref_point=each,
        mu=width,
        selection=select_parents(lambda survivors: win_by_chance),
        output=None,
        **operators,
    )


def spread_aspirations(objectives: int) -> NDArray[np.float64]:
    """The middle of the front, and one point half way from there to each end, ``(m + 1, m)``."""
    m = objectives
    return np.concatenate((np.full((1, m), 1 / m), 0.5 / m + 0.5 * (1 - np.eye(m)) / (m - 1)))
