"""Whether predictions miss as far, and intervals hold as often, as a predictor says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Wanted shares at which intervals are judged, besides their own.
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# A part of the predictions with fewer values than this says nothing about its middle.
_LEAST_IN_PART = 8
_MOST_PARTS = 10
# Half a 95 % interval of a normal distribution, in standard deviations.
_WIDE = 1.96


@dataclass(frozen=True)
class Predicted:
    """Values and what a predictor that had not seen them said, all ``(n,)`` in the stored unit.

    Args:
        places: Which points of the front these are.
        mean: Predicted.
        low: Lower end of the interval of the prediction; NaN where there is none.
        high: Upper end.
        value: Found by evaluating.
    """

    places: NDArray[np.intp]
    mean: Floats
    low: Floats
    high: Floats
    value: Floats

    def select(self, kept: NDArray[np.bool_]) -> Predicted:
        """Those whose points a mask over all points keeps."""
        mine = kept[self.places]
        return Predicted(
            self.places[mine], self.mean[mine], self.low[mine], self.high[mine], self.value[mine]
        )

    @property
    def residuals(self) -> Floats:
        """Value less prediction."""
        return self.value - self.mean


@dataclass(frozen=True)
class Coverage:
    """How many values lie inside intervals.

    Args:
        wanted: The share that should.
        share: The share that does.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        values: How many were judged.
    """

    wanted: float
    share: float
    low: float
    high: float
    values: int


@dataclass(frozen=True)
class Part:
    """Predictions next to each other, and how far the values are off there.

    Args:
        mean: Mean prediction.
        residual: Median of value less prediction.
        values: How many.
    """

    mean: float
    residual: float
    values: int


def measure_coverage(found: Predicted, level: float) -> Coverage | None:
    """How many values lie inside the intervals of their predictions.

    Args:
        found: Predictions and values.
        level: The share that the intervals are for.

    Returns:
        ``None`` without any interval.
    """
    known = ~np.isnan(found.low) & ~np.isnan(found.high)
    inside = (found.low <= found.value) & (found.value <= found.high)
    return _count(inside[known], level)


def cover_levels(
    found: Predicted, level: float, levels: Sequence[float] = LEVELS
) -> tuple[Coverage, ...]:
    """How many values lie inside wider and narrower intervals, were errors normal.

    Args:
        found: Predictions and values.
        level: The share that the stored intervals are for, between 0 and 1.
        levels: The shares to judge.

    Returns:
        One for each level; nothing without any interval.
    """
    known = ~np.isnan(found.low) & ~np.isnan(found.high)
    mean = found.mean[known]
    # An end that the quantity cannot pass is nearer than the interval is wide.
    half = np.maximum(found.high[known] - mean, mean - found.low[known])
    off = np.abs(found.residuals[known])
    judged = []
    for wanted in levels:
        widening = _quantile(wanted) / _quantile(level)
        counted = _count(off <= half * widening, wanted)
        if counted is not None:
            judged.append(counted)
    return tuple(judged)


def split_residuals(found: Predicted) -> tuple[Part, ...]:
    """Medians of the residuals over parts of equal size, by rising prediction."""
    count = len(found.mean)
    parts = min(_MOST_PARTS, count // _LEAST_IN_PART)
    if parts < 2:
        return ()
    order = np.argsort(found.mean, kind="stable")
    return tuple(
        Part(
            float(found.mean[part].mean()),
            float(np.median(found.residuals[part])),
            len(part),
        )
        for part in np.array_split(order, parts)
    )


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _count(inside: NDArray[np.bool_], wanted: float) -> Coverage | None:
    count = len(inside)
    if not count:
        return None
    share = float(inside.mean())
    squared = _WIDE**2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    spread = share * (1 - share) / count + squared / (4 * count**2)
    half = _WIDE / (1 + squared / count) * float(np.sqrt(spread))
    return Coverage(wanted, share, max(centre - half, 0.0), min(centre + half, 1.0), count)
