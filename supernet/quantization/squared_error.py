"""Which of several ranges has the quantizer with the least squared error on a density.

The error is a closed formula of the density integrated once and twice, so it costs as much as there
are levels, however many values or bins there are. What clipping alone costs is cheaper still, and a
range that loses more by it than another does in all needs no further look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernet.quantization.quantizers import SMALLEST_STEP

Floats = NDArray[np.float64]
# So many errors take no longer than bounds for them.
_FEW = 26
_LOOKED_AT_FIRST = 8
# Of the second moment: far above what rounding adds to a bound, far below any error that matters.
_MARGIN = 1e-9


class Range(NamedTuple):
    """What an activation is clipped to, in its own unit."""

    low: float
    high: float


@dataclass(frozen=True)
class Density:
    """Values by bins of one width, which is a power of two, taken as even within a bin.

    Args:
        first: Place of the first bin: it begins at ``first * width``.
        counts: Values in each bin, ``(bins,)``, int64.
        width: Width of a bin.
    """

    first: int
    counts: NDArray[np.int64]
    width: float


class DensityIntegrals:
    """A density integrated once and twice, in units of its bins.

    Rounding to levels ``v`` that are ``s`` apart, with borders ``b`` half way between them, has the
    squared error ``E[(x - v_last)^2] - 2 s sum_b E[max(b - x, 0)]`` (each border passed lowers the
    level by a step), and the second expectation is the density integrated twice up to ``b``.

    Args:
        density: Of the values other than 0.
    """

    def __init__(self, density: Density) -> None:
        counts, bins = density.counts, len(density.counts)
        self._width, self._first, self._last = density.width, density.first, density.first + bins
        mass = _accumulate(counts)
        # Whole numbers are added up several times faster, and exactly.
        self._twice = _accumulate(2 * mass[:-1] + counts).astype(np.float64) / 2
        self._mass = mass.astype(np.float64)
        self._half = np.append(counts, 0) / 2
        edges = np.arange(self._first, self._last + 1, dtype=np.float64)
        values = counts.astype(np.float64)
        self._moment = float(np.dot(np.diff(edges * edges / 2), values))
        self._second = float(np.dot(np.diff(edges * edges * edges / 3), values))

    def find_least(self, tried: Sequence[Range], levels: int) -> Range:
        """Find the range whose quantizer has the least error, the first of equal ones.

        Args:
            tried: Ranges that hold 0.
            levels: Steps between the lowest and the highest level.
        """
        low, high = np.array(tried, dtype=np.float64).T
        scale, zero_point = _spread_levels(low, high, levels)
        scale = scale / self._width
        if len(tried) < _FEW:
            return tried[int(self._measure(scale, zero_point, levels).argmin())]
        errors = np.full(len(tried), np.inf)
        first = slice(0, _LOOKED_AT_FIRST)
        errors[first] = self._measure(scale[first], zero_point[first], levels)
        hopeful = self._bound(scale, zero_point, levels) <= errors.min() + _MARGIN * self._second
        hopeful[first] = False
        if hopeful.any():
            errors[hopeful] = self._measure(scale[hopeful], zero_point[hopeful], levels)
        return tried[int(errors.argmin())]

    def _measure(self, scale: Floats, zero_point: Floats, levels: int) -> Floats:
        """Squared errors of quantizers ``(n,)``."""
        last = (levels - zero_point) * scale
        beyond = self._second - 2 * last * self._moment + last**2 * self._mass[-1]
        border = np.arange(levels, dtype=np.float64) + 0.5
        borders = (border - zero_point[:, None]) * scale[:, None]
        errors: Floats = beyond - 2 * scale * self._integrate_twice(borders).sum(1)
        return errors

    def _bound(self, scale: Floats, zero_point: Floats, levels: int) -> Floats:
        """What quantizers ``(n,)`` lose at least: what they clip, on either side.

        Its mean square is no less than the square of its mean, which takes no further integral.
        """
        low, high = -zero_point * scale, (levels - zero_point) * scale
        total = self._mass[-1]
        below, above = self._integrate_twice(np.stack((low, high)))
        above += self._moment - high * total
        bins = len(self._half) - 1
        most_below = self._mass[np.ceil(low - self._first).clip(0, bins).astype(np.intp)]
        most_above = total - self._mass[np.floor(high - self._first).clip(0, bins).astype(np.intp)]
        lost: Floats = below**2 / most_below.clip(min=1) + above**2 / most_above.clip(min=1)
        return lost

    def _integrate_twice(self, points: Floats) -> Floats:
        """The density integrated twice up to points of any shape, in that shape."""
        inside = np.minimum(np.maximum(points, self._first), self._last)
        rest = inside - self._first
        bins = rest.astype(np.intp)
        rest -= bins
        within = self._half.take(bins)
        within *= rest
        within += self._mass.take(bins)
        within *= rest
        within += self._twice.take(bins)
        if self._last < float(points.max()):
            within += (points - inside).clip(min=0) * self._mass[-1]
        return within


def _accumulate(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the first 0 to all values, ``(n,)`` to ``(n + 1,)``."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def _spread_levels(low: Floats, high: Floats, levels: int) -> tuple[Floats, Floats]:
    """:func:`supernet.quantization.ranges.choose_affine` for ranges ``(n,)`` that hold 0."""
    high = np.where(low == high, 1.0, high)
    scale = ((high - low) / levels).clip(min=SMALLEST_STEP).astype(np.float32).astype(np.float64)
    return scale, np.rint(-low / scale).clip(0, levels)
