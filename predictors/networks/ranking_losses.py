"""Losses for predictors that only have to rank, and the fit that gives their scores units."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

# Scores and standardised targets (..., n) in, one number per leading index (...) out.
Loss = Callable[["Tensor", "Tensor"], "Tensor"]

MARGIN = 0.1
STEEPNESS = 2.0


def mse(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error over the last dimension; scores come out in the unit of the targets."""
    return (scores - targets).square().mean(-1)


def pairwise_hinge(scores: Tensor, targets: Tensor, margin: float = MARGIN) -> Tensor:
    """Mean over pairs ``y_i > y_j`` of ``max(0, margin - (s_i - s_j))``.

    Args:
        scores: ``(..., n)``.
        targets: ``(..., n)``; only their order counts, equal ones make no pair.
        margin: How far apart the scores of a pair have to be.

    Returns:
        ``(...)``; 0 where there is no pair.
    """
    gaps, pairs = _pairs(scores, targets)
    return _mean((margin - gaps).clamp(min=0), pairs)


def logistic(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean over pairs ``y_i > y_j`` of ``log(1 + exp(-(s_i - s_j)))`` (RankNet, Burges 2005).

    Args:
        scores: ``(..., n)``.
        targets: ``(..., n)``; only their order counts, equal ones make no pair.

    Returns:
        ``(...)``; 0 where there is no pair.
    """
    import torch.nn.functional as F

    gaps, pairs = _pairs(scores, targets)
    return _mean(F.softplus(-gaps), pairs)


def differentiable_kendall(scores: Tensor, targets: Tensor, steepness: float = STEEPNESS) -> Tensor:
    """Minus a smooth Kendall tau: the mean over pairs of ``tanh(a ds / 2) tanh(a dy / 2)``.

    As in ParZC (Dong et al. 2024, section "DiffKendall"), but every pair counts once, so that the
    value lies in [-1, 1], and scores and targets are standardised, so that it does not depend on
    their scale and gradients do not vanish when scores grow.

    Args:
        scores: ``(..., n)``.
        targets: ``(..., n)``.
        steepness: ``a``; the larger, the closer to Kendall's tau and the sharper its steps.

    Returns:
        ``(...)``: -1 for the same order, 1 for the reverse; 0 for fewer than two values.
    """
    n = scores.shape[-1]
    if n < 2:
        return scores.sum(-1) * 0.0
    ours, theirs = _standard(scores), _standard(targets)
    a = (steepness / 2 * (ours[..., :, None] - ours[..., None, :])).tanh()
    b = (steepness / 2 * (theirs[..., :, None] - theirs[..., None, :])).tanh()
    # The sum over both orders of each pair, over the number of ordered pairs.
    return -(a * b).sum((-2, -1)) / (n * (n - 1))


def to_units(scores: NDArray[np.floating], values: NDArray[np.floating]) -> tuple[float, float]:
    """Least-squares slope and offset that turn scores ``(n,)`` into values ``(n,)``.

    The slope is never negative, so that the order of the scores is kept; where scores say nothing
    about the values it is 0 and the offset their mean.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(values, dtype=np.float64)
    centred = s - s.mean()
    spread = float(centred @ centred)
    slope = max(float(centred @ (y - y.mean())) / spread, 0.0) if spread > 1e-20 else 0.0
    return slope, float(y.mean() - slope * s.mean())


def _pairs(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    gaps = scores[..., :, None] - scores[..., None, :]
    return gaps, targets[..., :, None] > targets[..., None, :]


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    count = chosen.sum((-2, -1)).clamp(min=1)
    return (values * chosen).sum((-2, -1)) / count


def _standard(values: Tensor) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    # Below this spread everything ties; dividing by less would make order out of rounding.
    spread = centred.square().mean(-1, keepdim=True).clamp(min=1e-12).sqrt()
    return centred / spread
