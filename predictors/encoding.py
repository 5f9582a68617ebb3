"""Architectures as numeric features; the vocabulary comes from the space, never from data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace

Features = NDArray[np.float64]


def one_hot(space: SearchSpace, positions: NDArray[np.integer]) -> Features:
    """Masked one-hot code: one column per legal value, all zero for a choice that is inert.

    Args:
        space: Defines the columns, so that training and prediction cannot disagree.
        positions: Option positions, shape ``(n, len(space))``; inert entries may hold anything.

    Returns:
        Zeros and ones, shape ``(n, total number of legal values)``.
    """
    positions = np.asarray(positions)
    cardinalities = space.cardinalities.astype(np.intp)
    width = int(cardinalities.sum())
    starts = np.concatenate(([0], np.cumsum(cardinalities)[:-1])).astype(np.intp)
    features = np.zeros((len(positions), width))
    columns = positions + starts + np.arange(len(positions))[:, None] * width
    # Writing through flat indices is several times faster than comparing every column.
    features.reshape(-1)[columns.reshape(-1)] = space.active(positions).reshape(-1)
    return features


def ordinal(space: SearchSpace, positions: NDArray[np.integer]) -> Features:
    """One column per choice: the position scaled to (0, 1], and 0 for a choice that is inert.

    Args:
        space: Defines the columns.
        positions: Option positions, shape ``(n, len(space))``.

    Returns:
        Shape ``(n, len(space))``; suits trees, which split on order.
    """
    positions = np.asarray(positions)
    scaled: Features = (positions + 1.0) / space.cardinalities * space.active(positions)
    return scaled
