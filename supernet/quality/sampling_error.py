"""How far a mean over samples may lie from the truth, where samples may belong together."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Z_TWO_SIDED_95 = 1.959963984540054


def compute_standard_error(values: NDArray[np.float64], groups: Tensor | None = None) -> float:
    """Compute the standard error of the mean of some values.

    Values of one group may vary together, in any way: deviations from the mean are added up within
    each group, and the sums count as independent (Liang and Zeger 1986, "Longitudinal data analysis
    using generalized linear models"; Miller 2024, "Adding Error Bars to Evals", section 2.2). Where
    every value is a group of its own, that is the usual error. Of two networks on the same samples
    the differences are to be given.

    Args:
        values: One for each sample, ``(n,)``.
        groups: Group of each sample, ``(n,)``, as in :class:`supernet.data.Split`; ``None`` where
            all are independent.

    Returns:
        The error in the unit of the values; 0 for a single value or a single group, which tell of
        no error.
    """
    if groups is None:
        count = len(values)
        return float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    sums = _sum_by_group(values - values.mean(), groups)
    count = len(sums)
    if count < 2:
        return 0.0
    return math.sqrt(count / (count - 1) * float(np.square(sums).sum())) / len(values)


def count_independent_answers(scores: NDArray[np.float64], groups: Tensor | None = None) -> float:
    """Count the independent answers whose share of right ones would have the same error.

    The effective sample size of Korn and Graubard 1998, "Confidence intervals for proportions with
    small expected number of positive counts estimated from survey data": it lets intervals for
    independent answers, which stay within 0 and 1, be used for answers in groups.

    Args:
        scores: 1 or 0 for a right or wrong answer, ``(n,)``.
        groups: Group of each, ``(n,)``; ``None`` where all are independent.

    Returns:
        At least 1 and at most ``n``. Where all answers are right or all are wrong, nothing tells
        how those of a group differ, and it is the number of groups.
    """
    count = len(scores)
    if groups is None:
        return count
    variance = float(scores.mean() * (1 - scores.mean()))
    distinct = len(np.unique(groups.numpy()))
    if variance == 0 or distinct == 1:
        return distinct
    error = compute_standard_error(scores, groups)
    # Groups that are more alike than chance would have them are no reason for a narrower interval.
    return count if error**2 * count <= variance else max(1.0, variance / error**2)


def compute_wilson_interval(
    share: float, count: float, z: float = Z_TWO_SIDED_95
) -> tuple[float, float]:
    """Compute Wilson's interval of a share.

    Args:
        share: Of right answers.
        count: Independent answers behind it; see :func:`count_independent_answers`.
        z: Standard deviations to either side, 95 % by default.
    """
    square = z * z
    centre = (share + square / (2 * count)) / (1 + square / count)
    spread = math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    half = z / (1 + square / count) * spread
    return max(0.0, centre - half), min(1.0, centre + half)


def recover_count(share: float, low: float, high: float) -> float:
    """Recover the count that :func:`compute_wilson_interval` was given, from what it returned.

    Args:
        share: The share, in 0..1.
        low: Lower end of its interval.
        high: Upper end.

    Returns:
        The count up to rounding, exact enough for an error; infinite for an interval of no width.
    """
    # Both ends x fulfil (x - share)^2 = z^2 x (1 - x) / count; the farther one says it best.
    end = high if high - share >= share - low else low
    if end == share:
        return math.inf
    return Z_TWO_SIDED_95**2 * end * (1 - end) / (end - share) ** 2


def _sum_by_group(values: NDArray[np.float64], groups: Tensor) -> NDArray[np.float64]:
    _, places = np.unique(groups.numpy(), return_inverse=True)
    return np.bincount(places, weights=values).astype(np.float64)
