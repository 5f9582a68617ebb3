"""How a search went, evaluation by evaluation: the best so far, and which values it tried when."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.analysis.positions import Encoded

Floats = NDArray[np.float64]

# More parts than this cannot be told apart in a chart, and fewer evaluations in a part say little.
_MOST_PARTS, _LEAST_IN_PART = 40, 8


def find_records(values: Floats, *, maximize: bool) -> NDArray[np.intp]:
    """Where a value is better than every one before it, places in rising order.

    Args:
        values: In the order they were found, ``(n,)``; NaN for one that failed.
        maximize: Whether more is better.
    """
    signed = values if maximize else -values
    best = np.fmax.accumulate(signed)
    before = np.concatenate(([-np.inf], best[:-1]))
    # While nothing was found yet, anything is better.
    return np.flatnonzero(signed > np.where(np.isnan(before), -np.inf, before))


def share_values(
    encoded: Encoded, column: int, cardinality: int
) -> tuple[NDArray[np.intp], Floats]:
    """How frequent each value of a choice was, part by part of a search.

    Args:
        encoded: Architectures in the order they were evaluated; all of them known.
        column: Which choice.
        cardinality: Number of its values.

    Returns:
        How many evaluations there were at the end of each part, ``(parts,)``, and the share of
        its networks with each value and, last, with an inert choice, ``(parts, cardinality + 1)``.
    """
    count = len(encoded.rows)
    parts = max(min(_MOST_PARTS, count // _LEAST_IN_PART), min(count, 1))
    edges = np.arange(parts + 1) * count // max(parts, 1)
    places = np.where(encoded.active[:, column], encoded.rows[:, column], cardinality)
    shares = [
        np.bincount(places[start:end], minlength=cardinality + 1) / (end - start)
        for start, end in pairwise(edges.tolist())
    ]
    return edges[1:], np.array(shares, dtype=np.float64).reshape(parts, cardinality + 1)
