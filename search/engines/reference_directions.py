"""Reference directions: weight vectors spread evenly over the simplex."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.util.reference_direction import (
    UniformReferenceDirectionFactory,
    get_partition_closest_to_points,
)


def spread_directions(objectives: int, most: int) -> NDArray[np.float64]:
    """Evenly spread weight vectors ``(k, objectives)``, the most that are not more than ``most``.

    Das and Dennis 1998; never fewer than one for each objective.
    """
    parts = max(get_partition_closest_to_points(most, objectives), 1)
    return np.asarray(UniformReferenceDirectionFactory(objectives, n_partitions=parts).do())


def build_directed(
    algorithm: type[NSGA3], population: int, objectives: int, **settings: object
) -> NSGA3:
    """A new NSGA-III, or one of its kind, with spread directions.

    There are as many directions as survivors, or the next lower number there is.

    Args:
        algorithm: Its class.
        population: Survivors; more where the objectives outnumber them.
        objectives: Number of objectives.
        **settings: Operators and whatever else the class takes.
    """
    weights = spread_directions(objectives, population)
    return algorithm(weights, pop_size=max(population, len(weights)), output=None, **settings)
