"""Finite pools: searches confined to given rows, such as the entries of a published table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
