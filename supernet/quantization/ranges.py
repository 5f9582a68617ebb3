"""Ranges of activations, estimated in one pass over streamed batches, and the quantizers they give.

All estimators but :class:`MinMax` read one histogram of bounded size. Its bins are as wide as a
power of two and start at 0, so that growing it merges whole bins: what it holds in the end is a
function of the values alone, whatever batches they came in and in whatever order.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.quantization.quantizers import SMALLEST_STEP, anchored_step, count_steps_to_bend
from supernet.quantization.squared_error import Density, DensityIntegrals, Range

# On either side of 0; the larger side uses half of them or more.
BINS = 8192

# Narrower bins would leave float32; whatever is smaller falls into the bins beside 0.
SMALLEST_EXPONENT = -100
_LARGEST = torch.finfo(torch.float32).max

COARSE_SHARES = torch.logspace(0, -3, 32, dtype=torch.float64).tolist()
FINE_SHARES = torch.linspace(0.8, 1.26, 24, dtype=torch.float64).tolist()
THRESHOLDS = 128

WIDEST = 1.5
"""How many times as long a range may become to begin at -3."""


class AffineScale(NamedTuple):
    """An unsigned quantizer of a tensor.

    Attributes:
        scale: A float32 number, positive.
        zero_point: Level of 0.
    """

    scale: float
    zero_point: int


class RangeEstimator(Protocol):
    """Sees the batches of an activation one after the other, then says how far levels reach."""

    def observe(self, values: Tensor) -> None:
        """Take in one batch, of any shape.

        Raises:
            InputError: If the batch is empty or holds NaN or infinity.
        """
        ...

    def finish(self, levels: int = 255) -> Range:
        """Give the range for ``levels`` steps of a quantizer.

        Raises:
            InputError: If nothing was observed.
        """
        ...


def choose_affine(
    low: float, high: float, levels: int = 255, upper_limit: float | None = None
) -> AffineScale:
    """Spread levels evenly over a range, widened to hold 0, which is a level of its own.

    Args:
        low: Lower end; from 0 on the zero point is 0.
        high: Upper end.
        levels: Steps between the lowest and the highest level, 255 for 8 bits.
        upper_limit: Where the activation itself saturates (6 for ReLU6): no level lies above.

    Returns:
        Scale and zero point; a range of nothing but 0 gets those of ``[0, 1]``.
    """
    low = min(low, 0.0)
    high = max(high if upper_limit is None else min(high, upper_limit), 0.0)
    if low == high:
        high = 1.0
    scale = _float32(max((high - low) / levels, SMALLEST_STEP))
    return AffineScale(scale, min(max(round(-low / scale), 0), levels))


def may_be_anchored(low: float, high: float) -> bool:
    """Whether levels from -3 up are fine enough for a range that is read by hard swish.

    They are where steps grow by half at most. Tensors that never come near -3 would lose bits.

    Args:
        low: Lower end.
        high: Upper end.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    return high + 3 <= WIDEST * (high - low)


def choose_anchored(high: float, levels: int = 255) -> AffineScale:
    """Spread levels evenly from -3, which is level 0, to at least an upper end.

    Args:
        high: Upper end.
        levels: Steps between the lowest and the highest level.

    Returns:
        Scale and zero point. With steps above 3, the lowest level is 0.
    """
    wanted = torch.tensor((max(high, 0.0) + 3) / levels, dtype=torch.float32)
    scale = anchored_step(wanted)
    return AffineScale(float(scale), int(count_steps_to_bend(scale)))


class MinMax:
    """The extremes of all that was observed.

    Args:
        key: Name of the activation, for messages.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._extremes = _Extremes(key)

    def observe(self, values: Tensor) -> None:
        """See :class:`RangeEstimator`."""
        self._extremes.observe(values)

    def finish(self, levels: int = 255) -> Range:
        """See :class:`RangeEstimator`; the number of levels does not matter."""
        return self._extremes.so_far()


class Percentile:
    """The range that holds a share of all values, with as many left out on either side.

    Args:
        key: Name of the activation, for messages.
        percent: The share, in percent, above 0 and up to 100.
    """

    def __init__(self, key: str, percent: float = 99.99) -> None:
        if not 0 < percent <= 100:
            raise InputError(f"a percentile range of {percent} % is not within 0 and 100")
        self._outside = (1 - percent / 100) / 2
        self._histogram = Histogram(key)

    def observe(self, values: Tensor) -> None:
        """See :class:`RangeEstimator`."""
        self._histogram.observe(values)

    def finish(self, levels: int = 255) -> Range:
        """See :class:`RangeEstimator`; the number of levels does not matter."""
        seen = self._histogram.extremes()
        low = self._histogram.quantile(self._outside)
        high = self._histogram.quantile(1 - self._outside)
        return Range(max(low, seen.low), min(high, seen.high))


class MeanSquaredError:
    """The range whose quantizer has the least mean squared error.

    The error is that of the histogram, taken as flat within a bin, where it is a closed formula.
    Both ends, the range widened to hold 0, are drawn in together on a geometric grid down to a
    thousandth, then each alone, then each alone on a fine grid around the best.

    Args:
        key: Name of the activation, for messages.
    """

    def __init__(self, key: str) -> None:
        self._histogram = Histogram(key)

    def observe(self, values: Tensor) -> None:
        """See :class:`RangeEstimator`."""
        self._histogram.observe(values)

    def finish(self, levels: int = 255) -> Range:
        """See :class:`RangeEstimator`."""
        low, high = self._histogram.extremes()
        widest = Range(min(low, 0.0), max(high, 0.0))
        integrals = DensityIntegrals(self._histogram.density())
        tried = [Range(widest.low * share, widest.high * share) for share in COARSE_SHARES]
        best = integrals.find_least(tried, levels)
        one_sided = widest.low == 0 or widest.high == 0
        for shares, around_best in ((COARSE_SHARES, False), (FINE_SHARES, True)):
            if one_sided and not around_best:
                continue  # Drawing in both ends was drawing in this one.
            start = best if around_best else widest
            if widest.low < 0:
                tried = [Range(max(start.low * share, widest.low), best.high) for share in shares]
                best = integrals.find_least([best, *tried], levels)
            if widest.high > 0:
                tried = [Range(best.low, min(start.high * share, widest.high)) for share in shares]
                best = integrals.find_least([best, *tried], levels)
        return best


class Entropy:
    """The range whose quantized histogram keeps the most information (TensorRT's calibration).

    Over magnitudes: of the thresholds tried, the one where the histogram clipped to it (what lies
    beyond counted into the last bin) has the least Kullback-Leibler divergence to itself merged
    into as many bins as the quantizer has levels there (Migacz, "8-bit inference with TensorRT",
    2017). Zeros are exact in every quantizer and stay out of it.

    Args:
        key: Name of the activation, for messages.
    """

    def __init__(self, key: str) -> None:
        self._histogram = Histogram(key)

    def observe(self, values: Tensor) -> None:
        """See :class:`RangeEstimator`."""
        self._histogram.observe(values)

    def finish(self, levels: int = 255) -> Range:
        """See :class:`RangeEstimator`."""
        seen = self._histogram.extremes()
        one_sided = seen.low >= 0 or seen.high <= 0
        merged = levels if one_sided else max(levels // 2, 1)
        threshold = self._histogram.width * _least_divergence(self._histogram.magnitudes(), merged)
        return Range(max(seen.low, -threshold), min(seen.high, threshold))


class Histogram:
    """Counts of streamed values in bins of one width, in one pass and bounded memory.

    Args:
        key: Name of the activation, for messages.

    Attributes:
        width: Width of a bin, a power of two: the least at which every value has a bin.
    """

    def __init__(self, key: str) -> None:
        self._extremes = _Extremes(key)
        self._exponent: int | None = None
        self._zeros = 0
        self._counts = torch.zeros(2 * BINS, dtype=torch.int64)

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self._exponent or 0)

    def observe(self, values: Tensor) -> None:
        """Count one batch.

        Raises:
            InputError: If the batch is empty or holds NaN or infinity.
        """
        self._extremes.observe(values)
        # In the order of memory, whatever the layout: nothing is copied.
        by_stride = sorted(range(values.dim()), key=values.stride, reverse=True)
        values = _float32_or_better(values).permute(by_stride).flatten()
        zeros = int((values == 0).sum())
        self._zeros += zeros
        if zeros == values.numel():
            return
        self._grow()
        # Multiplying by a power of two is exact, in float32 too.
        bins = (values * (1 / self.width)).floor_().to(torch.int16).add_(BINS)
        self._counts += torch.bincount(bins, minlength=2 * BINS).cpu()
        self._counts[BINS] -= zeros

    def extremes(self) -> Range:
        """Give the extremes of what was observed.

        Raises:
            InputError: If nothing was observed.
        """
        return self._extremes.so_far()

    def density(self) -> Density:
        """Give the values other than 0 as a density between the outermost bins in use."""
        counts = self._counts.numpy()
        used = np.flatnonzero(counts)
        if not len(used):
            return Density(0, np.zeros(1, dtype=np.int64), 1.0)
        first, last = int(used[0]), int(used[-1])
        return Density(first - BINS, counts[first : last + 1], self.width)

    def magnitudes(self) -> Tensor:
        """Count by magnitude, up to the last bin in use: ``(bins,)``, float64, without zeros."""
        counts = self._counts[BINS:] + self._counts[:BINS].flip(0)
        used = torch.nonzero(counts).flatten()
        return counts[: int(used[-1]) + 1 if used.numel() else 1].to(torch.float64)

    def quantile(self, share: float) -> float:
        """Give the value below which a share of all values lies, interpolated within its bin."""
        counts = self._counts.to(torch.float64)
        total = float(counts.sum()) + self._zeros
        below_zero = float(counts[:BINS].sum())
        rank = share * total
        if below_zero <= rank <= below_zero + self._zeros and self._zeros:
            return 0.0
        if rank > below_zero:
            rank -= self._zeros
        cumulative = counts.cumsum(0)
        index = min(int(torch.searchsorted(cumulative, rank)), 2 * BINS - 1)
        before = float(cumulative[index] - counts[index])
        inside = (rank - before) / max(float(counts[index]), 1.0)
        return (index - BINS + inside) * self.width

    def _grow(self) -> None:
        """Double the bins' width until the extremes have a bin."""
        low, high = self._extremes.so_far()
        exponent = max(math.frexp(max(high, -low) / BINS)[1], SMALLEST_EXPONENT)
        if self._exponent is not None and exponent > self._exponent:
            old = torch.arange(-BINS, BINS)
            new = (old >> min(exponent - self._exponent, 62)) + BINS
            self._counts = torch.zeros_like(self._counts).index_add_(0, new, self._counts)
        if self._exponent is None or exponent > self._exponent:
            self._exponent = exponent


class _Extremes:
    """Lowest and highest value observed, refused where they are no numbers."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._low, self._high = math.inf, -math.inf

    def observe(self, values: Tensor) -> None:
        if not values.numel():
            raise InputError(f"{self._key}: a calibration batch is empty; give at least one sample")
        low, high = (float(extreme) for extreme in values.detach().aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            found = "NaN" if math.isnan(low) or math.isnan(high) else "infinity"
            raise InputError(
                f"{self._key}: the activation holds {found} on the calibration data; check the "
                "data and the network's weights"
            )
        if max(high, -low) > _LARGEST:
            raise InputError(
                f"{self._key}: the activation reaches {max(high, -low):.1e} on the calibration "
                "data, beyond the float32 that steps are stored in; check the network's weights"
            )
        self._low, self._high = min(self._low, low), max(self._high, high)

    def so_far(self) -> Range:
        if self._low > self._high:
            raise InputError(
                f"{self._key}: no activation was observed; calibrate with at least one batch"
            )
        return Range(self._low, self._high)


def _least_divergence(counts: Tensor, merged: int) -> int:
    """Give how many bins of magnitudes to keep, at least one for each level."""
    bins = len(counts)
    if bins <= merged:
        return bins
    kept = torch.linspace(merged, bins, THRESHOLDS, dtype=torch.float64).round().to(torch.int64)
    tried = [int(count) for count in kept.unique()]
    # Of equal ones the widest is taken: nothing is clipped for nothing.
    return min(reversed(tried), key=lambda count: _divergence(counts, count, merged))


def _divergence(counts: Tensor, kept: int, merged: int) -> float:
    """Compute KL(clipped histogram || histogram merged to levels) in nats."""
    inside = counts[:kept]
    reference = inside.clone()
    reference[-1] += counts[kept:].sum()
    level = torch.arange(kept) * merged // kept
    occupied = inside > 0
    totals = torch.zeros(merged, dtype=torch.float64).index_add_(0, level, inside)
    places = torch.zeros(merged, dtype=torch.float64).index_add_(0, level, occupied.double())
    spread = torch.where(occupied, (totals / places.clamp(min=1))[level], 0)
    if not float(spread.sum()):
        return math.inf
    p, q = reference / reference.sum(), spread / spread.sum()
    # A last bin that only holds what was clipped has no counterpart; a small one keeps it finite.
    return float(torch.special.xlogy(p, p / q.clamp(min=1e-12)).sum())


def _float32_or_better(values: Tensor) -> Tensor:
    values = values.detach()
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _float32(value: float) -> float:
    return float(np.float32(value))
