"""Reference directions: weight vectors spread evenly over the simplex."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
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
