"""Rows one change away from others, for many rows at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from supernet.space import SearchSpace

Rows = NDArray[np.int16]


def row_keys(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """A 64-bit hash of every row of ``(n, d)``; two of a million rows collide once in 10 million.

    Hashing one product of integers is several times faster than comparing rows as bytes.
    """
    array = np.asarray(rows)
    factors = np.random.default_rng(array.shape[1]).integers(1, 2**62, array.shape[1]) * 2 + 1
    # Positions are shifted so that zeros count; overflow wraps, as a hash may.
    keys: NDArray[np.int64] = (array.astype(np.int64) + 1) @ factors
    return keys


def unique_rows(rows: NDArray[np.integer]) -> Rows:
    """The distinct rows of ``(n, d)``, in the order of their first appearance."""
    array = np.ascontiguousarray(rows, dtype=np.int16)
    if len(array) < 2:
        return array
    _, first = np.unique(row_keys(array), return_index=True)
    return array[np.sort(first)]


def neighbourhood(space: SearchSpace, rows: NDArray[np.integer]) -> Rows:
    """All distinct canonical rows one change of an active choice away from any of ``(n, d)``."""
    return unique_rows(one_change(space, rows))


def one_change(space: SearchSpace, rows: NDArray[np.integer]) -> Rows:
    """The same with repeats, for callers that drop what they know anyway."""
    origin = np.asarray(rows, dtype=np.int16)
    active = space.active(origin)
    changed = []
    for shift in range(1, int(space.cardinalities.max(initial=1))):
        row, column = np.nonzero(active & (space.cardinalities > shift))
        copies = origin[row]
        at = np.arange(len(row))
        copies[at, column] = (copies[at, column] + shift) % space.cardinalities[column]
        changed.append(copies)
    if not changed:
        return origin[:0]
    return space.canonical(np.concatenate(changed))
