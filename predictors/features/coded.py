"""Architectures as features of a Gaussian process: values by order or as names, and statistics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from predictors.features.encoding import (
    Standardised,
    one_hot,
    one_hot_owners,
    thermometer,
    thermometer_owners,
)
from supernet.space import SearchSpace

Rows = NDArray[np.integer]


def has_names_alone(space: SearchSpace) -> bool:
    """Whether all values are words, such as operations, which have no order to look for."""
    return all(isinstance(value, str) for choice in space.choices for value in choice.values)


def code_positions(
    space: SearchSpace, ordered: bool, positions: Rows
) -> NDArray[np.bool_ | np.float64]:
    """Code positions ``(n, len(space))`` by order or as names, ``(n, columns)``."""
    return thermometer(space, positions) if ordered else one_hot(space, positions)


def find_owners(space: SearchSpace, ordered: bool) -> NDArray[np.intp]:
    """The choice of every column of such a code, ``(columns,)``."""
    return thermometer_owners(space) if ordered else one_hot_owners(space)


def join_features(
    space: SearchSpace, ordered: bool, free: Standardised, positions: Rows
) -> NDArray[np.float64]:
    """Code and statistics side by side, ``(n, columns + len(free))``."""
    return np.concatenate((code_positions(space, ordered, positions), free(positions)), axis=1)
