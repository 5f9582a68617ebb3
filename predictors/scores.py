"""How good a prediction is: rank correlations, error and the regret of trusting the top."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.errors import InputError

# scipy.stats takes half a second to import, so it waits for the first correlation.


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Compute Kendall's tau-b of two vectors ``(n,)``: 1 same order, -1 reversed, ties discounted.

    Returns:
        The coefficient, or NaN when either vector is constant or shorter than 2.

    Raises:
        InputError: The shapes differ.
    """
    from scipy.stats import kendalltau

    return _correlate(kendalltau, first, second)


def sparse_kendall_tau(scores: ArrayLike, true: ArrayLike, threshold: float) -> float:
    """Compute Kendall's tau-b after the true values are rounded to multiples of ``threshold``.

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
        InputError: ``threshold`` is negative, or the shapes differ.
    """
    if not threshold >= 0:
        raise InputError(f"threshold = {threshold} is impossible; it must be at least 0")
    values = np.asarray(true, dtype=np.float64)
    return kendall_tau(scores, np.round(values / threshold) if threshold else values)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    first: ArrayLike,
    second: ArrayLike,
    rng: np.random.Generator,
    replicates: int = 2000,
) -> tuple[float, float]:
    """Bootstrap the 95 % percentile interval of a statistic of pairs, drawn with replacement.

    Unlike ``scipy.stats.bootstrap`` it leaves out draws in which the statistic is undefined, as
    rank correlations of few values often are.

    Args:
        statistic: A function of two vectors ``(n,)``; draws in which it is NaN are left out.
        first: Shape ``(n,)``.
        second: Shape ``(n,)``.
        rng: Draws the pairs.
        replicates: How often to draw.

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
    """Compute Spearman's rank correlation of two vectors ``(n,)``, ties on average ranks.

    What it returns and raises is as in :func:`kendall_tau`.
    """
    from scipy.stats import spearmanr

    return _correlate(spearmanr, first, second)


def rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Compute the root mean squared error of two vectors ``(n,)``, in the unit of the values."""
    a, b = _pair(predicted, true)
    return float(np.sqrt(((a - b) ** 2).mean())) if len(a) else float("nan")


def top_k_regret(predicted: ArrayLike, true: ArrayLike, k: int) -> float:
    """Compute how far the best of the ``k`` predicted highest falls short of the best of all.

    Args:
        predicted: Scores, higher is better, shape ``(n,)``.
        true: True values, higher is better, shape ``(n,)``.
        k: How many of the predicted best are looked at, at least 1.

    Raises:
        InputError: ``k`` is below 1 or there are no values.
    """
    a, b = _pair(predicted, true)
    if k < 1 or not len(a):
        raise InputError(f"top-k regret needs k >= 1 and at least one value; got k={k}, n={len(a)}")
    chosen = np.argsort(-a, kind="stable")[:k]
    return float(b.max() - b[chosen].max())


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise InputError(f"expected two vectors of one length; got shapes {a.shape} and {b.shape}")
    return a, b


def _correlate(test: Callable[..., Any], first: ArrayLike, second: ArrayLike) -> float:
    """Take the statistic of one of scipy's tests; NaN, without a warning, where a side is flat."""
    a, b = _pair(first, second)
    if any((values == values[:1]).all() for values in (a, b)):
        return float("nan")
    return float(test(a, b).statistic)
