"""Weights whose distribution bears many bit-widths: a penalty on kurtosis and skew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

UNIFORM_KURTOSIS = 1.8

# Below it, relative to the mean square, a variance is what rounding left of a constant weight.
SMALLEST_VARIANCE = 1e-12


def kurtosis(weight: Tensor) -> Tensor:
    """Compute the fourth standardised moment: 1.8 of a uniform, 3 of a normal distribution.

    Returns:
        A scalar, in float32 or better, differentiable; 0 of a constant weight.
    """
    return _standardised(weight).pow(4).mean()


def skewness(weight: Tensor) -> Tensor:
    """Compute the third standardised moment: 0 of a symmetric distribution.

    Returns:
        A scalar, in float32 or better, differentiable; 0 of a constant weight.
    """
    return _standardised(weight).pow(3).mean()


def distribution_penalty(
    weights: Iterable[Tensor],
    kurtosis_factor: float = 0.015,
    skew_factor: float = 1.0,
    target: float = UNIFORM_KURTOSIS,
) -> Tensor:
    """Penalise weights that are far from evenly distributed.

    ``kurtosis_factor * mean (kurtosis - target)**2 + skew_factor * mean skewness**2`` over the
    weights, each taken as a whole. A step fitted to a uniform distribution stays good when the
    number of its levels changes (EQ-Net, Xu et al., 2023: "weight distribution regularization",
    which leaves the first layer out).

    Args:
        weights: Weights of any shapes; those without two different entries do not count.
        kurtosis_factor: Factor of the first term.
        skew_factor: Factor of the second.
        target: Kurtosis without penalty.

    Returns:
        A scalar, differentiable; 0 without weights.
    """
    counted = [_standardised(weight) for weight in weights if _varies(weight)]
    if not counted:
        return torch.zeros(())
    of_kurtosis = torch.stack([(values.pow(4).mean() - target).square() for values in counted])
    of_skew = torch.stack([values.pow(3).mean().square() for values in counted])
    return kurtosis_factor * of_kurtosis.mean() + skew_factor * of_skew.mean()


def _varies(weight: Tensor) -> bool:
    return weight.numel() > 1 and bool((weight != weight.flatten()[0]).any())


def _standardised(weight: Tensor) -> Tensor:
    precise = weight.to(torch.promote_types(weight.dtype, torch.float32))
    # Moments of any scale are the same; of tiny weights they would underflow.
    largest = precise.detach().abs().amax()
    scaled = precise / torch.where(largest > 0, largest, torch.ones_like(largest))
    centred = scaled - scaled.mean()
    variance = centred.square().mean()
    return centred / variance.clamp(min=SMALLEST_VARIANCE).sqrt()
