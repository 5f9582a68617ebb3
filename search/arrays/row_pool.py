"""Finite pools: searches confined to given rows, such as the entries of a published table."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from search.arrays.neighbourhood import unique_rows
from supernet.space import SearchSpace

_BLOCK = 256


def nearest_rows(pool: NDArray[np.int16], rows: NDArray[np.integer]) -> NDArray[np.int16]:
    """For each of ``rows`` ``(k, d)`` the row of ``pool`` ``(n, d)`` that differs in the fewest
    choices; the first of equals."""
    found = np.empty(len(rows), dtype=np.intp)
    for start in range(0, len(rows), _BLOCK):
        part = np.asarray(rows[start : start + _BLOCK], dtype=np.int16)
        different = np.zeros((len(part), len(pool)), dtype=np.int16)
        for column in range(pool.shape[1]):
            different += part[:, column, None] != pool[None, :, column]
        found[start : start + _BLOCK] = different.argmin(1)
    return pool[found]


def all_rows(space: SearchSpace, most: int) -> NDArray[np.int16] | None:
    """Every distinct canonical row of a space, or ``None`` where combinations exceed ``most``."""
    sizes = tuple(int(size) for size in space.cardinalities)
    if prod(sizes) > most:
        return None
    grid = np.indices(sizes, dtype=np.int16).reshape(len(sizes), -1).T
    return unique_rows(space.canonical(grid))
