"""Statistics that images are normalised by: the value of a field, and published ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """What images are normalised by: statistics of each channel, pixels in 0...1.

    Args:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = PixelStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = PixelStatistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
DIGITS = PixelStatistics((0.3,), (0.37,))
CLUTTER = PixelStatistics((0.18,), (0.27,))
