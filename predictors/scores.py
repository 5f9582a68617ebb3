"""How good a prediction is: rank correlations, error and the regret of trusting the top."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROWS = 512


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two vectors ``(n,)``: 1 same order, -1 reversed, ties discounted.

    Returns:
        The coefficient, or NaN when either vector is constant or shorter than 2.
    """
    a, b = _pair(first, second)
    agreement = ties_a = ties_b = 0.0
    # Blocks of rows keep the pairwise comparison within a few megabytes for any n.
    for start in range(0, len(a), _ROWS):
        sign_a = np.sign(a[start : start + _ROWS, None] - a[None])
        sign_b = np.sign(b[start : start + _ROWS, None] - b[None])
        agreement += float((sign_a * sign_b).sum())
        ties_a += float((sign_a == 0).sum())
        ties_b += float((sign_b == 0).sum())
    total = float(len(a)) ** 2
    scale = np.sqrt((total - ties_a) * (total - ties_b))
    return float(agreement / scale) if scale > 0 else float("nan")


def sparse_kendall_tau(scores: ArrayLike, true: ArrayLike, threshold: float) -> float:
    """Kendall's tau-b after the true values ``(n,)`` are rounded to multiples of ``threshold``.

    True values that differ by less than they can be measured say nothing about a ranking; rounded
    they tie, and a tie counts for neither order (Yu, Ranftl and Salzmann, "How to Train Your
    Super-Net", sparse Kendall tau).

    Args:
        scores: What ranks, shape ``(n,)``; not rounded.
        true: What should be ranked, shape ``(n,)``.
        threshold: Width of a bin in the unit of ``true``; 0 rounds nothing.

    Returns:
        The coefficient, or NaN when all true values fall into one bin or all scores are equal.

    Raises:
        ValueError: ``threshold`` is negative, or the shapes differ.
    """
    if not threshold >= 0:
        raise ValueError(f"threshold = {threshold} is impossible; it must be at least 0")
    values = np.asarray(true, dtype=np.float64)
    return kendall_tau(scores, np.round(values / threshold) if threshold else values)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a statistic of pairs, drawn anew with replacement.

    Args:
        statistic: Of two vectors ``(n,)``; draws in which it is NaN are left out.
        first: Shape ``(n,)``.
        second: Shape ``(n,)``.
        rng: Source of randomness.
        replicates: Draws.

    Returns:
        Lower and upper end; NaN twice when the statistic was NaN in every draw.
    """
    a, b = _pair(first, second)
    if not len(a):
        return float("nan"), float("nan")
    draws = rng.integers(0, len(a), (replicates, len(a)))
    values = np.array([statistic(a[rows], b[rows]) for rows in draws])
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors ``(n,)``, ties on average ranks.

    Returns:
        The coefficient, or NaN when either vector is constant or shorter than 2.
    """
    a, b = (_ranks(values) for values in _pair(first, second))
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root mean squared error of two vectors ``(n,)``, in the unit of the values."""
    a, b = _pair(predicted, true)
    return float(np.sqrt(((a - b) ** 2).mean())) if len(a) else float("nan")


def top_k_regret(predicted: ArrayLike, true: ArrayLike, k: int) -> float:
    """Best true value of all, less the best true value among the ``k`` predicted highest.

    Args:
        predicted: Scores, higher is better, shape ``(n,)``.
        true: True values, higher is better, shape ``(n,)``.
        k: How many of the predicted best are looked at, at least 1.

    Raises:
        ValueError: ``k`` is below 1 or there are no values.
    """
    a, b = _pair(predicted, true)
    if k < 1 or not len(a):
        raise ValueError(f"top-k regret needs k >= 1 and at least one value; got k={k}, n={len(a)}")
    chosen = np.argsort(-a, kind="stable")[:k]
    return float(b.max() - b[chosen].max())


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected two vectors of one length; got shapes {a.shape} and {b.shape}")
    return a, b


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    average = ends - (counts - 1) / 2
    ranks: NDArray[np.float64] = average[inverse]
    return ranks
